"""Whatever call of the system fails or is the last one, nothing is lost and nothing lies.

Each point is a run of its own in which one call goes wrong. Afterwards all that was acknowledged
has to be there and restore to what was saved, all that is listed has to be whole, errors have to
be ours, and the next run has to succeed and leave nothing over.
"""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.faults import shim
from tests.faults.points import DEEP, Tally, points, sample, served

pytestmark = pytest.mark.timeout(4 * 3600 if DEEP else 600)
EVERYTHING = 10**9

WRITING = {
    "first snapshot": 90,
    "next snapshot": 100,
    "snapshot and rotation": 80,
    "copy": 70,
    "key new": 120,
    "restore": 100,
    "rotate into the trash": 30,
    "purge": 40,
    "undelete": 30,
    "key add": 25,
    "key remove": 25,
    "key exchange": 25,
    "catalog rebuild": 30,
    "catalog record": 30,
    "run state": 60,
    "first run state": 40,
}
READING = {
    ("next snapshot", ("store", "state")): 30,
    ("next snapshot", ("source",)): 50,
    ("snapshot and rotation", ("store",)): 20,
    ("copy", ("store", "second")): 20,
    ("verify", ("store",)): 30,
    ("restore", ("store",)): 30,
    ("purge", ("store", "state")): 20,
    ("key exchange", ("store",)): 20,
    ("catalog record", ("state",)): 20,
    ("run state", ("state",)): 20,
}
# What the product never asks for; to use one of them means to see to it that it is tried.
NEVER_CALLED = {"truncate", "allocate", "copy", "setxattr"}
MADE_BY_WRITING = {
    *("write", "create", "fsync", "close", "rename", "link", "symlink", "unlink", "mkdir"),
    *("chmod", "chown", "utimes", "mknod", "flock"),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Start two servers: one point at a time leaves the second processor idle."""
    library = shim.build(tmp_path_factory.mktemp("shim"))
    with ExitStack() as stack:
        yield [stack.enter_context(served(library)) for _ in range(2)]


@pytest.fixture
def try_points(servers, capsys):
    """Return a function that tries the points of a workload, and tells how many."""

    def go(workload, most, **where):
        calls = servers[0].calls(workload, **where)
        every = points(workload, calls, **where)
        chosen = sample(every, EVERYTHING if DEEP else most, seed=zlib.crc32(workload.encode()))
        tally = Tally()

        def try_some(number):
            for point in chosen[number :: len(servers)]:
                tally.take(point, servers[number].ask(**point.asked()))

        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(try_some, range(len(servers))))
        with capsys.disabled():
            print(f"\n{workload}, {len(every):,} points, {tally.report()}")  # noqa: T201
        assert tally.wrong == []
        assert {point.kind for point in every} == {kind for _, kind, _ in tally.tried}
        assert {point.fault for point in every} == {fault for _, _, fault in tally.tried}
        assert tally.missed == []

    return go


@pytest.mark.parametrize(("workload", "most"), WRITING.items())
def test_whatever_call_goes_wrong_that_changes_something(try_points, workload, most):
    try_points(workload, most)


@pytest.mark.parametrize(("workload", "below", "most"), [(*key, n) for key, n in READING.items()])
def test_whatever_call_goes_wrong_that_reads(try_points, workload, below, most):
    try_points(workload, most, domain="reads", below=below)


def test_every_kind_of_call_is_tried(servers):
    made = {kind for workload in WRITING for kind in servers[0].calls(workload)}

    assert made & NEVER_CALLED == set()
    assert made >= MADE_BY_WRITING
