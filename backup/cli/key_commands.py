"""``key new``, ``key show``, ``key list``; the group has more in files of their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from backup.cli import key_access, key_export, key_trust
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import count_text, print_json, print_line, print_note, print_table
from backup.errors import IntegrityError, SecretKeyError, SnapshotNotFoundError
from backup.keys import (
    HOST_KEY_NAME,
    PUBLIC_SUFFIX,
    create_identity_file,
    create_key_file,
    load_host_public,
)
from backup.listing import StoredSnapshot
from backup.locating import locate
from backup.public_files import load_signers
from backup.snapshot.header import Core, Slot
from backup.snapshot.opening import read_header
from backup.snapshot.recipients import Identity
from backup.snapshot.signing import fingerprint
from backup.storage.base import BaseStorage

app = typer.Typer(rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the commands to ``parent``."""
    parent.add_typer(app, name="key", help="Make and look at keys.")


@app.command("new", epilog=MORE)
def new(
    context: typer.Context,
    *,
    public: Annotated[
        bool, typer.Option("--public", help="A pair: --identity FILE, and FILE.pub for the hosts.")
    ] = False,
) -> None:
    """Make a new key file, or a pair of keys; one that exists is never touched."""
    call = invocation(context)
    path = call.settings.identity_path() if public else call.settings.key_path()
    beside = [path.with_name(path.name + PUBLIC_SUFFIX)] if public else []
    if call.dry_run:
        _tell_plan(call, [path, *beside])
        return
    call.start_action("key new", path=str(path))
    if public:
        _tell_pair(call, path, beside[0], create_identity_file(path).recipient().id)
        return
    key = create_key_file(path)
    if call.json:
        print_json({"path": str(path), "id": key.id})
        return
    print_line(f"a new key has been made: {path} (id {key.id})")
    print_line("keep a copy of that file elsewhere, off this machine:")
    print_line("without it nobody, you included, can ever read what is sealed with it")


def _tell_pair(call: Invocation, secret: Path, public: Path, key_id: str) -> None:
    if call.json:
        print_json({"path": str(secret), "public": str(public), "id": key_id})
        return
    print_line(f"a new pair of keys has been made (id {key_id})")
    print_line(f"  public   {public}: for hosts: 'auto-backup --now --recipient FILE', or as")
    print_line("           ~/.config/auto-backup/recipients there")
    print_line(f"  private  {secret}: opens what they save: 'auto-backup --identity FILE'")
    print_line("keep the private one, and a copy of it, off those hosts:")
    print_line("without it nobody, you included, can ever read what they save")


def _tell_plan(call: Invocation, paths: Sequence[Path]) -> None:
    there = [path for path in paths if os.path.lexists(path)]
    if call.json:
        print_json({"path": str(paths[0]), "exists": bool(there)})
    elif there:
        print_line(f"would refuse: there is a file at {there[0]} already")
    else:
        print_line(f"would make a new key: {paths[0]}")


@app.command("show", epilog=MORE)
def show(context: typer.Context) -> None:
    """Tell which keys there are, and their ids; not the secrets."""
    call = invocation(context)
    settings = call.settings
    ring = settings.keyring()
    public = settings.public_recipients()
    if not ring.named() and not public:
        settings.load_key()  # tells what is missing
    signer = load_host_public(settings.state_dir())
    path = settings.signers_path()
    trusted = None if settings.trusted_signers() is None else load_signers(path)
    identity = None if ring.identity is None else ring.identity.recipient().id
    if call.json:
        print_json(
            {
                "path": str(settings.key_path()) if ring.key else None,
                "type": "fernet" if ring.key else None,
                "id": ring.key.id if ring.key else None,
                "identity": identity and {"path": str(settings.identity_path()), "id": identity},
                "recipients": [one.id for one in public],
                "signer": None if signer is None else signer.hex(),
                "trusted": trusted and {key.hex(): name for key, name in trusted.items()},
            }
        )
        return
    if ring.key is not None:
        print_line(f"key file  {settings.key_path()}")
        print_line(f"id        {ring.key.id}  (fernet: seals and opens)")
    if identity is not None:
        print_line(f"identity  {settings.identity_path()}")
        print_line(f"id        {identity}  (hpke: opens)")
    for one in public:
        print_line(f"seals for {one.id}  (hpke: a public key, which opens nothing)")
    if signer is None:
        print_line("signs as  nobody yet: the first snapshot makes this host's signing key")
    else:
        print_line(f"signs as  {fingerprint(signer)}  ({settings.state_dir()}/{HOST_KEY_NAME})")
        print_line(f"          public key {signer.hex()}")
    for key, name in (trusted or {}).items():
        print_line(f"trusts    {fingerprint(key)}  {name}")


class _Seal(NamedTuple):
    """A recipient's slots in one store; ``sample`` is one of them, to try."""

    type: str
    id: str
    sample: tuple[Slot, Core]


@app.command("list", epilog=MORE)
def list_(context: typer.Context) -> None:
    """Tell who can open the snapshots of a store, and with what you can."""
    call = invocation(context)
    store = call.settings.open_store()
    found = call.list_snapshots(store)
    if not found:
        raise SnapshotNotFoundError(call.none_found(store))
    identities: list[tuple[str, Identity]] = []
    try:
        identities = call.settings.keyring().named()
        call.settings.identities()
    except SecretKeyError as error:
        call.note(error.message)
    current, header_only, samples, unread = _count(store, found)
    if unread:
        print_note(f"not told: {count_text(unread, 'snapshot')} whose header is damaged")
    rows = []
    for seal in sorted(samples):
        count, old = current[seal], header_only[seal]
        opens = _opens(samples[seal], identities)
        row = {"type": seal[0], "id": seal[1], "snapshots": count, "header_only": old}
        rows.append(row | {"yours": opens is not None, "opens_with": opens})
    if call.json:
        print_json(rows)
        return
    _tell_list(rows, len(found))


def _tell_list(rows: Sequence[dict[str, object]], total: int) -> None:
    cells = [
        (
            str(row["type"]),
            str(row["id"]),
            f"{row['snapshots']} of {total}",
            f"with your {row['opens_with']}" if row["yours"] else "no",
        )
        for row in rows
    ]
    print_table(("type", "id", "snapshots", "yours"), cells)
    for row in rows:
        if row["header_only"]:
            print_note(
                f"{row['id']} has been removed from {row['header_only']} more, whose .enc files"
                " were sealed for it and still open with it"
            )


_Id = tuple[str, str]


def _count(
    store: BaseStorage, found: Sequence[StoredSnapshot]
) -> tuple[Counter[_Id], Counter[_Id], dict[_Id, tuple[Slot, Core]], int]:
    """Return, by type and id, how many snapshots have a slot that counts, and one such slot."""
    current: Counter[_Id] = Counter()
    header_only: Counter[_Id] = Counter()
    samples: dict[_Id, tuple[Slot, Core]] = {}
    unread = 0
    for snapshot in found:
        with suppress(SnapshotNotFoundError):  # deleted meanwhile
            located = locate(store, snapshot.name)
            try:
                newest = located.newest_header()
            except IntegrityError:
                unread += 1
                continue
            slots = {(slot.type[:20], slot.id): slot for slot in newest.slots}
            current.update(slots.keys())
            with suppress(IntegrityError):
                old = {(one.type[:20], one.id): one for one in read_header(located.source).slots}
                header_only.update(old.keys() - slots.keys())
                slots = old | slots
            for name, slot in slots.items():
                samples.setdefault(name, (slot, newest.core))
    return current, header_only, samples, unread


def _opens(sample: tuple[Slot, Core], identities: Sequence[tuple[str, Identity]]) -> str | None:
    for name, identity in identities:
        with suppress(IntegrityError):
            if identity.fits(sample[0]) and identity.unwrap(*sample) is not None:
                return name
    return None


key_access.register(app)
key_export.register(app)
key_trust.register(app)
