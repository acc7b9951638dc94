"""What a supervisor knows of runs that go on, and how it ends them."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta

import pytest

from backup.conditions import Conditions
from backup.reporting import Report
from backup.run_state import RUNS_NAME, Outcome, RunState
from backup.running import CallWork, CommandWork, Runner, Task
from backup.triggers import make_trigger
from tests.checkout import ROOT
from tests.processes import all_gone, is_alive, wait_until

SECOND = timedelta(seconds=1)

# Tells of a byte for each line of a file, and writes what the file beside it says.
REPORTING = """
import os, pathlib, sys, time
sys.path.insert(0, {root!r})
from backup.reporting import own_reporter
top, reporter = pathlib.Path(sys.argv[1]), own_reporter()
while not (top / 'end').exists():
    reporter.tell('reading', len((top / 'bytes').read_text()), 10)
    reporter.flush()
    time.sleep(0.02)
reporter.tell_details({{'size': 10, 'exit_status': 'none'}})
"""

DEAF = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(15, signal.SIG_IGN)
below = 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'
one = subprocess.Popen([sys.executable, '-c', below])
time.sleep(0.2)
pathlib.Path(sys.argv[1], 'pids').write_text(f'{os.getpid()} {one.pid}')
time.sleep(600)
"""


@pytest.fixture
def state(tmp_path, clock):
    return RunState(tmp_path / RUNS_NAME, clock)


@pytest.fixture
def runner_of(state, clock):
    """Return a function that makes a runner of tasks; all of it ends with the test."""
    made = []

    def make(*tasks, **options):
        made.append(Runner(lambda: tasks, state, zone=None, clock=clock, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop(1)


def task(code, top, **options):
    command = [sys.executable, "-c", code.format(root=str(ROOT)) if "{root" in code else code]
    return Task(
        name="job",
        begin=lambda lock, hear: CommandWork([*command, str(top)], lock=lock, on_output=hear),
        trigger=make_trigger({"every": "1 hour"}),
        **options,
    )


def only(runner):
    found = runner.going()
    return found[0] if len(found) == 1 else None


class TestWhatGoesOn:
    def test_it_is_known_how_far_a_run_has_come(self, tmp_path, runner_of, state, clock):
        (tmp_path / "bytes").write_text("1234")
        runner = runner_of(task(REPORTING, tmp_path))
        runner.look()
        assert wait_until(lambda: only(runner).report)

        one = only(runner)
        assert (one.name, one.began) == ("job", state.jobs()["job"].last.started)
        assert one.report == Report("reading", 4, 10)
        assert is_alive(one.pid)
        assert not one.is_stalled

    def test_it_is_nothing_when_all_have_ended(self, tmp_path, runner_of, state):
        (tmp_path / "bytes").touch()
        (tmp_path / "end").touch()
        runner = runner_of(task(REPORTING, tmp_path))
        runner.look()
        assert runner.wait(10)

        assert runner.going() == []
        assert state.jobs()["job"].last.details == {"size": 10, "exit_status": 0}

    def test_who_begins_a_run_by_hand_hears_how_far_it_is(self, tmp_path, runner_of):
        (tmp_path / "bytes").write_text("123")
        one, told = task(REPORTING, tmp_path), []
        runner_of(one).begin_by_hand(one, on_report=told.append)

        assert wait_until(lambda: told)
        assert told[0] == Report("reading", 3, 10)

    def test_who_hears_it_and_fails_does_not_end_it(self, tmp_path, runner_of, state):
        (tmp_path / "bytes").touch()
        one = task(REPORTING, tmp_path)
        runner = runner_of(one)
        runner.begin_by_hand(one, on_report=lambda _: 1 / 0)
        assert wait_until(lambda: only(runner).report)
        (tmp_path / "end").touch()

        assert runner.wait(10)
        assert state.jobs()["job"].last.outcome is Outcome.DONE


class TestARunThatStalls:
    def test_it_is_told_once_and_once_more_when_it_moves_again(self, tmp_path, runner_of, caplog):
        (tmp_path / "bytes").write_text("1")
        runner = runner_of(task(REPORTING, tmp_path, stall_after=SECOND))
        runner.look()
        assert wait_until(lambda: only(runner).is_stalled)
        for _ in range(3):
            runner.look()
        assert only(runner).still >= 1
        assert warnings(caplog) == ["job has not moved a byte for 1 s"]

        (tmp_path / "bytes").write_text("12")
        assert wait_until(lambda: not only(runner).is_stalled)
        for _ in range(3):
            runner.look()
        assert warnings(caplog)[1:] == ["job moves again"]
        assert is_alive(only(runner).pid)

    def test_a_walk_moves_also_while_it_finds_empty_files_only(self, tmp_path, runner_of):
        (tmp_path / "bytes").touch()
        counting = REPORTING.replace("'reading'", "'counting'")
        runner = runner_of(task(counting, tmp_path, stall_after=SECOND))
        runner.look()
        assert wait_until(lambda: only(runner).report)
        time.sleep(1.5)

        assert not only(runner).is_stalled

    def test_output_counts_as_movement(self, tmp_path, runner_of):
        code = "import time\nwhile True: print('x', flush=True); time.sleep(0.05)"
        runner = runner_of(task(code, tmp_path, stall_after=SECOND))
        runner.look()
        assert wait_until(lambda: only(runner).pid)
        time.sleep(1.5)

        assert only(runner).still < 1
        assert not only(runner).is_stalled

    def test_a_function_never_counts_as_one(self, runner_of, caplog):
        slow = Task(
            name="job",
            begin=lambda *_: CallWork(lambda: time.sleep(0.3)),
            trigger=make_trigger({"every": "1 hour"}),
            stall_after=timedelta(),
        )
        runner = runner_of(slow)
        runner.look()
        time.sleep(0.1)
        runner.look()

        assert (only(runner).pid, only(runner).is_stalled) == (None, False)
        assert warnings(caplog) == []
        assert runner.wait(5)


class TestTheEnd:
    def test_comes_in_time_whatever_runs_make_of_it(self, tmp_path, runner_of, state):
        runner = runner_of(task(DEAF, tmp_path))
        runner.look()
        assert wait_until((tmp_path / "pids").exists)
        time.sleep(0.1)
        pids = [int(one) for one in (tmp_path / "pids").read_text().split()]
        began = time.monotonic()

        assert runner.stop(2)
        assert 0.9 < time.monotonic() - began < 2
        assert all_gone(pids, 0.1)
        job = state.jobs()["job"]
        assert job.last.outcome is Outcome.INTERRUPTED
        assert job.retry_at is not None

    def test_comes_for_commands_of_conditions_too(self, tmp_path, runner_of):
        asks = (sys.executable, "-c", DEAF, str(tmp_path))
        waiting = task("pass", tmp_path, conditions=Conditions(command=asks))
        runner = runner_of(waiting)
        runner.look()
        assert wait_until((tmp_path / "pids").exists)
        time.sleep(0.1)
        pids = [int(one) for one in (tmp_path / "pids").read_text().split()]

        assert runner.stop(2)
        assert all_gone(pids, 0.1)
        assert runner.running() == []

    def test_comes_at_once_for_what_begins_meanwhile(self, tmp_path, runner_of, state):
        one = task("import time; time.sleep(600)", tmp_path)
        runner = runner_of(one)
        runner.stop(0.1)
        runner.begin_by_hand(one)

        assert runner.wait(5)
        assert state.jobs()["job"].last.outcome is Outcome.INTERRUPTED


def warnings(caplog):
    return [
        one.getMessage()
        for one in caplog.records
        if one.levelno >= logging.WARNING and one.name.startswith("backup.running")
    ]
