"""What a run with workers takes of memory: all of its processes, what they share counted once."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli import start
from tests.processes import descendants, workers

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MEBIBYTE = 1 << 20
SIZE = (600 if DEEP else 120) * MEBIBYTE
MOST_BYTES = 300_000_000
XZ_BYTES = 100 * MEBIBYTE
"""What an encoder of xz, level 6, takes in a worker; see ``manager/frame_pool.py``."""

pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("key_file")]


@pytest.fixture(scope="module")
def much(tmp_path_factory):
    """Return a directory with large files and small ones, half of it incompressible."""
    top, chance = tmp_path_factory.mktemp("much"), random.Random(1)
    noise = chance.randbytes(16 * MEBIBYTE)
    text = b"".join(b"line %d of a text\n" % number for number in range(900_000))[: len(noise)]
    left = SIZE // 2
    for number in range(SIZE // 4 // len(noise) + 1):
        (top / f"large-{number}").write_bytes(noise + text)
    while left > 0:
        length = chance.randrange(200_000)
        place = chance.randrange(len(noise) - length)
        directory = top / f"{left // (8 * MEBIBYTE):03}"
        directory.mkdir(exist_ok=True)
        (directory / f"{left}").write_bytes((noise if left % 2 else text)[place : place + length])
        left -= length + 1
    return top


def pss(process):
    """Return how many bytes of memory a process takes, its share of what others have too."""
    with suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def most_memory(much, store, compression):
    """Return the most that a run's processes took at any time, and how many workers there were."""
    options = ["--source", much, "--store", store, "--compression", compression]
    most = 0
    seen = set()
    with start("backup", "--workers", "2", *options) as process:
        while process.poll() is None:
            most = max(most, sum(map(pss, [process.pid, *descendants(process.pid)])))
            seen.update(workers(process.pid))
            time.sleep(0.02)
        err = process.stderr.read()
    assert process.returncode == 0, err
    return most, len(seen)


def test_two_workers_fit_the_budget(much, store):
    if os.geteuid() != 0:
        pytest.skip("only root may look at the memory of processes that let nobody dump them")

    most, count = most_memory(much, store, "zstd")

    assert count == 2
    assert 60_000_000 < most < MOST_BYTES


@pytest.mark.skipif(not DEEP, reason="takes minutes: --deep")
def test_two_workers_with_xz_take_their_encoders_besides(much, store):
    if os.geteuid() != 0:
        pytest.skip("only root may look at the memory of processes that let nobody dump them")

    most, count = most_memory(much, store, "xz")

    assert count == 2
    assert most < MOST_BYTES + 2 * XZ_BYTES
