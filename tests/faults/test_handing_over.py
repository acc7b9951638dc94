"""Runs handed to a real daemon by the real command, and what it tells of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import backup.environment
import backup.wiring
from backup.control import Answer, Server
from backup.environment import control_socket
from backup.health import Health, JobHealth
from backup.run_state import RUNS_NAME, RunState
from tests.cli import done, environment, run, run_on_terminal, run_process, start
from tests.processes import wait_until

CONFIG = """
version: 1
host: testhost
stores:
  disk: {{url: {top}/store}}
jobs:
  docs: {{sources: [{top}/source], schedule: {{at: "02:30"}}, compression: zstd, keep: {{last: 9}}}}
  photos: {{sources: [{top}/photos], schedule: {{at: "02:30"}}}}
  slow: {{sources: [{top}/slow], schedule: {{at: "02:30"}}, workers: 1}}
"""


@pytest.fixture
def top(tmp_path, monkeypatch, key_file):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "letter").write_text("Dear Ann\n")
    (tmp_path / "config.yaml").write_text(CONFIG.format(top=tmp_path))
    (tmp_path / "config.yaml").chmod(0o600)
    monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
    return tmp_path


@pytest.fixture
def state_dir(private_home):
    return private_home / "auto-backup-state"


@pytest.fixture
def state(state_dir):
    return RunState(state_dir / RUNS_NAME)


@contextmanager
def daemon_running(state_dir, **options):
    with start("daemon", "run", stderr=subprocess.PIPE, **options) as process:
        try:
            assert wait_until((state_dir / "control.sock").exists, 20), process.stderr.read1()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            _, process.log = process.communicate(timeout=15)


@pytest.fixture
def daemon(top, state_dir):
    with daemon_running(state_dir) as process:
        yield process


def slow(top):
    """Give the slow job what takes many seconds."""
    (top / "slow").mkdir()
    with (top / "slow" / "numbers").open("wb") as file:
        for number in range(40):
            file.write(str(number).encode() + os.urandom(1 << 20))
    return top


def begun_by(state, daemon):
    last = state.jobs()["docs"].last
    return last is not None and last.process == daemon.pid


class TestHandingOver:
    def test_a_job_is_run_by_the_daemon_and_told_as_if_it_ran_here(self, daemon, state):
        told = done("--now", "docs")
        assert told.lines[0].startswith("saved 2 entries")
        assert begun_by(state, daemon)

    def test_json_is_that_of_the_run(self, daemon, state):
        [told] = done("--now", "docs", "--json").json
        assert told["job"] == "docs"
        assert told["source_files"] == 1
        assert told["snapshot"] == state.history("docs")[0].details["snapshot"]

    def test_all_jobs_run_one_after_the_other_and_one_that_fails_stops_no_other(self, daemon):
        told = run("--now", "--json")
        assert told.status == 1
        assert [one["exit_status"] for one in told.json] == [0, 1, 1]
        assert "cannot back up" in told.json[1]["error"]

    def test_quiet_is_quiet(self, daemon):
        told = done("--now", "docs", "-q")
        assert (told.out, told.err) == ("", "")

    def test_an_error_of_the_run_is_told_with_its_hint_and_status(self, daemon, top):
        told = run("--now", "photos")
        assert told.status == 1
        assert f"error: cannot back up {top}/photos" in told.err
        assert "hint:" in told.err

    def test_a_job_that_is_not_there_is_refused(self, daemon):
        told = run("--now", "dogs")
        assert told.status == 2
        assert "did you mean docs?" in told.err

    def test_its_progress_is_drawn_on_a_terminal(self, daemon, top):
        slow(top)
        status, screen = run_on_terminal("--now", "slow")
        assert status == 0
        assert "MiB of" in screen
        assert "saved 2 entries" in screen

    def test_no_wait_returns_at_once(self, daemon, top, state):
        slow(top)
        began = time.monotonic()
        told = done("--now", "slow", "docs", "--no-wait")
        assert time.monotonic() - began < 3
        assert told.lines == ["slow: handed to the daemon", "docs: handed to the daemon"]
        assert wait_until(lambda: state.jobs().get("docs", None) is not None, 60)
        assert wait_until(lambda: state.jobs()["docs"].last_done is not None, 60)
        assert state.jobs()["slow"].last_done is not None

    def test_a_job_that_runs_already_is_refused_and_others_run(self, daemon, top):
        slow(top)
        done("--now", "slow", "--no-wait")
        told = run("--now", "slow", "docs", "--json")
        assert told.status == 11
        assert [one["exit_status"] for one in told.json] == [11, 0]
        assert "slow is running already" in told.err

    def test_who_stops_watching_does_not_stop_the_run(self, daemon, top, state):
        slow(top)
        with start("--now", "slow") as watcher:
            assert wait_until(lambda: state.is_running("slow"), 20)
            watcher.send_signal(signal.SIGINT)
            _, err = watcher.communicate(timeout=10)
        assert watcher.returncode == 130
        assert b"it goes on in the daemon" in err
        assert wait_until(lambda: state.jobs()["slow"].last_done is not None, 60)

    def test_a_daemon_that_ends_meanwhile_is_told(self, top, state_dir, state):
        slow(top)
        with daemon_running(state_dir) as daemon, start("--now", "slow") as watcher:
            assert wait_until(lambda: state.is_running("slow"), 20)
            daemon.send_signal(signal.SIGTERM)
            _, err = watcher.communicate(timeout=10)
        assert watcher.returncode in {1, 130}
        assert b"Traceback" not in err
        assert err

    def test_a_daemon_that_is_killed_meanwhile_is_told(self, top, state_dir, state):
        slow(top)
        with daemon_running(state_dir) as daemon, start("--now", "slow") as watcher:
            assert wait_until(lambda: state.is_running("slow"), 20)
            daemon.kill()
            _, err = watcher.communicate(timeout=10)
        assert watcher.returncode == 1
        assert b"error: the daemon has ended" in err


class TestRunningHere:
    """What the daemon cannot know is done by the call itself, under the same lock."""

    def test_without_a_daemon_it_runs_here(self, top, state):
        done("--now", "docs")
        assert state.jobs()["docs"].last.process == os.getpid()

    @pytest.mark.parametrize("said", [["--host", "testhost"], ["--compression", "gzip"]])
    def test_without_a_daemon_nothing_is_said_of_one(self, top, said):
        assert "daemon" not in done("--now", "docs", *said).err

    def test_without_a_daemon_no_wait_is_refused(self, top):
        told = run("--now", "docs", "--no-wait")
        assert told.status == 2
        assert "there is no daemon to hand the run to" in told.err

    @pytest.mark.parametrize(
        "said",
        [
            ["--store", "{top}/else"],
            ["--compression", "gzip"],
            ["--exclude", "*.log"],
            ["--tag", "before-upgrade"],
            ["--host", "testhost"],
        ],
    )
    def test_what_the_call_says_of_its_own_is_done_here(self, daemon, top, state, said):
        told = done("--now", "docs", *(one.format(top=top) for one in said))
        assert "run here and not by the daemon" in told.err
        assert not begun_by(state, daemon)

    def test_a_configuration_that_was_changed_is_used_here_at_once(self, daemon, top, state):
        path = top / "config.yaml"
        path.write_text(path.read_text().replace("last: 9", "last: 8"))
        assert "daemon reload" in done("--now", "docs").err
        assert not begun_by(state, daemon)
        done("daemon", "reload")
        assert done("--now", "docs").err == ""
        assert begun_by(state, daemon)

    def test_the_same_said_in_other_words_is_the_same(self, daemon, top, state):
        path = top / "config.yaml"
        path.write_text("# a comment\n" + path.read_text().replace("[", "[ "))
        done("--now", "docs")
        assert begun_by(state, daemon)

    def test_a_variable_that_the_daemon_does_not_have_counts_here(
        self, daemon, top, state, monkeypatch
    ):
        monkeypatch.setenv("AUTO_BACKUP_STORE", str(top / "else"))
        assert "AUTO_BACKUP_STORE is not the same" in done("--now", "docs").err
        assert not begun_by(state, daemon)
        assert list((top / "else").rglob("*.enc"))

    def test_a_plan_is_made_here(self, daemon, state):
        done("--now", "docs", "--dry-run")
        assert "docs" not in state.jobs() or state.jobs()["docs"].last is None

    def test_what_the_daemon_runs_is_refused_here_too(self, daemon, top):
        slow(top)
        done("--now", "slow", "--no-wait")
        assert run("--now", "slow", "--compression", "gzip").status == 11


class TestReload:
    def test_a_bad_file_is_refused_with_all_problems(self, daemon, top):
        path = top / "config.yaml"
        good = path.read_text()
        path.write_text(good.replace("sources", "sauces"))
        told = run("daemon", "reload")
        assert told.status == 2
        assert told.err.count("did you mean sources?") == 3
        path.write_text(good)
        done("daemon", "reload")

    def test_a_file_that_only_the_daemon_cannot_use_is_told_by_it(self, top, state_dir):
        with daemon_running(state_dir):
            path = top / "config.yaml"
            path.write_text(
                path.read_text().replace("schedule", "retry").replace('{at: "02:30"}', "{times: 1}")
            )
            told = run("daemon", "reload")
        assert told.status == 2
        assert "no job in" in told.err

    def test_a_new_job_is_known_at_once(self, daemon, top):
        path = top / "config.yaml"
        path.write_text(path.read_text() + f"  more: {{sources: [{top}/source]}}\n")
        done("daemon", "reload")
        done("--now", "more")


class TestStatus:
    def test_the_daemon_tells_how_far_a_run_is(self, daemon, top):
        slow(top)
        done("--now", "slow", "--no-wait")

        def share():
            [job] = run("status", "slow", "--json").json["jobs"]
            at = job["progress"]
            return at is not None and at["total"] and at["done"]

        assert wait_until(share, 20)

    def test_it_is_told_also_when_the_files_are_broken_by_now(self, daemon, top):
        done("--now", "docs")
        (top / "config.yaml").write_text("version: 2\n")
        told = run("status")
        assert told.status == 0
        assert told.lines[1].split()[:2] == ["docs", "ok"]
        assert "the daemon goes on by the one it has" in told.out

    def test_a_check_fails_when_they_are(self, daemon, top):
        for job in ("photos", "slow"):
            (top / job).mkdir()
            (top / job / "file").touch()
        done("--now")
        done("status", "--check")
        (top / "config.yaml").write_text("version: 2\n")
        told = run("status", "--check")
        assert told.status == 1
        assert "the daemon goes on by the one it has" in told.out
        assert run("daemon", "reload").status == 2
        assert not run("status", "--json").json["ok"]

    def test_a_daemon_of_another_configuration_does_not_hide_what_this_one_says(self, daemon, top):
        path = top / "config.yaml"
        path.write_text(path.read_text() + f"  more: {{sources: [{top}/source]}}\n")
        told = done("status")
        assert "more: there is no snapshot yet" in told.lines
        assert "daemon reload" in told.err

    def test_a_socket_that_nobody_answers_at_does_not_matter(self, top, state_dir):
        with daemon_running(state_dir) as daemon:
            daemon.kill()
            daemon.wait()
            assert (state_dir / "control.sock").exists()
            assert done("status").lines
            done("--now", "docs")

    def test_a_daemon_that_hangs_does_not_keep_anybody_from_it(
        self, top, state_dir, state, monkeypatch
    ):
        monkeypatch.setattr("backup.control.client._ANSWERING", 0.5)
        with daemon_running(state_dir) as daemon:
            assert wait_until(state.jobs, 10)
            time.sleep(0.5)  # until it writes nothing any more
            daemon.send_signal(signal.SIGSTOP)
            try:
                told = done("status")
            finally:
                daemon.send_signal(signal.SIGCONT)
        assert "the daemon does not answer" in told.lines
        assert "docs: there is no snapshot yet" in told.lines


class TestTheMachinesDaemon:
    """Members of its group see how the machine's jobs are, without a configuration of their own."""

    @pytest.fixture(autouse=True)
    def answering(self, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", "")
        backup.environment.SYSTEM_STATE.mkdir(parents=True)
        backup.environment.SYSTEM_RUNTIME.mkdir(parents=True)
        health = Health(
            host="web1",
            time=datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
            jobs=(JobHealth(job="shop", when="every 6 hours"),),
        )

        def answer(_, conversation):
            conversation.tell(Answer({"daemon": {}, "health": msgspec.to_builtins(health)}))
            conversation.finish()

        server = Server(control_socket(backup.environment.SYSTEM_STATE), answer)
        server.start()
        yield
        server.stop()

    def test_it_tells_those_who_have_no_jobs_of_their_own(self, monkeypatch):
        monkeypatch.setattr(backup.wiring, "state_dir", lambda: Path("/nonexistent"))
        told = done("status")
        assert told.lines[1].split()[:2] == ["shop", "ok"]
        assert told.err == ""

    def test_who_has_a_configuration_means_that(self, top, monkeypatch):
        monkeypatch.setattr(backup.wiring, "state_dir", lambda: top / "state")
        assert "shop" not in done("status").out

    def test_who_names_a_state_directory_means_that(self, tmp_path):
        assert run("status", "--state-dir", tmp_path).status == 2


def test_many_conversations_at_once_harm_no_daemon(daemon, top):
    calls = [start("status", "--json", "docs") for _ in range(12)]
    answers = [one.communicate(timeout=60)[0] for one in calls]
    assert all(json.loads(one)["jobs"][0]["job"] == "docs" for one in answers)
    assert run_process("--now", "docs").status == 0


def test_the_socket_is_gone_with_the_daemon(top, state_dir):
    with daemon_running(state_dir):
        pass
    assert not (state_dir / "control.sock").exists()


def test_a_path_that_is_too_long_for_sockets_is_none(top, tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", str(deep))
    with daemon_running(deep, env=environment()):
        assert done("--now", "docs").err == ""
