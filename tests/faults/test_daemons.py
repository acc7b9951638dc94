"""A real ``daemon run``: what a service manager hears, signals, reloading, one at a time."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backup.daemon.frozen import FOLDER_NAME
from backup.daemon.notify import Notifier
from backup.run_state import Outcome
from tests.cli import run_process
from tests.daemons import CONFIG, Daemons, Listener
from tests.processes import all_gone, wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def daemons(tmp_path):
    found = Daemons(tmp_path)
    yield found
    found.listener.close()


class TestItsStateDirectory:
    @pytest.mark.parametrize("is_deleted", [True, False])
    def test_it_ends_when_that_is_gone_and_leaves_what_is_there_now_alone(
        self, daemons, is_deleted
    ):
        before = daemons.state_dir
        with daemons.running() as first:
            assert wait_until(daemons.ran)
            before.rename(before.with_name("old"))
            if is_deleted:
                shutil.rmtree(before.with_name("old"), ignore_errors=True)
            with daemons.running() as second:
                assert first.wait(15) == 1
                assert "is not the daemon's directory any more" in daemons.log.read_text()
                assert second.poll() is None
                assert (before / "control.sock").is_socket()
                assert list((before / FOLDER_NAME).iterdir())


class TestTheProtocol:
    def test_a_life(self, daemons):
        with daemons.running(variables={"WATCHDOG_USEC": "300000"}) as process:
            heard = daemons.listener
            heard.wait(rf"^MAINPID={process.pid}$")
            heard.wait(r"^STATUS=next: shop at (\w+ )?\d\d:\d\d$")  # tomorrow, in the evening
            beats = heard.lines.count("WATCHDOG=1")
            assert wait_until(lambda: heard.read().count("WATCHDOG=1") >= beats + 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
            heard.wait("^STOPPING=1$")
        assert heard.lines.index("READY=1") < heard.lines.index("STOPPING=1")
        assert daemons.ran() == ["backup shop"]

    def test_a_socket_with_a_path(self, daemons, tmp_path):
        daemons.listener.close()
        daemons.listener = Listener(str(tmp_path / "notify"))
        with daemons.running():
            daemons.listener.wait("^STATUS=next: shop")

    def test_it_tells_what_runs(self, daemons):
        daemons.takes(60)
        with daemons.running():
            daemons.listener.wait("^STATUS=running: shop$")

    def test_children_are_not_told_of_it(self, daemons):
        daemons.takes(60)
        with daemons.running(variables={"WATCHDOG_USEC": "60000000"}):
            variables = Path(f"/proc/{daemons.job_pid()}/environ").read_bytes()
            assert b"PATH=" in variables
            assert b"NOTIFY_SOCKET" not in variables
            assert b"WATCHDOG_USEC" not in variables

    def test_nobody_watches_another_process(self, daemons):
        variables = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
        with daemons.running(variables=variables):
            time.sleep(1.5)
            assert "WATCHDOG=1" not in daemons.listener.read()

    def test_a_look_that_hangs_stops_the_watchdog(self, daemons):
        hang = (
            "import time, backup.running.runner as one; look = one.Runner.look\n"
            "def hang(self):\n"
            "    if (one.__dict__.setdefault('looks', [])).append(1) or len(one.looks) > 1:\n"
            "        time.sleep(3600)\n"
            "    return look(self)\n"
            "one.Runner.look = hang\n"
        )
        with daemons.running(more=hang, variables={"WATCHDOG_USEC": "300000"}):
            time.sleep(2.5)  # the job has ended, and the second look hangs
            beats = daemons.listener.read().count("WATCHDOG=1")
            time.sleep(2.5)
            assert daemons.listener.read().count("WATCHDOG=1") <= beats + 1

    def test_where_nobody_listens_that_does_not_matter(self, daemons):
        with daemons.start(variables={"NOTIFY_SOCKET": "/nowhere/at/all"}) as process:
            assert wait_until(daemons.ran)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0

    def test_a_manager_that_does_not_read_stops_nobody(self, tmp_path):
        path = str(tmp_path / "deaf")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
            deaf.bind(path)
            notifier = Notifier({"NOTIFY_SOCKET": path}, os.getpid())
            for number in range(2000):
                notifier.status(f"line {number}")


HANGING = """
import time
import backup.running.runner as one
one.Runner.stop = lambda *_: time.sleep(30)
"""


class TestSignals:
    @pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
    def test_it_ends_its_runs_and_itself(self, daemons, by):
        daemons.takes(600)
        with daemons.running() as process:
            job = daemons.job_pid()
            began = time.monotonic()
            process.send_signal(by)
            assert process.wait(10) == 0
            assert time.monotonic() - began < 5
        assert all_gone([job])
        shop = daemons.state.jobs()["shop"]
        assert shop.last.outcome is Outcome.INTERRUPTED
        assert shop.retry_at is not None
        assert not (daemons.state_dir / FOLDER_NAME).exists()

    def test_a_second_wish_to_end_is_obeyed_at_once(self, daemons):
        with daemons.running(more=HANGING) as process:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.7)
            assert process.poll() is None
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 1
            assert time.monotonic() - began < 1

    def test_it_ends_although_something_hangs(self, daemons):
        with daemons.running(more=HANGING) as process:
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - began < 5

    def test_sigusr1_tells_where_every_thread_is(self, daemons):
        daemons.takes(60)
        with daemons.running() as process:
            job = daemons.job_pid()
            process.send_signal(signal.SIGUSR1)
            assert wait_until(lambda: "processes below" in daemons.log.read_text())
            text = daemons.log.read_text()
        for name in ("MainThread", "auto-backup scheduler", "auto-backup shop"):
            assert f"thread {name}:\n" in text
        assert re.search(r"  daemon/daemon\.py:\d+ _serve\n", text)
        assert "runs: shop; processes below this one: " in text
        assert str(job) in text


class TestReload:
    def test_a_new_configuration(self, daemons):
        with daemons.running() as process:
            assert wait_until(daemons.ran)
            behind = len(daemons.listener.read())
            daemons.config.write_text(
                CONFIG + "  mail: {schedule: every 1 hour, sources: [/usr]}\n"
            )
            process.send_signal(signal.SIGHUP)
            number = daemons.listener.wait("^RELOADING=1$", behind=behind)
            assert re.fullmatch(r"MONOTONIC_USEC=\d+", daemons.listener.lines[number + 1])
            daemons.listener.wait("^READY=1$", behind=number)
            assert wait_until(lambda: "backup mail" in daemons.ran())

    @pytest.mark.parametrize("content", ["jobs: [", CONFIG.replace("every 6 hours", "often")])
    def test_a_bad_one_is_refused_and_the_old_one_goes_on(self, daemons, content):
        with daemons.running() as process:
            assert wait_until(daemons.ran)
            behind = len(daemons.listener.read())
            daemons.config.write_text(content)
            process.send_signal(signal.SIGHUP)
            daemons.listener.wait("^RELOADING=1$", behind=behind)
            daemons.listener.wait("^READY=1$", behind=behind)
            daemons.listener.wait(
                "^STATUS=the changed configuration is refused: .*config", behind=behind
            )
            assert wait_until(lambda: "it is not used" in daemons.log.read_text())

            behind = len(daemons.listener.read())
            daemons.config.write_text(CONFIG)
            process.send_signal(signal.SIGHUP)
            daemons.listener.wait("^STATUS=next: shop", behind=behind)

    def test_a_run_that_goes_on_ends_as_it_began(self, daemons):
        daemons.takes(2)
        with daemons.running() as process:
            job = daemons.job_pid()
            daemons.config.write_text(CONFIG.replace("shop", "mail"))
            process.send_signal(signal.SIGHUP)
            assert wait_until(lambda: "backup mail" in daemons.ran())
            assert daemons.ran()[0] == "backup shop"
            assert daemons.state.jobs()["shop"].last.outcome is Outcome.DONE
            assert job != daemons.job_pid()


class TestTheFrozenCopy:
    """Runs are the real command here."""

    @pytest.fixture(autouse=True)
    def _real(self, daemons, tmp_path, key_file):
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "file").write_text("content")
        (tmp_path / "here").mkdir()
        (tmp_path / ".env").write_text(
            f"AUTO_BACKUP_YES=1\nAUTO_BACKUP_STORE='{tmp_path}/it\\'s a store'\n"
        )
        (tmp_path / "conf.d").mkdir(mode=0o755)
        (tmp_path / "conf.d" / "more.yaml").write_text(
            f"jobs:\n  mail: {{schedule: every 6 hours, sources: ['{tmp_path}/source']}}\n"
        )
        daemons.config.write_text(
            CONFIG.replace("[/etc]", f"['{tmp_path}/source']").replace(
                "every 6 hours", '{cron: "0 0 1 1 *"}'
            )
        )

    def test_runs_read_what_the_daemon_has_loaded(self, daemons, tmp_path):
        command = ("env", "-u", "AUTO_BACKUP_STORE", "-u", "AUTO_BACKUP_YES", *PROGRAM)
        with daemons.running(command=command) as process:
            copy = daemons.state_dir / FOLDER_NAME / "1"
            assert (copy / "config.yaml").stat().st_mode & 0o777 == 0o600
            assert copy.stat().st_mode & 0o777 == 0o700
            assert wait_until(lambda: daemons.last_done("mail"))
            assert [one.parts[-3:-1] for one in tmp_path.glob("it's a store/*/*/*.enc")] == [
                ("testhost", "mail")
            ]
            for path in (daemons.config, tmp_path / ".env", tmp_path / "conf.d" / "more.yaml"):
                path.write_text("AUTO_BACKUP_STORE='\nnonsense: [")
            done = run_process("--config", copy / "config.yaml", "config", "show", "mail", cwd=copy)
            assert done.status == 0, done.err
            behind = len(daemons.listener.read())
            process.send_signal(signal.SIGHUP)
            daemons.listener.wait("^STATUS=the changed configuration is refused", behind=behind)
            assert [one.name for one in copy.parent.iterdir()] == ["1"]

    def test_old_ones_go_when_no_run_reads_them(self, daemons):
        with daemons.running(command=PROGRAM) as process:
            assert wait_until(lambda: daemons.last_done("mail"))
            process.send_signal(signal.SIGHUP)
            folder = daemons.state_dir / FOLDER_NAME
            assert wait_until(lambda: [one.name for one in folder.iterdir()] == ["2"])
        assert not folder.exists()


PROGRAM = (sys.executable, "-m", "backup")


class TestOneAtATime:
    def test_a_second_one_is_refused(self, daemons):
        with daemons.running() as process:
            second = subprocess.run(
                daemons.command(),
                env=daemons.environment(),
                capture_output=True,
                timeout=30,
                check=False,
            )
            assert second.returncode == 11
            assert f"the daemon runs already (process {process.pid})".encode() in second.stderr
            assert daemons.pid() == process.pid

    def test_one_that_was_killed_is_taken_over(self, daemons):
        with daemons.running() as first:
            first.kill()
            first.wait()
            assert daemons.pid() == first.pid
            with daemons.running() as second:
                assert daemons.pid() == second.pid

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (CONFIG.replace("schedule: every 6 hours, ", ""), b"no job in .* has a schedule"),
            ("jobs: [", b"config.yaml"),
            (None, b"there is no such file"),
        ],
    )
    def test_without_something_to_do_it_is_refused(self, daemons, content, words):
        daemons.config.write_text(content) if content else daemons.config.unlink()
        result = subprocess.run(
            daemons.command(),
            env=daemons.environment(),
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert result.returncode == 2
        assert re.search(words, result.stderr), result.stderr
        assert b"hint: " in result.stderr
