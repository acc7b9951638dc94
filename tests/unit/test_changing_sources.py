"""Attributes, holes and odd files that change while they are saved: whole, or told."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from backup.locating import locate
from backup.manager import BackupManager, take_snapshot
from backup.model import ArchiveType
from backup.restore.manager import RestoreManager
from backup.snapshot.content import fill_holes, read_content
from backup.storage.memory import MemoryStorage
from backup.verification import verify_snapshot
from tests.needs import needs

SMALL_CAP = 32 * 1024
IS_ROOT = os.geteuid() == 0
PROC = Path("/proc/sys/kernel/ostype")


class Calls:
    """Does something before or after a call of the system about one file."""

    def __init__(self, monkeypatch):
        self.count = 0
        self._waiting = []
        for name in ("pread", "lseek", "fstat", "listxattr", "getxattr"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def at(self, path, when, nth, action):
        """Do ``action`` ``when`` ("before", "after") the ``nth`` call about ``path``."""
        self._waiting.append([path.stat().st_ino, when, nth, action])

    def _watched(self, call):
        real_fstat = os.fstat

        def watched(given, *arguments, **options):
            inode = real_fstat(given).st_ino if isinstance(given, int) else _inode(given)
            due = []
            for one in list(self._waiting):
                if one[0] == inode:
                    self.count += 1
                    one[2] -= 1
                    if one[2] == 0:
                        self._waiting.remove(one)
                        due.append(one)
            for _, when, _, action in due:
                if when == "before":
                    action()
            try:
                return call(given, *arguments, **options)
            finally:
                for _, when, _, action in due:
                    if when == "after":
                        action()

        return watched


def _inode(path):
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


@pytest.fixture
def take(source, make_request):
    """Return a function that saves the source and returns what was told, and what is there."""
    storage = MemoryStorage()

    def taken(*sources, cap=SMALL_CAP):
        request = make_request(*(sources or (source,)), cap=cap, archive=ArchiveType.TAR_ZST)
        report = take_snapshot(request, storage)
        located = locate(storage, report.name)
        proof = verify_snapshot(located, request.identities)
        assert proof.holds, proof.errors
        reader = located.open(request.identities)
        return report, {
            os.fsdecode(entry.path.rpartition(b"/")[2]): (
                entry,
                b"".join(fill_holes(entry, read_content(reader, entry))) if entry.digest else None,
            )
            for entry in reader.entries()
        }

    return taken


def make_sparse(path, size=1024 * 1024, *, pieces=3, length=4096):
    with path.open("wb") as file:
        for number in range(pieces):
            file.seek(number * size // pieces + 65_536)
            file.write(os.urandom(length))
        file.truncate(size)
    status = path.stat()
    needs(status.st_blocks * 512 < status.st_size, "a file system with sparse files in TMPDIR")


def fill_a_hole(path):
    with path.open("r+b") as file:
        file.write(os.urandom(4096))


def punch(path):
    """Make a hole where data was, and cover the tracks."""
    status = path.stat()
    keep_size, punch_hole = 1, 2
    with path.open("r+b") as file:
        data = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        _fallocate(file.fileno(), keep_size | punch_hole, data, 4096)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _fallocate(descriptor, mode, offset, length):
    import ctypes  # noqa: PLC0415 - Python has no such call

    call = ctypes.CDLL(None, use_errno=True).fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    needs(call(descriptor, mode, offset, length) == 0, "a file system that punches holes")


def rewrite_whole(path):
    path.write_bytes(os.urandom(3000))


def shrink(path):
    os.truncate(path, 70_000)


def empty(path):
    os.truncate(path, 0)


def grow_by_a_hole(path):
    os.truncate(path, path.stat().st_size * 2)


def replace_by_sparse(path):
    make_sparse(path.with_name("other"))
    path.with_name("other").rename(path)


def replace_by_device(path):
    path.unlink()
    os.mknod(path, 0o020600, os.makedev(4, 64))


def remove(path):
    path.unlink()


CHANGES = [
    fill_a_hole, punch, rewrite_whole, shrink, empty, grow_by_a_hole, replace_by_sparse, remove,
    *([replace_by_device] if IS_ROOT else []),
]  # fmt: skip


class TestSparseFilesThatChange:
    @pytest.mark.parametrize("length", [4096, 40_000], ids=["in one frame", "in several"])
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("change", CHANGES)
    def test_at_any_call_the_content_is_one_that_was_there_or_it_is_told(  # noqa: PLR0917 - fixtures
        self, source, calls, take, change, when, length
    ):
        victim = source / "victim"
        for nth in range(1, 40):
            make_sparse(victim, length=length)
            contents = {_account(victim)}
            calls.at(victim, when, nth, partial(_change, change, victim, contents))
            report, found = take(cap=SMALL_CAP if length == 4096 else 60_000)

            entry, content = found.get("victim", (None, None))
            if entry is None or entry.error or entry.type != "file":
                assert report.problems or entry.type != "file"
            else:
                assert (entry.size, content) in contents
            for path in source.iterdir():
                path.unlink()
            if len(contents) == 1:
                calls._waiting.clear()
                assert nth > 5  # the file's last call has been passed
                return

    def test_a_hole_that_is_filled_after_the_walk_is_saved(self, source, calls, take):
        (source / "a").write_text("read first")
        make_sparse(source / "b", length=100)
        calls.at(source / "a", "after", 3, lambda: fill_a_hole(source / "b"))

        report, found = take()

        assert report.problems == ()
        assert found["b"][1] == (source / "b").read_bytes()

    def test_one_that_gets_too_much_data_for_its_frame_is_told(self, source, calls, take):
        (source / "a").write_text("read first")
        make_sparse(source / "b", length=100)

        def fill():
            with (source / "b").open("r+b") as file:
                file.write(os.urandom(50_000))

        calls.at(source / "a", "after", 3, fill)
        report, found = take()

        (problem,) = report.problems
        assert problem.reason == found["b"][0].error == "grew beyond its frame after it was listed"
        assert found["b"][1] is None


def _change(change, path, contents):
    change(path)
    contents.add(_account(path))


def _account(path):
    """Return size and content of a file as it is."""
    if not path.is_file():
        return -1, b""
    return path.stat().st_size, path.read_bytes()


class TestAttributesThatChange:
    @pytest.fixture
    def victim(self, source):
        path = source / "victim"
        path.write_text("content")
        try:
            os.setxattr(path, "user.a", b"1")
        except OSError:
            needs(False, "user.* attributes in TMPDIR")
        return path

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_at_any_call_they_are_those_of_one_moment(self, victim, calls, take, when):
        for nth in range(1, 40):
            os.setxattr(victim, "user.a", b"1")
            calls.at(victim, when, nth, partial(os.setxattr, victim, "user.a", b"2"))
            report, found = take()
            done = os.getxattr(victim, "user.a") == b"2"

            entry, content = found["victim"]
            assert content == b"content"
            assert report.problems == ()
            assert entry.xattrs in {((b"user.a", b"1"),), ((b"user.a", b"2"),)}
            if entry.xattrs == ((b"user.a", b"1"),):
                # Then the change came after all: a later run sees it by the change time.
                assert not done or entry.ctime_ns < victim.stat().st_ctime_ns or entry.racy
            if not done:
                assert nth > 4
                return

    def test_those_that_do_not_rest_are_told(self, victim, calls, take):
        values = iter(range(100))
        for nth in range(1, 60):
            calls.at(
                victim, "after", nth, lambda: os.setxattr(victim, "user.a", b"%d" % next(values))
            )
            calls.at(victim, "after", nth, lambda: os.utime(victim, ns=(0, next(values))))

        report, found = take()

        assert [problem.reason for problem in report.problems] == ["changed while it was read"]
        assert found["victim"][1] == b"content"

    def test_many_that_come_after_the_walk_have_their_place_or_are_told(self, source, calls, take):
        for name in "abcdefgh":
            (source / name).write_bytes(bytes(3000))

        def dress():
            for name in "bcdefgh":
                for number in range(3):
                    os.setxattr(source / name, f"user.{number}", os.urandom(900))

        calls.at(source / "a", "after", 3, dress)
        report, found = take()

        assert all(len(content) == 3000 for entry, content in found.values() if entry.size == 3000)
        assert sum(len(entry.xattrs) == 3 for entry, _ in found.values()) >= 1
        told = {problem.path.rpartition(b"/")[2].decode() for problem in report.problems}
        assert told == {name for name, (entry, _) in found.items() if entry.error}


class TestFilesWhoseSizeSaysNothing:
    @pytest.fixture(autouse=True)
    def proc(self):
        needs(PROC.exists(), "/proc")

    def test_what_can_be_read_of_proc_is_saved(self, take):
        report, found = take(PROC)

        assert report.problems == ()
        assert found["ostype"][1] == b"Linux\n"
        assert found["ostype"][0].size == 6

    def test_a_larger_size_than_there_is_does_no_harm(self, take):
        path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
        needs(path.exists(), "/sys")

        report, found = take(path)

        assert path.stat().st_size == 4096
        assert report.problems == ()
        assert found["enabled"][1] == path.read_bytes()

    def test_what_is_another_thing_each_time_is_told(self, take):
        report, found = take(Path("/proc/sys/kernel/random/uuid"))

        assert [problem.reason for problem in report.problems] == ["changed while it was read"]
        assert len(found["uuid"][1]) == 37

    def test_what_would_wait_for_ever_does_not(self, take):
        path = Path("/proc/kmsg")
        needs(path.exists() and IS_ROOT, "/proc/kmsg, and root")

        report, found = take(path)

        assert report.problems or found["kmsg"][1] is not None

    def test_an_endless_one_is_cut_and_told(self, take, source):
        path = Path("/proc/kallsyms")
        needs(path.exists() and len(path.read_bytes()) > 2 * SMALL_CAP, "/proc/kallsyms")

        report, found = take(path)

        assert [problem.reason for problem in report.problems] == ["changed while it was read"]
        assert len(found["kallsyms"][1]) < SMALL_CAP

    def test_it_comes_back_with_its_own_length(self, store, key, tmp_path):
        BackupManager(PROC, store, key).create_snapshot()
        RestoreManager(store, key).restore("latest", tmp_path / "out")

        assert (tmp_path / "out" / str(PROC)[1:]).read_bytes() == b"Linux\n"


class TestFilesThatAreClosedMeanwhile:
    def test_what_may_no_longer_be_read_is_told(self, open_dir, key, as_nobody, calls):
        with as_nobody():
            source = open_dir / "source"
            source.mkdir()
            for name in ("a", "b", "c"):
                (source / name).write_text(name)
            calls.at(source / "a", "after", 3, lambda: (source / "b").chmod(0))
            manager = BackupManager(source, open_dir / "store", key, state=open_dir / "state")
            manager.create_snapshot()

        assert [one.reason for one in manager.last_report.problems] == ["Permission denied"]
        assert manager.last_report.counts.bytes == 2
