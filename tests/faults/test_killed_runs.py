"""Runs that are killed or interrupted after any while: what is in the store is whole afterwards.

``test_every_call.py`` ends runs at each call of the system; here they are processes of their own,
with large files, and end wherever they happen to be.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backup.manager import BackupManager
from backup.restore.manager import RestoreManager
from backup.snapshot.names import parse_name
from tests.lister import listing

PROJECT = Path(__file__).parents[2]
DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
pytestmark = pytest.mark.timeout(7200 if DEEP else 600)

CHILD = """
import sys
from backup.manager import BackupManager
source, store, key = sys.argv[1:]
manager = BackupManager(source, store, key, keep=1)
print("ready", flush=True)
manager.create_snapshot()
"""


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
        path = BackupManager(tree, store, key, keep=1).create_snapshot()
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
def longest(tree, store, key, one_before):
    """Return for how many seconds a run goes on that is left alone."""
    began = time.monotonic()
    done = run(tree, store, key)
    assert done.returncode == 0, done.stderr
    return (time.monotonic() - began) * 0.6


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_after_any_while(tree, store, key, *, longest, check, by):
    chance = random.Random(12)
    for _ in range(400 if DEEP else 8):
        with subprocess.Popen(
            command(tree, store, key),
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=heed_interrupts,  # noqa: PLW1509 - no threads here
        ) as child:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(chance.random() * longest)
            child.send_signal(by)
        if by is signal.SIGINT:
            assert sum(path.stat().st_size for path in store.rglob(".*.partial")) == 0
        check()


def heed_interrupts():
    """Undo what a shell does to its background jobs and all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
