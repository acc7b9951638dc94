"""``key new``, ``key show``, ``key list``."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import count_text, print_json, print_line, print_note, print_table
from backup.errors import SecretKeyError, SnapshotNotFoundError
from backup.keys import HOST_KEY_NAME, create_key_file, load_host_public
from backup.locating import StoredFileSource
from backup.snapshot.opening import read_header
from backup.snapshot.signing import fingerprint

app = typer.Typer(rich_markup_mode=None)


@app.command("new", epilog=MORE)
def new(context: typer.Context) -> None:
    """Make a new key file; one that exists is never touched."""
    call = invocation(context)
    path = call.settings.key_path()
    if call.dry_run:
        _tell_plan(call, path)
        return
    call.start_action("key new", path=str(path))
    key = create_key_file(path)
    if call.json:
        print_json({"path": str(path), "id": key.id})
        return
    print_line(f"a new key has been made: {path} (id {key.id})")
    print_line("keep a copy of that file elsewhere, off this machine:")
    print_line("without it nobody, you included, can ever read what is sealed with it")


def _tell_plan(call: Invocation, path: Path) -> None:
    is_there = os.path.lexists(path)
    if call.json:
        print_json({"path": str(path), "exists": is_there})
    elif is_there:
        print_line(f"would refuse: there is a file at {path} already")
    else:
        print_line(f"would make a new key: {path}")


@app.command("show", epilog=MORE)
def show(context: typer.Context) -> None:
    """Tell where the key lies, and its id; not the secret."""
    call = invocation(context)
    key = call.settings.load_key()
    public = load_host_public(call.settings.state_dir())
    path = call.settings.key_path()
    if call.json:
        signer = None if public is None else public.hex()
        print_json({"path": str(path), "type": "fernet", "id": key.id, "signer": signer})
        return
    print_line(f"key file  {path}")
    print_line(f"id        {key.id}  (fernet: seals and opens)")
    if public is None:
        print_line("signs as  nobody yet: the first snapshot makes this host's signing key")
    else:
        print_line(
            f"signs as  {fingerprint(public)}  ({call.settings.state_dir()}/{HOST_KEY_NAME})"
        )


@app.command("list", epilog=MORE)
def list_(context: typer.Context) -> None:
    """Tell for whom the snapshots of a store are sealed."""
    call = invocation(context)
    store = call.settings.open_store()
    own = None
    try:
        own = call.settings.load_key().id
    except SecretKeyError as error:
        call.note(error.message)
    sealed: Counter[tuple[str, str]] = Counter()
    found = call.list_snapshots(store)
    if not found:
        raise SnapshotNotFoundError(call.none_found(store))
    for snapshot in found:
        if snapshot.damage:
            continue
        header = read_header(StoredFileSource(store, snapshot.name, snapshot.size))
        sealed.update({(slot.type[:20], slot.id) for slot in header.slots})
    unread = sum(bool(snapshot.damage) for snapshot in found)
    if unread:
        print_note(f"not told: {count_text(unread, 'snapshot')} whose header is damaged")
    rows = [
        {"type": kind, "id": key_id, "snapshots": count, "yours": key_id == own}
        for (kind, key_id), count in sorted(sealed.items())
    ]
    if call.json:
        print_json(rows)
        return
    print_table(
        ("type", "id", "snapshots", "yours"),
        [
            (kind, key_id, f"{count} of {len(found)}", "yes" if key_id == own else "no")
            for (kind, key_id), count in sorted(sealed.items())
        ],
    )
