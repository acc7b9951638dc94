"""What a run is asked to do, and what it tells afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from backup.clock import Clock, system_clock
from backup.model import ArchiveType
from backup.snapshot.end import Counts
from backup.snapshot.header import FRAME_CAP
from backup.snapshot.recipients import Identity, Recipient
from backup.snapshot.signing import HostKey
from backup.storage.base import ProofStrength


class Problem(NamedTuple):
    """Something of the source that is not in the snapshot, or is doubtful there."""

    path: bytes
    reason: str


class Progress(NamedTuple):
    """How far a run has come: bytes of contents ``read``, bytes of the snapshot ``stored``."""

    entries: int
    read: int
    stored: int
    path: bytes


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
    clock: Clock = field(default=system_clock, repr=False)


@dataclass(frozen=True, kw_only=True)
class SnapshotReport:
    """What was stored. ``problems`` is what could not be read, ``skipped`` what was left out."""

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
    skipped: tuple[Problem, ...] = ()
