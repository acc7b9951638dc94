from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from backup.catalog import Catalog
from backup.cli.output import age_text
from tests.cli import done, load_all, run, take


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def catalog(private_home):
    return Catalog(private_home / "auto-backup-state" / "catalog.sqlite")


@pytest.fixture
def taken(tree, store):
    return [take("--source", tree, "-s", store, "--compression", "zstd") for _ in range(3)]


def rows(store, *options):
    return done("snapshots", "-s", store, "--json", *options).json


class TestProofs:
    def test_taking_and_verifying_are_told_with_their_age(self, store, taken, catalog):
        done("verify", "latest", "-s", store)

        proofs = [one["proof"] for one in rows(store)]
        column = [line.split()[-3:-1] for line in done("snapshots", "-s", store).lines[1:]]

        assert [one["level"] for one in proofs] == ["checksum", "checksum", "content"]
        assert all(one["holds"] for one in proofs)
        assert column == [["checksum", "now"], ["checksum", "now"], ["content", "now"]]
        url = store.as_uri()
        assert len(catalog.proven(url, "testhost", "source")) == 3
        assert len(catalog.proven(url, "testhost", "source", level="content")) == 1

    def test_a_failed_one_is_told(self, store, taken):
        data = bytearray(taken[0].read_bytes())
        data[3000] ^= 1
        taken[0].write_bytes(data)

        assert run("verify", "-s", store).status == 13

        assert [one["proof"]["holds"] for one in rows(store)] == [False, True, True]
        assert "  damaged now  " in done("snapshots", "-s", store).lines[1]

    def test_one_taken_elsewhere_has_none(self, store, taken, private_home):
        shutil.rmtree(private_home / "auto-backup-state")

        assert [one["proof"] for one in rows(store)] == [None] * 3
        assert "  -  " in done("snapshots", "-s", store).lines[1]

    def test_a_dry_run_records_nothing(self, store, taken, catalog):
        before = catalog.path.read_bytes()

        done("verify", "-n", "-s", store)
        done("snapshots", "-n", "-s", store)

        assert catalog.path.read_bytes() == before

    def test_each_copy_is_recorded_with_its_store(self, tree, tmp_path, catalog):
        take("--source", tree, "-s", tmp_path / "a", "-s", tmp_path / "b")

        assert sorted(catalog.stores()) == [(tmp_path / name).as_uri() for name in "ab"]

    @pytest.mark.parametrize(
        ("age", "text"),
        [
            (timedelta(seconds=59), "now"),
            (timedelta(seconds=-5), "now"),
            (timedelta(minutes=59, seconds=59), "59m"),
            (timedelta(hours=47), "47h"),
            (timedelta(days=2), "2d"),
            (timedelta(days=400), "400d"),
        ],
    )
    def test_ages_are_short(self, age, text):
        assert age_text(age.total_seconds()) == text


class TestWhatIsGone:
    def test_it_is_told_also_to_those_who_want_quiet(self, store, taken):
        for path in taken[:2]:
            path.unlink()

        for options in ([], ["-q"], ["--json"]):
            err = done("snapshots", "-s", store, *options).err
            assert "WARNING: 2 snapshots that were here on 20" in err
            assert taken[0].name in err
            assert "catalog rebuild" in err

    def test_a_store_that_is_not_mounted_has_lost_all(self, store, taken):
        store.rename(store.with_name("elsewhere"))

        err = done("snapshots", "-s", store).err

        assert "there is no such directory" in err
        assert "WARNING: 3 snapshots" in err

    def test_rebuilding_the_catalog_says_that_it_is_so(self, store, taken, catalog):
        taken[0].unlink()

        plan = done("catalog", "rebuild", "-n", "-s", store)
        assert plan.lines == [
            f"would read 2 snapshots of {store}",
            f"  would forget {taken[0].relative_to(store)}, which is not there",
            "nothing has been changed",
        ]
        assert len(catalog.snapshots(store.as_uri())) == 3

        result = done("catalog", "rebuild", "-s", store)
        assert result.lines == [
            f"recorded 2 snapshots of {store}",
            f"  forgot {taken[0].relative_to(store)}, which is not there",
        ]
        assert done("snapshots", "-s", store, "-q").err == ""
        assert len(catalog.proofs(store.as_uri())) == 2

    def test_rebuilding_tells_in_json(self, store, taken):
        taken[0].unlink()

        expected = {
            "store": store.as_uri(),
            "snapshots": 2,
            "forgotten": [str(taken[0].relative_to(store))],
        }
        assert done("catalog", "rebuild", "-n", "-s", store, "--json").json == expected
        assert done("catalog", "rebuild", "-s", store, "--json").json == expected

    def test_rebuilding_needs_the_key_and_takes_nothing_away_without(
        self, store, taken, key_file, catalog
    ):
        key_file.unlink()

        assert run("catalog", "rebuild", "-s", store).status == 12
        assert len(catalog.snapshots(store.as_uri())) == 3

    def test_one_that_does_not_open_is_told_and_not_recorded(self, store, taken, catalog):
        taken[0].write_bytes(taken[0].read_bytes()[:-9])

        result = done("catalog", "rebuild", "-s", store)

        assert result.lines == [f"recorded 2 snapshots of {store}"]
        assert f"not recorded: {taken[0].relative_to(store)}: " in result.err


class TestWithoutOne:
    COMMANDS = (
        ("snapshots",),
        ("verify",),
        ("stats",),
        ("find", "plan.txt"),
        ("ls", "latest"),
        ("diff", "source~1", "latest"),
        ("catalog", "rebuild", "-n"),
    )

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_on_a_bare_machine(self, store, taken, command, private_home):
        shutil.rmtree(private_home / "auto-backup-state")

        assert done(*command, "-s", store).lines or command[0] == "diff"

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_with_one_that_is_damaged(self, store, taken, command, catalog):
        catalog.path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))

        assert done(*command, "-s", store).lines or command[0] == "diff"

    @pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
    def test_with_one_that_cannot_be_used(self, store, taken, command, catalog):
        with closing(sqlite3.connect(catalog.path)) as found:
            found.execute("PRAGMA user_version = 99")
        before = catalog.path.read_bytes()

        result = done(*command, "-s", store)

        assert result.lines or command[0] == "diff"
        assert ("schema 99" in result.err) == (command[0] in {"snapshots", "verify"})
        assert catalog.path.read_bytes() == before
        assert run("catalog", "rebuild", "-s", store).status == 1

    def test_a_snapshot_is_taken_and_it_is_told(self, tree, store, catalog):
        catalog.path.mkdir(parents=True)

        result = done("--now", "--source", tree, "-s", store)

        assert "not recorded in the catalog: " in result.err
        assert result.lines[0].startswith("saved ")

    def test_damage_is_told_once_and_mended(self, store, taken, catalog):
        catalog.path.write_bytes(b"x" * 5000)

        first, second = (done("snapshots", "-s", store) for _ in range(2))

        assert "the catalog was damaged and is begun anew" in first.err
        assert "damaged" not in second.err
        assert len(catalog.snapshots(store.as_uri())) == 3

    def test_where_nothing_can_be_written_looking_says_nothing_of_it(
        self, open_dir, as_nobody, tree
    ):
        options = [f"--{name}={open_dir / name}" for name in ("store", "key-file", "state-dir")]
        (open_dir / "file").touch()
        load_all()
        with as_nobody():
            done("key", "new", *options)
            take("--source", open_dir / "file", *options)
        shutil.rmtree(open_dir / "state-dir")
        (open_dir / "state-dir").mkdir(mode=0o555)
        with as_nobody():
            result = done("snapshots", *options)

        assert len(result.lines) == 2
        assert "catalog" not in result.err

    def test_the_log_tells_of_rebuilding(self, store, taken, private_home):
        done("catalog", "rebuild", "-s", store)

        last = (private_home / "auto-backup-state" / "backup.log").read_text().splitlines()[-1]
        assert '"action":"catalog rebuild"' in last
        assert '"snapshots":3' in last
