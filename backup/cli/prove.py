"""``verify``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    count_text,
    duration_text,
    print_json,
    print_line,
    print_note,
    safe_text,
    size_text,
)
from backup.cli.plain_archives import proof_json, verify_file
from backup.cli.progress import ProgressLine
from backup.errors import SecretKeyError, SnapshotNotFoundError
from backup.locating import Located, locate
from backup.manager.recovery_files import differing_files
from backup.model import SnapshotKind
from backup.plain.reading import find_archive
from backup.remembering import remember_proof
from backup.snapshot.names import parse_name
from backup.snapshot.recipients import Identity
from backup.verification import Checked, Level, Proof, verify_snapshot

_DAMAGED, _SOME_OF_IT = 13, 3
_TOLD = 10


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("verify", epilog=MORE)(verify)


def verify(
    context: typer.Context,
    snapshots: Annotated[
        list[str] | None, typer.Argument(metavar="SNAPSHOT", help="Which; else all of them.")
    ] = None,
    level: Annotated[
        Level,
        typer.Option(
            metavar="LEVEL",
            help="checksum: the files' SHA-256; content: every frame and entry too.",
        ),
    ] = Level.CONTENT,
) -> None:
    """Read snapshots back from the store, or zip and tar files, and compare every digest."""
    call = invocation(context)
    archives = [path for path in map(find_archive, snapshots or []) if path is not None]
    wanted = [one for one in snapshots or [] if find_archive(one) is None]
    identities = [] if archives and not wanted else _identities(call, level)
    located = [] if archives and not wanted else _located(call, identities, wanted)
    call.start_action("verify", level=str(level), snapshots=len(located), archives=len(archives))
    rows = [(path, verify_file(call, path)) for path in archives]
    trusted = call.settings.trusted_signers() if located else None
    proofs = []
    checked: Checked = {}
    for number, one in enumerate(located, 1):
        what = "verifying" if len(located) == 1 else f"verifying {number}/{len(located)}"
        with call.progress(what, one.source.size) as line:
            proof = _verify(one, identities, level, line, checked=checked, trusted=trusted)
        if not call.dry_run:
            call.remember(partial(remember_proof, located=one, proof=proof))
        if not call.json:
            _tell(call, proof)
        proofs.append(proof)
    if call.json:
        others = [proof_json(path, proof) for path, proof in rows]
        print_json([*others, *(_proof_json(proof) for proof in proofs)])
    if not snapshots:
        _tell_recovery_files(call)
    unread = any(proof.unread for _, proof in rows)
    bad = sum(bool(proof.errors) for _, proof in rows)
    broken = sum(not proof.holds for proof in proofs)
    call.status = _DAMAGED if broken or bad else _SOME_OF_IT if unread else 0
    if not call.json and not call.quiet and len(proofs) > 1:
        print_line(f"{len(proofs) - broken} of {count_text(len(proofs), 'snapshot')} hold")
    call.details |= {"snapshots": len(proofs), "damaged": broken, "level": str(level)}
    call.end_action(
        "damaged" if broken or bad else "done",
        snapshots=len(proofs),
        damaged=broken + bad,
        size=sum(proof.file_bytes for proof in proofs),
        exit_status=call.status,
    )


def _identities(call: Invocation, level: Level) -> list[Identity]:
    """Return the key; checksums can do without."""
    if level is Level.CONTENT:
        return call.identities()
    with suppress(SecretKeyError):
        return call.settings.identities()
    return []


def _located(
    call: Invocation, identities: Sequence[Identity], wanted: Sequence[str]
) -> list[Located]:
    manager = call.reader_with(identities)
    if wanted:
        return [manager.locate(call.wanted(one)) for one in wanted]
    found = call.list_snapshots(manager.storage)
    if not found:
        raise SnapshotNotFoundError(call.none_found(manager.storage))
    return [locate(manager.storage, one.name) for one in found]


def _tell_recovery_files(call: Invocation) -> None:
    for name in differing_files(call.settings.open_store()):
        call.note(
            f"{name} in the store is missing or not this version's: do not run it;"
            " the next backup puts the right one there"
        )


def _verify(
    located: Located,
    identities: Sequence[Identity],
    level: Level,
    line: ProgressLine,
    *,
    checked: Checked,
    trusted: Collection[bytes] | None,
) -> Proof:
    passes = 2 if level is Level.CONTENT else 1
    return verify_snapshot(
        located,
        identities,
        level=level,
        trusted=trusted,
        on_bytes=lambda more: line.add(more / passes),
        checked=checked,
    )


def _tell(call: Invocation, proof: Proof) -> None:
    name = safe_text(proof.name)
    if proof.holds:
        if not call.quiet:
            print_line(f"holds    {name}: {_compared(proof)}")
        return
    print_line(f"damaged  {name}")
    for error in proof.errors[:_TOLD]:
        print_note(f"  {safe_text(error.message)}")
    if len(proof.errors) > _TOLD:
        print_note(f"  and {len(proof.errors) - _TOLD} more; --json tells all")


def _compared(proof: Proof) -> str:
    seconds = duration_text((proof.finished - proof.started).total_seconds())
    if proof.level is Level.CHECKSUM:
        return (
            f"SHA-256 of {size_text(proof.file_bytes)}{_with_others(proof)} compared in {seconds}"
        )
    return (
        f"{count_text(proof.frames, 'frame')} opened,"
        f" {count_text(proof.entries, 'entry', 'entries')}"
        f" and {size_text(proof.content_bytes)} of contents compared in {seconds}"
    )


def _with_others(proof: Proof) -> str:
    name = parse_name(proof.name)
    if proof.others is None and name is not None and name.kind is not SnapshotKind.FULL:
        return " (without a key not of the snapshots that it refers to)"
    return f", and of {count_text(proof.others, 'file')} that it refers to," if proof.others else ""


def _proof_json(proof: Proof) -> dict[str, object]:
    return {
        "name": proof.name,
        "level": str(proof.level),
        "holds": proof.holds,
        "started": proof.started,
        "finished": proof.finished,
        "file_bytes": proof.file_bytes,
        "other_files": proof.others,
        "frames": proof.frames,
        "entries": proof.entries,
        "content_bytes": proof.content_bytes,
        "errors": [
            {"class": type(error).__name__, "message": error.message} for error in proof.errors
        ],
    }
