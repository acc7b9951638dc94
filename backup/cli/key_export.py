"""``key export``: the key on paper."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from backup._version import PROGRAM
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import is_terminal, print_json, print_line, print_note, print_text
from backup.cli.paper_page import PaperKey, Place, html_page, terminal_code, text_page
from backup.clock import system_clock
from backup.errors import ConfigError, StorageError
from backup.keys import write_new_secret
from backup.manager.recovery_files import RECOVER_NAME, recovery_files
from backup.storage.base import BaseStorage
from backup.wiring import expanded

_HTML = {".html", ".htm"}
_WARNING = "this page is the key: who has it can read everything that is sealed for it"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("export", epilog=MORE)(export)


def export(
    context: typer.Context,
    paper: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to: FILE.html to print, else text."),
    ] = None,
) -> None:
    """Write the key on a page to print: secret, code to scan, how to get all back."""
    call = invocation(context)
    page = _page(call)
    path = None if paper is None else Path(expanded(str(paper)))
    if call.dry_run:
        print_line(f"would write the secret key {page.id} to {path or 'standard output'}")
        return
    if call.json and path is None:
        raise ConfigError("a page is not JSON", hint="name a file: --paper FILE")
    call.start_action("key export", id=page.id, path=str(path or "standard output"))
    print_note(_WARNING)
    if path is None:
        if is_terminal():
            print_text(terminal_code(page.secret) + "\n")
        print_text(text_page(page))
        return
    content = html_page(page) if path.suffix.lower() in _HTML else text_page(page)
    write_new_secret(path, content.encode(), "keep it")
    if call.json:
        print_json({"path": str(path), "type": page.type, "id": page.id})
        return
    print_line(f"the key {page.id} is written to {path}, for you alone")
    print_line("print it, try it, keep it safe; then delete the file")


def _page(call: Invocation) -> PaperKey:
    settings = call.settings
    ring = settings.keyring()
    if ring.identity is not None and (ring.key is None or settings.identity_file is not None):
        secret, kind = ring.identity.text(), "hpke"
        option, key_id = "--identity", ring.identity.recipient().id
    else:
        key = ring.key or settings.load_key()
        secret, kind, option, key_id = key.text(), "fernet", "--key-file", key.id
    return PaperKey(
        secret=secret,
        option=option,
        type=kind,
        id=key_id,
        host=settings.host_name(),
        date=system_clock().strftime("%Y-%m-%d"),
        places=tuple(_place(call, store) for store in settings.open_stores()),
        program=PROGRAM,
        recover_digest=sha256(recovery_files()[RECOVER_NAME]).hexdigest(),
    )


def _place(call: Invocation, store: BaseStorage) -> Place:
    root = store.local_root()
    try:
        found = call.list_snapshots(store)
    except StorageError as error:
        call.note(f"which jobs there are is not told: {error.message}")
        found = []
    jobs = tuple(sorted({f"{one.host}/{one.job}" for one in found})) or ("HOST/JOB",)
    return Place(str(store), "" if root is None else str(root), jobs)
