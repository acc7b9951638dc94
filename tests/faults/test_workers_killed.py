"""Workers, nurseries and whole pools that are killed, cannot start, or are stopped."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from backup.errors import WorkerError
from tests.ordinary_user import python_for_all
from tests.pool_work import encode, make_pool, results, take
from tests.processes import nurseries, wait_until, workers

COUNT = 40
QUICK = [(number, "sleep", 0.002) for number in range(COUNT)]
IN_ORDER = list(range(COUNT))
KILLED_TWICE = "killed by SIGKILL, the second one at the same work"


@pytest.fixture
def pool():
    with make_pool(workers=3, slots=8) as pool:
        yield pool


def numbers(pool, jobs=QUICK):
    return [one.number for one in results(pool, jobs)]


def kill(which, number=signal.SIGKILL):
    """Send a signal to some of the processes below this one."""
    for process in which:
        os.kill(process, number)


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def hand_out(pool, jobs):
    """Hand jobs out, and wait until there are three workers."""
    for job in jobs:
        pool.submit(encode(*job))
    assert wait_until(lambda: len(workers(os.getpid())) == 3)


class TestAWorkerThatIsKilled:
    def test_its_job_is_done_by_another_one(self, pool, tmp_path):
        jobs = [*QUICK[:10], (10, "die", str(tmp_path / "once")), *QUICK[11:]]

        assert numbers(pool, jobs) == IN_ORDER

    def test_each_of_many_jobs_may_kill_one(self, pool, tmp_path):
        jobs = [*QUICK]
        for number in (3, 4, 5, 20, 39):
            jobs[number] = (number, "die", str(tmp_path / str(number)))

        assert numbers(pool, jobs) == IN_ORDER

    def test_more_than_can_be_replaced_are_done_without(self, pool, tmp_path):
        jobs = [(number, "die", str(tmp_path / str(number))) for number in range(COUNT)]
        found = list(results(pool, jobs[:10]))
        assert [one.number for one in found] == IN_ORDER[:10]
        kill(workers(os.getpid()))
        assert numbers(pool) == IN_ORDER

    def test_the_same_work_kills_no_third_one(self, pool):
        pool.submit(encode(0, "nothing"))
        pool.submit(encode(1, "die"))
        pool.submit(encode(2, "nothing"))

        assert take(pool).number == 0
        with pytest.raises(WorkerError, match=KILLED_TWICE) as caught:
            pool.next()
        assert "fewer --workers" in caught.value.hint

    def test_one_that_ends_by_itself_is_told_by_its_status(self, pool):
        pool.submit(encode(0, "exit", 7))

        with pytest.raises(WorkerError, match="ended with status 7, the second one"):
            pool.next()

    def test_jobs_that_only_waited_behind_others_are_not_suspected(self, tmp_path):
        with make_pool(workers=1 + 1, slots=8) as pool:
            jobs = [(number, "die", str(tmp_path / str(number))) for number in range(6)]
            jobs.append((6, "nothing"))

            assert numbers(pool, jobs) == list(range(7))

    def test_what_it_had_answered_counts(self, pool):
        hand_out(pool, QUICK[:8])
        wait_until(lambda: False, 0.1)  # all of them have been done by now
        kill(workers(os.getpid()))
        found = [take(pool) for _ in range(8)]

        assert [one.number for one in found] == IN_ORDER[:8]


class TestManyAtOnce:
    @pytest.mark.parametrize("which", [workers, nurseries], ids=["all workers", "the nursery"])
    @pytest.mark.parametrize("when", ["before the first result", "later", "while it is busy"])
    def test_all_jobs_are_done(self, pool, which, when):
        jobs = [(number, "sleep", 0.2 if when == "while it is busy" else 0) for number in range(8)]
        done = []
        if when == "later":
            done = numbers(pool, QUICK[:5])
        hand_out(pool, jobs)
        kill(which(os.getpid()))

        assert done + [take(pool).number for _ in jobs] == [*range(len(done)), *range(8)]
        assert numbers(pool) == IN_ORDER

    def test_a_nursery_and_its_workers(self, pool):
        hand_out(pool, QUICK[:8])
        kill([*nurseries(os.getpid()), *workers(os.getpid())])

        assert [take(pool).number for _ in range(8)] == IN_ORDER[:8]


class TestStopped:
    def test_a_worker_holds_the_results_behind_its_own_until_it_goes_on(self, pool, tmp_path):
        hand_out(pool, [(0, "wait_for", str(tmp_path / "go")), *QUICK[1:8]])
        before = workers(os.getpid())
        kill(before, signal.SIGSTOP)
        (tmp_path / "go").touch()
        if not os.fork():
            wait_until(lambda: False, 0.3)
            kill(before, signal.SIGCONT)
            os._exit(0)

        assert [take(pool).number for _ in range(8)] == IN_ORDER[:8]
        os.wait()
        assert workers(os.getpid()) == before

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_signals_that_the_terminal_sends_to_all_are_for_the_program(self, pool, number):
        hand_out(pool, QUICK[:8])
        before = [*nurseries(os.getpid()), *workers(os.getpid())]
        kill(before, number)

        assert [take(pool).number for _ in range(8)] == IN_ORDER[:8]
        assert [*nurseries(os.getpid()), *workers(os.getpid())] == before


@contextmanager
def limit(kind, value):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


class TestWhereNoProcessCanBeStarted:
    """This process does all of it: slower, and just as well."""

    def alone(self, **size):
        with make_pool(**size) as pool:
            found = list(results(pool, QUICK))
        assert [one.number for one in found] == IN_ORDER
        return {one.process for one in found} == {os.getpid()}

    def test_as_there_is_no_python(self, monkeypatch):
        monkeypatch.setattr(sys, "frozen", True, raising=False)

        assert self.alone()

    def test_as_python_is_no_program(self, monkeypatch, tmp_path):
        broken = tmp_path / "python3"
        broken.write_bytes(b"\x7fELF, nearly")
        broken.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(broken))

        assert self.alone()

    def test_as_python_ends_at_once(self, monkeypatch, tmp_path):
        (tmp_path / "python3").symlink_to("/bin/false")
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))

        assert self.alone()

    def test_as_its_modules_are_not_found(self, monkeypatch):
        monkeypatch.setattr(sys, "path", [])

        assert self.alone()

    @pytest.mark.parametrize("limited", [0, 100_000])
    def test_as_no_file_may_be_that_large(self, limited):
        with limit(resource.RLIMIT_FSIZE, limited):
            assert self.alone()

    def test_as_no_file_may_be_opened(self):
        with limit(resource.RLIMIT_NOFILE, open_files()):
            assert self.alone()

    @pytest.mark.parametrize("more", range(1, 14))
    def test_as_few_files_may_be_opened(self, more):
        with limit(resource.RLIMIT_NOFILE, open_files() + more):
            self.alone()

    def test_as_there_is_no_room_for_addresses(self):
        status = Path("/proc/self/status").read_text()
        kilobytes = int(status.partition("VmSize:")[2].split()[0])
        with make_pool(slots=4096) as pool:
            with limit(resource.RLIMIT_AS, (kilobytes + 60_000) * 1024):
                pool.submit(encode(0, "nothing"))
            assert take(pool).process == os.getpid()

    @pytest.mark.parametrize("more", [0, 1, 2, 3])
    def test_as_a_user_may_have_few_of_them(self, more):
        """One of them is the nursery; it does with the workers that it can start."""
        python, env = python_for_all()
        user = 100_000 + os.getpid()
        done = subprocess.run(
            [python, "-B", "-c", FEW_PROCESSES, str(1 + more)],
            env=env,
            user=user,
            group=user,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{IN_ORDER} {max(more - 1, 0)}\n"


FEW_PROCESSES = """
import os, resource, sys
from tests.pool_work import make_pool, results
resource.setrlimit(resource.RLIMIT_NPROC, (int(sys.argv[1]),) * 2)
with make_pool(workers=3, slots=8) as pool:
    found = list(results(pool, [(number, "sleep", 0.01) for number in range(40)]))
print([one.number for one in found], len({one.process for one in found} - {os.getpid()}))
"""
