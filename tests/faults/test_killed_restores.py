"""Restores in place that end at any moment: every file is the old one or the new one, whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backup.manager import BackupManager
from backup.restore.manager import RestoreManager
from tests.lister import listing

PROJECT = Path(__file__).parents[2]
DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
pytestmark = pytest.mark.timeout(7200 if DEEP else 600)
POINTS = 14
CALLS = "open write pwrite link unlink mkdir rmdir symlink mknod close fsync rename chmod utime"

# Counts what the restore asks of the system, and ends itself before or after the given call.
CHILD = """
import os, signal, sys
store, key, at, when = sys.argv[1:]
state = {"on": False, "count": 0}

def wrap(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        if not state["on"]:
            return real(*arguments, **named)
        state["count"] += 1
        ends = state["count"] == int(at)
        if ends and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*arguments, **named)
        finally:
            if ends and when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, name, call)

for name in CALLS.split():
    wrap(name)
from backup.restore import RestoreManager
manager = RestoreManager(store, key)
state["on"] = True
manager.restore("latest", in_place=True, overwrite="always", delete=True)
print(state["count"], flush=True)
""".replace("CALLS", repr(CALLS))


def contents(directory):
    """Return what can be told apart of old and new: type, content, link target of each name."""
    rows = listing(directory)
    return {path: (row.type, row.sha256, row.target) for path, row in rows.items()}


def is_left_over(path):
    name = path.rpartition(b"/")[2]
    return name.startswith(b".auto-backup-") and name.endswith(b".partial")


@pytest.fixture
def damaged(tree, store, key, tmp_path):
    """Have a snapshot and a tree that has changed since; return a function that makes it anew."""
    BackupManager(tree, store, key).create_snapshot()
    changed = tmp_path / "changed"
    shutil.copytree(tree, changed, symlinks=True, ignore=lambda _, names: [
        name for name in names if name == "pipe"
    ])  # fmt: skip
    (changed / "docs" / "plan.txt").write_text("overwritten")
    (changed / "docs" / "deep" / "er" / "random").unlink()
    (changed / "another-name").unlink()
    (changed / "another-name").symlink_to("docs")
    (changed / "link").unlink()
    (changed / "link").mkdir()
    (changed / "link" / "in it").write_text("new")
    (changed / "empty-dir").rmdir()
    (changed / "empty-dir").write_text("was a directory")
    (changed / "new").mkdir()
    (changed / "new" / "file").write_text("new")

    def again():
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(changed, tree, symlinks=True)

    return again


def run(store, key, at, when):
    command = [sys.executable, "-c", CHILD, str(store), key, str(at), when]
    return subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )


def test_every_file_is_old_or_new_and_the_next_restore_makes_all_of_it_good(
    tree, store, key, damaged
):
    saved = listing(tree)
    new = contents(tree)
    damaged()
    old = contents(tree)
    calls = int(run(store, key, 0, "").stdout)
    assert listing(tree) == saved
    step = 1 if DEEP else calls // POINTS

    for at in range(1 + step // 2, calls + 1, step):
        for when in ("before", "after") if DEEP else (("before", "after")[at % 2],):
            damaged()

            ended = run(store, key, at, when)

            assert ended.returncode == -9, ended.stderr
            for path, what in contents(tree).items():
                assert is_left_over(path) or what in {old.get(path), new.get(path)}, path
            for path in old.keys() & new.keys():
                if old[path][0] == "d" != new[path][0]:
                    continue  # a directory has to go before something else has its name
                assert os.path.lexists(os.fsencode(tree) + b"/" + path), path

            report = RestoreManager(store, key).restore(
                "latest", in_place=True, overwrite="if-changed", delete=True
            )
            assert report.problems == []
            assert listing(tree) == saved
