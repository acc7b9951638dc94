"""The pool that makes and tests the pieces of an archive."""

from __future__ import annotations

import msgspec

from backup.manager.frame_pool import check_workers, plan_workers
from backup.model import ArchiveType
from backup.plain.deflating import DEFAULT_LEVEL
from backup.plain.formats import Format
from backup.plain.members import name_start
from backup.plain.piece_wire import Order
from backup.plain.request import ArchiveRequest
from backup.pool.machine import this_machine
from backup.pool.pool import Pool, PoolSize
from backup.pool.slots import SlotSize
from backup.snapshot.compression import check_level

_ROOM = 4 << 20
_SLOW = frozenset({ArchiveType.TAR_XZ, ArchiveType.TAR_BZ2})


def level_of(request: ArchiveRequest) -> int:
    """Return how hard its pieces are compressed."""
    return DEFAULT_LEVEL if request.format is Format.ZIP else check_level(request.packing, None)


def piece_pool(request: ArchiveRequest) -> Pool:
    """Return the pool for the pieces of one archive.

    Raises:
        InvalidArgumentError: There can be no such number of workers.
    """
    check_workers(request.workers)
    level = level_of(request)
    workers = request.workers
    if workers is None:
        workers = plan_workers(this_machine(), request.packing, level)
    order = Order(request.format, level, name_start(request.roots), request.capacity)
    size = PoolSize(
        workers=workers,
        slots=workers + 3,
        slot=SlotSize(request.capacity + _ROOM, request.capacity + 2 * _ROOM),
        worth=2 if request.packing in _SLOW else 4,
    )
    return Pool("backup.plain.piece_work:make_work", msgspec.msgpack.encode(order), size)
