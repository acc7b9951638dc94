"""The harness finds mistakes: each mutant has one, and is found out."""

from __future__ import annotations

import pytest

from tests.faults import shim
from tests.faults.mutants import MUTANTS, mutated
from tests.faults.points import Point, served

MOST_POINTS = 40


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return shim.build(tmp_path_factory.mktemp("shim"))


def answers(server, mutant):
    """Yield what the server tells of a mutant, until the mistake has shown."""
    for asked in mutant.asked:
        answer = server.ask(**asked)
        assert "crash" not in answer, answer["crash"]
        yield answer
    if mutant.asked:
        return
    asked = {"workload": mutant.workload, "domain": mutant.domain, "below": mutant.below}
    calls = server.ask(**asked, calls=True)["calls"]
    places = [number for number, kind in enumerate(calls, 1) if kind == mutant.kind]
    assert places, f"the mutant never calls {mutant.kind}"
    for at in places[-MOST_POINTS:]:
        for action, error in mutant.faults:
            where = (mutant.workload, at, mutant.kind, action, error, mutant.domain, mutant.below)
            yield server.ask(**Point(*where).asked(), power=mutant.power)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.sentence.replace(" ", "-"))
def test_a_mistake_is_found(mutant, library, tmp_path):
    with served(library, mutated(mutant, tmp_path)) as server:
        found = next((one for one in answers(server, mutant) if one.get("wrong")), None)

    assert found, f"nobody notices that {mutant.sentence}"


def test_there_are_enough_of_them():
    assert len({mutant.sentence for mutant in MUTANTS}) >= 12
