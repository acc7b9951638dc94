"""Runs that end at any moment: what is in the store afterwards is whole, or does not count."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from backup.clock import system_clock
from backup.manager import BackupManager
from backup.restore.manager import RestoreManager
from backup.snapshot.names import parse_name
from tests.lister import listing

PROJECT = Path(__file__).parents[2]
DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
pytestmark = pytest.mark.timeout(7200 if DEEP else 600)
CALLS = "open write link unlink mkdir close fsync rename replace pread"

# Counts what the run asks of the system, and ends itself at the given call.
CHILD = """
import os, signal, sys
source, store, key, signal_name, at, when = sys.argv[1:]
state = {"on": False, "count": 0, "last": ""}

def wrap(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        if not state["on"]:
            return real(*arguments, **named)
        state["count"] += 1
        ends = state["count"] == int(at)
        if ends and when == "before":
            os.kill(os.getpid(), getattr(signal, signal_name))
        try:
            return real(*arguments, **named)
        finally:
            if ends and when == "after":
                os.kill(os.getpid(), getattr(signal, signal_name))
    setattr(os, name, call)

for name in CALLS.split():
    wrap(name)
from backup.manager import BackupManager
manager = BackupManager(source, store, key, keep=1)
print("ready", flush=True)
state["on"] = True
manager.create_snapshot()
state["on"] = False
print(state["count"], flush=True)
""".replace("CALLS", repr(CALLS))


def command(*arguments):
    return [sys.executable, "-c", CHILD, *map(str, arguments)]


def run(*arguments):
    """Run the child to whatever end it comes; return it."""
    return subprocess.run(
        command(*arguments), cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def one_before(tree, store, key):
    """Have a good snapshot in the store before anything happens."""
    (tree / "large").write_bytes(os.urandom(9 * 1024 * 1024))
    BackupManager(tree, store, key).create_snapshot()


@pytest.fixture
def check(tree, store, key, tmp_path):
    """Return a function that looks at a store after a run that did not end well."""

    def look():
        manager = RestoreManager(store, key)
        found = manager.list_snapshots()
        assert 1 <= len(found) <= 2
        assert [one.damage for one in found] == [""] * len(found)
        for one in found:
            assert manager.validate(one.name).holds
        finished = {str(path.relative_to(store)) for path in store.rglob("*.enc")}
        assert finished == {one.name for one in found}
        assert all(parse_name(name) for name in finished)
        beside = {name + suffix for name in finished for suffix in (".keys", ".sha256")}
        assert all((store / name).is_file() for name in beside)

    def go_on():
        later = system_clock() + timedelta(hours=2)
        path = BackupManager(tree, store, key, keep=1, clock=lambda: later).create_snapshot()
        name = str(Path(path).relative_to(store))
        left = {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}
        assert left - {"recover.py", "README.txt"} == {name, name + ".keys", name + ".sha256"}

    def come_back():
        out = tmp_path / f"out-{time.monotonic_ns()}"
        RestoreManager(store, key).restore("latest", out)
        assert listing(out / str(tree).lstrip("/")) == listing(tree)

    def checked():
        look()
        go_on()
        look()
        come_back()

    return checked


@pytest.fixture
def calls(tree, store, key, one_before):
    """Return how many calls a run makes that is left alone."""
    done = run(tree, store, key, "SIGKILL", 0, "")
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[1])


def moments(calls, seed):
    """Choose calls: all of them when there is time, else some, and most of them near the end."""
    everything = [(at, when) for at in range(1, calls + 1) for when in ("before", "after")]
    if DEEP:
        return everything
    chance = random.Random(seed)
    near_the_end = everything[len(everything) // 2 :]
    return sorted(chance.sample(everything, 8) + chance.sample(near_the_end, 17))


class TestKilledRuns:
    def test_at_any_call_of_the_system(self, tree, store, key, calls, check):
        assert calls > 50
        for at, when in moments(calls, seed=11):
            done = run(tree, store, key, "SIGKILL", at, when)
            assert done.returncode == -signal.SIGKILL, (at, when, done.stderr)
            check()

    def test_after_any_while(self, tree, store, key, one_before, check):
        began = time.monotonic()
        whole = run(tree, store, key, "SIGKILL", 0, "")
        assert whole.returncode == 0, whole.stderr
        longest = (time.monotonic() - began) * 0.6
        chance = random.Random(12)

        for _ in range(400 if DEEP else 12):
            child = subprocess.Popen(
                command(tree, store, key, "SIGKILL", 0, ""), cwd=PROJECT, stdout=subprocess.PIPE
            )
            with child:
                assert child.stdout.readline() == b"ready\n"
                time.sleep(chance.random() * longest)
                child.kill()
            check()

    def test_in_an_empty_store_nothing_is_listed(self, tree, tmp_path, key, calls):
        for number, (at, when) in enumerate(moments(calls, seed=13)[:: 1 if DEEP else 3]):
            store = tmp_path / f"store-{number}"
            done = run(tree, store, key, "SIGKILL", at, when)
            if done.returncode == 0:
                continue  # there was less to do than in a store with something in it
            manager = RestoreManager(store, key)
            for one in manager.list_snapshots():
                assert manager.validate(one.name).holds
            assert BackupManager(tree, store, key).create_snapshot()


class TestInterruptedRuns:
    def test_at_any_call_nothing_is_left_but_a_name_that_was_just_made(
        self, tree, store, key, calls, check
    ):
        for at, when in moments(calls, seed=14):
            done = run(tree, store, key, "SIGINT", at, when)
            assert done.returncode in {-signal.SIGINT, 1, 130}, (at, when, done)
            assert sum(path.stat().st_size for path in store.rglob(".*.partial")) == 0
            check()
