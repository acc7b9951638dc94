"""How many entries a second one process can feed to workers: walk, plan, hand out, index.

The workers do next to nothing, so what is measured is the one process that cannot be multiplied.
They answer every job with lines of the index, as real ones do, and with a frame of a few bytes.

    python benchmarks/feeding.py /usr/share [--workers 32]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

import msgspec
from cryptography.fernet import Fernet

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backup.manager.content import ContentWriter
from backup.manager.frame_job import FrameWorker
from backup.manager.frame_pool import pool_size
from backup.manager.frame_wire import FrameReport, WorkOrder, decode_job, encode_report
from backup.manager.request import SnapshotRequest, no_progress
from backup.manager.run import new_core
from backup.model import ArchiveType, EntryType, Extent
from backup.pool.pool import Pool
from backup.snapshot.header import parse_core
from backup.snapshot.recipients import DATA_KEY_BYTES, FernetKey, make_slots
from backup.snapshot.signing import HostKey
from backup.snapshot.writer import SnapshotWriter
from backup.sources.roots import prepare_roots

_TOKEN = bytes(256)


class IdleWork:
    """Answers jobs without reading anything."""

    def __init__(self, order: WorkOrder) -> None:
        self._core = parse_core(order.core)
        self._worker = FrameWorker(self._core, order.data_key, order.level)

    def run(self, job: memoryview) -> tuple[bytes, bytes]:
        """Return lines for the entries of ``job``, and no frame that could be opened."""
        report = FrameReport(plain=len(_TOKEN))
        for item in decode_job(job).items:
            entry = item.entry
            if entry.type is EntryType.FILE and entry.size:
                extent = Extent(self._core.id, 0, 0, entry.size)
                entry = msgspec.structs.replace(entry, digest=bytes(32), extents=(extent,))
            self._worker.tell(report, item.entry, entry)
        return encode_report(report), _TOKEN

    def close(self) -> None:
        """See Work."""
        self._worker.close()


def make_idle_work(data: bytes) -> IdleWork:
    """Return what does the jobs of the work order in ``data``."""
    return IdleWork(msgspec.msgpack.decode(data, type=WorkOrder))


def feed(sources: list[Path], workers: int) -> dict[str, float]:
    """Return what one run took: entries, seconds of wall and of the feeding process's own CPU."""
    key = FernetKey.parse(Fernet.generate_key())
    request = SnapshotRequest(
        sources=sources,
        host="benchmark",
        job="feeding",
        recipients=[key],
        identities=[key],
        host_key=HostKey.generate(),
        archive=ArchiveType.TAR_ZST,
        workers=workers,
    )
    core = new_core(request)
    data_key = os.urandom(DATA_KEY_BYTES)
    writer = SnapshotWriter(
        lambda _: None, core, make_slots([key], data_key, core), data_key, host_key=request.host_key
    )
    order = msgspec.msgpack.encode(WorkOrder(core.line, data_key, 3))
    with Pool("feeding:make_idle_work", order, pool_size(core, workers)) as pool:
        content = ContentWriter(
            request, prepare_roots(sources), writer, pool, skip=(), on_progress=no_progress
        )
        start, before = time.perf_counter(), _own_cpu()
        counts = content.write().counts
        wall, own = time.perf_counter() - start, _own_cpu() - before
    return {
        "entries": counts.entries,
        "bytes": counts.bytes,
        "wall_seconds": wall,
        "own_cpu_seconds": own,
        "entries_a_second": counts.entries / own,
        "own_cpu_seconds_per_80000_entries": own / counts.entries * 80_000,
    }


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, and print JSON: the median of the rounds by own CPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", nargs="+", type=Path)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rounds = [feed(given.source, given.workers) for _ in range(given.rounds)]
    rounds.sort(key=lambda one: one["own_cpu_seconds"])
    print(json.dumps({"workers": given.workers, **rounds[len(rounds) // 2]}, indent=2))


if __name__ == "__main__":
    main()
