"""Whatever happens, a pool that has been closed leaves no process and no open file."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backup.errors import SourceError
from tests.checkout import ROOT
from tests.cli import environment
from tests.pool_work import encode, make_pool, results
from tests.processes import all_gone, descendants, nurseries, wait_until, workers

QUICKLY = 1.5
"""Seconds; it takes some hundredths on a machine that has nothing else to do."""

POOLS = 20


def open_files():
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def at_work(pool, count=2):
    """Wait until a pool has so many workers, and return all processes of it."""
    assert wait_until(lambda: len(workers(os.getpid())) == count)
    return descendants(os.getpid())


def busy_pool(seconds=60, **size):
    pool = make_pool(**size)
    for number in range(4):
        pool.submit(encode(number, "sleep", seconds))
    return pool


def wait_in_a_pool(seen):
    with busy_pool() as pool:
        seen.extend(at_work(pool))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        pool.next()


class TestClosing:
    def test_many_pools_leave_nothing(self):
        list(results(make_pool(), []))
        before = open_files()
        for _ in range(POOLS):
            with make_pool() as pool:
                assert len(list(results(pool, [(0, "nothing"), (1, "give", 900)]))) == 2

        assert open_files() == before
        assert descendants(os.getpid()) == []

    def test_it_does_not_wait_for_what_is_being_done(self):
        pool = busy_pool()
        processes = at_work(pool)

        began = time.monotonic()
        pool.close()

        assert time.monotonic() - began < QUICKLY
        assert len(processes) == 3
        assert all_gone(processes, 0.5)

    def test_right_after_the_start_it_is_as_quick(self):
        pool = busy_pool()
        began = time.monotonic()
        pool.close()

        assert time.monotonic() - began < QUICKLY
        assert descendants(os.getpid()) == []

    def test_a_second_time_it_does_nothing(self):
        pool = busy_pool()
        at_work(pool)
        pool.close()
        before = open_files()
        pool.close()
        pool.close()

        assert open_files() == before
        assert pool.pending == 0

    def test_without_any_job_there_is_nothing_to_close(self):
        before = open_files()
        with make_pool():
            pass
        assert open_files() == before

    @pytest.mark.parametrize("error", [SourceError, KeyboardInterrupt, SystemExit])
    def test_an_exception_within_ends_it_too(self, error):
        before = open_files()
        seen = []

        def fail():
            with busy_pool() as pool:
                seen.extend(at_work(pool))
                raise error("now")

        with pytest.raises(error):
            fail()
        assert all_gone(seen, 0.5)
        assert open_files() == before

    def test_ctrl_c_while_it_waits_for_a_result_ends_it_too(self):
        seen = []
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                wait_in_a_pool(seen)
        finally:
            signal.signal(signal.SIGALRM, before)

        assert len(seen) == 3
        assert all_gone(seen, 0.5)

    @pytest.mark.parametrize("which", [workers, nurseries])
    def test_stopped_processes_are_ended_too(self, which):
        pool = busy_pool()
        processes = at_work(pool)
        for process in which(os.getpid()):
            os.kill(process, signal.SIGSTOP)

        pool.close()

        assert all_gone(processes)

    def test_a_process_that_the_program_forked_meanwhile_does_not_delay_it(self):
        pool = busy_pool()
        processes = at_work(pool)
        child = os.fork()
        if not child:
            time.sleep(20)
            os._exit(0)
        try:
            began = time.monotonic()
            pool.close()
            assert time.monotonic() - began < QUICKLY
            assert all_gone(processes, 0.5)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_results_that_are_still_held_stay_what_they_are(self):
        with make_pool() as pool:
            pool.submit(encode(0, "give", 50_000, 3))
            _, body = pool.next()

        assert body == b"\3" * 50_000


class TestPatience:
    def test_what_has_begun_may_be_finished(self, tmp_path):
        pool = make_pool()
        for number in range(2):
            pool.submit(encode(number, "make_later", 0.3, str(tmp_path / str(number))))
        at_work(pool)
        pool.close(patience=10)

        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]

    def test_it_has_an_end_however_many_workers_there_are(self):
        pool = busy_pool(workers=4, slots=6)
        processes = at_work(pool, 4)

        began = time.monotonic()
        pool.close(patience=0.4)

        assert 0.4 <= time.monotonic() - began < 0.4 + QUICKLY
        assert all_gone(processes, 0.5)


class TestWhatAWorkerHolds:
    def test_no_file_of_the_program_and_no_other_workers_socket(self, tmp_path):
        ours, theirs = socket.socketpair()
        with (tmp_path / "of the program").open("w") as file, ours, theirs:
            os.set_inheritable(file.fileno(), True)
            with make_pool(workers=3) as pool:
                told = list(results(pool, [(number, "open_files") for number in range(12)]))

        for one in told:
            held = one.body.decode().splitlines()
            assert not [name for name in held if "of the program" in name]
            assert len([name for name in held if name.startswith("socket:")]) == 1
            assert len([name for name in held if "memfd" in name]) <= 2

    def test_workers_leave_no_core_files(self):
        with make_pool() as pool:
            list(results(pool, [(0, "nothing")]))
            pool.submit(encode(1, "sleep", 60))
            for process in at_work(pool):
                limits = Path(f"/proc/{process}/limits").read_text()
                assert "Max core file size        0 " in limits


KILLED = """
import os, signal, sys
from tests.pool_work import encode, make_pool
pool = make_pool()
pool.submit(encode(0, "sleep", 60))
print("ready", flush=True)
sys.stdin.read()
"""

BROKEN_PIPE = """
import os, signal
from tests.pool_work import encode, make_pool, results
from tests.processes import nurseries, workers, wait_until
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
with make_pool() as pool:
    list(results(pool, [(0, "nothing")]))
    wait_until(lambda: len(workers(os.getpid())) == 2)
    for process in (*nurseries(os.getpid()), *workers(os.getpid())):
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: not workers(os.getpid()))
    print([one.number for one in results(pool, [(n, "nothing") for n in range(9)])])
"""


def test_all_die_with_the_process_that_started_them():
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        assert wait_until(lambda: len(workers(process.pid)) == 2)
        below = descendants(process.pid)
        process.kill()
        process.wait()

    assert len(below) == 3
    assert all_gone(below)


def test_a_program_that_dies_of_broken_pipes_does_not_die_of_a_killed_worker():
    command = [sys.executable, "-c", BROKEN_PIPE]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{list(range(9))}\n"
