"""Plain archives as commands see them: opened, told and verified."""

from __future__ import annotations

import time
from pathlib import Path

from backup.cli.invocation import Invocation
from backup.cli.output import (
    count_text,
    duration_text,
    print_line,
    print_note,
    safe_text,
    size_text,
)
from backup.errors import IntegrityError, LimitError
from backup.plain.arranging import Limits
from backup.plain.reading import ArchiveProof, PlainArchive, open_archive, verify_archive

_TOLD = 10
_PROVES_LESS = (
    "a plain archive proves less than a snapshot: it tells of damage, but neither who wrote it"
    " nor that nobody has changed it since"
)
_NO_CHECKSUM = "a tar that is not compressed has checksums of its headers only, none of contents"


def limits_of(call: Invocation) -> Limits:
    """Return how much may come out of an archive; ``--yes`` agrees to any amount."""
    return Limits(agreed=call.yes)


def opened_archive(call: Invocation, path: Path) -> PlainArchive:
    """Open a plain archive, and tell what is odd about it."""
    archive = open_archive(path, limits_of(call))
    note_archive(call, archive)
    return archive


def note_archive(call: Invocation, archive: PlainArchive) -> None:
    """Tell what is odd about an archive."""
    for note in archive.notes:
        call.note(note)


def verify_file(call: Invocation, path: Path) -> ArchiveProof:
    """Read all of a plain archive, and tell what was compared, and what of it is damaged."""
    started = time.monotonic()
    with call.progress("verifying", path.stat().st_size) as line:
        archive = None
        try:
            archive = open_archive(path, limits_of(call))
            proof = verify_archive(archive, line.add)
        except LimitError:
            raise
        except IntegrityError as error:
            proof = ArchiveProof(errors=[error])
    if not call.json:
        _tell(call, path, archive, proof, time.monotonic() - started)
    return proof


def _tell(
    call: Invocation,
    path: Path,
    archive: PlainArchive | None,
    proof: ArchiveProof,
    seconds: float,
) -> None:
    name = safe_text(str(path))
    if proof.errors or archive is None:
        print_line(f"damaged  {name}")
        for error in proof.errors[:_TOLD]:
            print_note(f"  {error.message}")
        if len(proof.errors) > _TOLD:
            print_note(f"  and {len(proof.errors) - _TOLD} more; --json tells all")
    elif not call.quiet:
        print_line(f"holds    {name}: {_compared(archive, proof)} in {duration_text(seconds)}")
        note_archive(call, archive)
        call.note(_PROVES_LESS if archive.checked_by else f"{_NO_CHECKSUM}; {_PROVES_LESS}")
    for text in proof.unread[:_TOLD]:
        print_note(f"not compared: {text}")


def _compared(archive: PlainArchive, proof: ArchiveProof) -> str:
    read = f"{count_text(proof.members, 'member')} and {size_text(proof.content_bytes)} of contents"
    return f"{read} read" + (f", {archive.checked_by} compared" if archive.checked_by else "")


def proof_json(path: Path, proof: ArchiveProof) -> dict[str, object]:
    """Return what ``verify --json`` tells of a plain archive."""
    return {
        "name": str(path),
        "level": "archive",
        "holds": not proof.errors,
        "file_bytes": path.stat().st_size,
        "entries": proof.members,
        "content_bytes": proof.content_bytes,
        "not_compared": proof.unread,
        "errors": [
            {"class": type(error).__name__, "message": error.message} for error in proof.errors
        ],
    }
