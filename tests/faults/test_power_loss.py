"""A power cut at any moment leaves all that was acknowledged; what is listed then is whole."""

from __future__ import annotations

import pytest

from tests.faults import shim
from tests.faults.points import DEEP, served

pytestmark = pytest.mark.timeout(7200 if DEEP else 600)
SEEDS = 40 if DEEP else 1


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    library = shim.build(tmp_path_factory.mktemp("shim"))
    with served(library) as client:
        yield client


@pytest.mark.parametrize(
    "workload",
    [
        *("first snapshot", "next snapshot", "snapshot and rotation", "copy", "key new"),
        *("rotate into the trash", "purge", "undelete"),
        *("key add", "key remove", "key exchange"),
        *("catalog rebuild", "catalog record", "run state", "first run state"),
    ],
)
def test_at_any_moment_of(server, workload, capsys):
    states = 0
    for seed in range(SEEDS):
        answer = server.ask(workload=workload, power=True, seed=seed)
        assert answer.get("end") == "done", answer
        assert answer["wrong"] == []
        states += answer["states"]

    with capsys.disabled():
        print(f"\n{workload}: {states:,} states after a power cut")  # noqa: T201
    assert states > 5


def test_after_a_sync_that_failed_what_it_was_for_does_not_count(server):
    calls = server.calls("next snapshot")
    syncs = [number for number, kind in enumerate(calls, 1) if kind == "fsync"]
    assert syncs

    for at in syncs:
        answer = server.ask(workload="next snapshot", power=True, action="FAIL", at=at)
        assert answer["fired"] == "fsync"
        assert answer["wrong"] == []
