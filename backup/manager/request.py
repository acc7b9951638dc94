"""What a run is asked to do, and what it tells afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from backup.clock import Clock, system_clock
from backup.manager.chain_memory import ChainMemory
from backup.model import NO_RULES, ArchiveType, ExcludeRules
from backup.snapshot.end import Counts
from backup.snapshot.header import FRAME_CAP
from backup.snapshot.recipients import Identity, Recipient
from backup.snapshot.signing import HostKey
from backup.storage.base import ProofStrength


class Problem(NamedTuple):
    """Something of the source that is not in the snapshot, or is doubtful there."""

    path: bytes
    reason: str


class LeftOut(NamedTuple):
    """What a walk left out on purpose; an excluded directory is one path, whatever is in it.

    Args:
        told: The first paths of them, in walking order.
        counts: How many paths there are for each reason, the most frequent first.
    """

    told: tuple[Problem, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        """How many paths were left out in all."""
        return sum(count for _, count in self.counts)


NOTHING_LEFT_OUT = LeftOut()


class Progress(NamedTuple):
    """How far a run has come: bytes of contents ``read``, bytes of the snapshot ``stored``.

    ``quicker`` tells how many times as fast its first frame would have been made with zstd,
    0 where nobody tried: it is tried where the archive is xz. ``proven`` tells how many bytes of
    the snapshot have been read back; it is ``None`` while there is more to write.
    """

    entries: int
    read: int
    stored: int
    path: bytes
    quicker: float = 0.0
    proven: int | None = None


OnProgress = Callable[[Progress], None]


def no_progress(_: Progress) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """What to take a snapshot of, for whom, and how.

    Args:
        sources: Directories and files, as a user names them.
        host: This machine's name in the store.
        job: The job's name.
        recipients: Whom the snapshot is sealed for.
        identities: What opens the job's earlier snapshots, to continue their chain.
        host_key: What signs it.
        archive: The type of its archive.
        level: The compression level, ``None`` for the archive type's default.
        cap: The largest message of a frame, in bytes.
        rules: What the walk leaves out.
        tags: Words to keep with the snapshot.
        workers: How many processes read and compress; ``None`` for what the machine allows.
        memory: Continues the chain of a host without identities; kept up to date by all.
    """

    sources: Sequence[str | bytes | Path]
    host: str
    job: str
    recipients: Sequence[Recipient]
    identities: Sequence[Identity]
    host_key: HostKey
    archive: ArchiveType = ArchiveType.TAR_XZ
    level: int | None = None
    cap: int = FRAME_CAP
    rules: ExcludeRules = NO_RULES
    tags: tuple[str, ...] = ()
    workers: int | None = None
    memory: ChainMemory | None = field(default=None, repr=False)
    clock: Clock = field(default=system_clock, repr=False)


@dataclass(frozen=True, kw_only=True)
class SnapshotReport:
    """What was stored. ``problems`` is what could not be read, ``skipped`` what was left out.

    ``skipped`` holds the first thousand; ``left_out`` counts all of them by reason.
    """

    name: str
    id: bytes
    sequence: int
    size: int
    sha256: bytes
    strength: ProofStrength
    counts: Counts
    started: datetime
    finished: datetime
    problems: tuple[Problem, ...] = ()
    left_out: LeftOut = NOTHING_LEFT_OUT

    @property
    def skipped(self) -> tuple[Problem, ...]:
        """The first of what was left out."""
        return self.left_out.told
