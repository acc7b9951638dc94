"""Runs at once: one of each job, any number of jobs, and no snapshot lost between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from cli import run, start
from needs import needs

from backup.errors import LockedError
from backup.listing import list_snapshots
from backup.manager import BackupManager
from backup.restore.manager import RestoreManager
from backup.storage.local import LocalStorage
from tests.checkout import ROOT
from tests.conftest import HOST, NOBODY
from tests.faults import shim
from tests.faults.points import DEEP, served

pytestmark = pytest.mark.timeout(7200 if DEEP else 600)
PLACE = f"{HOST}/job"
HOLDER = """
import sys, time
from pathlib import Path
from backup.storage.local import LocalStorage
with LocalStorage(Path(sys.argv[1])).lock(sys.argv[2]):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(shim.build(tmp_path_factory.mktemp("shim"))) as client:
        yield client


@pytest.fixture
def manager(tree, store, key):
    return BackupManager(tree, store, key, host=HOST, job="job", compression="none")


@pytest.fixture
def holder(store):
    """Start a process that is at work on the job."""
    command = [sys.executable, "-c", HOLDER, str(store), PLACE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


class TestASecondRunOfAJob:
    def test_is_refused(self, manager, store):
        with LocalStorage(store).lock(PLACE), pytest.raises(LockedError) as caught:
            manager.create_snapshot()

        assert (
            str(caught.value) == f"cannot lock '{PLACE}' in {store}: another run is at work there"
        )
        assert "wait until it has ended" in caught.value.hint

    def test_is_told_by_the_command_with_a_status_of_its_own(self, tree, store, key_file):
        with LocalStorage(store).lock(PLACE):
            done = run("--now", "--source", tree, "--store", store, "--job", "job")

        assert done.status == 11
        assert done.out == ""
        assert "another run is at work there" in done.err
        assert "hint: wait until it has ended" in done.err

    def test_does_not_rotate_either(self, manager, store):
        for _ in range(2):
            manager.create_snapshot()

        with LocalStorage(store).lock(PLACE), pytest.raises(LockedError):
            manager._rotate_backups(1)

        assert len(list_snapshots(LocalStorage(store))) == 2
        assert len(manager._rotate_backups(1)) == 1

    def test_goes_on_at_once_when_the_first_is_killed(self, manager, holder):
        with pytest.raises(LockedError):
            manager.create_snapshot()

        holder.kill()
        holder.wait()

        assert manager.create_snapshot()

    def test_is_not_kept_off_by_files_that_look_like_locks(self, manager, store):
        """The kernel's lock is on the directory: no file tells of it, so no pid can be stale."""
        place = store / HOST / "job"
        place.mkdir(parents=True)
        forged = [place / name for name in ("lock", ".lock", "job.pid", "lock.exclusive")]
        for path in forged:
            path.write_text(f"{os.getpid()}\n")

        assert manager.create_snapshot()
        assert all(path.exists() for path in forged)


class TestARunThatRotates:
    def test_does_not_wait_for_itself(self, tree, store, key):
        manager = BackupManager(tree, store, key, host=HOST, job="job", keep=1)

        for _ in range(3):
            path = manager.create_snapshot()

        assert [str(store / one.name) for one in list_snapshots(LocalStorage(store))] == [path]


class TestDifferentJobs:
    def test_are_saved_into_one_store_at_once(self, tree, store, key_file):
        jobs = [f"job-{number}" for number in range(4)]
        options = ("--now", "--source", tree, "--store", store, "--compression", "none")
        runs = [start(*options, "--job", job) for job in jobs]
        ends = [(process.communicate(timeout=60), process.returncode) for process in runs]

        assert [status for _, status in ends] == [0] * len(jobs), ends
        found = RestoreManager(store, key_file.read_text()).list_snapshots()
        assert [one.job for one in found] == jobs
        assert all(not one.damage for one in found)


class TestARunThatIsStopped:
    """A laptop that sleeps, Ctrl-Z: the run stands still, another one comes, the first goes on."""

    def test_at_any_call_no_place_in_the_chain_is_given_twice(self, server, capsys):
        calls = server.calls("next snapshot")
        every = range(1, len(calls) + 1)
        ends = Counter()
        for at in every if DEEP else every[::6]:
            answer = server.ask(workload="next snapshot", action="STOP_BEFORE", at=at)
            assert answer.get("wrong") == [], (at, answer)
            assert answer["end"] == "done"
            second = answer["second"]
            ends[second["error"] or second["end"]] += 1

        with capsys.disabled():
            print(f"\nruns stopped: {ends.total()}; what a second one did: {dict(ends)}")  # noqa: T201
        assert set(ends) == {"LockedError", "done"}


class TestAFileSystemWithoutLocks:
    def test_takes_snapshots_all_the_same(self, server):
        for workload in ("first snapshot", "next snapshot", "snapshot and rotation", "copy"):
            at = 1 + server.calls(workload).index("flock")
            answer = server.ask(
                workload=workload, action="FAIL_ON", error="ENOLCK", at=at, eligible=["flock"]
            )

            assert answer["fired"] == "flock"
            assert (answer["end"], answer["wrong"]) == ("done", [])

    def test_tells_that_there_is_no_lock(self, store, monkeypatch):
        def flock(*_):
            raise OSError(37, "No locks available")

        with LocalStorage(store).lock(PLACE) as alone:
            assert alone is True
        monkeypatch.setattr("fcntl.flock", flock)
        with LocalStorage(store).lock(PLACE) as alone:
            assert alone is False


class TestRootAndAnotherUser:
    @pytest.fixture
    def theirs(self, open_dir):
        """Return a directory of another user; tests are root's."""
        needs(os.geteuid() == 0, "this is not root")
        place = open_dir / "theirs"
        place.mkdir(mode=0o700)
        os.chown(place, NOBODY, NOBODY)
        return place

    @pytest.fixture
    def managers(self, theirs, key):
        """Return what takes snapshots of one source: root's state, and the other user's."""
        source = theirs / "source"
        source.mkdir()
        (source / "file").write_text("content")
        for path in (source, source / "file"):
            os.chown(path, NOBODY, NOBODY)

        def make(job):
            return BackupManager(
                source, theirs / "store", key, host=HOST, job=job, state=theirs / f"state-{job}"
            )

        return make

    def test_what_root_stored_the_owner_of_the_directory_can_use(
        self, theirs, managers, as_nobody, key
    ):
        managers("root").create_snapshot()
        RestoreManager(theirs / "store", key).list_snapshots()  # loads what nobody may not load

        with as_nobody():
            managers("own").create_snapshot()
            managers("root").create_snapshot()
            manager = RestoreManager(theirs / "store", key)
            found = manager.list_snapshots()
            assert [one.job for one in found] == ["own", "root", "root"]
            assert all(manager.validate(one.name).holds for one in found)

        managers("own").create_snapshot()
        owners = {path.stat().st_uid for path in (theirs / "store").rglob("*")}
        assert owners == {NOBODY}

    def test_they_respect_each_others_locks(self, theirs, managers, as_nobody):
        managers("job").create_snapshot()

        with LocalStorage(theirs / "store").lock(PLACE), as_nobody(), pytest.raises(LockedError):
            managers("job").create_snapshot()

    def test_what_is_for_root_alone_is_refused_with_a_reason(
        self, open_dir, theirs, as_nobody, key
    ):
        needs(os.geteuid() == 0, "this is not root")
        (open_dir / "rootly").mkdir(mode=0o700)
        store = open_dir / "rootly" / "store"
        with as_nobody(), pytest.raises(Exception, match="Permission denied") as caught:
            BackupManager(theirs, store, key, state=theirs / "state").create_snapshot()

        assert type(caught.value).__name__ == "StorageError"
        assert "permissions" in caught.value.hint
        shutil.rmtree(store, ignore_errors=True)
