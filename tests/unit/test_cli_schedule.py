"""``schedule list``, ``pause``, ``resume``, ``run``; what jobs run is a command of the tests."""

from __future__ import annotations

import sys
import threading
from datetime import timedelta

import pytest

import backup.tasks
from backup.cli.invocation import Invocation
from backup.cli.scheduling import open_scheduling, run_what_is_due
from backup.run_state import RUNS_NAME, RunState
from backup.tasks import Program
from tests.cli import done, run, run_on_terminal, take
from tests.processes import wait_until

CONFIG = """
version: 1
host: testhost
stores:
  disk: {{url: {top}/store}}
jobs:
  shop:
    schedule: every 6 hours
    sources: [{top}/source]
    keep: {{last: 3, daily: 14, tags: [release]}}
    retry: {{times: 2, wait: 2 minutes}}
  mail:
    schedule: {{at: "02:30", time_zone: Europe/Berlin, jitter: 10 minutes}}
    sources: [{top}/source]
    only_if: {{command: [/usr/bin/test, -e, {top}/flag]}}
    verify: {{checksum: never, content: 2 weeks}}
  hand: {{sources: [{top}/source], verify: {{checksum: never, content: never}}}}
"""

THE_REAL_ONE = backup.tasks.this_program

# Notes that it ran, and with what; ends as a file says.
STAND_IN = """
import pathlib, sys, time
top, words = pathlib.Path({top!r}), [one for one in sys.argv[1:] if not one.startswith('--')]
with open(top / 'ran', 'a') as file:
    file.write(' '.join(words) + '\\n')
print('saved', words[-1], flush=True)
if (top / 'hangs').exists():
    time.sleep(600)
if (top / 'status').exists():
    print('auto-backup: error: no room', file=sys.stderr)
    sys.exit(int((top / 'status').read_text()))
"""


@pytest.fixture
def top(tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG.format(top=tmp_path))
    (tmp_path / "config.yaml").chmod(0o600)
    monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
    stand_in = STAND_IN.format(top=str(tmp_path))
    command = (sys.executable, "-c", stand_in)
    monkeypatch.setattr(backup.tasks, "this_program", lambda options: Program(command, (*options,)))
    return tmp_path


@pytest.fixture
def state(private_home):
    return RunState(private_home / "auto-backup-state" / RUNS_NAME)


def ran(top):
    path = top / "ran"
    return path.read_text().splitlines() if path.exists() else []


def listed(*options):
    return {one["job"]: one for one in done("schedule", "list", "--json", *options).json}


class TestList:
    def test_jobs_first_then_their_upkeep(self, top):
        result = done("schedule", "list")

        head, *rows = result.lines
        assert head.split() == ["job", "when", "last", "run", "next", "state"]
        assert [row.split()[0] for row in rows] == [
            "shop",
            "mail",
            "hand",
            "rotate/disk/shop",
            "verify/disk/shop",
            "verify/disk/shop/all",
            "verify/disk/shop/content",
            "verify/disk/mail/content",
        ]
        assert rows[0].split()[1:] == ["every", "6", "hours", "never", "now", "due"]
        assert "daily at 02:30 Europe/Berlin, up to 10 minutes later" in rows[1]
        assert rows[2].split()[1:] == ["by", "hand", "never"]
        assert rows[3].split()[1:4] == ["every", "day", "never"]
        assert result.err.endswith("without keep nothing is ever deleted: mail, hand\n")

    def test_it_changes_nothing(self, top, private_home):
        done("schedule", "list")

        assert not (private_home / "auto-backup-state").exists()

    def test_in_json(self, top):
        done("schedule", "run", "--due")
        shop = listed()["shop"]

        assert (shop["when"], shop["upkeep"], shop["failures"]) == ("every 6 hours", False, 0)
        assert shop["last"]["outcome"] == "done"
        assert shop["last"]["cause"] == "schedule"
        assert shop["next"] > shop["last"]["ended"]

    def test_a_failure_with_its_reason(self, top):
        (top / "status").write_text("14")
        run("schedule", "run", "shop")

        assert done("schedule", "list").lines[1].split()[-3:] == ["failed", "now", "due"]
        run("schedule", "run", "--due")
        row = done("schedule", "list").lines[1]
        assert row.endswith("2 failures, tried again: no room")

    def test_why_one_waits(self, top, state):
        state.see(["mail"])
        state.claim("mail", _long_ago(state), after=None).finish("done")

        row = next(one for one in done("schedule", "list").lines if one.startswith("mail"))
        assert row.endswith("waits: /usr/bin/test says no: exit status 1")
        assert listed()["mail"]["waits_for"] == "/usr/bin/test says no: exit status 1"
        (top / "flag").touch()
        assert listed()["mail"]["waits_for"] is None

    def test_on_a_terminal(self, top):
        status, text = run_on_terminal("schedule", "list")

        assert status == 0
        assert "verify/disk/shop" in text

    def test_without_a_configuration(self, monkeypatch, tmp_path):
        monkeypatch.delenv("AUTO_BACKUP_CONFIG", raising=False)
        result = run("schedule", "list")

        assert result.status == 2
        assert "there is no configuration" in result.err


class TestPause:
    def test_nothing_of_it_runs_until_it_is_resumed(self, top):
        assert done("schedule", "pause", "shop").lines == ["shop: paused"]
        assert done("schedule", "list").lines[1].split()[-1] == "paused"
        done("schedule", "run", "--due")
        assert ran(top) == []

        assert done("schedule", "resume", "shop").lines == ["shop: resumed"]
        done("schedule", "run", "--due")
        assert ran(top)[0] == "backup shop"

    def test_by_hand_it_runs_all_the_same(self, top):
        done("schedule", "pause", "shop")

        done("schedule", "run", "shop")
        assert ran(top) == ["backup shop"]

    def test_all_of_it(self, top):
        assert len(done("schedule", "pause").lines) == 8
        assert "paused already" in done("schedule", "pause").err
        assert len(done("schedule", "resume", "--json").json) == 8
        assert "nothing of it is paused" in done("schedule", "resume").err

    def test_a_plan_changes_nothing(self, top):
        assert done("schedule", "pause", "shop", "-n").lines == ["shop: would be paused"]
        assert listed()["shop"]["paused_since"] is None

    def test_a_name_that_is_nearly_right(self, top):
        result = run("schedule", "pause", "shp")

        assert result.status == 2
        assert "has no job 'shp'" in result.err
        assert "did you mean shop?" in result.err


class TestRun:
    def test_it_shows_what_the_run_writes(self, top, capfdbinary):
        result = done("schedule", "run", "shop")

        assert result.out == "saved shop\n"
        assert ran(top) == ["backup shop"]

    @pytest.mark.parametrize(("status", "outcome"), [(14, "failed"), (3, "incomplete")])
    def test_its_exit_status_is_that_of_the_run(self, top, status, outcome):
        (top / "status").write_text(str(status))
        result = run("schedule", "run", "shop")

        assert result.status == status
        assert "auto-backup: error: no room" in result.err
        assert result.err.endswith(f"auto-backup: shop: {outcome}: no room\n")
        assert listed()["shop"]["last"]["outcome"] == outcome

    def test_in_json(self, top):
        result = done("schedule", "run", "shop", "--json")

        assert result.json[0]["job"] == "shop"
        assert "saved shop" in result.err

    def test_it_is_refused_while_it_runs(self, top, state):
        with state.claim_by_hand("shop"):
            result = run("schedule", "run", "shop")
            assert run("schedule", "run", "shop", "-n").status == 11
            assert listed()["shop"]["running"]

        assert result.status == 11
        assert "shop is running already" in result.err
        assert ran(top) == []

    def test_upkeep_can_be_run_too(self, top):
        done("schedule", "run", "rotate/disk/shop")
        done("schedule", "run", "verify/disk/shop/all")

        assert ran(top) == ["rotate testhost/shop", "verify"]

    @pytest.mark.parametrize("arguments", [[], ["shop", "--due"]])
    def test_either_a_job_or_what_is_due(self, top, arguments):
        result = run("schedule", "run", *arguments)

        assert result.status == 2
        assert "say either which job to run, or --due" in result.err


class TestRunDue:
    def test_what_is_due(self, top):
        result = done("schedule", "run", "--due")

        assert result.lines == ["shop: done"]
        assert ran(top) == ["backup shop"]

    def test_where_nothing_is_due_nothing_is_said(self, top):
        done("schedule", "run", "--due")
        result = done("schedule", "run", "--due")

        assert (result.out, result.err) == ("", "")
        assert len(ran(top)) == 1

    def test_two_calls_at_once_run_it_once(self, top):
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(_call_runner())) for _ in range(4)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

        assert ran(top).count("backup shop") == 1

    def test_one_that_fails_is_told_and_tried_again_later(self, top):
        (top / "status").write_text("14")
        result = run("schedule", "run", "--due")

        assert (result.status, result.lines) == (14, ["shop: failed: no room"])
        assert ran(top) == ["backup shop"]
        assert run("schedule", "run", "--due").status == 0  # its next try is in 2 minutes

    def test_a_plan_tells_what_would_run(self, top):
        assert done("schedule", "run", "--due", "-n").lines == ["shop would be run"]
        assert ran(top) == []

    def test_what_waits_for_a_condition_is_told(self, top, state):
        state.see(["mail"])
        state.claim("mail", _long_ago(state), after=None).finish("done")
        done("schedule", "run", "--due")
        assert not any("mail" in one for one in ran(top))
        (top / "flag").touch()

        assert "mail: done" in done("schedule", "run", "--due").lines


class TestTheRealCommand:
    @pytest.fixture(autouse=True)
    def _real(self, top, monkeypatch, key_file):
        monkeypatch.setattr(backup.tasks, "this_program", THE_REAL_ONE)
        (top / "source" / "file").write_text("content")

    def test_it_verifies_and_rotates(self, top):
        options = ("--source", top / "source", "-s", top / "store", "--host", "testhost")
        paths = [take(*options, "--job", "shop") for _ in range(5)]

        assert "SHA-256" in done("schedule", "run", "verify/disk/shop").out
        assert "5 of 5 snapshots hold" in done("schedule", "run", "verify/disk/shop/content").out
        assert "trash" in done("schedule", "run", "rotate/disk/shop").out
        paths[4].write_bytes(paths[4].read_bytes()[:-1])
        assert run("schedule", "run", "verify/disk/shop").status == 13

    def test_jobs_are_taken_by_it(self, top):
        assert done("schedule", "run", "--due").lines == ["shop: done"]
        (path,) = top.joinpath("store").rglob("*.enc")
        assert path.parent == top / "store" / "testhost" / "shop"
        assert done("schedule", "run", "shop", "-q").lines == []
        assert listed()["shop"]["last_done"] is not None

    def test_a_host_that_only_writes_runs_what_it_can(self, top, key_file, monkeypatch):
        key_file.unlink()
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
        done("--identity", top / "identity", "key", "new", "--public")
        monkeypatch.setenv("AUTO_BACKUP_RECIPIENTS", str(top / "identity.pub"))

        assert done("schedule", "run", "--due").lines == ["shop: done"]
        assert "SHA-256" in done("schedule", "run", "verify/disk/shop").out
        result = done("schedule", "list", "--json")
        names = [one["job"] for one in result.json if one["job"].endswith(("/shop", "/content"))]
        assert names == ["verify/disk/shop"]
        assert "another one has to rotate and verify them" in done("schedule", "list").err

    def test_where_there_is_no_snapshot_yet_that_is_no_failure(self, top):
        result = run("schedule", "run", "verify/disk/shop")

        assert result.status == 10
        assert listed()["verify/disk/shop"]["last"]["outcome"] == "skipped"
        assert listed()["verify/disk/shop"]["failures"] == 0


def _call_runner():
    """Run what is due as the command does; ``run`` swaps the streams of the whole process."""
    woken = threading.Event()
    run_what_is_due(open_scheduling(Invocation()).runner(wake=woken.set), woken)


def _long_ago(state):
    return wait_until(lambda: state.jobs()["mail"].first_seen) - timedelta(days=2)
