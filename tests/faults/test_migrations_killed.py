"""Killed while it takes a database to the next schema: that is the old one, or the new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest
from checkout import ROOT

from tests.faults.points import MEMORY
from tests.faults.shim import build

COUNT = 150  # rows enough for several pages, of which a half-written journal would tell

# With the library preloaded: one child after the other migrates a copy of an old database, and is
# killed at a call. What it leaves is then looked at, and migrated again by a child that lives.
DRIVER = """
import json, os, shutil, sys
from dataclasses import replace
from pathlib import Path
sys.path[1:1] = [os.getcwd(), os.path.join(os.getcwd(), "tests")]
from backup.catalog import Catalog, catalog
from backup.run_state import RunState, run_state
from tests.faults.shim import Action, Shim
from tests.old_databases import STORE, content_of, make_catalog, make_runs

kind, top, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
runs = kind == "runs"
path, kept = top / "now" / "it.sqlite", top / "kept"
copy = path.with_name("it.sqlite.schema-1")
module = run_state if runs else catalog
steps = {1: [
    "CREATE TABLE more (number INTEGER)",
    f"INSERT INTO more SELECT length(digest) FROM {'runs' if runs else 'snapshots'}",
]}
module.SCHEMA = replace(module.SCHEMA, version=2, steps=steps)
(make_runs if runs else make_catalog)(kept / "it.sqlite", count)
_, before = content_of(kept / "it.sqlite")
new = before | {"more": [(32,)] * count}
shim = Shim()
reading = {"none", "read", "open", "stat", "list"}
writes = [name for name in shim.names if name not in reading]


def use():
    return len(RunState(path).history("shop") if runs else Catalog(path).snapshots(STORE))


def child(at, action):
    pid = os.fork()
    if not pid:
        shim.set([path.parent], writes, at=at, action=action)
        try:
            with shim.armed():
                good = use() == count
            os._exit(0 if good else 3)
        except BaseException:
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lay_out():
    shutil.rmtree(path.parent, ignore_errors=True)
    shutil.copytree(kept, path.parent)


def check(where):
    # SQLite itself looks: it takes back what a killed transaction has half written.
    version, rows = content_of(path)
    assert (version, rows) in [(1, before), (2, new)], (where, version)
    if copy.exists():
        assert content_of(copy) == (1, before), where
    assert version == 1 or copy.exists(), (where, "changed without a copy")
    return version


lay_out()
assert child(0, Action.NONE) == 0
check("nothing went wrong")
calls = shim.state.count
versions = set()
for action in (Action.KILL_BEFORE, Action.KILL_AFTER, Action.KILL_MIDDLE):
    for at in range(1, calls + 1):
        where = f"{action.name} at {at} of {calls}"
        lay_out()
        status = child(at, action)
        assert status == -9 or action is Action.KILL_MIDDLE and status == 0, (where, status)
        versions.add(check(where))
        lay_out()
        child(at, action)
        assert child(0, Action.NONE) == 0, where
        assert check(where) == 2, where
        left = sorted(set(os.listdir(path.parent)) - {path.name, copy.name})
        assert not left, (where, left)
print(json.dumps([calls, sorted(versions)]))
"""


@pytest.mark.parametrize("kind", ["runs", "catalog"])
def test_it_is_the_old_one_or_the_new_one_with_a_whole_copy(kind, tmp_path):
    environment = os.environ | {"LD_PRELOAD": str(build(tmp_path)), "PYTHONDONTWRITEBYTECODE": "1"}

    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="auto-backup-faults-") as base:
        command = [sys.executable, "-c", DRIVER, kind, base, str(COUNT)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    assert done.returncode == 0, done.stderr
    calls, versions = json.loads(done.stdout)
    assert calls > 20, "too few to be all of them"
    assert versions == [1, 2], "the killed ones got as far as that"
