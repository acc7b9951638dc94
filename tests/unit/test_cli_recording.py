"""``--now JOB``: claimed and recorded like the runs of a supervisor, with what came of them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

import backup.cli.jobs
from backup.run_state import RUNS_NAME, Cause, Outcome, RunState
from tests.cli import COMMAND, done, environment, load_all, run
from tests.processes import wait_until

CONFIG = """
version: 1
host: testhost
stores:
  disk: {{url: {top}/store}}
  second: {{url: {top}/second}}
defaults: {{compression: zstd, keep: {{last: 1}}, verify: {{checksum: never, content: never}}}}
jobs:
  shop: {{sources: [{top}/source], stores: [disk, second]}}
  mail: {{sources: [{top}/source], stores: [{top}/own], schedule: every 6 hours}}
"""


@pytest.fixture
def top(tmp_path, monkeypatch, key_file):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    (tmp_path / "config.yaml").write_text(CONFIG.format(top=tmp_path))
    (tmp_path / "config.yaml").chmod(0o600)
    monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
    return tmp_path


@pytest.fixture
def state(private_home):
    return RunState(private_home / "auto-backup-state" / RUNS_NAME)


def listed():
    return {one["job"]: one for one in done("schedule", "list", "--json").json}


class TestWhatIsRecorded:
    def test_a_run_by_hand_with_what_came_of_it(self, top, state):
        told = done("--now", "shop", "--json").json[0]

        last = state.jobs()["shop"].last
        assert (last.cause, last.outcome, last.reason) == (Cause.BY_HAND, Outcome.DONE, "")
        assert last.details == {
            "snapshot": told["snapshot"],
            "name": told["name"],
            "sequence": 1,
            "size": told["size"],
            "source_bytes": 7,
            "entries": 2,
            "problems": 0,
            "stores": "disk, second",
            "not_copied": "",
            "strength": "read-back",
            "trashed": 0,
            "purged": 0,
            "exit_status": 0,
        }

    def test_a_run_of_a_supervisor_tells_the_same_and_is_recorded_once(self, top, state):
        done("--now", "shop")
        by_hand = state.jobs()["shop"].last.details
        done("schedule", "run", "shop")

        shop = state.jobs()["shop"]
        assert shop.count == 2
        assert shop.last.details.keys() == by_hand.keys()
        assert shop.last.details["sequence"] == 2
        assert shop.last.details["trashed"] == 2

    def test_upkeep_tells_of_itself_too(self, top, state):
        done("--now", "shop")
        done("schedule", "run", "rotate/disk/shop")

        last = state.jobs()["rotate/disk/shop"].last
        assert last.details == {"trashed": 0, "purged": 0, "exit_status": 0}

    def test_the_list_tells_of_it(self, top):
        done("--now", "shop")

        last = listed()["shop"]["last"]
        assert (last["cause"], last["outcome"]) == ("by hand", "done")
        assert "done" in done("schedule", "list").lines[1]

    def test_it_serves_no_moment_of_the_schedule(self, top):
        done("--now", "mail")

        assert done("schedule", "run", "--due").lines == ["mail: done"]

    def test_a_failure_with_its_reason(self, top, state):
        (top / "source" / "file").unlink()
        (top / "source").rmdir()
        result = run("--now", "shop")

        last = state.jobs()["shop"].last
        assert (last.outcome, last.details["exit_status"]) == (Outcome.FAILED, result.status)
        assert last.reason in result.err

    def test_each_of_several_jobs_with_its_own(self, top, state):
        (top / "second").write_text("no directory")
        result = run("--now")

        shop, mail = (state.jobs()[one].last for one in ("shop", "mail"))
        assert (shop.outcome, shop.details["exit_status"]) == (Outcome.FAILED, result.status)
        assert (shop.details["stores"], shop.details["not_copied"]) == ("disk", "second")
        assert str(top / "second") in shop.reason
        assert (mail.outcome, mail.details["stores"]) == (Outcome.DONE, str(top / "own"))

    def test_what_could_not_be_read_makes_it_incomplete(self, open_dir, as_nobody):
        (open_dir / "config.yaml").write_text(CONFIG.format(top=open_dir))
        (open_dir / "source").mkdir()
        (open_dir / "source" / "closed").touch(mode=0)
        options = [f"--{one}={open_dir / one}" for one in ("key-file", "state-dir")]
        load_all()

        with as_nobody():
            done("key", "new", *options)
            result = run("--config", open_dir / "config.yaml", "--now", "shop", *options)
            last = RunState(open_dir / "state-dir" / RUNS_NAME).jobs()["shop"].last
        assert (result.status, last.outcome) == (3, Outcome.INCOMPLETE), result.err
        assert last.reason == "1 path was not saved, or not whole"
        assert (last.details["problems"], last.details["exit_status"]) == (1, 3)

    def test_a_plan_records_nothing(self, top, private_home):
        done("--now", "shop", "-n")

        assert not (private_home / "auto-backup-state" / RUNS_NAME).exists()

    def test_a_source_of_the_call_is_no_job(self, top, state):
        done("--now", "--source", top / "source", "-s", top / "store", "--job", "shop")

        assert state.jobs() == {}


class TestOneAtATime:
    def test_a_job_that_runs_is_refused_and_the_others_run(self, top, state):
        with state.claim_by_hand("shop"):
            result = run("--now", "--json")
            assert state.jobs()["shop"].count == 1

        assert result.status == 11
        assert "shop is running already" in result.err
        assert [one["exit_status"] for one in result.json] == [11, 0]
        assert state.jobs()["mail"].last.outcome is Outcome.DONE

    def test_it_counts_as_running_while_it_does(self, top, state, monkeypatch):
        real, seen = backup.cli.jobs.take, []

        def take(call, wanted):
            seen.append([one.job for one in state.running()])
            seen.append(run("schedule", "run", "shop").status)
            return real(call, wanted)

        monkeypatch.setattr(backup.cli.jobs, "take", take)
        done("--now", "shop")

        assert seen == [["shop"], 11]
        assert state.running() == []

    @pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
    def test_one_that_is_interrupted_is_recorded_as_such(self, top, state, by):
        for number in range(40):
            (top / "source" / str(number)).write_bytes(os.urandom(4_000_000))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            [*COMMAND, "--now", "shop", "--compression", "xz"], env=environment(),
            stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            signal.signal(signal.SIGINT, before)
            assert wait_until(lambda: list(Path(top / "store").rglob("*.partial")))
            process.send_signal(by)
            process.communicate(timeout=30)

        last = state.jobs()["shop"].last
        assert process.returncode == 130
        assert (last.outcome, last.details) == (Outcome.INTERRUPTED, {"exit_status": 130})


class TestWithoutARecord:
    def test_a_backup_is_taken_all_the_same(self, top, private_home):
        (private_home / "auto-backup-state").mkdir(exist_ok=True)
        (private_home / "auto-backup-state" / "runs.locks").write_text("no directory")

        result = done("--now", "shop")
        assert "this run is not recorded: cannot lock" in result.err
        assert list((top / "store").rglob("*.enc"))

    def test_what_cannot_be_recorded_at_the_end_is_told(self, top, state, monkeypatch):
        real = backup.cli.jobs.take

        def take(call, wanted):
            told = real(call, wanted)
            for one in state.path.parent.glob(RUNS_NAME + "*"):
                one.unlink()
            state.path.mkdir()
            return told

        monkeypatch.setattr(backup.cli.jobs, "take", take)
        result = done("--now", "shop")

        assert "the end of this run is not recorded: " in result.err
        assert not state.is_running("shop")

    def test_a_damaged_one_is_put_aside(self, top, state):
        done("--now", "shop")
        for one in state.path.parent.glob(RUNS_NAME + "*"):
            one.write_bytes(b"x" * 9000)

        assert "begun anew" in done("--now", "shop").err
        assert state.jobs()["shop"].last.outcome is Outcome.DONE
