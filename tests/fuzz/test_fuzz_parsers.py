"""No bytes at all make a parser of the format raise a foreign error, run long, or take memory."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import BackupError
from tests.fuzz.bounds import bounded
from tests.fuzz.choices import DrawnChoices, one_of
from tests.fuzz.counting import count
from tests.fuzz.samples import mutated_snapshot
from tests.fuzz.targets import TARGETS, compare_readers, run
from tests.vectors.reading import SUCCESS, read_vector, vector_names

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
PARSERS = sorted(TARGETS.keys() - {"mutated snapshot", "whole file"})
VALID = [name for name in vector_names() if read_vector(name).expect == SUCCESS]
UNCOSTLY = [name for name in VALID if "passphrase" not in name]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_seeds_of_a_target_keep_to_the_bounds_and_some_are_accepted(name):
    seeds = TARGETS[name].seeds
    for seed in seeds:
        run(name, seed)  # loads what is loaded when it is needed

    accepted = 0
    for seed in seeds:
        with bounded():
            accepted += run(name, seed)

    assert accepted >= 1
    count(name, len(seeds), accepted)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=20_000 if DEEP else 100)
@given(data=st.data())
def test_a_parser_refuses_with_errors_of_the_package_only(name, data):
    target, choices = TARGETS[name], DrawnChoices(data)
    given_bytes = one_of(choices, target.seeds)
    for _ in range(1 + choices.number(2)):
        given_bytes = target.mutate(choices, given_bytes)

    with bounded():
        accepted = run(name, given_bytes)

    count(name, 1, accepted)


@settings(max_examples=100_000 if DEEP else 500)
@given(data=st.data())
def test_two_readers_take_or_refuse_the_same_authentic_snapshots(data):
    vector = mutated_snapshot(DrawnChoices(data))

    with bounded():
        result = compare_readers(vector)

    count("mutated snapshot", 1, result == SUCCESS)


@settings(max_examples=100_000 if DEEP else 400)
@given(data=st.data())
def test_two_readers_take_or_refuse_the_same_damaged_vectors(data):
    choices = DrawnChoices(data)
    vector = read_vector(one_of(choices, UNCOSTLY))
    for _ in range(1 + choices.number(2)):
        vector.data = TARGETS["whole file"].mutate(choices, vector.data)

    with bounded():
        result = compare_readers(vector)

    count("whole file", 1, result == SUCCESS)


def test_a_target_notices_what_it_is_there_to_notice():
    """Errors that are not the package's, disagreement, time and memory are failures each."""

    def slow():
        started = time.process_time()
        with bounded():
            while time.process_time() - started < 1.1:
                pass

    def greedy():
        with bounded():
            b"x" * (300 * 1024 * 1024)

    with pytest.raises(AssertionError, match="s for a small input"):
        slow()
    with pytest.raises(AssertionError, match="MiB for a small input"):
        greedy()
    with pytest.raises(TypeError):
        run("core line", None)
    assert not issubclass(AssertionError, BackupError)
