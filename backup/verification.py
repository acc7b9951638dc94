"""Proving that what is stored is what was saved, at the levels *checksum* and *content*."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from backup.clock import Clock, system_clock
from backup.errors import (
    BackupError,
    DigestError,
    HeaderError,
    IntegrityError,
    MissingSnapshotError,
    SecretKeyError,
)
from backup.locating import Located, PathSource, StoredFileSource
from backup.model import Entry, path_text
from backup.snapshot.content_check import ContentCheck
from backup.snapshot.frame import Section
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity

_BLOCK = 4 * 1024 * 1024
OnBytes = Callable[[int], None]
"""Is told how many bytes have been checked since it was last called."""

Checked = dict[tuple[str, str], tuple[int, IntegrityError | None]]
"""Of files by store and name: their size in bytes, and what is wrong with them."""


class Level(StrEnum):
    """How much is proven.

    ``checksum``: the file is the one that was stored, and, where a key tells which these are, so
    are those that it refers to. ``content``: besides, every frame opens and every entry's content
    has its digest, in whichever file it lies.
    """

    CHECKSUM = "checksum"
    CONTENT = "content"


@dataclass(kw_only=True)
class Proof:
    """What was compared, and what was found; ``errors`` is empty where all is well.

    ``file_bytes`` are of the snapshot's own file; ``others`` is how many files that it refers to
    were compared too, ``None`` where nobody could tell which these are.
    """

    name: str
    level: Level
    started: datetime
    finished: datetime
    file_bytes: int = 0
    entries: int = 0
    content_bytes: int = 0
    frames: int = 0
    others: int | None = None
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
    checked: Checked | None = None,
    workers: int | None = None,
) -> Proof:
    """Return the proof for a snapshot; damage is in it, not raised.

    Args:
        located: The snapshot.
        identities: What opens it; ``checksum`` needs none, but cannot tell without which others
            it refers to.
        level: What to prove.
        trusted: Public keys of trusted hosts.
        clock: Tells the time.
        on_bytes: Is told about progress.
        checked: Files that were read already, for several calls: each is read once.
        workers: How many processes compare contents; ``None`` for what the machine allows.

    Raises:
        SecretKeyError: No key opens it.
        WorkerError: A worker process was killed twice.
        StorageError: The store does not answer.
    """
    started = clock()
    proof = Proof(name=located.name, level=level, started=started, finished=started)
    checked = {} if checked is None else checked
    proof.file_bytes, difference = _check_file(located, checked, on_bytes)
    if difference is not None and (located.recorded_digest or level is Level.CHECKSUM):
        proof.errors.append(difference)
    if level is Level.CHECKSUM:
        _check_others(located, identities, proof, checked, on_bytes)
    else:
        try:
            reader = located.open(identities, trusted=trusted)
            _check_content(reader, proof, on_bytes, workers)
        except IntegrityError as error:
            proof.errors.append(error)
    proof.finished = clock()
    return proof


def _check_file(
    located: Located, checked: Checked, on_bytes: OnBytes
) -> tuple[int, IntegrityError | None]:
    """Return the file's size, and what is wrong with it; a file of this call is read once."""
    mark = (located.store, located.name)
    if mark not in checked:
        digest, size = sha256(), 0
        while block := located.source.read_at(size, _BLOCK):
            digest.update(block)
            size += len(block)
            on_bytes(len(block))
        checked[mark] = size, _difference(located, digest.digest())
    return checked[mark]


def _difference(located: Located, digest: bytes) -> IntegrityError | None:
    if located.recorded_digest is None:
        return DigestError(
            f"{located.source.name} has no .sha256 file to compare with",
            hint="verify it with --level content",
        )
    if digest != located.recorded_digest:
        return DigestError(
            f"{located.source.name} is not the file that was stored: its SHA-256 differs"
        )
    return None


def _check_others(
    located: Located,
    identities: Sequence[Identity],
    proof: Proof,
    checked: Checked,
    on_bytes: OnBytes,
) -> None:
    """Check the files that a snapshot refers to, where a key tells which these are."""
    try:
        referred = located.open(identities).record.referred
    except (SecretKeyError, IntegrityError):
        return  # whether it opens is for the other level to say
    proof.others = len(referred)
    for one in referred:
        source = located.find(one)
        if not isinstance(source, StoredFileSource | PathSource):
            proof.errors.append(
                MissingSnapshotError(
                    f"snapshot {one.id.hex()} is missing, and {located.source.name} refers to it"
                )
            )
            continue
        _, difference = _check_file(source.locate(), checked, on_bytes)
        if difference is not None:
            proof.errors.append(difference)


def name_entry(error: IntegrityError, entry: Entry) -> None:
    """Let ``error`` say which entry it is about."""
    error.message = f"{path_text(entry.path)}: {error.message}"
    error.args = (error.message,)


def _check_content(
    reader: SnapshotReader, proof: Proof, on_bytes: OnBytes, workers: int | None
) -> None:
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
    with ContentCheck(reader, workers=workers, on_frame=tell) as check:
        damage = _check_entries(reader, check, proof)
        proof.content_bytes = check.bytes
        if damage is not None:
            raise damage
        present = [n for n, row in enumerate(reader.rows) if row.section is not Section.ABSENT]
        proof.frames = len(present)
        # Those that no content led to are such as have links and directories only.
        proof.errors += check.open_others(number for number in present if number not in opened)
    if not proof.errors:  # a damaged frame has been told
        reader.check_archive_end()


def _check_entries(
    reader: SnapshotReader, check: ContentCheck, proof: Proof
) -> IntegrityError | None:
    """Have all contents compared, and return what is wrong with the index, if anything is."""
    damage = None
    done: set[tuple[int, int]] = set()
    try:
        for entry in reader.entries():
            proof.entries += 1
            group = (entry.filesystem, entry.inode)
            if entry.links > 1 and group in done:  # other names of a file have the same extents
                check.skip()
                continue
            if entry.links > 1:
                done.add(group)
            check.add(entry)
    except IntegrityError as error:
        damage = error
    for entry, what in check.finish():
        name_entry(what, entry)
        proof.errors.append(what)
    return damage
