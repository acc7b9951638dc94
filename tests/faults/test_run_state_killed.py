"""Several processes that serve the same moments at once, and are killed: each is served once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from backup.run_state import RUNS_NAME, Cause, Outcome, RunState
from tests.checkout import ROOT
from tests.cli import environment

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
START = datetime(2026, 11, 20, tzinfo=UTC)
JOBS = ["shop", "mail", "home"]

# Serves moments, one a minute, as a scheduler does: what failed or was interrupted is tried again.
# Each run writes a line before and behind, so that two of a job at once would be seen.
WORKER = """
import os, random, sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from backup.run_state import Outcome, RunState

path, log, count, seed, jobs = sys.argv[1:]
start, count, chance = datetime(2026, 11, 20, tzinfo=UTC), int(count), random.Random(seed)
state = RunState(Path(path), wait=60)
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def carry_out(claim):
    number = f"{claim.job} {claim.run.number} {os.getpid()}"
    os.write(log, f"begin {number}\\n".encode())
    time.sleep(chance.random() * 0.02)
    os.write(log, f"end {number}\\n".encode())
    if chance.random() < 0.2:
        claim.finish(Outcome.FAILED, retry_at=claim.moment)
    else:
        claim.finish(Outcome.DONE)


def next_of(known):
    return known.served + timedelta(minutes=1) if known.served else start


print("ready", flush=True)
while True:
    known = state.see(jobs.split())
    state.mark_interrupted(lambda one: one.served)
    waiting = [one for one in known.values() if one.retry_at]
    due = [one for one in known.values() if next_of(one) < start + timedelta(minutes=count)]
    if not waiting and not due and not any(one.unended for one in state.jobs().values()):
        break
    for one in waiting:
        claim = state.claim_retry(one.job, one.retry_at)
        if claim:
            carry_out(claim)
    for one in due:
        if not one.retry_at and not one.unended:
            claim = state.claim(one.job, next_of(one), after=one.served)
            if claim:
                carry_out(claim)
"""


def worker(path, count, seed):
    log = path.with_name("log")
    arguments = [str(path), str(log), str(count), str(seed), " ".join(JOBS)]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def check(path, count):
    """Check that each moment of each job was served once, and that no runs overlapped."""
    told = []
    state = RunState(path, tell=told.append)
    assert told == []
    for job in JOBS:
        runs = state.history(job)[::-1]
        assert [run.number for run in runs] == [*range(1, len(runs) + 1)]
        assert all(run.outcome is not None for run in runs)
        expected = [START + timedelta(minutes=number) for number in range(count)]
        assert [run.moment for run in runs if run.cause is Cause.SCHEDULE] == expected
        assert [run.moment for run in runs if run.outcome is Outcome.DONE] == expected
        check_log(path.with_name("log").read_text().splitlines(), job, runs)
    assert state.running() == []
    return state


def check_log(lines, job, runs):
    own = [line.split() for line in lines if line.split()[1] == job]
    begun = [int(number) for what, _, number, _ in own if what == "begin"]
    assert begun == sorted(begun), "a run began before one with a lower number"
    assert max(Counter(begun).values()) == 1
    done = {run.number for run in runs if run.outcome is not Outcome.INTERRUPTED}
    assert done <= set(begun)
    for first, second in pairwise(own):
        if second[0] == "end":
            assert first == ["begin", *second[1:]], "another run was under way"


def in_a_run(path, workers):
    """Return which of the workers has begun a run just now."""
    log, processes = path.with_name("log"), [one.pid for one in workers]
    size = log.stat().st_size
    while True:
        lines = log.read_bytes()[size:].split(b"\n")[:-1]
        words = lines[-1].decode().split() if lines else ["nothing"]
        if words[0] == "begin" and int(words[3]) in processes:
            return processes.index(int(words[3]))
        time.sleep(0.001)


@pytest.mark.parametrize("processes", [2, 4])
def test_each_moment_is_served_once_whoever_is_quicker(tmp_path, processes):
    path, count = tmp_path / RUNS_NAME, 100 if DEEP else 12
    workers = [worker(path, count, seed) for seed in range(processes)]
    errors = [one.communicate(timeout=300)[1] for one in workers]

    assert errors == [b""] * processes
    check(path, count)


@pytest.mark.timeout(1800 if DEEP else 120)
@pytest.mark.parametrize("seed", range(20 if DEEP else 1))
def test_each_moment_is_served_once_though_processes_are_killed_all_the_time(tmp_path, seed):
    path, count, chance = tmp_path / RUNS_NAME, 120, random.Random(seed)
    workers = [worker(path, count, seed) for _ in range(3)]
    for killed in range(8):
        number = in_a_run(path, workers) if killed % 2 else chance.randrange(len(workers))
        if not killed % 2:
            workers[number].stdout.readline()
            time.sleep(chance.random() * 0.1)
        workers[number].send_signal(signal.SIGKILL)
        _, error = workers[number].communicate()
        assert error == b""
        assert workers[number].returncode == -signal.SIGKILL, "all was done too soon"
        workers[number] = worker(path, count, f"{seed} {killed}")
    errors = [one.communicate(timeout=300)[1] for one in workers]

    assert errors == [b""] * 3
    state = check(path, count)
    assert any(run.outcome is Outcome.INTERRUPTED for job in JOBS for run in state.history(job)), (
        "no run was killed"
    )
