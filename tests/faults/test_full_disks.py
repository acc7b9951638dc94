"""Disks that are full at any point of a run, limits, and file systems that are read-only."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from needs import needs

from tests.faults.invariants import checks_of
from tests.faults.points import DEEP, MEMORY
from tests.faults.workloads import WORKLOADS
from tests.faults.world import World, files_below, outcome_of

pytestmark = pytest.mark.timeout(3600 if DEEP else 600)
PAGE = 4096
STEPS = 8
AT_MOST_NEEDED = 360_000
DISK_BYTES = 8 << 20
NAMES = [
    "first snapshot",
    "next snapshot",
    "snapshot and rotation",
    "copy",
    "key new",
    "restore",
    "run state",
]


@pytest.fixture
def world():
    """Return a world whose changing part lies on a small disk of its own."""
    needs(os.geteuid() == 0, "only root can mount a small file system")
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="auto-backup-full-") as name:
        world = World(Path(name))
        world.now.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(world.now)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
        try:
            yield world
        finally:
            subprocess.run(["umount", "-l", str(world.now)], check=True)


def lay_out(world, workload):
    """Let the disk be as before the workload; return its files."""
    kept = world.base / "kept"
    for path in list(world.now.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kept.exists():
        shutil.copytree(kept, world.now, dirs_exist_ok=True)
    else:
        world.set_clock(minutes=-30)
        workload.prepare(world)
        shutil.copytree(world.now, kept)
    world.set_clock()
    return files_below(world.now)


def free_bytes(world):
    status = os.statvfs(world.now)
    return status.f_bavail * status.f_frsize


@contextmanager
def only_free(world, free):
    """Leave only so much room on the disk."""
    ballast = world.now / "ballast"
    with ballast.open("wb") as file:
        with_room = free_bytes(world) - free
        if with_room > 0:
            os.posix_fallocate(file.fileno(), 0, with_room)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def only_files_of(size):
    """Let this process write files up to ``size`` bytes only; the signal is ignored by Python."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sizes(needed):
    """Return how much room to leave: steps of a page, or as many as there is time for."""
    pages = range(needed // PAGE + 3)
    return [PAGE * page for page in (pages if DEEP else pages[:: max(len(pages) // STEPS, 1)])]


def sweep(world, name, limited, needed):
    """Run a workload with more and more room; return how the runs ended, the tightest first."""
    workload = WORKLOADS[name]
    ends = []
    for size in sizes(needed):
        before = lay_out(world, workload)
        with limited(size):
            outcome = outcome_of(workload, world)
        assert checks_of(workload, world, outcome, before) == [], (size, outcome)
        told = name == "restore" and outcome.value.get("problems")
        ends.append("told" if told else outcome.end)
    return ends


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_full_at_any_point(world, name):
    workload = WORKLOADS[name]
    lay_out(world, workload)
    before = free_bytes(world)
    workload.run(world)
    # What rotation frees in the end is needed all the same until then.
    needed = max(before - free_bytes(world), AT_MOST_NEEDED if workload.removes else 0)

    ends = sweep(world, name, lambda size: only_free(world, size), needed + 16 * PAGE)

    assert "error" in ends
    assert ends[-1] == "done"


@pytest.mark.parametrize("name", ["first snapshot", "next snapshot", "copy", "restore"])
def test_a_limit_on_the_size_of_files(world, name):
    lay_out(world, WORKLOADS[name])

    ends = sweep(world, name, only_files_of, AT_MOST_NEEDED)

    # A restore leaves out the files that are too large, says so, and goes on with the others.
    assert ("told" if name == "restore" else "error") in ends
    assert ends[-1] == "done"


def test_a_full_state_directory_is_told_before_anything_is_stored(world):
    workload = WORKLOADS["first snapshot"]
    lay_out(world, workload)
    with only_free(world, 0):
        outcome = outcome_of(workload, world)

    assert outcome.error == "StorageError"
    assert os.strerror(errno.ENOSPC) in outcome.text
    assert not world.store.exists()


class TestAReadOnlyStore:
    @pytest.fixture
    def read_only(self, world):
        """Have a store with two snapshots, on a disk that is read-only from now on."""
        lay_out(world, WORKLOADS["next snapshot"])
        subprocess.run(["mount", "-o", "remount,ro", str(world.now)], check=True)
        return world

    def test_takes_nothing_in_and_stays_as_it_is(self, read_only):
        before = files_below(read_only.now)
        outcome = outcome_of(WORKLOADS["next snapshot"], read_only)

        assert outcome.error == "StorageError"
        assert os.strerror(errno.EROFS) in outcome.text
        assert files_below(read_only.now) == before

    def test_can_be_verified_and_restored_from(self, read_only, tmp_path):
        assert outcome_of(WORKLOADS["verify"], read_only).end == "done"

        read_only.target = tmp_path / "target"
        outcome = outcome_of(WORKLOADS["restore"], read_only)

        assert (outcome.end, outcome.value["problems"]) == ("done", [])
