"""What every storage promises, tried on each of them."""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from backup.clock import system_clock
from backup.errors import (
    ConfigError,
    InvalidArgumentError,
    LimitError,
    LockedError,
    SnapshotNotFoundError,
    StorageError,
)
from backup.storage import BaseStorage, ProofStrength, check_name, open_storage
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage

BACKENDS: dict[str, Callable[[Path], BaseStorage]] = {
    "local": lambda directory: LocalStorage(directory / "store"),
    "memory": lambda _: MemoryStorage(),
}

BAD_NAMES = [
    "",
    ".",
    "..",
    "/a",
    "a/",
    "a//b",
    "a/../b",
    "../a",
    ".hidden",
    "a/.hidden",
    "a b",
    "a\n",
    "a\0b",
    "a\\b",
    "a:b",
    "é",
    "x" * 201,
]


@pytest.fixture(params=sorted(BACKENDS))
def storage(request, tmp_path):
    with BACKENDS[request.param](tmp_path) as opened:
        yield opened


def store(storage, name, content=b"content", **options):
    return storage.upload(name, io.BytesIO(content), **options)


def names(storage, prefix=""):
    return [file.name for file in storage.list_files(prefix)]


class BrokenPipe(io.BytesIO):
    """Gives one block, then breaks."""

    def read(self, size=-1, /):
        if self.tell():
            raise BrokenPipeError(32, "Broken pipe")
        self.seek(1)
        return b"first block"


class FullTarget(io.BytesIO):
    def write(self, data, /):
        raise OSError(28, "No space left on device")


class ShortTarget(io.BytesIO):
    def write(self, data, /):
        return super().write(bytes(data)[:3])


class TestEveryStorage:
    def test_uploaded_bytes_come_back(self, storage):
        store(storage, "a.enc", b"some bytes")

        target = io.BytesIO()
        storage.download("a.enc", target)

        assert target.getvalue() == b"some bytes"
        assert storage.read("a.enc") == b"some bytes"

    def test_an_empty_file_is_a_file(self, storage):
        store(storage, "empty", b"")

        target = io.BytesIO()
        storage.download("empty", target)

        assert target.getvalue() == b""
        assert storage.stat("empty").size == 0
        assert storage.read_range("empty", 0, 10) == b""

    def test_a_big_upload_in_odd_sized_writes_comes_back(self, storage):
        source = random.Random(1)
        content = source.randbytes(20 << 20)

        offset = 0
        with storage.create("big") as writer:
            while offset < len(content):
                size = source.choice([1, 7, 4097, 100_003, 262_144, 1_048_577])
                offset += writer.write(content[offset : offset + size])
            receipt = writer.seal()
            writer.commit()

        assert receipt.size == len(content)
        assert receipt.sha256 == hashlib.sha256(content).digest()
        target = io.BytesIO()
        storage.download("big", target)
        assert target.getvalue() == content

    def test_any_buffer_can_be_written_and_changed_afterwards(self, storage):
        buffer = bytearray(b"x" * 500_000)

        with storage.create("a") as writer:
            assert writer.write(buffer) == 500_000
            buffer[:] = b"y" * 500_000
            assert writer.write(memoryview(buffer)[:3]) == 3
            buffer.clear()
            writer.commit()

        assert storage.read("a") == b"x" * 500_000 + b"yyy"

    def test_the_receipt_tells_size_digest_and_proof(self, storage):
        receipt = store(storage, "a", b"some bytes")

        assert receipt.size == 10
        assert receipt.sha256 == hashlib.sha256(b"some bytes").digest()
        assert receipt.strength in ProofStrength

    def test_sealing_twice_gives_the_same_receipt(self, storage):
        with storage.create("a") as writer:
            writer.write(b"content")

            assert writer.seal() is writer.seal()

    def test_an_upload_that_breaks_off_leaves_nothing_behind(self, storage):
        with pytest.raises(StorageError, match="source cannot be read"):
            storage.upload("a", BrokenPipe())

        assert names(storage) == []
        assert storage.clear_partials() == []

    def test_an_upload_that_breaks_off_leaves_the_old_content(self, storage):
        store(storage, "a", b"old")

        with pytest.raises(StorageError):
            storage.upload("a", BrokenPipe(), replace=True)

        assert storage.read("a") == b"old"

    def test_nothing_is_visible_before_commit(self, storage):
        with storage.create("a") as writer:
            writer.write(b"content")

            assert names(storage) == []
            assert storage.stat("a") is None
            with pytest.raises(SnapshotNotFoundError):
                storage.read("a")

    def test_a_sealed_writer_is_not_visible(self, storage):
        with storage.create("a") as writer:
            writer.write(b"content")
            writer.seal()

            assert names(storage) == []
            assert storage.stat("a") is None

    def test_a_side_file_can_be_stored_between_seal_and_commit(self, storage):
        with storage.create("a.enc") as writer:
            writer.write(b"content")
            receipt = writer.seal()
            store(storage, "a.sha256", receipt.sha256)
            writer.commit()

        assert names(storage) == ["a.enc", "a.sha256"]

    def test_what_is_sealed_can_be_read_before_it_is_visible(self, storage):
        content = bytes(range(256)) * 300
        with storage.create("a") as writer:
            writer.write(content)
            writer.seal()

            assert writer.read_range(0, len(content) + 5) == content
            assert writer.read_range(1000, 7) == content[1000:1007]
            writer.commit()

        assert storage.read("a") == content

    @pytest.mark.parametrize("end", [None, "commit", "abort"])
    def test_nothing_else_is_read_through_a_writer(self, storage, end):
        with storage.create("a") as writer:
            writer.write(b"content")
            if end is not None:
                getattr(writer, end)()
            with pytest.raises(StorageError):
                writer.read_range(0, 1)

    def test_leaving_without_commit_leaves_nothing(self, storage):
        with storage.create("a") as writer:
            writer.write(b"content")

        assert names(storage) == []
        assert storage.clear_partials() == []

    def test_aborting_after_seal_leaves_nothing(self, storage):
        writer = storage.create("a")
        writer.write(b"content")
        writer.seal()

        writer.abort()
        writer.abort()

        assert names(storage) == []
        assert storage.clear_partials() == []

    def test_aborting_after_commit_changes_nothing(self, storage):
        writer = storage.create("a")
        writer.write(b"content")
        writer.commit()

        writer.abort()

        assert storage.read("a") == b"content"

    @pytest.mark.parametrize("end", ["seal", "commit", "abort"])
    def test_nothing_can_be_written_after_the_end(self, storage, end):
        with storage.create("a") as writer:
            getattr(writer, end)()

            with pytest.raises(StorageError, match="cannot store 'a' in"):
                writer.write(b"more")

    def test_an_aborted_writer_can_neither_seal_nor_commit(self, storage):
        writer = storage.create("a")
        writer.abort()

        with pytest.raises(StorageError):
            writer.seal()
        with pytest.raises(StorageError):
            writer.commit()
        assert names(storage) == []

    def test_a_writer_commits_once(self, storage):
        with storage.create("a") as writer:
            writer.commit()

            with pytest.raises(StorageError, match="committed"):
                writer.commit()

        assert names(storage) == ["a"]

    def test_a_taken_name_is_refused_early_and_the_old_content_stays(self, storage):
        store(storage, "a", b"old")

        with pytest.raises(StorageError, match="the name is taken"):
            storage.create("a")

        assert storage.read("a") == b"old"
        assert storage.clear_partials() == []

    def test_a_file_is_replaced_when_asked(self, storage):
        store(storage, "a", b"old and longer")

        store(storage, "a", b"new", replace=True)

        assert storage.read("a") == b"new"
        assert names(storage) == ["a"]

    def test_the_old_content_is_there_until_the_new_one_is_committed(self, storage):
        store(storage, "a", b"old")

        with storage.create("a", replace=True) as writer:
            writer.write(b"new")
            writer.seal()
            before = storage.read("a")
            writer.commit()

        assert before == b"old"
        assert storage.read("a") == b"new"

    def test_replacing_what_is_absent_creates_it(self, storage):
        store(storage, "a", b"new", replace=True)

        assert storage.read("a") == b"new"

    def test_of_two_writers_of_one_name_the_second_is_refused(self, storage):
        first, second = storage.create("a"), storage.create("a")
        first.write(b"first")
        second.write(b"second")

        first.commit()
        with pytest.raises(StorageError, match="the name is taken"):
            second.commit()

        assert storage.read("a") == b"first"
        assert names(storage) == ["a"]
        assert storage.clear_partials() == []

    @pytest.mark.parametrize(
        ("offset", "length", "expected"),
        [
            (0, 10, b"0123456789"),
            (0, 0, b""),
            (3, 4, b"3456"),
            (9, 1, b"9"),
            (8, 5, b"89"),
            (10, 1, b""),
            (99, 5, b""),
            (0, 1 << 60, b"0123456789"),
        ],
    )
    def test_ranges_end_where_the_file_ends(self, storage, offset, length, expected):
        store(storage, "a", b"0123456789")

        assert storage.read_range("a", offset, length) == expected

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
    def test_negative_ranges_are_refused(self, storage, offset, length):
        store(storage, "a")

        with pytest.raises(InvalidArgumentError):
            storage.read_range("a", offset, length)

    @pytest.mark.parametrize("name", ["absent", "a/absent", "absent/b", "a/b/c"])
    def test_what_is_absent_is_said_to_be_absent(self, storage, name):
        store(storage, "a/b")

        assert storage.stat(name) is None
        with pytest.raises(SnapshotNotFoundError, match=name):
            storage.read_range(name, 0, 1)
        with pytest.raises(SnapshotNotFoundError):
            storage.download(name, io.BytesIO())

    def test_reading_stops_at_the_limit(self, storage):
        store(storage, "a", b"0123456789")

        assert storage.read("a", limit=10) == b"0123456789"
        with pytest.raises(LimitError):
            storage.read("a", limit=9)

    def test_a_download_that_cannot_be_written_fails(self, storage):
        store(storage, "a")

        with pytest.raises(StorageError, match=r"cannot copy 'a' .* No space left"):
            storage.download("a", FullTarget())
        with pytest.raises(StorageError, match="took 3 of 7 bytes"):
            storage.download("a", ShortTarget())

    def test_a_deleted_file_is_gone(self, storage):
        store(storage, "a")
        store(storage, "b")

        storage.delete("a")

        assert names(storage) == ["b"]
        assert storage.stat("a") is None
        with pytest.raises(SnapshotNotFoundError):
            storage.read("a")

    def test_deleting_twice_is_the_same_as_deleting_once(self, storage):
        store(storage, "a/b")

        storage.delete("a/b")
        storage.delete("a/b")
        storage.delete("never/was")

        assert names(storage) == []

    def test_a_deleted_name_can_be_used_again(self, storage):
        store(storage, "a", b"old")
        storage.delete("a")

        store(storage, "a", b"new")

        assert storage.read("a") == b"new"

    def test_a_storage_that_was_never_written_to_is_empty(self, storage):
        assert names(storage) == []
        assert storage.stat("a") is None
        assert storage.clear_partials() == []
        storage.delete("a")

    def test_listings_are_sorted_by_whole_names(self, storage):
        stored = ["a0", "a/b", "a-b", "a.b", "B", "a/b-c", "ab/c", "a/c/d", "a/c.d", "+", "@"]
        for name in stored:
            store(storage, name)

        assert names(storage) == sorted(stored)

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["a/b/c", "a/bc", "a2", "b"]),
            ("a", ["a/b/c", "a/bc", "a2"]),
            ("a/", ["a/b/c", "a/bc"]),
            ("a/b", ["a/b/c", "a/bc"]),
            ("a/b/", ["a/b/c"]),
            ("a/b/c", ["a/b/c"]),
            ("a/b/c/", []),
            ("c", []),
            ("../", []),
        ],
    )
    def test_a_prefix_is_the_beginning_of_a_name(self, storage, prefix, expected):
        for name in ("b", "a2", "a/bc", "a/b/c"):
            store(storage, name)

        assert names(storage, prefix) == expected

    def test_a_listed_file_is_described_as_it_is(self, storage):
        before = system_clock() - timedelta(seconds=2)

        store(storage, "a/b.enc", b"1234")

        (file,) = storage.list_files()
        assert (file.name, file.size) == ("a/b.enc", 4)
        assert file.modified.tzinfo is UTC
        assert before <= file.modified <= system_clock() + timedelta(seconds=2)
        assert storage.stat("a/b.enc") == file

    def test_backups_are_listed_oldest_first_and_nothing_else(self, storage):
        for name in ("z.enc", "b.txt", "a.enc", "host/m.enc"):
            store(storage, name)
            time.sleep(0.02)

        assert [file.name for file in storage.list_backups()] == ["z.enc", "a.enc", "host/m.enc"]
        assert [file.name for file in storage.list_backups("host/")] == ["host/m.enc"]

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_names_that_could_mean_something_else_are_refused(self, storage, name):
        for use in (
            storage.create,
            storage.stat,
            storage.delete,
            storage.read,
            lambda name: storage.read_range(name, 0, 1),
            lambda name: storage.upload(name, io.BytesIO()),
        ):
            with pytest.raises(InvalidArgumentError):
                use(name)

        assert names(storage) == []

    def test_the_longest_name_can_be_stored(self, storage):
        name = "/".join("x" * 200 for _ in range(3))

        store(storage, name)

        assert names(storage) == [name]

    def test_what_is_locked_cannot_be_locked_again_until_it_is_free(self, storage):
        with storage.lock("host/job"), pytest.raises(LockedError, match="another run"):
            storage.lock("host/job").__enter__()
        with storage.lock("host/job"), storage.lock("host/other"):
            pass

    def test_a_lock_is_free_again_after_an_error(self, storage):
        with pytest.raises(ZeroDivisionError), storage.lock("host/job"):
            raise ZeroDivisionError
        with storage.lock("host/job"):
            assert list(storage.list_files()) == []

    def test_errors_say_what_failed_on_what(self, storage):
        store(storage, "a.enc")

        with pytest.raises(StorageError) as caught:
            store(storage, "a.enc")

        assert str(caught.value) == f"cannot store 'a.enc' in {storage}: the name is taken"
        assert caught.value.hint


class TestNames:
    @pytest.mark.parametrize("name", ["a", "a/b.c", "_", "-", "a..b", "2025+01@x_y-z.tar.xz.enc"])
    def test_a_good_name_is_returned(self, name):
        assert check_name(name) == name


class TestOpenStorage:
    @pytest.mark.parametrize("name", ["plain", "with space", "100%", "a?b#c", "a:b", "ü", "\udcff"])
    def test_a_path_and_its_url_open_the_same_directory(self, tmp_path, name):
        directory = tmp_path / name
        store(open_storage(directory), "a", b"1")

        assert open_storage(str(directory)).read("a") == b"1"
        assert open_storage(directory.as_uri()).read("a") == b"1"
        assert open_storage(open_storage(directory).url).read("a") == b"1"

    def test_a_relative_path_does_not_move_with_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        storage = open_storage("here")

        monkeypatch.chdir("/")
        store(storage, "a")

        assert (tmp_path / "here" / "a").exists()

    def test_an_unknown_scheme_is_refused_with_those_that_exist(self):
        with pytest.raises(ConfigError, match="gopher://") as caught:
            open_storage("gopher://host/path")

        assert "file://" in caught.value.hint

    @pytest.mark.parametrize("url", ["", "file://host/path", "file://", "a\0b", "file:///a%00b"])
    def test_what_names_no_directory_is_refused(self, url):
        with pytest.raises(ConfigError):
            open_storage(url)

    def test_a_backend_is_imported_when_it_is_needed(self):
        code = "import sys, backup.storage; print('backup.storage.local' in sys.modules)"
        root = Path(__file__).parents[2]

        run = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, check=True
        )

        assert run.stdout == b"False\n"
