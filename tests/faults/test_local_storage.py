"""What a local storage does when the machine lets it down."""

from __future__ import annotations

import errno
import io
import os
import resource
import stat
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backup.clock import system_clock
from backup.errors import StorageError
from backup.storage.local import LocalStorage

CHILD = """
import sys, time
from pathlib import Path
from backup.storage.local import LocalStorage

writer = LocalStorage(Path(sys.argv[1])).create("host/a.enc")
writer.write(bytes(3_000_000))
if sys.argv[2] == "sealed":
    writer.seal()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def storage(root):
    return LocalStorage(root)


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


class FailingSync:
    """Syncs as it should, until the given call."""

    def __init__(self, *, fail_at, only=lambda _: True):
        self.calls = 0
        self._fail_at = fail_at
        self._only = only

    def __call__(self, descriptor):
        if self._only(os.fstat(descriptor).st_mode):
            self.calls += 1
            if self.calls >= self._fail_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(descriptor)


@contextmanager
def writing_child(root, stage="open"):
    command = [sys.executable, "-c", CHILD, str(root), stage]
    project = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout.readline() == b"ready\n"
            yield child
        finally:
            child.kill()


def in_hours(hours):
    return system_clock() + timedelta(hours=hours)


def store(storage, name, content=b"content", **options):
    return storage.upload(name, io.BytesIO(content), **options)


def descriptors():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def files_in(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


class TestAFullDisk:
    def test_an_upload_fails_with_a_hint_and_leaves_nothing(self, small_disk):
        storage = LocalStorage(small_disk)

        with pytest.raises(StorageError) as caught:
            store(storage, "a.enc", bytes(2 << 20))

        reason = f"cannot store 'a.enc' in {small_disk}: No space left on device"
        assert str(caught.value) == reason
        assert "free some space" in caught.value.hint
        assert files_in(small_disk) == []

    def test_what_was_stored_before_stays(self, small_disk):
        storage = LocalStorage(small_disk)
        store(storage, "a.enc", b"old")

        with pytest.raises(StorageError):
            store(storage, "a.enc", bytes(2 << 20), replace=True)

        assert storage.read("a.enc") == b"old"
        assert files_in(small_disk) == ["a.enc"]

    def test_a_file_that_grows_too_large_leaves_nothing(self, storage, root):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StorageError, match="File too large"):
                store(storage, "a.enc", bytes(200_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert files_in(root) == []


class TestSyncing:
    def test_the_file_is_synced_before_it_has_its_name_and_the_name_afterwards(self, root):
        root.mkdir()
        steps = []

        def sync(descriptor):
            is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            steps.append(("directory" if is_directory else "file", (root / "a.enc").exists()))

        store(LocalStorage(root, sync=sync), "a.enc")

        assert steps == [("file", False), ("directory", True)]


class TestASyncThatFails:
    def test_after_it_nothing_counts(self, root):
        storage = LocalStorage(root, sync=FailingSync(fail_at=1, only=stat.S_ISREG))
        writer = storage.create("a.enc")
        writer.write(b"content")

        with pytest.raises(StorageError, match="Input/output error"):
            writer.seal()
        with pytest.raises(StorageError, match="aborted"):
            writer.commit()

        assert files_in(root) == []

    def test_whichever_it_is_a_new_file_is_stored_or_nothing_is(self, tmp_path):
        probe = FailingSync(fail_at=1000)
        store(LocalStorage(tmp_path / "store", sync=probe), "x/y/a.enc")

        for fail_at in range(1, probe.calls + 1):
            root = tmp_path / str(fail_at) / "store"
            root.parent.mkdir()
            storage = LocalStorage(root, sync=FailingSync(fail_at=fail_at))

            with pytest.raises(StorageError, match="Input/output error"):
                store(storage, "x/y/a.enc")

            assert files_in(root) == []

    def test_a_directory_that_is_not_durable_is_not_left(self, root):
        storage = LocalStorage(root, sync=FailingSync(fail_at=3))

        with pytest.raises(StorageError):
            storage.create("x/y/a.enc")

        assert (root / "x").is_dir()
        assert not (root / "x" / "y").exists()

    def test_a_replacement_that_is_not_durable_leaves_the_old_file(self, root):
        store(LocalStorage(root), "a.enc", b"old")
        storage = LocalStorage(root, sync=FailingSync(fail_at=1))

        with pytest.raises(StorageError):
            store(storage, "a.enc", b"new", replace=True)

        assert storage.read("a.enc") == b"old"
        assert files_in(root) == ["a.enc"]

    def test_a_directory_that_cannot_be_synced_at_all_is_accepted(self, root):
        def sync(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            os.fsync(descriptor)

        store(LocalStorage(root, sync=sync), "x/a.enc")

        assert files_in(root) == ["x/a.enc"]

    def test_a_deletion_that_is_not_durable_fails_until_it_is(self, root):
        store(LocalStorage(root), "a.enc")
        failing = LocalStorage(root, sync=FailingSync(fail_at=1))

        for _ in range(2):
            with pytest.raises(StorageError, match=r"cannot delete 'a\.enc'"):
                failing.delete("a.enc")

        LocalStorage(root).delete("a.enc")


class TestAMediumThatLies:
    @pytest.mark.parametrize("damage", [lambda file: os.pwrite(file, b"X", 1_500_000), None])
    def test_bytes_that_come_back_different_are_not_stored(self, root, damage):
        def sync(descriptor):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                (damage or (lambda file: os.truncate(file, 1_999_999)))(descriptor)
            os.fsync(descriptor)

        with pytest.raises(StorageError, match="did not return what was written"):
            store(LocalStorage(root, sync=sync), "a.enc", bytes(2_000_000))

        assert files_in(root) == []


class TestAWriterThatIsKilled:
    @pytest.mark.parametrize("stage", ["open", "sealed"])
    def test_it_leaves_a_partial_file_that_is_cleared_once_it_is_dead(self, storage, root, stage):
        with writing_child(root, stage) as child:
            while_alive = storage.clear_partials()
            (partial,) = files_in(root)
            child.kill()
            child.wait()

            assert while_alive == []
            assert list(storage.list_files()) == []
            assert storage.clear_partials() == [partial]
            assert files_in(root) == []

    def test_the_writer_of_the_same_name_is_not_in_its_way(self, storage, root):
        with writing_child(root):
            store(storage, "host/a.enc", b"mine")

            assert storage.clear_partials() == []
            assert storage.read("host/a.enc") == b"mine"

    def test_its_partial_file_is_kept_while_it_is_young(self, root):
        with writing_child(root) as child:
            child.kill()
            child.wait()

        later = LocalStorage(root, clock=lambda: system_clock() + timedelta(hours=2))
        assert LocalStorage(root).clear_partials(older_than_seconds=3600) == []
        assert len(later.clear_partials(older_than_seconds=3600)) == 1

    def test_only_files_named_like_partial_ones_are_cleared(self, storage, root):
        store(storage, "a.partial")
        for name in (
            ".a.partial",
            ".a.0123456.partial",
            ".a.0123abcd.partial2",
            ". .0123abcd.partial",
        ):
            (root / name).touch()
        before = files_in(root)

        assert storage.clear_partials() == []
        assert files_in(root) == before


class TestForeignThings:
    def test_a_link_in_the_place_of_a_file_is_not_followed(self, storage, root, tmp_path):
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        root.mkdir()
        (root / "a.enc").symlink_to(secret)

        assert list(storage.list_files()) == []
        assert storage.stat("a.enc") is None
        with pytest.raises(StorageError, match="symbolic links"):
            storage.read("a.enc")
        with pytest.raises(StorageError, match="the name is taken"):
            store(storage, "a.enc")
        assert secret.read_bytes() == b"secret"

    def test_replacing_or_deleting_a_link_leaves_what_it_points_to(self, storage, root, tmp_path):
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        root.mkdir()
        (root / "a.enc").symlink_to(secret)
        (root / "b.enc").symlink_to(secret)

        store(storage, "a.enc", b"new", replace=True)
        storage.delete("b.enc")

        assert secret.read_bytes() == b"secret"
        assert storage.read("a.enc") == b"new"
        assert files_in(root) == ["a.enc"]

    def test_a_link_in_the_place_of_a_directory_is_not_followed(self, storage, root, tmp_path):
        outside = LocalStorage(tmp_path / "outside")
        store(outside, "a.enc", b"outside")
        root.mkdir()
        (root / "host").symlink_to(tmp_path / "outside")

        with pytest.raises(StorageError, match="Not a directory"):
            store(storage, "host/b.enc")
        storage.delete("host/a.enc")

        assert list(storage.list_files()) == []
        assert storage.stat("host/a.enc") is None
        assert outside.read("a.enc") == b"outside"

    def test_the_storage_itself_may_be_behind_a_link(self, root, tmp_path):
        (tmp_path / "disk").mkdir()
        root.symlink_to(tmp_path / "disk")

        store(LocalStorage(root), "a.enc")

        assert files_in(tmp_path / "disk") == ["a.enc"]

    def test_a_pipe_in_the_place_of_a_file_stops_nobody(self, storage, root):
        root.mkdir()
        os.mkfifo(root / "a.enc")
        os.mkfifo(root / ".a.enc.01234567.partial")

        with pytest.raises(StorageError, match="not a regular file"):
            storage.read("a.enc")
        assert storage.clear_partials() == []
        assert list(storage.list_files()) == []

    def test_a_listing_leaves_out_what_is_not_ours(self, storage, root):
        store(storage, "a.enc")
        for name in ("with space", ".hidden", ".a.enc.01234567.partial", os.fsdecode(b"\xff")):
            (root / name).touch()
        (root / ".git").mkdir()
        (root / ".git" / "config").touch()
        (root / "lost+found").mkdir()
        (root / "lost+found" / "b.enc").touch()
        (root / "directory.enc").mkdir()

        assert [file.name for file in storage.list_files()] == ["a.enc"]


class TestRights:
    def test_files_and_directories_are_for_their_owner_only(self, storage, root):
        store(storage, "host/a.enc")

        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
        assert modes == {root: 0o700, root / "host": 0o700, storage.path_of("host/a.enc"): 0o600}

    def test_a_directory_that_may_not_be_written_to_gives_a_hint(self, storage, root):
        root.mkdir(mode=0o500)
        if os.access(root, os.W_OK):
            pytest.skip("root may write everywhere")

        with pytest.raises(StorageError, match="Permission denied") as caught:
            store(storage, "a.enc")

        assert "permissions" in caught.value.hint

    def test_a_file_where_the_directory_should_be_is_told(self, storage, root):
        root.touch()

        with pytest.raises(StorageError, match="Not a directory"):
            store(storage, "a.enc")


class TestAFileSystemWithoutHardLinks:
    @pytest.fixture(autouse=True)
    def no_links(self, monkeypatch):
        def link(*_, **__):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", link)
        # To a kernel that does not know a flag, as to a file system that does not.
        monkeypatch.setattr("backup.storage.local_writer._NO_REPLACE", 1 << 20)

    def test_files_are_stored_by_renaming(self, storage, root):
        store(storage, "a.enc", b"content")

        assert storage.read("a.enc") == b"content"
        assert files_in(root) == ["a.enc"]

    @pytest.mark.timeout(20)
    def test_a_run_that_has_locked_its_directory_does_not_wait_for_itself(self, storage):
        with storage.lock("host/job"):
            store(storage, "host/job/a.enc", b"content")

        assert storage.read("host/job/a.enc") == b"content"

    def test_a_name_that_is_taken_meanwhile_is_refused(self, storage, root):
        with storage.create("a.enc") as writer:
            store(storage, "a.enc", b"first")
            with pytest.raises(StorageError, match="the name is taken"):
                writer.commit()

        assert storage.read("a.enc") == b"first"
        assert files_in(root) == ["a.enc"]

    @pytest.mark.timeout(20)
    def test_a_run_that_holds_the_lock_of_its_job_does_not_wait_for_itself(self, storage, root):
        with storage.lock("host/job"):
            store(storage, "host/job/a.enc", b"content")

        assert files_in(root) == ["host/job/a.enc"]


class TestAFileSystemThatRenamesOverFiles:
    """Network file systems, mostly: a name is given by a second link."""

    def test_a_name_that_is_taken_meanwhile_is_refused(self, storage, root, monkeypatch):
        monkeypatch.setattr("backup.storage.local_writer._NO_REPLACE", 1 << 20)
        with storage.create("a.enc") as writer:
            store(storage, "a.enc", b"first")
            with pytest.raises(StorageError, match="the name is taken"):
                writer.commit()

        assert storage.read("a.enc") == b"first"
        assert files_in(root) == ["a.enc"]


class TestAFileSystemWithoutLocks:
    @pytest.fixture(autouse=True)
    def no_locks(self, monkeypatch):
        def flock(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", flock)

    def test_a_partial_file_stays_for_a_day(self, root):
        with writing_child(root) as child:
            child.kill()
            child.wait()

        for hours, expected in ((23, 0), (25, 1)):
            later = LocalStorage(root, clock=lambda hours=hours: in_hours(hours))
            assert len(later.clear_partials()) == expected
        assert files_in(root) == []


class TestDescriptors:
    def test_none_stays_open(self, storage):
        before = descriptors()

        store(storage, "x/a.enc", bytes(2_000_000))
        with pytest.raises(StorageError):
            store(storage, "x/a.enc")
        with storage.create("x/b.enc") as writer:
            writer.write(b"content")
        storage.read("x/a.enc")
        storage.stat("x/a.enc")
        list(storage.list_files())
        next(storage.list_files())
        storage.clear_partials()
        storage.delete("x/a.enc")

        assert descriptors() == before
