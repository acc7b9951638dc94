"""Runs with workers, of which some process is killed, stopped or interrupted at any moment."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backup.restore.manager import RestoreManager
from tests.cli import done, start
from tests.lister import listing
from tests.processes import (
    Watch,
    all_gone,
    children,
    descendants,
    is_alive,
    nurseries,
    wait_until,
    workers,
)

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MOMENTS = 100 if DEEP else 2
KILLS = 20 if DEEP else 1
LONGEST = 5
INTERRUPTED = 130
pytestmark = [pytest.mark.timeout(3600 if DEEP else 300), pytest.mark.usefixtures("key_file")]


@pytest.fixture(scope="module")
def much(tmp_path_factory):
    """Return a directory of more than 100 MiB, which takes a moment to save."""
    top, chance = tmp_path_factory.mktemp("much"), random.Random(1)
    for number in range(150):
        (top / f"{number:03}").write_bytes(chance.randbytes(chance.randrange(200_000)))
    for number in range(3):
        (top / f"large-{number}").write_bytes(chance.randbytes(31_000_000))
    return top


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Return a directory of as much as several workers are worth."""
    top, chance = tmp_path_factory.mktemp("some"), random.Random(2)
    for number in range(300):
        (top / f"{number:03}").write_bytes(chance.randbytes(chance.randrange(20_000)))
    (top / "another-name").hardlink_to(top / "007")
    (top / "large").write_bytes(chance.randbytes(42_000_000))
    return top


@pytest.fixture
def options(some, store):
    return arguments(some, store)


def arguments(much, store):
    return ["backup", "--workers", "2", "--source", much, "--store", store, "--compression", "zstd"]


@pytest.fixture
def check(some, store, key, tmp_path):
    """Return a function that looks at the store: so many snapshots, each whole, nothing else."""

    def look(count, source=some):
        manager = RestoreManager(store, key)
        names = [one.name for one in manager.list_snapshots()]
        assert len(names) == count
        assert {str(path.relative_to(store)) for path in store.rglob("*.enc")} == set(names)
        assert not list(store.rglob("*.partial"))
        for name in names[-1:]:
            assert manager.validate(name).holds
            out = tmp_path / f"out-{time.monotonic_ns()}"
            manager.restore(name, out)
            assert listing(out / str(source).lstrip("/")) == listing(source)

    return look


def has_worked(worker):
    """Tell whether a worker has used some processor time, which it does for its jobs alone."""
    with suppress(OSError):
        fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12]) > 1
    return True  # it has come and gone


def at_work(process):
    """Wait until both workers of a run have begun with their work."""
    found = wait_until(lambda: len(workers(process.pid)) == 2 and workers(process.pid))
    assert found
    wait_until(lambda: all(map(has_worked, found)), 1)
    return found


def kill(processes, number=signal.SIGKILL):
    """Send a signal to all of them; return how many were still there."""
    found = 0
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)
            found += 1
    return found


def finish(process):
    """Wait for the end of a run; return its status and what it said."""
    _, err = process.communicate(timeout=120)
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    return process.returncode, err.decode()


class TestKilledOnce:
    @pytest.mark.parametrize("moment", range(KILLS))
    @pytest.mark.parametrize("which", ["a worker", "all workers", "the nursery"])
    def test_the_run_goes_on(self, which, moment, options, check):
        hit = count = 0
        while not hit:  # a run may be too quick
            count += 1
            with start(*options) as process:
                found = at_work(process)
                time.sleep(random.Random(moment + count).random() * 0.1)
                below = {"a worker": found[:1], "the nursery": nurseries(process.pid)}
                hit = kill(below.get(which, found))
                assert finish(process) == (0, "")

        check(count)

    def test_a_worker_that_is_stopped_for_a_while_delays_it(self, options, check):
        with start(*options) as process:
            found = at_work(process)
            kill(found[:1], signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                wait_for(process, 1.5)
            kill(found[:1], signal.SIGCONT)
            assert finish(process) == (0, "")

        check(1)


def wait_for(process, seconds):
    if not wait_until(lambda: process.poll() is not None, seconds):
        raise TimeoutError


class TestKilledAgainAndAgain:
    def test_the_run_ends_with_what_to_do_and_nothing_is_listed(self, options, store, key, check):
        done(*options)
        with start(*options) as process:
            while process.poll() is None:
                kill(one for one in workers(process.pid) if is_alive(one) and has_worked(one))
            status, err = finish(process)

        assert status == 1
        assert "a worker process was killed by SIGKILL, the second one at the same work" in err
        assert "hint: if the machine ran out of memory, use fewer --workers" in err
        assert len(RestoreManager(store, key).list_snapshots()) == 1
        done(*options)
        check(2)


class TestTheRunItselfIsKilled:
    def test_its_processes_end_with_it_and_the_next_run_is_as_any(self, much, store, check):
        options = arguments(much, store)
        for _ in range(KILLS):
            with start(*options) as process:
                below = [*at_work(process), *nurseries(process.pid)]
                process.kill()
            assert len(below) == 3
            assert all_gone(below, 2)

        done(*options)
        check(1, much)


class TestInterrupted:
    @pytest.mark.parametrize("to_all", [False, True], ids=["the process", "all of the terminal"])
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_at_any_moment_it_ends_soon_and_leaves_nothing(self, number, to_all, much, store, key):
        options = arguments(much, store)
        chance, statuses = random.Random(int(number)), []
        for _ in range(MOMENTS):
            with start(*options, start_new_session=True) as process, Watch(process.pid) as watch:
                assert wait_until(lambda p=process: children(p.pid))
                time.sleep(chance.random() * 0.3)
                sent = time.monotonic()
                os.killpg(process.pid, number) if to_all else process.send_signal(number)
                status, err = finish(process)
                assert time.monotonic() - sent < LONGEST
            assert status in {0, INTERRUPTED}
            assert status == 0 or "no unfinished snapshot is left" in err
            assert all_gone(watch.workers | watch.nurseries, 1)
            assert not list(store.rglob("*.partial"))
            statuses.append(status)

        assert INTERRUPTED in statuses
        snapshots = RestoreManager(store, key).list_snapshots() if store.exists() else []
        assert len(snapshots) == statuses.count(0)
        assert sum(1 for _ in store.rglob("*.enc")) == statuses.count(0)

    def test_the_next_run_is_as_any(self, much, store, check):
        options = arguments(much, store)
        with start(*options) as process:
            at_work(process)
            process.send_signal(signal.SIGINT)
            assert finish(process)[0] == INTERRUPTED

        done(*options)
        check(1, much)


class TestWithoutWorkers:
    def test_a_run_that_may_not_make_such_memory_does_it_alone(self, some, store, check):
        """Each of the slots in the memory that is shared takes 31 MiB."""
        many = ["--workers", "8", "--compression", "none"]
        command = ["backup", "--source", some, "--store", store, *many]
        limited = start(*command, preexec_fn=allow_a_store_and_no_more)
        with limited as process, Watch(process.pid) as watch:
            assert finish(process) == (0, "")

        assert not watch.nurseries
        check(1)

    def test_one_worker_starts_no_process(self, some, store):
        command = ["backup", "--workers", "1", "--source", some, "--store", store]
        with start(*command, "--compression", "none") as process, Watch(process.pid) as watch:
            assert finish(process) == (0, "")
            assert not descendants(process.pid)

        assert not watch.nurseries


def allow_a_store_and_no_more():
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000_000, 150_000_000))
