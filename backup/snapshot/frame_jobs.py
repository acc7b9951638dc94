"""Opening frames as jobs: what a worker has to be told to open one, and what it tells of damage.

A job brings all that it needs, the data key of its snapshot too: which snapshots are referred to is
known only as the index is read. It goes through memory that nobody but the workers shares.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from backup import errors
from backup.errors import IntegrityError
from backup.model import ArchiveType
from backup.pool.machine import memory_budget, this_machine, worker_count
from backup.pool.messages import Failure
from backup.pool.pool import Pool, PoolSize, Result
from backup.pool.slots import SlotSize
from backup.snapshot.compression import decompress
from backup.snapshot.frame import FrameKeys, Section
from backup.snapshot.header import parse_core
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.token import token_length
from backup.snapshot.writer import section_archive

_KEPT_KEYS = 64
_HEAD = struct.Struct("=BI")
_FIRST, _BEGUN = 0, 1
_MEBIBYTE = 1 << 20
_OWN_BYTES = 90 * _MEBIBYTE
_WORKER_BYTES = 44 * _MEBIBYTE
_WORTH = 96 * _MEBIBYTE
_WORTH_IF_SLOW = 16 * _MEBIBYTE
_MOST_EARLY = 24 * _MEBIBYTE
_SLOW = frozenset({ArchiveType.TAR_XZ, ArchiveType.TAR_BZ2})

Done = Callable[[Result], None]
"""Is called with what a job gave; good until the next job is submitted."""


class SealedPiece(msgspec.Struct, array_like=True):
    """What it takes to open a frame whose token one has. ``data_key`` is secret."""

    core: bytes
    data_key: bytes
    section: int
    number: int
    plain: int
    tag: bytes


def sealed_piece(
    reader: SnapshotReader, section: Section, number: int
) -> tuple[SealedPiece, memoryview]:
    """Return frame ``number`` of the file that ``reader`` reads, unopened, and its token.

    Raises:
        IntegrityError: There is no such frame in that section, or it cannot be read.
        StorageError: The store does not answer.
    """
    row = reader.row(section, number)
    token = reader.frame(number)
    core = reader.core.line
    return SealedPiece(core, reader.data_key, section, number, row.plain, row.tag), token


def join_job(order: bytes, token: memoryview) -> bytes:
    """Return a job: what is to be done with a frame, and its token."""
    return b"".join((_HEAD.pack(_FIRST, len(order)), order, token))


def split_job(job: memoryview) -> tuple[memoryview, memoryview, bool]:
    """Return what ``join_job`` was given, and whether somebody has begun the job before.

    A job is begun again after a worker was killed, or its answer was too large.
    """
    begun, length = _HEAD.unpack_from(job)
    if not job.readonly:
        job[0] = _BEGUN
    end = _HEAD.size + length
    return job[_HEAD.size : end], job[end:], begun == _BEGUN


class PieceOpener:
    """Opens sealed pieces of any snapshots."""

    def __init__(self) -> None:
        self._keys: dict[tuple[bytes, bytes], FrameKeys] = {}

    def piece(self, sealed: SealedPiece, token: memoryview) -> bytes:
        """Return the uncompressed piece.

        Raises:
            IntegrityError: It is not what was sealed, or does not keep to the format.
        """
        keys, section = self._keys_of(sealed), Section(sealed.section)
        compressed = keys.open(section, sealed.number, token, tag=sealed.tag)
        archive = section_archive(keys.core.archive, section)
        return decompress(archive, compressed, plain_length=sealed.plain)

    def _keys_of(self, sealed: SealedPiece) -> FrameKeys:
        mark = (sealed.core, sealed.data_key)
        if mark not in self._keys:
            if len(self._keys) >= _KEPT_KEYS:
                self._keys.clear()
            self._keys[mark] = FrameKeys(parse_core(sealed.core), sealed.data_key)
        return self._keys[mark]


def failure_of(error: errors.BackupError) -> Failure:
    """Return ``error`` as it goes to another process."""
    return Failure(type(error).__name__, error.message, error.hint)


def integrity_error(failure: Failure) -> IntegrityError:
    """Return the error that ``failure_of`` was given."""
    kind: type[IntegrityError] = getattr(errors, failure.kind, IntegrityError)
    return kind(failure.message, hint=failure.hint)


def diagnose(
    reader: SnapshotReader, section: Section, number: int, failure: Failure
) -> IntegrityError:
    """Return what is wrong with a frame that a worker could not open.

    The reader knows the file around the frame, and so whether another one stands in its place.
    """
    try:
        reader.piece(section, number)
    except IntegrityError as error:
        return error
    return integrity_error(failure)


def planned_workers() -> int:
    """Return how many processes this machine allows for opening frames."""
    machine = this_machine()
    budget = memory_budget(machine)
    return worker_count(machine, budget=budget, own=_OWN_BYTES, each=_WORKER_BYTES)


class _Job(NamedTuple):
    data: bytes
    done: Done


class FrameQueue:
    """Jobs that bring a frame each, with what is to be done with each result, both in one order.

    Processes are started once there is enough to do for them; little work is done by this one.

    Args:
        reader: The snapshot.
        factory: What does the jobs; see ``Pool``.
        data: See ``Pool``.
        room: How many bytes a job has beside its token, and its result.
        workers: How many processes; ``None`` for what the machine allows.
    """

    def __init__(
        self,
        reader: SnapshotReader,
        factory: str,
        data: bytes,
        *,
        room: SlotSize,
        workers: int | None = None,
    ) -> None:
        count = planned_workers() if workers is None else workers
        slot = SlotSize(token_length(reader.core.cap) + room.job, room.result)
        self._size = PoolSize(workers=count, slots=count + 2, slot=slot, worth=1)
        self._worth = _WORTH_IF_SLOW if reader.core.archive in _SLOW else _WORTH
        self._make_pool = partial(Pool, factory, data)
        self._own = self._make_pool(self._size._replace(workers=1))
        self._pool: Pool | None = self._own if count <= 1 else None
        self._early: deque[_Job] = deque()
        self._early_bytes = self._cost = 0
        self._waiting: deque[Done] = deque()

    @property
    def is_full(self) -> bool:
        """Whether a result is to be taken before another job is submitted."""
        return self._pool is not None and self._pool.is_full

    def submit(self, job: bytes, done: Done, *, cost: int) -> None:
        """Have ``job`` done, and ``done`` called with its result, in its turn.

        Args:
            job: What the work is given.
            done: What to do with the result.
            cost: How much work it is: as much as to decompress so many bytes.

        Raises:
            WorkerError: See ``Pool.next``.
        """
        self._cost += cost
        if self._pool is None:
            self._early.append(_Job(job, done))
            self._early_bytes += len(job)
            if self._cost >= self._worth or self._early_bytes >= _MOST_EARLY:
                self._start()
        else:
            self._give(self._pool, _Job(job, done))

    def _start(self) -> None:
        self._pool = self._make_pool(self._size)
        while self._early:
            self._give(self._pool, self._early.popleft())
        self._early_bytes = 0

    def _give(self, pool: Pool, job: _Job) -> None:
        while pool.is_full:
            self.take()
        self._waiting.append(job.done)
        pool.submit(job.data)

    def take(self) -> None:
        """Wait for the oldest job.

        Raises:
            WorkerError: See ``Pool.next``.
        """
        pool = self._pool or self._own
        if self._pool is None:
            job = self._early.popleft()
            self._early_bytes -= len(job.data)
            self._give(pool, job)
        result = pool.next()
        done = self._waiting.popleft()
        done(result)

    def drain(self) -> None:
        """Wait for all of them."""
        while self._waiting or self._early:
            self.take()

    def close(self, *, patience: float = 0.0) -> None:
        """End all workers; see ``Pool.close``."""
        if self._pool is not None:
            self._pool.close(patience=patience)
        self._own.close()
