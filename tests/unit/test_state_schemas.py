"""Databases of older and newer versions: taken along whole, or left as they are."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from backup.catalog import CATALOG_NAME, Catalog, catalog
from backup.errors import CatalogError, RunStateError
from backup.run_state import RUNS_NAME, Outcome, RunState, run_state
from tests.checkout import ROOT
from tests.cli import environment
from tests.conftest import NOBODY
from tests.old_databases import STORE, content_of, make_catalog, make_runs

COUNT = 40
STEPS = {
    "runs": ["CREATE TABLE more (number INTEGER)", "INSERT INTO more SELECT number FROM runs"],
    "catalog": [
        "CREATE TABLE more (number INTEGER)",
        "INSERT INTO more SELECT row_number() OVER (ORDER BY name) FROM proofs",
    ],
}
KINDS = {
    "runs": (RUNS_NAME, make_runs, run_state),
    "catalog": (CATALOG_NAME, make_catalog, catalog),
}

# Opens the database by the schema that comes next, when it is told to, as another process does.
OTHER = """
import sys
from dataclasses import replace
from pathlib import Path
from backup.run_state import RunState, run_state
steps = {1: sys.argv[2:]}
run_state.SCHEMA = replace(run_state.SCHEMA, version=2, steps=steps)
state = RunState(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
assert len(state.history("shop")) == 40
"""


class TestTheOldest:
    """What users have is read by this version, written without it as it was then."""

    def test_record_of_runs(self, tmp_path):
        make_runs(tmp_path / RUNS_NAME, COUNT)
        state = RunState(tmp_path / RUNS_NAME)
        moment = datetime(2026, 11, 20, 16, 32, 5, tzinfo=UTC)

        shop = state.jobs()["shop"]
        assert (shop.count, shop.served, shop.paused_since) == (COUNT, moment, moment)
        runs = state.history("shop")
        assert [run.number for run in runs] == [*range(COUNT, 0, -1)]
        assert {run.outcome for run in runs} == {Outcome.DONE}
        assert shop.last == runs[0]
        state.claim_by_hand("shop").finish(Outcome.DONE)
        assert len(state.history("shop")) == COUNT + 1

    def test_catalog(self, tmp_path):
        make_catalog(tmp_path / CATALOG_NAME, COUNT)
        known = Catalog(tmp_path / CATALOG_NAME)

        assert len(known.snapshots(STORE, host="web1", job="shop")) == COUNT
        assert len(known.proven(STORE, "web1", "shop", level="checksum")) == COUNT


@pytest.fixture(params=["runs", "catalog"])
def old(request, open_dir, monkeypatch):
    """Return the path of a database of the first schema, where the next one is known, too."""
    name, make, module = KINDS[request.param]
    path = open_dir / "state" / name
    make(path, COUNT)
    steps = {1: STEPS[request.param]}
    monkeypatch.setattr(module, "SCHEMA", replace(module.SCHEMA, version=2, steps=steps))
    return path


def use(path):
    """Read all that is known; return how many rows that are."""
    if path.name == RUNS_NAME:
        return len(RunState(path).history("shop"))
    return len(Catalog(path).snapshots(STORE))


class TestMigration:
    def test_all_rows_stay_and_a_whole_private_copy_of_what_was(self, old):
        before = content_of(old)

        assert use(old) == COUNT

        version, rows = content_of(old)
        assert version == 2
        assert rows.pop("more") == [(number,) for number in range(1, COUNT + 1)]
        assert rows == before[1]
        copy = old.with_name(f"{old.name}.schema-1")
        assert content_of(copy) == before
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert sorted(one.name for one in old.parent.iterdir()) == [old.name, copy.name]

    def test_all_of_it_is_the_directorys_owners(self, old):
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        for one in (old.parent, old):
            os.chown(one, NOBODY, 4321)

        assert use(old) == COUNT

        for one in old.parent.iterdir():
            assert (one.stat().st_uid, one.stat().st_gid) == (NOBODY, 4321)

    def test_what_a_killed_one_left_does_not_stop_it(self, old):
        for suffix in ("copy.new", "copy.new-journal", "new"):
            old.with_name(f"{old.name}.{suffix}").write_bytes(b"rubbish")

        assert use(old) == COUNT
        assert sorted(one.name for one in old.parent.iterdir()) == [
            old.name,
            f"{old.name}.schema-1",
        ]

    def test_a_copy_that_cannot_be_made_leaves_what_was(self, old, monkeypatch):
        before = content_of(old)
        old.with_name(f"{old.name}.schema-1").mkdir()

        with pytest.raises((RunStateError, CatalogError), match="Is a directory"):
            use(old)

        assert content_of(old) == before

    def test_a_step_that_fails_leaves_what_was(self, old, monkeypatch):
        module = KINDS["runs" if old.name == RUNS_NAME else "catalog"][2]
        before = content_of(old)
        steps = {1: [*module.SCHEMA.steps[1], "CREATE TABLE more (number)"]}
        monkeypatch.setattr(module, "SCHEMA", replace(module.SCHEMA, steps=steps))
        copy = old.with_name(f"{old.name}.schema-1")

        # SQLite's word for it would set the file aside; nothing of it may be lost by that.
        kept = use(old)

        [aside] = [one for one in old.parent.iterdir() if ".damaged-" in one.name]
        assert kept == 0
        assert content_of(aside) == content_of(copy) == before

    def test_two_at_once_make_one_copy_of_what_was(self, tmp_path):
        path = tmp_path / RUNS_NAME
        make_runs(path, COUNT)
        before = content_of(path)
        command = [sys.executable, "-c", OTHER, str(path), *STEPS["runs"]]
        processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _ in range(3)
        ]
        for one in processes:
            assert one.stdout.readline() == b"ready\n"
        for one in processes:
            one.stdin.write(b"\n")
            one.stdin.flush()
        errors = [one.communicate(timeout=60)[1] for one in processes]

        assert errors == [b""] * 3
        assert content_of(path)[0] == 2
        assert content_of(tmp_path / f"{RUNS_NAME}.schema-1") == before

    def test_who_comes_late_copies_nothing(self, old):
        """It has read the old number before the other one changed it."""
        use(old)
        copy = old.with_name(f"{old.name}.schema-1")
        before = copy.read_bytes()

        assert use(old) == COUNT
        assert copy.read_bytes() == before


class TestANewerOne:
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_told_apart_and_left_as_it_is(self, tmp_path, kind):
        name, make, _ = KINDS[kind]
        path = tmp_path / name
        make(path, 3)
        with closing(sqlite3.connect(path)) as found:
            found.execute("PRAGMA user_version = 2")
        before = path.read_bytes()

        with pytest.raises((RunStateError, CatalogError), match="has schema 2") as raised:
            use(path)

        assert raised.value.is_newer
        assert path.read_bytes() == before
        assert [one.name for one in tmp_path.iterdir()] == [name]

    def test_other_errors_are_not_that(self, tmp_path):
        (tmp_path / RUNS_NAME).mkdir()

        with pytest.raises(RunStateError) as raised:
            use(tmp_path / RUNS_NAME)

        assert not raised.value.is_newer
