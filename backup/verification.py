"""Proving that what is stored is what was saved, at the levels *checksum* and *content*."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from backup.clock import Clock, system_clock
from backup.errors import BackupError, DigestError, HeaderError, IntegrityError
from backup.locating import Located
from backup.model import Entry, path_text
from backup.snapshot.content import read_content
from backup.snapshot.frame import Section
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity

_BLOCK = 4 * 1024 * 1024
OnBytes = Callable[[int], None]
"""Is told how many bytes of the snapshot have been checked since it was last called."""


class Level(StrEnum):
    """How much is proven.

    ``checksum``: the file is the one that was stored. ``content``: besides, every frame opens and
    every entry's content has its digest.
    """

    CHECKSUM = "checksum"
    CONTENT = "content"


@dataclass(kw_only=True)
class Proof:
    """What was compared, and what was found; ``errors`` is empty where all is well."""

    name: str
    level: Level
    started: datetime
    finished: datetime
    file_bytes: int = 0
    entries: int = 0
    content_bytes: int = 0
    frames: int = 0
    errors: list[BackupError] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything that was compared was right."""
        return not self.errors


def _nobody(_: int) -> None:
    return


def verify_snapshot(
    located: Located,
    identities: Sequence[Identity],
    *,
    level: Level = Level.CONTENT,
    trusted: Collection[bytes] | None = None,
    clock: Clock = system_clock,
    on_bytes: OnBytes = _nobody,
) -> Proof:
    """Return the proof for a snapshot; damage is in it, not raised.

    Args:
        located: The snapshot.
        identities: What opens it; ``checksum`` needs none.
        level: What to prove.
        trusted: Public keys of trusted hosts.
        clock: Tells the time.
        on_bytes: Is told about progress.

    Raises:
        SecretKeyError: No key opens it.
        StorageError: The store does not answer.
    """
    started = clock()
    proof = Proof(name=located.name, level=level, started=started, finished=started)
    try:
        _check_file(located, proof, on_bytes)
    except IntegrityError as error:
        proof.errors.append(error)
    if level is Level.CONTENT:
        try:
            reader = located.open(identities, trusted=trusted)
            _check_content(reader, proof, on_bytes)
        except IntegrityError as error:
            proof.errors.append(error)
    proof.finished = clock()
    return proof


def _check_file(located: Located, proof: Proof, on_bytes: OnBytes) -> None:
    digest = sha256()
    while block := located.source.read_at(proof.file_bytes, _BLOCK):
        digest.update(block)
        proof.file_bytes += len(block)
        on_bytes(len(block))
    expected = located.recorded_digest
    if expected is None and proof.level is Level.CHECKSUM:
        raise DigestError(
            f"{located.source.name} has no .sha256 file to compare with",
            hint="verify it with --level content",
        )
    if expected is not None and digest.digest() != expected:
        raise DigestError(
            f"{located.source.name} is not the file that was stored: its SHA-256 differs"
        )


def name_entry(error: IntegrityError, entry: Entry) -> None:
    """Let ``error`` say which entry it is about."""
    error.message = f"{path_text(entry.path)}: {error.message}"
    error.args = (error.message,)


def _check_content(reader: SnapshotReader, proof: Proof, on_bytes: OnBytes) -> None:
    if not reader.header_intact:
        proof.errors.append(
            HeaderError(f"the header of {proof.name} is damaged; its keys file stands in for it")
        )
    opened: set[int] = set()

    def tell(number: int) -> None:
        if number not in opened:
            opened.add(number)
            on_bytes(reader.rows[number].length)

    reader.on_frame = tell
    done: set[tuple[int, int]] = set()
    for entry in reader.entries():
        proof.entries += 1
        if entry.links > 1:  # other names of a file have the same extents
            if (entry.filesystem, entry.inode) in done:
                continue
            done.add((entry.filesystem, entry.inode))
        _check_entry(reader, entry, proof)
    _check_other_frames(reader, proof, opened)


def _check_entry(reader: SnapshotReader, entry: Entry, proof: Proof) -> None:
    try:
        for data in read_content(reader, entry):
            proof.content_bytes += len(data)
    except IntegrityError as error:
        name_entry(error, entry)
        proof.errors.append(error)


def _check_other_frames(reader: SnapshotReader, proof: Proof, opened: set[int]) -> None:
    """Open the frames that no content led to, such as those of links and directories."""
    for number, row in enumerate(reader.rows):
        if row.section is Section.ABSENT:
            continue
        proof.frames += 1
        if number in opened:
            continue
        try:
            reader.piece(row.section, number)
        except IntegrityError as error:
            proof.errors.append(error)
