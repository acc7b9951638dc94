"""``status`` and ``history``, on jobs that really ran."""

from __future__ import annotations

import re

import pytest

from backup.run_state import RUNS_NAME, Outcome, RunState
from tests.cli import done, run, run_on_terminal

CONFIG = """
version: 1
host: testhost
stores:
  disk: {{url: {top}/store}}
  usb: {{url: {top}/usb}}
defaults: {{stores: [disk, usb], compression: zstd}}
jobs:
  docs:
    schedule: every 6 hours
    sources: [{top}/source]
    keep: {{last: 3}}
  photos:
    schedule: {{at: "02:30"}}
    stores: [disk]
    sources: [{top}/photos]
"""


@pytest.fixture(autouse=True)
def top(tmp_path, monkeypatch, key_file):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "letter").write_text("Dear Ann\n")
    (tmp_path / "config.yaml").write_text(CONFIG.format(top=tmp_path))
    (tmp_path / "config.yaml").chmod(0o600)
    monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
    return tmp_path


@pytest.fixture
def state(private_home):
    return RunState(private_home / "auto-backup-state" / RUNS_NAME)


def jobs(*arguments):
    return {one["job"]: one for one in run("status", "--json", *arguments).json["jobs"]}


class TestStatus:
    def test_a_job_that_ran_is_ok(self):
        done("schedule", "run", "docs")
        told = done("status", "docs")
        assert told.lines[1].split()[:2] == ["docs", "ok"]
        assert "checksum just now" in told.lines[1]
        assert told.err == ""

    def test_a_job_that_failed_is_told_with_its_reason(self, top):
        assert run("schedule", "run", "photos").status == 1
        told = done("status")
        assert f"photos: failed: cannot back up {top}/photos" in told.out
        assert "photos: there is no snapshot yet" in told.out

    def test_it_tells_that_nothing_is_deleted_without_keep(self):
        assert "without keep nothing is ever deleted: photos" in done("status").err

    def test_nothing_of_a_machine_is_changed_by_it(self, private_home):
        done("status")
        assert not (private_home / "auto-backup-state").exists()

    def test_no_key_is_needed(self, key_file):
        done("schedule", "run", "docs")
        key_file.unlink()
        assert jobs("docs")["docs"]["ok"]

    def test_json_tells_all_of_it(self, top):
        done("schedule", "run", "docs")
        found = run("status", "--json").json
        assert (found["ok"], found["host"]) == (False, "testhost")
        docs = found["jobs"][0]
        assert (docs["ok"], docs["outcome"], docs["keeps_all"]) == (True, "done", False)
        disk, usb = docs["stores"]
        assert (disk["store"], disk["url"]) == ("disk", f"file://{top}/store")
        assert (usb["snapshots"], usb["entries"]) == (1, 2)
        assert disk["stored"] > 0
        assert disk["checksum"] is not None
        assert disk["content"] is None

    def test_verbose_tells_each_store(self):
        done("schedule", "run", "docs")
        out = done("status", "docs", "--verbose").out
        assert "docs: every 6 hours, last run" in out
        assert "  usb (file://" in out

    def test_a_store_that_the_call_or_the_environment_names_stands_for_those_of_the_jobs(
        self, top, monkeypatch
    ):
        monkeypatch.setenv("AUTO_BACKUP_STORE", str(top / "else"))
        done("schedule", "run", "docs")
        assert [one["url"] for one in jobs()["docs"]["stores"]] == [f"file://{top}/else"]

    def test_a_job_that_is_not_there_is_refused_with_a_suggestion(self):
        told = run("status", "doc")
        assert told.status == 2
        assert "did you mean docs?" in told.err

    def test_without_a_configuration_there_is_nothing_to_tell(self, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_CONFIG", "/dev/null")
        assert run("status").status == 2

    def test_a_paused_job_is_told(self):
        done("schedule", "run", "docs")
        done("schedule", "pause", "docs")
        told = done("status", "docs")
        assert "paused" in told.lines[1]
        assert "docs: paused for less than a minute" in told.out

    def test_a_damaged_snapshot_is_told_first(self, top):
        done("schedule", "run", "docs")
        file = next((top / "usb").rglob("*.enc"))
        file.chmod(0o600)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        assert run("verify", "--store", "usb").status == 13
        assert jobs("docs")["docs"]["reasons"][0].startswith("damaged in usb: ")


class TestCheck:
    def test_it_says_nothing_when_all_is_well(self):
        done("schedule", "run", "docs")
        told = run("status", "--check", "docs")
        assert (told.status, told.out, told.err) == (0, "", "")

    def test_it_fails_with_a_line_for_each_job_that_is_not(self):
        done("schedule", "run", "docs")
        told = run("status", "--check")
        assert (told.status, told.lines) == (1, ["photos: there is no snapshot yet"])

    def test_json_has_the_same_exit_status(self):
        told = run("status", "--check", "--json")
        assert (told.status, told.json["ok"]) == (1, False)

    def test_a_job_that_failed_and_runs_well_again_is_well(self, top, state):
        state.claim_by_hand("docs").finish(Outcome.FAILED, reason="no room")
        assert run("status", "--check", "docs").status == 1
        done("schedule", "run", "docs")
        assert run("status", "--check", "docs").status == 0


class TestHistory:
    def test_it_lists_runs_newest_first(self, top):
        done("schedule", "run", "docs")
        run("schedule", "run", "photos")
        told = done("history")
        assert [line.split()[2] for line in told.lines[1:3]] == ["photos", "docs"]
        assert f"photos: cannot back up {top}/photos" in told.out

    def test_a_job_that_is_named_alone_is_listed(self):
        done("schedule", "run", "docs")
        run("schedule", "run", "photos")
        assert {one["job"] for one in done("history", "--json", "photos").json} == {"photos"}

    def test_a_run_that_goes_on_and_one_whose_process_is_gone_are_told_apart(self, state):
        state.claim_by_hand("photos").close()
        with state.claim_by_hand("docs"):
            told = done("history").out
        assert re.search(r"docs +by hand +[\d.]+ s +running", told)
        assert re.search(r"photos +by hand +interrupted", told)
        assert "photos: its process ended without a word" in told

    def test_most_tells_how_many(self, state):
        for _ in range(30):
            state.claim_by_hand("docs").finish(Outcome.DONE)
        assert len(done("history", "--json").json) == 20
        found = done("history", "--json", "--most", "3").json
        assert [one["number"] for one in found] == [30, 29, 28]

    def test_json_tells_what_became_of_a_run(self):
        done("schedule", "run", "docs")
        [found] = done("history", "--json").json
        assert (found["cause"], found["outcome"], found["exit_status"]) == ("by hand", "done", 0)

    def test_upkeep_has_a_history_too(self):
        done("schedule", "run", "docs")
        done("schedule", "run", "verify/disk/docs")
        [found] = done("history", "--json", "verify/disk/docs").json
        assert found["outcome"] == "done"

    def test_a_job_that_was_taken_out_of_the_configuration_still_has_one(self, state):
        state.claim_by_hand("old").finish(Outcome.DONE)
        assert len(done("history", "--json", "old").json) == 1

    def test_nothing_has_run_on_a_new_machine(self):
        told = done("history")
        assert (told.out, told.err) == ("", "auto-backup: nothing has run yet\n")


def test_the_table_fits_a_terminal():
    done("schedule", "run", "docs")
    run("schedule", "run", "photos")
    _, screen = run_on_terminal("status")
    table = re.sub(r"\x1b\[[0-9;]*m", "", screen).split("photos: ")[0].splitlines()
    assert any("not well" in line for line in table)
    assert max(map(len, table)) <= 80
