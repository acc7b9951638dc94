"""The pool of a run: how many workers do its frame jobs, and what they have to know."""

from __future__ import annotations

import msgspec

from backup.errors import InvalidArgumentError
from backup.manager.frame_wire import WorkOrder
from backup.model import ArchiveType
from backup.pool.machine import Machine, memory_budget, this_machine, worker_count
from backup.pool.pool import Pool, PoolSize
from backup.pool.slots import SlotSize
from backup.snapshot.header import Core
from backup.snapshot.token import token_length

_MEBIBYTE = 1 << 20
_OWN_BYTES = 96 * _MEBIBYTE
_WORKER_BYTES = 54 * _MEBIBYTE
"""Measured (PSS) where nothing compresses; with the kernel's source 70 and 40."""

_XZ_BYTES = (3, 9, 17, 32, 48, 94, 94, 94, 94, 94)
"""What an encoder takes at each preset, in MiB (xz(1)); dictionaries are no larger than a piece."""

_BZIP2_BYTES = 8
_REPORT_BYTES = 8 * _MEBIBYTE
_JOB_BYTES = 4 * _MEBIBYTE
_XZ_SHARE = 8
_MOST_WORKERS = 256


def check_workers(workers: int | None) -> None:
    """Refuse what is no number of workers.

    Raises:
        InvalidArgumentError: It is below 1, or above 256.
    """
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise InvalidArgumentError(
            f"there can be 1 to {_MOST_WORKERS} workers, not {workers}",
            hint="1 is this process alone; without a number it is what the machine allows",
        )


def frame_pool(core: Core, data_key: bytes, level: int, *, workers: int | None = None) -> Pool:
    """Return the pool for the frame jobs of one snapshot.

    Args:
        core: The snapshot's core.
        data_key: Its data key.
        level: The compression level of its archive.
        workers: How many processes, ``None`` for what the machine allows.

    Raises:
        InvalidArgumentError: There can be no such number of workers.
    """
    check_workers(workers)
    if workers is None:
        workers = plan_workers(this_machine(), core.archive, level)
    order = msgspec.msgpack.encode(WorkOrder(core.line, data_key, level))
    return Pool("backup.manager.frame_job:make_work", order, pool_size(core, workers))


def pool_size(core: Core, workers: int) -> PoolSize:
    """Return the size of a pool for the frames of a snapshot."""
    is_slow = core.archive in {ArchiveType.TAR_XZ, ArchiveType.TAR_BZ2}
    return PoolSize(
        workers=workers,
        slots=workers + 3,
        slot=SlotSize(core.cap + _JOB_BYTES, token_length(core.cap) + _REPORT_BYTES),
        worth=2 if is_slow else 4,
    )


def plan_workers(machine: Machine, archive: ArchiveType, level: int) -> int:
    """Return how many workers a run has: what fits the memory, at most one a core.

    An xz encoder takes about 115 MB, so that two of them fill the budget of a run. Where there is
    plenty of memory, an eighth of it may be used: a worker less on four cores is a quarter of
    the speed, and ``xz -T0`` takes as much.
    """
    budget = memory_budget(machine)
    if archive is ArchiveType.TAR_XZ:
        budget = max(budget, machine.memory // _XZ_SHARE)
    each = _worker_bytes(archive, level)
    return worker_count(machine, budget=budget, own=_OWN_BYTES, each=each)


def run_bytes(workers: int, archive: ArchiveType, level: int) -> int:
    """Return how many bytes a run with so many workers takes at most, about."""
    return _OWN_BYTES + workers * _worker_bytes(archive, level)


def _worker_bytes(archive: ArchiveType, level: int) -> int:
    if archive is ArchiveType.TAR_XZ:
        return _WORKER_BYTES + _XZ_BYTES[level] * _MEBIBYTE
    if archive is ArchiveType.TAR_BZ2:
        return _WORKER_BYTES + _BZIP2_BYTES * _MEBIBYTE
    return _WORKER_BYTES
