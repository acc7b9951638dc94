"""Processes that hang, fork, flood and refuse to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backup.child_run import NOT_STARTED, ChildRun
from backup.errors import WorkerError
from tests.processes import all_gone, is_alive, wait_until


def python(code, **options):
    return ChildRun([sys.executable, "-c", code], **options)


def open_files():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - just a count


class TestItsEnd:
    def test_status_and_output_are_told(self):
        end = python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)").run()

        assert (end.status, end.out, end.err) == (3, b"out\n", b"err\n")
        assert end.is_gone
        assert not end.timed_out

    def test_a_signal_is_told_as_a_negative_status(self):
        assert python("import os; os.kill(os.getpid(), 9)").run().status == -9

    def test_a_program_that_is_not_there_is_told(self):
        end = ChildRun(["/no/such/program"]).run()

        assert end.status == NOT_STARTED
        assert end.err == b"cannot start /no/such/program: No such file or directory\n"

    def test_it_has_nothing_to_read_and_a_session_of_its_own(self):
        end = python("import os, sys; print(sys.stdin.read(), os.getsid(0) == os.getpid())").run()

        assert end.out == b" True\n"

    def test_what_it_writes_comes_as_it_is_written(self):
        told = {1: b"", 2: b""}

        def hear(number, block):
            told[number] += block
            if told[number] == b"one\n":
                child.stop()

        child = python("import time; print('one', flush=True); time.sleep(60)", on_output=hear)
        assert child.run().stopped
        assert told == {1: b"one\n", 2: b""}

    def test_where_no_process_can_be_started_one_is_told(self, monkeypatch):
        monkeypatch.setattr(sys, "frozen", True, raising=False)

        with pytest.raises(WorkerError, match="cannot start x: there is no Python"):
            ChildRun(["x"]).run()

    def test_it_leaves_nothing_open(self):
        python("print(1)").run()
        before = open_files(), threading.active_count()

        for _ in range(5):
            python("print(1)").run()
            python("import time; time.sleep(9)", timeout=0.05).run()

        assert (open_files(), threading.active_count()) == before


class TestWhatDoesNotEnd:
    def test_one_that_hangs_is_asked_to_end(self):
        end = python("import time; time.sleep(600)", timeout=0.2).run()

        assert end.timed_out
        assert end.status == -signal.SIGTERM

    def test_it_has_time_to_clean_up(self):
        code = (
            "import signal, sys, time\n"
            "def end(*_):\n    time.sleep(0.2); print('cleaned up', flush=True); sys.exit(130)\n"
            "signal.signal(signal.SIGTERM, end)\nprint('x', flush=True)\ntime.sleep(600)"
        )
        end = python(code, timeout=0.5).run()

        assert (end.status, end.out) == (130, b"x\ncleaned up\n")

    def test_one_that_ignores_this_is_killed(self):
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        began = time.monotonic()

        end = python(code, timeout=0.4, grace=0.2).run()

        assert end.status == -signal.SIGKILL
        assert time.monotonic() - began < 5

    def test_what_it_has_started_is_ended_with_it(self, tmp_path):
        code = (
            "import pathlib, subprocess, sys, time\n"
            "deaf = 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'\n"
            "one = subprocess.Popen([sys.executable, '-c', deaf])\n"
            f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(one.pid))\n"
            "time.sleep(600)"
        )
        end = python(code, timeout=1).run()

        assert end.timed_out
        assert all_gone([int((tmp_path / "pid").read_text())])

    def test_a_grandchild_that_keeps_the_pipe_open_is_not_waited_for(self):
        code = (
            "import subprocess, sys\n"
            "one = subprocess.Popen(['/bin/sleep', '600'], start_new_session=True)\n"
            "print(one.pid, flush=True)"
        )
        began = time.monotonic()

        end = python(code).run()

        assert end.status == 0
        assert time.monotonic() - began < 5
        assert is_alive(int(end.out))
        os.kill(int(end.out), signal.SIGKILL)

    def test_a_flood_is_read_and_its_end_is_kept(self):
        code = "import os\nfor n in range(3000): os.write(1, b'x' * 9999)\nprint('last')"

        end = python(code, timeout=60).run()

        assert end.status == 0
        assert end.out.endswith(b"xlast\n")
        assert len(end.out) == 65536

    def test_a_flood_without_end_is_ended_in_time(self):
        end = python("import os\nwhile True: os.write(2, b'x' * 9999)", timeout=0.3).run()

        assert end.timed_out
        assert end.is_gone

    def test_one_that_no_signal_reaches_is_given_up_and_seen_to_end_later(self):
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody who may not end a process of its own")
        code = "import os, time; os.setuid(1234); print('x', flush=True); time.sleep(1.5)"
        child = python(
            code, timeout=0.5, grace=0.1, patience=0.1, on_output=lambda *_: os.seteuid(65534)
        )
        try:
            end = child.run()
        finally:
            os.seteuid(0)

        assert end.timed_out
        assert not end.is_gone
        assert not child.is_gone()
        assert wait_until(child.is_gone)


class TestWhatItGets:
    def test_signals_are_as_they_are_for_a_program_that_a_person_starts(self):
        code = (
            "import signal, subprocess, sys\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "from backup.child_run import ChildRun\n"
            "for one in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1):\n"
            "    signal.signal(one, signal.SIG_IGN)\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])\n"
            "end = ChildRun(['/bin/grep', '^Sig[BI]', '/proc/self/status']).run()\n"
            "print(end.out.decode())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parents[2])],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]

    def test_our_own_command_gets_the_environment_but_what_is_the_supervisors(self, monkeypatch):
        _set_environment(monkeypatch)

        found = _environment_of(ChildRun(["/usr/bin/env"]))
        assert {"AUTO_BACKUP_STORE", "CREDENTIALS_DIRECTORY", "PATH"} <= found
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"} & found

    def test_a_foreign_one_gets_what_everybody_may_know(self, monkeypatch):
        _set_environment(monkeypatch)

        found = _environment_of(ChildRun(["/usr/bin/env"], is_foreign=True))
        assert {"PATH", "HOME", "LC_TIME", "TZ"} <= found
        assert found <= {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_TIME", "TZ", "TMPDIR"} | {
            one for one in os.environ if one.startswith("LC_")
        }

    def test_a_foreign_one_has_only_its_streams_open(self):
        listing = ["/bin/ls", "/proc/self/fd"]

        assert ChildRun(listing, is_foreign=True).run().out.split() == [b"0", b"1", b"2", b"3"]


class TestAskedToEnd:
    def test_within_the_time_that_is_left_whatever_it_and_what_it_started_make_of_it(
        self, tmp_path
    ):
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); "
        code = (
            "import os, pathlib, subprocess, sys\n"
            f"one = subprocess.Popen([sys.executable, '-c', {deaf + 'time.sleep(600)'!r}])\n"
            f"{deaf}\n"
            f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(f'{{os.getpid()}} {{one.pid}}')\n"
            "print('x', flush=True)\ntime.sleep(600)"
        )
        asked = []

        def stop(*_):
            asked.append(time.monotonic())
            child.stop(9)
            child.stop(0.5)  # the earliest counts
            child.stop(7)

        child = python(code, on_output=stop)
        end = child.run()

        assert (end.stopped, end.status) == (True, -signal.SIGKILL)
        assert 0.4 < time.monotonic() - asked[0] < 2
        assert all_gone(map(int, _text(tmp_path / "pid").split()))

    def test_one_that_has_time_after_its_timeout_has_no_more_of_it(self):
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        child = python(code, timeout=0.4, grace=60)
        threading.Timer(0.8, child.stop, [0.2]).start()
        began = time.monotonic()

        end = child.run()
        assert (end.timed_out, end.stopped, end.status) == (True, True, -signal.SIGKILL)
        assert time.monotonic() - began < 5

    def test_from_another_thread(self):
        child = python("import time; time.sleep(600)")
        threading.Timer(0.2, child.stop).start()

        end = child.run()

        assert (end.stopped, end.timed_out, end.status) == (True, False, -signal.SIGTERM)

    def test_before_it_began_and_after_it_ended(self):
        child = python("import time; time.sleep(600)")
        child.stop()

        assert child.run().status == -signal.SIGTERM
        child.stop()

    def test_it_does_not_outlive_who_waits_for_it(self, tmp_path):
        code = (
            "import sys\nfrom backup.child_run import ChildRun\n"
            f"ChildRun(['/bin/sh', '-c', 'echo $$ > {tmp_path / 'pid'}; exec sleep 600']).run()"
        )
        with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as one:
            assert wait_until(lambda: (tmp_path / "pid").exists() and _text(tmp_path / "pid"))
            one.kill()

        assert all_gone([int(_text(tmp_path / "pid"))])


def _set_environment(monkeypatch):
    for name in ("AUTO_BACKUP_STORE", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "x")
    for name in ("LISTEN_FDS", "AWS_SECRET_ACCESS_KEY", "LC_TIME", "TZ"):
        monkeypatch.setenv(name, "C")


def _environment_of(child):
    return {line.split("=", 1)[0] for line in child.run().out.decode().splitlines()}


def _text(path):
    return path.read_text().strip()
