"""Large files of a local storage: written and read back past the page cache, in blocks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import resource
import shutil
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import StorageError
from backup.storage.appending import FileAppender
from backup.storage.local import LocalStorage

MIB = 2**20
NAME = "host/job/large.enc"
DATA = os.urandom(MIB) * 80
"""More than what is written through the cache, and more than one stretch of reading back."""


def blocks_of(data, length=3 * MIB + 7):
    for at in range(0, len(data), length):
        yield data[at : at + length]


def store(storage, data=DATA):
    with storage.create(NAME) as sink:
        for block in blocks_of(data):
            sink.write(block)
        receipt = sink.seal()
        sink.commit()
    return receipt


def files_below(root):
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture(params=["disk", "memory"])
def root(request, tmp_path):
    """A directory on a disk, and one on tmpfs, whose kernels differ in what they let by."""
    if request.param == "disk":
        return tmp_path / "store"
    memory = Path("/dev/shm")  # noqa: S108 - a file system of another kind
    if not os.access(memory, os.W_OK):
        pytest.skip("there is no /dev/shm")
    return memory / f"auto-backup-test-{os.getpid()}"


@pytest.fixture
def clean(root):
    yield root
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if root.exists():
        root.rmdir()


def test_every_byte_is_there(clean):
    receipt = store(LocalStorage(clean))

    assert receipt.size == len(DATA)
    assert receipt.sha256 == hashlib.sha256(DATA).digest()
    assert (clean / NAME).read_bytes() == DATA


@pytest.mark.parametrize(
    "length", [16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 20 * MIB, 20 * MIB + 4095]
)
def test_files_of_all_lengths_around_the_border(tmp_path, length):
    store(LocalStorage(tmp_path), DATA[:length])

    assert (tmp_path / NAME).read_bytes() == DATA[:length]


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 6 * MIB), max_size=12))
def test_blocks_of_any_length_give_the_same_file(tmp_path_factory, lengths):
    path = tmp_path_factory.mktemp("any") / "file"
    data = DATA[: 15 * MIB + 1] + b"".join(DATA[:length] for length in lengths)
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    appender = FileAppender(file)
    try:
        appender.write(data[: 15 * MIB + 1])
        for length in lengths:
            room = bytearray(DATA[:length])
            appender.write(memoryview(room))
            room[:] = bytes(length)  # it may change after the return
        digest = appender.digest()
    finally:
        appender.close()
        os.close(file)

    assert digest == hashlib.sha256(data).digest()
    assert path.read_bytes() == data
    path.unlink()


def test_what_is_written_past_the_cache_is_not_in_it(tmp_path):
    store(LocalStorage(tmp_path))
    resident = cached_pages(tmp_path / NAME)

    assert resident is None or resident < len(DATA) // 4096 // 2


def cached_pages(path):
    """How many pages of a file are in the page cache, where ``fincore`` can tell."""
    if shutil.which("fincore") is None:
        return None
    told = subprocess.run(
        ["fincore", "--noheadings", "--output", "PAGES", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return int(told.stdout) if told.returncode == 0 else None


class TestFileSystemsThatCannot:
    def test_one_that_refuses_the_flag(self, tmp_path, monkeypatch):
        real = fcntl.fcntl

        def refusing(file, command, flags=0):
            if command == fcntl.F_SETFL and flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real(file, command, flags)

        monkeypatch.setattr(fcntl, "fcntl", refusing)
        store(LocalStorage(tmp_path))

        assert (tmp_path / NAME).read_bytes() == DATA

    def test_one_that_takes_the_flag_and_refuses_to_write_so(self, tmp_path, monkeypatch):
        real = os.write

        def refusing(file, data):
            if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real(file, data)

        monkeypatch.setattr(os, "write", refusing)
        store(LocalStorage(tmp_path))

        assert (tmp_path / NAME).read_bytes() == DATA

    def test_one_that_refuses_to_read_so(self, tmp_path, monkeypatch):
        real = os.preadv

        def refusing(file, buffers, offset):
            if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return real(file, buffers, offset)

        monkeypatch.setattr(os, "preadv", refusing)
        receipt = store(LocalStorage(tmp_path))

        assert receipt.sha256 == hashlib.sha256(DATA).digest()

    def test_one_that_writes_less_than_it_was_asked_for(self, tmp_path, monkeypatch):
        real = os.write
        monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:100_001]))
        store(LocalStorage(tmp_path))

        assert (tmp_path / NAME).read_bytes() == DATA


class TestTrouble:
    @contextmanager
    def largest_file(self, size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    @pytest.mark.parametrize("room", [10 * MIB, 16 * MIB, 30 * MIB, 30 * MIB + 5000, len(DATA) - 1])
    def test_a_file_that_may_not_grow_any_more_leaves_nothing(self, tmp_path, room):
        with self.largest_file(room), pytest.raises(StorageError, match="large"):
            store(LocalStorage(tmp_path))

        assert files_below(tmp_path) == []

    @pytest.mark.parametrize("nth", [1, 2])
    def test_a_sync_that_fails_on_the_way_leaves_nothing(self, tmp_path, nth):
        syncs = []

        def sync(file):
            if os.fstat(file).st_size > 16 * MIB:
                syncs.append(file)
                if len(syncs) == nth:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            os.fsync(file)

        with pytest.raises(StorageError, match="Input/output error"):
            store(LocalStorage(tmp_path, sync=sync))

        assert files_below(tmp_path) == []

    @pytest.mark.parametrize("at", [0, 16 * MIB, 40 * MIB, len(DATA) - 1])
    def test_a_byte_that_the_medium_changes_is_found(self, tmp_path, at):
        def sync(file):
            os.fsync(file)
            if os.fstat(file).st_size > max(at, MIB):
                self.flip(file, at)

        with pytest.raises(StorageError, match="did not return what was written"):
            store(LocalStorage(tmp_path, sync=sync))

        assert files_below(tmp_path) == []

    def flip(self, file, at):
        with open(f"/proc/self/fd/{file}", "r+b", buffering=0) as other:  # noqa: PTH123
            other.seek(at)
            byte = DATA[at]
            other.write(bytes([byte ^ 1]))
            os.fsync(other.fileno())

    def test_a_file_that_somebody_makes_longer_is_refused(self, tmp_path):
        with LocalStorage(tmp_path).create(NAME) as sink:
            for block in blocks_of(DATA):
                sink.write(block)
            (partial,) = files_below(tmp_path)
            os.truncate(partial, len(DATA) + 1)
            with pytest.raises(StorageError, match="did not return"):
                sink.seal()

    def test_an_interrupted_writer_leaves_no_thread(self, tmp_path):
        before = threading.active_count()
        with suppress(KeyboardInterrupt), LocalStorage(tmp_path).create(NAME) as sink:
            for block in blocks_of(DATA):
                sink.write(block)
            raise KeyboardInterrupt

        assert threading.active_count() == before
        assert files_below(tmp_path) == []
