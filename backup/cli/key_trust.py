"""``key trust``: which hosts' signatures are accepted."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import print_json, print_line
from backup.errors import ConfigError, IntegrityError, SecretKeyError, SnapshotNotFoundError
from backup.locating import locate
from backup.public_files import append_signer
from backup.restore import RestoreManager
from backup.snapshot.signing import fingerprint

_PUBLIC = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("trust", epilog=MORE)(trust)


def trust(
    context: typer.Context,
    signer: Annotated[
        str | None,
        typer.Argument(metavar="SIGNER", help="A fingerprint or public key, by 'key show' there."),
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option("--from", metavar="SNAPSHOT", help="Who signed this one.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call that host.")] = "",
) -> None:
    """From now on, accept the snapshots of listed hosts only; put one on the list."""
    call = invocation(context)
    if (signer is None) == (snapshot is None):
        raise ConfigError(
            "say whom to trust: a SIGNER, or --from SNAPSHOT",
            hint="'auto-backup key show' on that host tells its fingerprint and public key",
        )
    if snapshot is not None:
        public, host = _signer_of(call, snapshot)
    else:
        public, host = _signer(call, signer or "")
    path = call.settings.signers_path()
    name = " ".join((name or host).split())
    if not call.dry_run:
        call.start_action("key trust", signer=public.hex(), name=name)
        append_signer(path, public, name)
    if call.json:
        print_json({"signer": public.hex(), "name": name, "path": str(path)})
        return
    print_line(f"{'would trust' if call.dry_run else 'trusted'}: {fingerprint(public)}  {name}")
    print_line(f"only snapshots of this host and of those in {path} are accepted here")
    if snapshot is not None:
        print_line("compare the fingerprint with what 'auto-backup key show' tells on that host")


def _signer_of(call: Invocation, snapshot: str) -> tuple[bytes, str]:
    """Return who signed a snapshot, whoever that is."""
    manager = RestoreManager(call.settings.open_store(), identities=call.identities())
    reader = manager.open(call.wanted(snapshot))
    return reader.signer, reader.record.host


def _signer(call: Invocation, text: str) -> tuple[bytes, str]:
    text = text.strip().lower()
    if _PUBLIC.fullmatch(text):
        return bytes.fromhex(text), ""
    if not _FINGERPRINT.fullmatch(text):
        raise ConfigError(
            f"{text[:40]!r} is neither a fingerprint nor the public key of a host",
            hint="they have 32 and 64 hexadecimal characters; 'key show' tells them on that host",
        )
    store, identities = call.settings.open_store(), call.identities()
    for stored in call.list_snapshots(store):
        try:
            reader = locate(store, stored.name).open(identities)
        except (IntegrityError, SecretKeyError, SnapshotNotFoundError):
            continue
        if fingerprint(reader.signer) == text:
            return reader.signer, reader.record.host
    raise SnapshotNotFoundError(
        f"no snapshot in {store} that opens here is signed by {text}",
        hint="give the public key instead: 64 characters, by 'key show' on that host",
    )
