"""``schedule run --due`` killed at any moment: its job ends with it, and the next call goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from backup.clock import system_clock
from backup.run_state import RUNS_NAME, Outcome, RunState
from backup.running import CommandWork, Runner, Task
from backup.triggers import make_trigger
from tests.checkout import ROOT
from tests.cli import environment
from tests.processes import all_gone, wait_until

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MOMENTS = 200 if DEEP else 10
pytestmark = pytest.mark.timeout(3600 if DEEP else 300)

# The job: refuses to run beside itself, and says so; its process id is what it leaves.
JOB = """
import fcntl, os, sys, time
top = sys.argv[1]
lock = open(top + '/lock', 'w')
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    open(top + '/twice', 'w')
    raise
with open(top + '/pid.new', 'w') as file:
    file.write(str(os.getpid()))
os.rename(top + '/pid.new', top + '/pid')
time.sleep(float(sys.argv[2]))
"""

CALL = """
import sys
sys.path.insert(0, {root!r})
import backup.tasks
from backup.cli import main
backup.tasks.this_program = lambda options: backup.tasks.Program(
    (sys.executable, '-c', {job!r}, {top!r}, '600')
)
sys.argv[1:] = ['schedule', 'run', '--due', '--config', {top!r} + '/config.yaml']
sys.exit(main())
"""


@pytest.fixture
def state(tmp_path):
    return RunState(tmp_path / "state" / RUNS_NAME)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Return a command that runs what is due: a job that takes ten minutes."""
    monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "config.yaml").write_text(
        "version: 1\njobs:\n  shop: {schedule: every 6 hours, sources: [/etc],"
        " verify: {checksum: never, content: never}}\n"
    )
    return [sys.executable, "-c", CALL.format(root=str(ROOT), job=JOB, top=str(tmp_path))]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_the_command_is_interrupted(tmp_path, state, command, by):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE) as call:
        signal.signal(signal.SIGINT, before)
        assert wait_until((tmp_path / "pid").exists)
        call.send_signal(by)
        began = time.monotonic()
        _, err = call.communicate(timeout=30)

    assert call.returncode == 130, err
    assert b"Traceback" not in err
    assert time.monotonic() - began < 5
    assert all_gone([int((tmp_path / "pid").read_text())])
    assert state.jobs()["shop"].last.outcome is Outcome.INTERRUPTED
    assert state.jobs()["shop"].retry_at is not None


def test_the_command_is_killed(tmp_path, state, command):
    with subprocess.Popen(command, env=environment()) as call:
        assert wait_until((tmp_path / "pid").exists)
        assert [one.job for one in state.running()] == ["shop"]
        call.kill()

    assert all_gone([int((tmp_path / "pid").read_text())])
    assert state.running() == []
    moment = state.jobs()["shop"].served
    _look(state, _task(tmp_path, "0"), timedelta())
    shop = state.jobs()["shop"]
    assert (shop.last.outcome, shop.served) == (Outcome.INTERRUPTED, moment)

    _look(state, _task(tmp_path, "0"), timedelta(minutes=2))
    shop = state.jobs()["shop"]
    assert (shop.last.outcome, shop.served, shop.count) == (Outcome.DONE, moment, 2)


def test_after_any_while(tmp_path, state):
    chance, code = random.Random(5), WORKER.format(root=str(ROOT))
    for number in range(MOMENTS):
        offset = timedelta(hours=6 * number)
        arguments = [str(tmp_path), str(state.path), str(offset.total_seconds())]
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE
        ) as call:
            assert call.stdout.readline() == b"ready\n"
            time.sleep(chance.random() * 0.4)
            call.send_signal(signal.SIGKILL)
        served = state.jobs().get("job")
        assert wait_until(lambda: not state.is_running("job"))

        task = _task(tmp_path, "0")
        _look(state, task, offset)
        _look(state, task, offset + timedelta(minutes=2))
        known = state.jobs()["job"]
        assert (known.last.outcome, known.failures) == (Outcome.DONE, 0)
        assert served is None or served.served is None or known.served >= served.served
        count = known.count
        _look(state, task, offset + timedelta(minutes=3))
        assert state.jobs()["job"].count == count
    assert not (tmp_path / "twice").exists()


WORKER = """
import sys
sys.path.insert(0, {root!r})
from datetime import timedelta
from pathlib import Path
from backup.run_state import RunState
from tests.faults.test_killed_schedules import _look, _task
top, path, offset = sys.argv[1:]
print('ready', flush=True)
_look(RunState(Path(path)), _task(Path(top), '0.3'), timedelta(seconds=float(offset)))
"""


def _task(top, seconds):
    command = [sys.executable, "-c", JOB, str(top), seconds]
    name = "job" if not (top / "config.yaml").exists() else "shop"
    return Task(
        name=name,
        begin=lambda lock, _: CommandWork(command, lock=lock),
        trigger=make_trigger({"every": "6 hours"}),
    )


def _look(state, task, offset):
    """Run what is due when it is ``offset`` later than now."""
    later = RunState(state.path, lambda: system_clock() + offset)
    runner = Runner(lambda: [task], later, zone=None, clock=lambda: system_clock() + offset)
    runner.look()
    assert runner.wait(30)
