"""``daemon start``, ``stop`` and ``reload``; ``daemon run`` itself is in tests/faults."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from backup.daemon.pid_file import PID_NAME
from tests.cli import done, environment, run, run_process
from tests.processes import all_gone, is_alive, wait_until

CONFIG = """
version: 1
host: testhost
defaults: {verify: {checksum: never, content: never}}
jobs:
  shop: {schedule: {cron: "0 0 1 1 *"}, sources: [/etc]}
"""


@pytest.fixture
def top(tmp_path, monkeypatch, private_home):
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    yield tmp_path
    run("daemon", "stop")


def log(top):
    return (top / "state" / "daemon.log").read_text()


class TestStart:
    def test_a_life(self, top):
        result = run_process("--daemon", "--json")
        assert result.status == 0, result.err
        pid = result.json["pid"]
        assert (top / "state" / PID_NAME).read_text() == f"{pid}\n"
        assert result.json["log"] == f"{top}/state/daemon.log"
        assert f"the daemon begins (process {pid}): {top}/config.yaml; jobs: shop" in log(top)
        assert (top / "state" / "daemon.log").stat().st_mode & 0o777 == 0o600

        assert done("daemon", "stop").lines == [f"the daemon (process {pid}) has ended"]
        assert all_gone([pid])
        assert log(top).endswith("the daemon has ended\n")
        assert done("schedule", "stop").lines == ["the daemon is not running"]

    def test_it_is_detached(self, top):
        result = run_process("schedule", "start")
        assert "the daemon runs: process " in result.out
        assert "'auto-backup daemon stop' ends it" in result.err
        pid = int((top / "state" / PID_NAME).read_text())
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        session, terminal = int(stat[3]), int(stat[4])
        assert session not in {pid, os.getsid(0)}
        assert terminal == 0
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        assert "Umask:\t0077" in Path(f"/proc/{pid}/status").read_text()
        assert {str(Path(f"/proc/{pid}/fd/{n}").readlink()) for n in range(3)} == {"/dev/null"}

    def test_a_second_one_is_refused(self, top):
        run_process("daemon", "start")
        pid = int((top / "state" / PID_NAME).read_text())
        result = run_process("daemon", "start")
        assert result.status == 11
        assert f"the daemon runs already (process {pid})" in result.err
        assert is_alive(pid)

    @pytest.mark.parametrize("content", ["jobs: [", CONFIG.replace("schedule", "x"), None])
    def test_a_configuration_that_cannot_be_used_is_told(self, top, content):
        path = top / "config.yaml"
        path.write_text(content) if content else path.unlink()
        result = run_process("daemon", "start")
        assert result.status == 2
        assert f"{top}/config.yaml" in result.err
        assert run("daemon", "start", "-n").status == 2

    def test_a_log_that_cannot_be_written_is_told(self, top):
        (top / "state" / "daemon.log").mkdir(parents=True)
        result = run_process("daemon", "start")
        assert result.status == 1
        assert "cannot write the log" in result.err
        assert done("daemon", "stop").lines == ["the daemon is not running"]

    def test_it_is_refused_as_a_service_of_systemd(self, top, tmp_path):
        result = run_process("daemon", "start", env=environment() | {"NOTIFY_SOCKET": "/nowhere"})
        assert result.status == 2
        assert "it must not detach" in result.err
        assert "hint: 'auto-backup daemon run' stays in front" in result.err
        code = (
            "import os, sys; os.environ['SYSTEMD_EXEC_PID'] = str(os.getpid());"
            "sys.argv = ['', 'daemon', 'start']; from backup.cli import main; sys.exit(main())"
        )
        assert run_process(command=(sys.executable, "-c", code)).status == 2

    def test_a_plan_starts_nothing(self, top):
        assert done("daemon", "start", "-n").lines == ["the daemon would be started"]
        assert done("daemon", "run", "-n").lines == ["the daemon would run"]
        assert not (top / "state").exists()

    def test_relative_paths_are_meant_from_where_it_was_started(self, top, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", "state")
        result = run_process("--config", "config.yaml", "daemon", "start", cwd=top)
        assert result.status == 0, result.err
        assert (top / "state" / PID_NAME).exists()
        monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", str(top / "state"))
        pid = int((top / "state" / PID_NAME).read_text())
        os.kill(pid, signal.SIGHUP)
        assert wait_until(lambda: "has been read anew" in log(top))


class TestStop:
    def test_a_pid_file_that_was_left_behind_ends_nobody(self, top):
        (top / "state").mkdir()
        (top / "state" / PID_NAME).write_text(f"{os.getpid()}\n")
        assert done("daemon", "stop").lines == ["the daemon is not running"]

    def test_one_that_does_not_end_is_killed(self, top, monkeypatch):
        pid = run_process("daemon", "start", "--json").json["pid"]
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr("backup.cli.daemon_commands._ENDING", 0.3)
        result = done("daemon", "stop")
        assert "the daemon has not ended in 0.3 s, and is killed" in result.err
        assert all_gone([pid])

    def test_a_plan_ends_nothing(self, top):
        pid = run_process("daemon", "start", "--json").json["pid"]
        assert done("daemon", "stop", "-n").lines == [f"the daemon (process {pid}) would be ended"]
        assert is_alive(pid)


class TestReload:
    def test_it_is_read_anew(self, top):
        pid = run_process("daemon", "start", "--json").json["pid"]
        (top / "config.yaml").write_text(CONFIG.replace("shop", "mail"))
        (line,) = done("daemon", "reload").lines
        assert line == f"the daemon (process {pid}) goes by the configuration as it is now"
        assert wait_until(lambda: "has been read anew" in log(top))
        assert log(top).splitlines()[-1].endswith("jobs: mail")

    def test_a_bad_one_is_told_in_the_log_with_all_that_is_wrong(self, top):
        run_process("daemon", "start")
        (top / "config.yaml").write_text(CONFIG + "one: 1\ntwo: 2\n")
        assert run("daemon", "reload").status == 2
        assert wait_until(lambda: "it is not used; the one before goes on" in log(top))
        assert "error: the configuration: " in log(top)
        assert "one: unknown key" in log(top)
        assert "two: unknown key" in log(top)

    def test_which_configuration_the_caller_has_does_not_matter(self, top):
        run_process("daemon", "start")
        assert done("--config", "/dev/null", "daemon", "reload")
        assert wait_until(lambda: "has been read anew" in log(top))

    def test_a_plan_tells_nobody(self, top):
        run_process("daemon", "start")
        assert done("daemon", "reload", "-n").out.endswith("would be told\n")
        assert "anew" not in log(top)

    def test_without_a_daemon(self, top):
        result = run("daemon", "reload")
        assert result.status == 1
        assert "the daemon is not running" in result.err
