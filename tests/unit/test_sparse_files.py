"""Sparse files: holes cost nothing, and come back."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tarfile
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup import recover
from backup.errors import DigestError
from backup.locating import locate
from backup.manager import BackupManager
from backup.manager.fitting import fit_entry
from backup.model import Entry, EntryType
from backup.restore.manager import RestoreManager
from backup.snapshot.content import fill_holes, place_runs, read_content
from backup.snapshot.recipients import FernetKey
from backup.sources.sparse import MOST_RUNS, merge_runs, read_map, read_stored
from backup.sources.tree import walk
from tests.cli import done
from tests.lister import listing
from tests.needs import needs

MIB = 1024 * 1024
GIB = 1024 * MIB


def make(path, size, *runs):
    """Make a file of ``size`` bytes with data at ``runs``, (offset, bytes)."""
    with path.open("wb") as file:
        for at, data in runs:
            file.seek(at)
            file.write(data)
        file.truncate(size)


@st.composite
def run_lists(draw, least_gap=1):
    """Runs of data in order, and a size that holds them."""
    runs, at = [], 0
    pairs = st.tuples(st.integers(least_gap, 50), st.integers(1, 50))
    for number, (gap, length) in enumerate(draw(st.lists(pairs, max_size=12))):
        at += gap if number or draw(st.booleans()) else 0
        runs.append((at, length))
        at += length
    return tuple(runs), at + draw(st.integers(0, 20))


@pytest.fixture
def sparse_tree(source):
    """Return a directory with sparse files of every shape."""
    make(source / "hole", 100 * GIB)
    make(source / "both ends", 3 * MIB, (MIB, b"a" * 5000), (2 * MIB, os.urandom(70_000)))
    make(source / "tail", 3 * MIB, (3 * MIB - 100, b"z" * 100))
    make(source / "head", 3 * MIB, (0, b"z" * 100))
    make(source / ("ä" * 100), MIB, (500_000, b"q"))
    make(source / os.fsdecode(b"\xff no utf-8"), MIB, (500_000, b"q"))
    make(source / "large", 100 * GIB, (50 * GIB, os.urandom(9 * MIB)), (100 * GIB - 5, b"tail!"))
    (source / "dense").write_bytes(bytes(100_000))
    (source / "another name").hardlink_to(source / "tail")
    status = (source / "tail").stat()
    needs(status.st_blocks * 512 < status.st_size, "a file system with sparse files in TMPDIR")
    return source


@pytest.fixture
def saved(sparse_tree, store, key):
    manager = BackupManager(sparse_tree, store, key, compression="gzip")
    manager.create_snapshot()
    assert manager.last_report.problems == ()
    return manager


def opened(saved, store, key):
    manager = RestoreManager(store, key)
    return locate(manager.storage, saved.last_report.name).open([FernetKey.parse(key)])


class TestJoiningRuns:
    @given(given=run_lists(), most=st.integers(1, 8))
    def test_the_smallest_holes_go_and_all_data_stays(self, given, most):
        runs, _ = given

        merged = merge_runs(runs, most)

        data = {byte for at, length in merged for byte in range(at, at + length)}
        assert data >= {byte for at, length in runs for byte in range(at, at + length)}
        assert len(merged) == min(most, len(runs))
        assert all(sum(one) < other[0] for one, other in pairwise(merged))
        holes = sorted((other[0] - sum(one) for one, other in pairwise(runs)), reverse=True)
        kept = [other[0] - sum(one) for one, other in pairwise(merged)]
        assert sorted(kept, reverse=True) == holes[: most - 1]

    @given(given=run_lists(least_gap=0), most=st.integers(1, 20))
    def test_runs_that_touch_are_one(self, given, most):
        merged = merge_runs(given[0], most)

        assert all(sum(one) < other[0] for one, other in pairwise(merged))

    def test_a_small_frame_has_room_for_few(self):
        runs = tuple((place * 1000, 10) for place in range(4000))
        entry = Entry(path=b"f", type=EntryType.FILE, size=4_000_000, data=runs)

        assert len(fit_entry(entry, 28_672)[0].data) == 112
        assert fit_entry(entry, 8 * MIB) == (entry, "")


class TestPlaces:
    @given(given=run_lists(), cuts=st.lists(st.integers(0, 300), max_size=5))
    def test_a_content_is_put_together_again_from_its_runs(self, given, cuts):
        runs, size = given
        content = bytearray(size)
        for at, length in runs:
            content[at : at + length] = bytes((at + n) % 255 + 1 for n in range(length))
        stored = b"".join(bytes(content[at : at + length]) for at, length in runs)
        edges = [0, *sorted(min(cut, len(stored)) for cut in cuts), len(stored)]
        pieces = [memoryview(stored)[one:other] for one, other in pairwise(edges)]
        entry = Entry(path=b"f", type=EntryType.FILE, size=size, data=runs)

        assert b"".join(fill_holes(entry, pieces)) == content
        assert (
            b"".join(
                recover.with_holes({"path": b"f", "size": size, "data": runs}, map(bytes, pieces))
            )
            == content
        )

    def test_more_bytes_than_runs_are_refused(self):
        with pytest.raises(DigestError, match="more bytes"):
            list(place_runs([(5, 2)], [b"abc"]))

    @given(given=run_lists(), start=st.integers(0, 300), length=st.integers(0, 300))
    def test_any_range_of_the_joined_runs_is_read(self, tmp_path_factory, given, start, length):
        runs, size = given
        path = tmp_path_factory.getbasetemp() / "joined"
        content = bytes(n % 255 + 1 for n in range(size))
        path.write_bytes(content)
        stored = b"".join(content[at : at + length] for at, length in runs)

        with path.open("rb") as file:
            found = read_stored(file.fileno(), runs, start, length)

        assert found == stored[start : start + length]


class TestReadingTheMap:
    @pytest.mark.parametrize(
        ("size", "places", "expected"),
        [
            (MIB, [], ()),
            (MIB, [0], ((0, 4096),)),
            (MIB, [MIB - 4096], ((MIB - 4096, 4096),)),
            (MIB, [8192, 65_536], ((8192, 4096), (65_536, 4096))),
            (4096, [0], None),
            (0, [], None),
        ],
    )
    def test_it_tells_the_data(self, source, size, places, expected):
        make(source / "f", size, *((at, b"x" * 4096) for at in places))

        (_, entry) = walk([os.fsencode(source)])

        assert entry.data == expected

    def test_files_without_holes_are_not_opened_for_it(self, source, monkeypatch):
        for number in range(5):
            (source / str(number)).write_bytes(bytes(10_000 * number))
        calls = []
        monkeypatch.setattr(os, "lseek", lambda *given: calls.append(given))

        assert [entry.data for entry in walk([os.fsencode(source)])] == [None] * 6
        assert calls == []

    def test_a_file_of_very_many_runs_tells_4096(self, source, store, key, tmp_path):
        with (source / "f").open("wb") as file:
            for number in range(5000):
                file.seek(number * 8192)
                file.write(b"%d" % number)
        manager = BackupManager(source, store, key, compression="zstd")
        manager.create_snapshot()

        entry = next(entry for entry in opened(manager, store, key).entries() if entry.size)
        RestoreManager(store, key).restore("latest", tmp_path / "out")
        back = tmp_path / "out" / str(source)[1:] / "f"
        assert len(entry.data) == MOST_RUNS
        assert back.read_bytes() == (source / "f").read_bytes()

    def test_a_file_of_endless_runs_counts_as_data_from_some_place_on(self, source, monkeypatch):
        (source / "f").touch()
        answers = {os.SEEK_DATA: lambda at: at + 1, os.SEEK_HOLE: lambda at: at + 1}
        monkeypatch.setattr(os, "lseek", lambda _, at, whence: answers[whence](at))

        runs = read_map(-1, 2**60)

        assert len(runs) == MOST_RUNS
        assert sum(runs[-1]) == 2**60

    def test_a_file_system_that_cannot_tell_gives_no_map(self, monkeypatch):
        def refuse(*given):
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "lseek", refuse)

        assert read_map(-1, MIB) is None

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
    def test_a_file_system_that_knows_no_holes_is_saved_and_restored_to(
        self, source, store, key, tmp_path
    ):
        mount = ["mount", "-t", "ramfs", "ramfs", str(source)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("cannot mount a ramfs")
        try:
            make(source / "f", MIB, (500_000, b"data"))
            expected = (source / "f").read_bytes()
            BackupManager(source, store, key).create_snapshot()
            (source / "out").mkdir()
            RestoreManager(store, key).restore("latest", source / "out")
            assert (source / "out" / str(source)[1:] / "f").read_bytes() == expected
        finally:
            subprocess.run(["umount", str(source)], check=True)


class TestASparseTree:
    def test_holes_cost_neither_time_nor_room(self, sparse_tree, store, key):
        manager = BackupManager(sparse_tree, store, key, compression="zstd")
        tracemalloc.start()
        begun = time.monotonic()
        manager.create_snapshot()
        elapsed = time.monotonic() - begun
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert elapsed < 20  # of 200 GiB of holes; it is about 0.3 s
        assert peak < 150 * MIB
        assert manager.last_report.size < 10 * MIB
        assert manager.last_report.counts.bytes > 200 * GIB

    def test_it_comes_back_with_its_holes(self, saved, sparse_tree, store, key, tmp_path):
        report = RestoreManager(store, key).restore("latest", tmp_path / "out")

        assert (report.problems, report.damaged) == ([], [])
        out = tmp_path / "out" / str(sparse_tree)[1:]
        assert listing(out) == listing(sparse_tree)
        assert blocks(out) == blocks(sparse_tree)

    def test_recover_py_brings_it_back_with_its_holes(
        self, saved, sparse_tree, store, key_file, tmp_path
    ):
        path, out = str(store / saved.last_report.name), tmp_path / "out"

        assert recover.main(["extract", path, str(out), "--key", str(key_file)]) == 0

        assert listing(out / str(sparse_tree)[1:]) == listing(sparse_tree)
        assert blocks(out / str(sparse_tree)[1:]) == blocks(sparse_tree)

    def test_verifying_reads_what_is_stored(self, saved, store, key):
        proof = RestoreManager(store, key).validate("latest")

        assert proof.holds
        assert 9 * MIB < proof.content_bytes < 11 * MIB

    @pytest.mark.parametrize("name", ["tail", "head", "both ends", "dense"])
    def test_cat_writes_zeros_for_holes(self, saved, sparse_tree, store, key_file, name):
        result = done("--store", store, "cat", "latest", sparse_tree / name)

        assert result.raw == (sparse_tree / name).read_bytes()

    def test_a_hole_of_any_size_is_read_in_small_pieces(self, saved, store, key):
        reader = opened(saved, store, key)
        entry = next(entry for entry in reader.entries() if entry.path.endswith(b"/hole"))
        total = 0
        for piece in fill_holes(entry, read_content(reader, entry)):
            assert len(piece) <= MIB
            total += len(piece)

        assert total == 100 * GIB


def blocks(top):
    return {
        path.relative_to(top): path.stat().st_blocks for path in top.rglob("*") if path.is_file()
    }


class TestOtherTars:
    @pytest.fixture
    def archive(self, saved, store, key, tmp_path):
        reader = opened(saved, store, key)
        path = tmp_path / "archive.tar.gz"
        with path.open("wb") as file:
            file.writelines(
                reader.compressed_piece(1, number)
                for number, row in enumerate(reader.rows)
                if row.section == 1
            )
        return path

    @pytest.mark.parametrize("program", ["tar", "bsdtar"])
    def test_programs_make_the_same_files_with_the_same_holes(
        self, archive, sparse_tree, tmp_path, program
    ):
        needs(shutil.which(program), f"{program} is not installed")
        out = tmp_path / "out"
        out.mkdir()
        with archive.open("rb") as file:  # a pipe is what 'decrypt | tar x' reads
            subprocess.run(
                [program, "-xzp", "--numeric-owner", "-C", out, "-f", "-"],
                stdin=file,
                env=os.environ | {"LC_ALL": "C.UTF-8"},
                check=True,
            )

        assert listing(out / str(sparse_tree)[1:]) == listing(sparse_tree)

    def test_python_reads_the_same_sizes_and_contents(self, archive, sparse_tree):
        with tarfile.open(archive, encoding="utf-8", errors="surrogateescape") as tar:
            members = {os.fsencode(Path(one.name).name): one for one in tar if one.isreg()}
            for path in sparse_tree.iterdir():
                member = members.get(os.fsencode(path.name))
                if member is None:
                    assert path.name == "tail"  # the second name of a file
                    continue
                assert member.size == path.stat().st_size
                if member.size < GIB:
                    assert tar.extractfile(member).read() == path.read_bytes()
