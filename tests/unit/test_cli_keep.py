from __future__ import annotations

import json
from datetime import datetime

import pytest

from backup.catalog import Catalog
from backup.manager.trash import delete_snapshot
from backup.storage.local import LocalStorage
from tests.cli import done, run, run_on_terminal, take

KEEP = ("--keep", "last=1")


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def three(source, store):
    """Return the files of three snapshots."""
    (source / "file").write_text("content")
    options = ("--source", source, "--store", store, "--compression", "none")
    return [take(*options) for _ in range(3)]


def listed(store, *options):
    return [one["name"] for one in done("snapshots", "-s", store, "--json", *options).json]


def name_of(path, store):
    return str(path.relative_to(store))


def id_of(path):
    return path.name.split("-")[2]


class TestRotate:
    def test_a_line_for_each_with_its_reason_and_a_summary(self, store, three):
        result = done("rotate", "-s", store, *KEEP)

        head, *rows, summary = result.lines
        assert " ".join(head.split()) == "id time job size what why"
        assert [row.split()[-5:] for row in rows[:2]] == [
            ["trash", "no", "rule", "keeps", "it"]
        ] * 2
        assert rows[2].endswith("  keep   newest, last 1/1")
        assert summary.startswith(f"1 snapshot in {store} kept, 2 put into the trash (")
        assert summary.endswith(", purged after 7 days)")
        assert listed(store) == [name_of(three[2], store)]

    def test_a_plan_tells_the_same_and_changes_nothing(self, store, three):
        planned = done("rotate", "-s", store, *KEEP, "-n")

        assert len(listed(store)) == 3
        assert "2 would be put into the trash" in planned.lines[-1]
        assert planned.lines[:-1] == done("rotate", "-s", store, *KEEP).lines[:-1]

    def test_in_json(self, store, three):
        (job,) = done("rotate", "-s", store, *KEEP, "--json").json

        assert (job["host"], job["job"], job["error"]) == ("testhost", "source", None)
        assert [one["verdict"] for one in job["snapshots"]] == ["delete", "delete", "keep"]
        assert job["trashed"] == [name_of(path, store) for path in three[:2]]
        assert sum(one["size"] for one in job["snapshots"]) == sum(p.stat().st_size for p in three)

    def test_without_rules_nothing_is_deleted_and_one_is_told_what_to_say(self, store, three):
        result = done("rotate", "-s", store)

        assert "nothing is deleted: say what to keep, for example --keep last=3" in result.err
        assert all("no policy" in line for line in result.lines[1:4])
        assert len(listed(store)) == 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--keep", "dayly=3"], "did you mean daily?"),
            (["--keep", "last=0"], "leave last out"),
            (["--keep", "last=1", "--trash-for", "1y"], "for a year say 365d"),
            (["--keep", "last=1", "--most", "0"], "--most needs a number from 1 on, not 0"),
            (["--keeep", "last=1"], "did you mean --keep?"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, store, three, options, message):
        result = run("rotate", "-s", store, *options)

        assert result.status == 2
        assert message in result.err
        assert len(listed(store)) == 3

    def test_rules_may_be_told_one_by_one(self, store, three):
        done("rotate", "-s", store, "--keep", "last=1", "--keep", "within=1h")

        assert len(listed(store)) == 3

    def test_jobs_can_be_named(self, source, store, three):
        options = ("--source", source, "-s", store, "--job", "other")
        other = [take(*options) for _ in range(2)]

        done("rotate", "testhost/other", "-s", store, *KEEP)
        assert len(listed(store, "--job", "source")) == 3
        assert listed(store, "--job", "other") == [name_of(other[1], store)]
        done("rotate", "--job", "source", "-s", store, *KEEP)
        assert len(listed(store)) == 2

    def test_a_job_that_is_not_there_is_told_with_those_that_are(self, store, three):
        result = run("rotate", "nope", "-s", store, *KEEP)

        assert result.status == 10
        assert "there are: testhost/source" in result.err
        assert len(listed(store)) == 3

    def test_several_stores_each_on_its_own(self, source, tmp_path, three, store):
        second = tmp_path / "second"
        for _ in range(2):
            take("--source", source, "--store", second)

        result = run("rotate", "-s", tmp_path / "second", "-s", store, *KEEP)

        assert result.status == 0, result.err
        assert (len(listed(store)), len(listed(second))) == (1, 1)

    def test_a_store_with_nothing_in_it_is_told_as_that(self, tmp_path):
        assert "there is no snapshot in" in done("rotate", "-s", tmp_path, *KEEP).err

    def test_a_run_at_work_is_busy_and_other_jobs_are_rotated(self, source, store, three):
        options = ("--source", source, "-s", store, "--job", "zother")
        other = [take(*options) for _ in range(2)]

        with LocalStorage(store).lock("testhost/source"):
            result = run("rotate", "-s", store, *KEEP)

        assert result.status == 11
        assert "testhost/source has not been rotated to the end" in result.err
        assert "another run is at work there" in result.err
        assert len(listed(store, "--job", "source")) == 3
        assert listed(store, "--job", "zother") == [name_of(other[1], store)]

    def test_without_the_key_nothing_is_deleted(self, store, three, key_file):
        key_file.unlink()

        result = run("rotate", "-s", store, *KEEP)

        assert (result.status, len(listed(store))) == (12, 3)
        assert "there is no key file" in result.err

    def test_what_is_damaged_is_told_and_stays(self, store, three):
        three[1].write_bytes(b"auto-backup snapshot 1\n")

        result = done("rotate", "-s", store, *KEEP)

        assert f"not counted, and kept: {name_of(three[1], store)}: damaged" in result.err
        assert len(listed(store)) == 2

    def test_quiet_says_nothing(self, store, three):
        result = done("rotate", "-q", "-s", store, *KEEP)

        assert (result.out, result.err) == ("", "")

    def test_a_terminal_is_wide_enough_for_it(self, store, three):
        status, text = run_on_terminal("rotate", "-s", store, *KEEP, "-n")

        assert status == 0
        assert "no rule keeps it" in text

    def test_the_log_tells_what_went(self, store, three, private_home):
        done("rotate", "-s", store, *KEEP)

        log = (private_home / "auto-backup-state" / "backup.log").read_text().splitlines()
        end = json.loads(log[-1])
        assert (end["action"], end["status"]) == ("rotate", "done")
        assert end["trashed"] == [name_of(path, store) for path in three[:2]]


class TestTrash:
    @pytest.fixture
    def rotated(self, store, three):
        done("rotate", "-s", store, *KEEP)
        return three

    def test_it_is_listed_with_when_it_goes(self, store, rotated):
        result = done("snapshots", "--trash", "-s", store)

        head, *rows = result.lines
        assert " ".join(head.split()) == "id time job size purged from why"
        assert [row[:4] for row in rows] == [id_of(path) for path in rotated[:2]]
        assert all(row.endswith("no rule keeps it (by testhost)") for row in rows)
        (one, _) = done("snapshots", "--trash", "-s", store, "--json").json
        assert (one["name"], one["by"]) == (name_of(rotated[0], store), "testhost")
        assert one["since"] < one["purged_from"]

    def test_the_other_listing_tells_that_there_is_more(self, store, rotated):
        assert "2 more in the trash: 'auto-backup snapshots --trash'" in done(
            "snapshots", "-s", store
        ).err  # fmt: skip

    def test_a_purge_that_ended_before_it_was_recorded_needs_no_hand(self, store, rotated):
        delete_snapshot(LocalStorage(store), name_of(rotated[0], store))

        assert done("rotate", "-s", store, *KEEP).status == 0
        assert "gone" not in done("snapshots", "-s", store).err

    def test_what_was_put_there_without_being_recorded_is_made_up_for(
        self, store, rotated, private_home
    ):
        catalog = Catalog(private_home / "auto-backup-state" / "catalog.sqlite")
        url, name = LocalStorage(store).url, name_of(rotated[0], store)
        catalog.set_trashed(url, name, None)

        done("rotate", "-s", store, *KEEP)

        (since,) = [
            one["since"]
            for one in done("snapshots", "--trash", "-s", store, "--json").json
            if one["name"] == name
        ]
        assert catalog.snapshots(url)[name].trashed == datetime.fromisoformat(since)

    def test_an_empty_one_is_told_as_that(self, store, three):
        assert "there is nothing in the trash" in done("snapshots", "--trash", "-s", store).err
        assert done("snapshots", "--trash", "-s", store, "--json").json == []
        assert "there is nothing in the trash" in done("undelete", "--all", "-s", store).err

    def test_undelete_brings_back(self, store, rotated):
        result = done("undelete", id_of(rotated[0]), "-s", store)

        assert result.out.endswith(f"{name_of(rotated[0], store)}\n")
        assert listed(store) == [name_of(rotated[0], store), name_of(rotated[2], store)]
        assert done("verify", id_of(rotated[0]), "-s", store).status == 0

    def test_all_of_it(self, store, rotated):
        planned = done("undelete", "--all", "-n", "-s", store)
        assert (len(planned.lines), len(listed(store))) == (2, 1)

        assert len(done("undelete", "--all", "--json", "-s", store).json) == 2
        assert len(listed(store)) == 3

    def test_undelete_wants_to_know_what(self, store, rotated):
        for arguments in ([], [id_of(rotated[0]), "--all"]):
            result = run("undelete", *arguments, "-s", store)
            assert result.status == 2
            assert "snapshots --trash" in result.err

    def test_what_is_not_in_it_cannot_be_brought_back(self, store, rotated):
        result = run("undelete", id_of(rotated[2]), "-s", store)

        assert result.status == 10
        assert "no snapshot in the trash of" in result.err

    def test_a_snapshot_in_it_is_told_as_that(self, store, rotated):
        result = run("ls", id_of(rotated[0]), "-s", store)

        assert result.status == 10
        assert f"'auto-backup undelete {id_of(rotated[0])}' brings it back" in result.err

    def test_what_a_stranger_hid_is_told_and_stays(self, store, three):
        marker = three[2].with_name(three[2].name + ".trash")
        marker.write_text('{"format":1,"time":"2001-01-01T00:00:00Z","reason":"\x1b[31m"}')

        result = done("rotate", "-s", store, *KEEP)

        assert f"in the trash, and not purged: {name_of(three[2], store)}: newest" in result.err
        assert "its marker cannot be read" in done("snapshots", "--trash", "-s", store).out
        assert three[2].exists()

    def test_no_key_is_made_where_all_is_in_the_trash(self, source, store, three, key_file):
        for path in three:
            path.with_name(path.name + ".trash").touch()
        key_file.rename(key_file.with_name("elsewhere"))

        result = run("--now", "--source", source, "-s", store)

        assert result.status == 12
        assert not key_file.exists()
