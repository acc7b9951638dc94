"""What an archive is to hold, and what is told of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backup.clock import Clock, system_clock
from backup.manager import LeftOut, Problem
from backup.model import NO_RULES, ArchiveType, ExcludeRules
from backup.plain.formats import Format
from backup.snapshot.end import Counts
from backup.sources.roots import Root
from backup.storage.base import ProofStrength

CAPACITY = 8 << 20
"""The usual length of a piece: as many bytes as an xz encoder looks back."""

OnBytes = Callable[[int], None]
"""Is told how many bytes of contents have been read, or of the archive tested."""


def tell_nobody(_: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class ArchiveRequest:
    """What to put into an archive, and how.

    Args:
        roots: The sources, prepared.
        format: What it shall be.
        rules: What the walk leaves out.
        skip: Directories to leave out, as (device, inode): stores.
        capacity: How many bytes of contents a piece may have.
        workers: How many processes read, compress and test; ``None`` for what the machine allows.
    """

    roots: Sequence[Root]
    format: Format
    rules: ExcludeRules = NO_RULES
    skip: Sequence[tuple[int, int]] = ()
    capacity: int = CAPACITY
    workers: int | None = None
    clock: Clock = field(default=system_clock, repr=False)

    @property
    def packing(self) -> ArchiveType:
        """How its pieces are compressed; a zip's as a gzip's are."""
        return self.format.archive_type or ArchiveType.TAR_GZ


@dataclass(frozen=True, kw_only=True)
class ArchiveReport:
    """What was made.

    Args:
        format: What it is; of an encrypted one what lies inside.
        size: Bytes of the file.
        sha256: Of the file.
        strength: How it was proven that the medium holds it.
        counts: What is in it.
        started: When it was begun.
        finished: When it had its name.
        problems: What could not be read, or not be read whole.
        left_out: What was left out on purpose.
        renamed: What is called otherwise in the archive, with that name.
        snapshot: The id of an encrypted one.
    """

    format: Format
    size: int
    sha256: bytes
    strength: ProofStrength
    counts: Counts
    started: datetime
    finished: datetime
    problems: tuple[Problem, ...]
    left_out: LeftOut
    renamed: tuple[Problem, ...] = ()
    snapshot: bytes = b""
