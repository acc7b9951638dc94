from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from backup.errors import (
    IntegrityError,
    RestoreError,
    SnapshotNotFoundError,
    StorageError,
    UnsafePathError,
    WrongKeyError,
)
from backup.manager import BackupManager, take_snapshot
from backup.manager.plan import Member, size_bound
from backup.model import ArchiveType, path_text
from backup.restore.manager import RestoreManager, run_restore
from backup.snapshot.frame import Section, piece_capacity
from backup.snapshot.header import FRAME_CAP
from backup.snapshot.recipients import FernetKey
from backup.sources.tree import walk
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage
from tests.lister import listing

SMALL_CAP = 64 * 1024
MIB = 1024 * 1024

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")


def stored(path):
    """Return ``path`` in the form of ``Entry.path``."""
    return os.fsencode(path).lstrip(b"/")


def below(target, path):
    """Return where ``path`` lies in what was restored to ``target``."""
    return target / str(path).lstrip("/")


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def total(rows):
    return sum(row.size for row in rows.values())


@pytest.fixture
def target(tmp_path):
    """Return the path of a directory that does not exist yet."""
    return tmp_path / "out"


@pytest.fixture
def manager(store, key):
    return RestoreManager(store, key)


@pytest.fixture
def take(store, make_request):
    """Return a function that takes a snapshot into the store, with small frames if not told."""

    def taken(*sources, **fields):
        return take_snapshot(make_request(*sources, **{"cap": SMALL_CAP} | fields),
                             LocalStorage(store))  # fmt: skip

    return taken


class TestRestoringEverything:
    def test_the_tree_comes_back_as_it_was(self, tree, take, manager, target):
        report = take(tree)

        done = manager.restore("latest", target)

        rows = listing(tree)
        assert listing(below(target, tree)) == rows
        assert (done.damaged, done.problems) == ([], [])
        assert (done.entries, done.files, done.size) == (
            report.counts.entries, report.counts.files, total(rows),
        )  # fmt: skip

    def test_a_manager_of_the_simple_kind_gives_the_same(self, tree, store, key, target):
        path = BackupManager(tree, store, key).create_snapshot()

        RestoreManager(store, key).restore(path, target)

        assert listing(below(target, tree)) == listing(tree)

    def test_nothing_but_the_tree_is_made(self, tree, take, manager, target):
        take(tree)

        manager.restore("latest", target)

        way = target
        for name in str(tree.parent).strip("/").split("/"):
            assert names_in(way) == [name]
            way /= name
        assert names_in(way) == [tree.name]
        assert stat.S_IMODE(target.stat().st_mode) == 0o700

    def test_the_order_of_progress_is_that_of_the_entries(self, tree, take, manager, target):
        told = []
        take(tree)

        manager.restore("latest", target, on_restored=lambda _, path: told.append(path))

        assert told == [entry.path for entry in manager.open("latest").entries()]

    def test_a_single_file_as_source_comes_back(self, source, take, manager, target):
        (source / "file").write_text("content")
        (source / "file").chmod(0o604)
        take(source / "file")

        manager.restore("latest", target)

        assert listing(below(target, source))[b"file"] == listing(source)[b"file"]

    def test_an_empty_directory_as_source_comes_back(self, source, take, manager, target):
        source.chmod(0o710)
        take(source)

        manager.restore("latest", target)

        assert listing(below(target, source)) == listing(source)

    def test_sizes_around_every_border_come_back(self, source, take, manager, target):
        capacity = piece_capacity(ArchiveType.TAR_XZ, SMALL_CAP)
        (source / f"{0:08}").touch()
        bound = size_bound(Member(next(walk([os.fsencode(source / f"{0:08}")]))))
        whole = capacity - bound
        borders = (0, 512, 1024, capacity // 2, whole, capacity, SMALL_CAP, 2 * capacity)
        sizes = {border + step for border in borders for step in (-512, -1, 0, 1, 511, 512)}
        for size in sizes:
            if size >= 0:
                (source / f"{size:08}").write_bytes(os.urandom(size))
        report = take(source, job="borders")

        manager.restore("borders", target)

        assert listing(below(target, source)) == listing(source)
        assert report.problems == ()

    @pytest.mark.parametrize("step", [-1, 0, 1])
    def test_a_file_of_just_one_usual_frame_comes_back(self, source, take, manager, target, step):
        path = source / "file"
        path.touch()
        bound = size_bound(Member(next(walk([os.fsencode(path)]))))
        size = (piece_capacity(ArchiveType.TAR_XZ, FRAME_CAP) - bound) // 512 * 512 + step
        path.write_bytes(os.urandom(size))
        take(source, cap=FRAME_CAP)

        manager.restore("latest", target)

        entry = list(manager.open("latest").entries())[-1]
        assert bool(entry.chunk_lists) == (step == 1)
        assert listing(below(target, source)) == listing(source)

    def test_a_file_of_several_usual_frames_is_cut_into_chunks(self, source, take, manager, target):
        (source / "large").write_bytes(os.urandom(12 * MIB) + bytes(12 * MIB))
        take(source, cap=FRAME_CAP)

        manager.restore("latest", target)

        reader = manager.open("latest")
        entry = list(reader.entries())[-1]
        chunks = list(reader.chunks(entry))
        assert len(chunks) > 24
        assert sum(chunk.extent.length for chunk in chunks) == 24 * MIB
        assert listing(below(target, source)) == listing(source)

    def test_holes_come_back_as_zeros(self, source, take, manager, target):
        with (source / "sparse").open("wb") as file:
            file.seek(3 * MIB)
            file.write(b"middle")
            file.truncate(20 * MIB)
        (source / "nothing but a hole").touch()
        os.truncate(source / "nothing but a hole", 5000)
        take(source)

        manager.restore("latest", target)

        assert listing(below(target, source)) == listing(source)

    def test_hard_links_stay_one_file_also_large_ones(self, source, take, manager, target):
        for size in (0, 10, 3 * SMALL_CAP):
            names = [source / f"{size}", source / f"z{size}", source / "deep" / f"{size}"]
            (source / "deep").mkdir(exist_ok=True)
            names[0].write_bytes(os.urandom(size))
            names[1].hardlink_to(names[0])
            names[2].hardlink_to(names[0])
        report = take(source)

        manager.restore("latest", target)

        again = below(target, source)
        assert listing(again) == listing(source)
        assert {path.stat().st_nlink for path in again.rglob("*") if path.is_file()} == {3}
        assert report.size < 5 * SMALL_CAP  # each content is stored once

    def test_a_file_with_a_name_outside_of_the_source_is_just_a_file(
        self, source, take, manager, target
    ):
        (source.parent / "outside").write_text("content")
        (source / "inside").hardlink_to(source.parent / "outside")
        take(source)

        manager.restore("latest", target)

        again = below(target, source) / "inside"
        assert (again.read_text(), again.stat().st_nlink) == ("content", 1)

    def test_links_lead_where_they_led_and_nowhere_else(self, source, take, manager, target):
        (source / "to a directory").symlink_to("real")
        (source / "real").mkdir()
        (source / "real" / "file").write_text("content")
        (source / "absolute").symlink_to("/etc/passwd")
        (source / "up").symlink_to("../../..")
        (source / "self").symlink_to("self")
        odd = os.fsencode(source) + b"/odd"
        os.symlink(b"\xff\n" * 300, odd)  # noqa: PTH211 - pathlib knows no bytes
        take(source)

        manager.restore("latest", target)

        assert listing(below(target, source)) == listing(source)

    def test_modes_of_every_kind_come_back(self, source, take, manager, target):
        for mode in (0o0, 0o400, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777):
            (source / f"file {mode:o}").touch()
            (source / f"file {mode:o}").chmod(mode)
            (source / f"dir {mode:o}").mkdir()
            (source / f"dir {mode:o}").chmod(mode | 0o700)
        take(source)

        manager.restore("latest", target)

        assert listing(below(target, source)) == listing(source)

    @pytest.mark.parametrize(
        "ns", [0, 1, -1, -1_000_000_001, 1_999_999_999, -(2**31) * 10**9, 2**33 * 10**9 + 7]
    )
    def test_times_come_back_to_the_nanosecond(self, source, take, manager, target, ns):
        (source / "file").touch()
        (source / "dir").mkdir()
        (source / "link").symlink_to("file")
        for name in ("file", "dir", "link"):
            os.utime(source / name, ns=(0, ns), follow_symlinks=False)
        os.utime(source, ns=(0, ns))
        if os.stat(source / "file").st_mtime_ns != ns:  # noqa: PTH116 - as the line above it
            pytest.skip("this file system does not keep such a time")
        take(source)

        manager.restore("latest", target)

        assert {row.mtime_ns for row in listing(below(target, source)).values()} == {ns}

    @needs_root
    def test_owners_come_back_to_root(self, source, take, manager, target):
        for number, (uid, gid) in enumerate([(0, 0), (1, 2), (65534, 65534), (3_000_000_000, 7)]):
            (source / f"file {number}").touch()
            os.chown(source / f"file {number}", uid, gid)
            (source / f"file {number}").chmod(0o6755)
            (source / f"link {number}").symlink_to("nowhere")
            os.chown(source / f"link {number}", uid, gid, follow_symlinks=False)
        os.chown(source, 12, 34)
        take(source)

        manager.restore("latest", target)

        assert listing(below(target, source)) == listing(source)

    @needs_root
    def test_what_another_user_cannot_set_is_a_problem_and_the_content_is_there(
        self, open_dir, key, as_nobody
    ):
        source, store = open_dir / "source", open_dir / "store"
        source.mkdir()
        (source / "file").write_text("content")
        BackupManager(source, store, key).create_snapshot()
        for path in (store, *store.rglob("*")):
            os.chown(path, 65534, 65534)

        with as_nobody():
            report = RestoreManager(store, key).restore("latest", open_dir / "out")

        assert below(open_dir / "out", source / "file").read_text() == "content"
        assert {reason for _, reason in report.problems} == {"owner 0:0 not set: only root may"}

    @needs_root
    def test_devices_and_pipes_come_back(self, source, take, manager, target):
        os.mkfifo(source / "pipe", 0o622)
        os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(source / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 300))
        take(source)

        manager.restore("latest", target)

        assert listing(below(target, source)) == listing(source)

    def test_paths_longer_than_the_system_takes_at_once_come_back(
        self, source, take, manager, target
    ):
        names = [f"{level:03}" + "d" * 150 for level in range(40)]
        directory = os.open(source, os.O_RDONLY)
        for name in names:
            os.mkdir(name, dir_fd=directory)
            below_it = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below_it
        file = os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
        os.write(file, b"found")
        os.close(file)
        os.close(directory)
        take(source)

        report = manager.restore("latest", target)

        directory = os.open(below(target, source), os.O_RDONLY)
        for name in names:
            below_it = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below_it
        with open("bottom", "rb", opener=lambda p, f: os.open(p, f, dir_fd=directory)) as file:
            assert file.read() == b"found"
        os.close(directory)
        assert (report.entries, report.problems) == (42, [])
        shutil.rmtree(source)
        shutil.rmtree(target)

    def test_many_entries_come_back(self, source, take, manager, target):
        for number in range(3000):
            directory = source / f"{number % 37}"
            directory.mkdir(exist_ok=True)
            (directory / f"file {number}").write_text(str(number))
        take(source)

        manager.restore("latest", target)

        assert listing(below(target, source)) == listing(source)


class TestRestoringParts:
    def test_one_file_comes_with_the_directories_that_lead_to_it(self, tree, take, manager, target):
        take(tree)

        report = manager.restore("latest", target, [tree / "docs" / "plan.txt"])

        rows, again = listing(tree), listing(below(target, tree))
        assert sorted(again) == [b"", b"docs", b"docs/plan.txt"]
        assert all(again[path]._replace(linked_names=rows[path].linked_names) == rows[path]
                   for path in again)  # fmt: skip
        assert (report.files, report.entries) == (1, 3)

    def test_one_directory_comes_with_all_that_is_in_it(self, tree, take, manager, target):
        take(tree)

        manager.restore("latest", target, [str(tree / "docs") + "/"])

        assert listing(below(target, tree / "docs")) == {
            path: row._replace(linked_names=frozenset({path}))
            for path, row in listing(tree / "docs").items()
        }
        assert names_in(below(target, tree)) == ["docs"]

    def test_a_name_that_begins_like_another_one_is_not_below_it(
        self, source, take, manager, target
    ):
        for name in ("a", "a-b", "ab"):
            (source / name).mkdir()
            (source / name / "file").touch()
        (source / "a.txt").touch()
        take(source)

        manager.restore("latest", target, [source / "a"])

        assert sorted(listing(below(target, source))) == [b"", b"a", b"a/file"]

    def test_several_paths_in_any_order_and_form(self, tree, take, manager, target):
        take(tree)
        paths = [
            os.fsencode(tree) + b"/latin-\xe9\xff",
            str(tree / "line\nbreak"),
            tree / "docs" / "deep",
            str(tree / "link").lstrip("/"),
            f"{tree}/docs/../empty-dir/.",
        ]

        manager.restore("latest", target, paths)

        assert sorted(listing(below(target, tree))) == sorted(
            [b"", b"docs", b"docs/deep", b"docs/deep/er", b"docs/deep/er/random", b"empty-dir",
             b"latin-\xe9\xff", b"line\nbreak", b"link"]
        )  # fmt: skip

    def test_a_path_and_something_below_it_give_no_duplicates(self, tree, take, manager, target):
        take(tree)

        report = manager.restore("latest", target, [tree / "docs", tree / "docs" / "plan.txt"])

        assert report.files == 3

    @pytest.mark.parametrize("size", [20, 3 * SMALL_CAP])
    def test_the_second_name_of_a_file_alone_has_the_content(
        self, source, take, manager, target, size
    ):
        (source / "first").write_bytes(content := os.urandom(size))
        (source / "second").hardlink_to(source / "first")
        take(source)

        manager.restore("latest", target, [source / "second"])

        again = below(target, source / "second")
        assert again.read_bytes() == content
        assert again.stat().st_nlink == 1
        assert names_in(again.parent) == ["second"]

    def test_two_names_of_three_stay_one_file(self, source, take, manager, target):
        (source / "first").write_text("content")
        for name in ("second", "third"):
            (source / name).hardlink_to(source / "first")
        take(source)

        manager.restore("latest", target, [source / "third", source / "second"])

        assert below(target, source / "second").samefile(below(target, source / "third"))

    def test_a_path_above_the_sources_means_all_that_is_below(self, tree, take, manager, target):
        take(tree)

        manager.restore("latest", target, [tree.parent])
        manager.restore("latest", target.with_name("out too"), ["/"])

        for one in (target, target.with_name("out too")):
            assert listing(below(one, tree)) == listing(tree)

    @pytest.mark.parametrize("name", ["absent", "docs/plan.txt/below", "doc", "docs/plan.tx"])
    def test_a_path_that_is_not_there_is_refused_and_nothing_is_made(
        self, tree, take, manager, target, name
    ):
        take(tree)

        with pytest.raises(RestoreError, match="the snapshot does not hold") as caught:
            manager.restore("latest", target, [tree / "docs", tree / name])

        assert str(tree / name) in str(caught.value)
        assert not target.exists()

    @pytest.mark.parametrize("path", ["..", "../x", "a/../../x", b"x\0y"])
    def test_a_path_that_leads_out_is_refused(self, tree, take, manager, target, path):
        take(tree)

        with pytest.raises((UnsafePathError, ValueError)):
            manager.restore("latest", target, [path])

        assert not target.exists()

    def test_parts_of_a_snapshot_of_many_segments_are_found(self, source, take, manager, target):
        for number in range(900):
            (source / f"{number:04}").write_text(str(number))
        take(source, cap=32 * 1024)
        wanted = [source / f"{number:04}" for number in (0, 1, 450, 898, 899)]

        report = manager.restore("latest", target, wanted)

        assert report.files == 5
        assert [below(target, path).read_text() for path in wanted] == [
            "0", "1", "450", "898", "899",
        ]  # fmt: skip


class TestPlans:
    def test_a_plan_says_what_a_restore_would_do_and_does_nothing(
        self, tree, take, manager, target
    ):
        counts = take(tree).counts

        plan = manager.plan_restore("latest", target)

        assert (plan.entries, plan.files, plan.size) == (
            counts.entries, counts.files, counts.bytes,
        )  # fmt: skip
        assert (plan.conflicts, plan.incomplete, plan.paths) == ((), (), ())
        assert not target.exists()

    def test_a_plan_for_a_part_counts_that_part(self, tree, take, manager, target):
        take(tree)

        plan = manager.plan_restore("latest", target, [tree / "docs" / "plan.txt"])

        assert (plan.entries, plan.files, plan.size) == (3, 1, 5600)
        assert plan.paths == (stored(tree / "docs" / "plan.txt"),)

    def test_a_plan_leaves_a_target_with_something_in_it_alone(self, tree, take, manager, target):
        take(tree)
        again = below(target, tree)
        again.mkdir(parents=True)
        (again / "link").write_text("mine")
        before = listing(target)

        plan = manager.plan_restore("latest", target)

        assert plan.conflicts == (stored(tree / "link"),)
        assert listing(target) == before

    def test_it_names_what_the_snapshot_does_not_have(self, open_dir, key, as_nobody):
        with as_nobody():
            source = open_dir / "source"
            source.mkdir()
            (source / "closed").touch(mode=0)
            BackupManager(
                source, open_dir / "store", key, state=open_dir / "state"
            ).create_snapshot()

        plan = RestoreManager(open_dir / "store", key).plan_restore("latest", open_dir / "out")

        assert plan.incomplete == ((stored(source / "closed"), "Permission denied"),)


def something_in_the_way(kind, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/tmp")  # noqa: S108 - nothing is written there
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        os.mkfifo(path)


class TestConflicts:
    """Nothing is ever overwritten, and a restore that would have to changes nothing."""

    @pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "pipe"])
    @pytest.mark.parametrize(
        "place", ["docs/plan.txt", "link", "pipe", "empty-file", "zz-third-name"]
    )
    def test_anything_in_the_place_of_a_file_is_refused(  # noqa: PLR0917 - fixtures
        self, tree, take, manager, target, kind, place
    ):
        take(tree)
        something_in_the_way(kind, below(target, tree / place))
        before = listing(target)

        with pytest.raises(RestoreError, match="already has") as caught:
            manager.restore("latest", target)

        assert str(tree / place) in str(caught.value)
        assert "nothing has been changed" in caught.value.hint
        assert listing(target) == before

    @pytest.mark.parametrize("kind", ["file", "link", "dangling link", "pipe"])
    @pytest.mark.parametrize("place", ["shared", "docs/deep", ".", ".."])
    def test_anything_but_a_directory_in_the_place_of_one_is_refused(  # noqa: PLR0917 - fixtures
        self, tree, take, manager, target, kind, place
    ):
        take(tree)
        wanted = Path(os.path.normpath(tree / place))
        something_in_the_way(kind, below(target, wanted))
        before = listing(target)

        with pytest.raises(RestoreError, match="already has") as caught:
            manager.restore("latest", target)

        assert f"{wanted}" in str(caught.value)
        assert listing(target) == before

    def test_directories_that_are_there_are_merged(self, tree, take, manager, target):
        take(tree)
        mine = below(target, tree / "docs" / "mine")
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")

        manager.restore("latest", target)

        again = listing(below(target, tree))
        assert mine.read_text() == "mine"
        assert again.pop(b"docs/mine")
        assert again == listing(tree)

    def test_a_conflict_outside_of_the_part_does_not_matter(self, tree, take, manager, target):
        take(tree)
        something_in_the_way("file", below(target, tree / "link"))

        report = manager.restore("latest", target, [tree / "docs"])

        assert report.files == 3
        assert below(target, tree / "link").read_text() == "mine"

    def test_restoring_twice_is_refused_the_second_time(self, tree, take, manager, target):
        take(tree)
        manager.restore("latest", target)
        before = listing(target)

        with pytest.raises(RestoreError, match=r"and \d+ more"):
            manager.restore("latest", target)

        assert listing(target) == before

    def test_a_target_that_is_a_file_is_refused(self, tree, take, manager, target):
        take(tree)
        target.write_text("mine")

        with pytest.raises(RestoreError, match="Not a directory"):
            manager.restore("latest", target)

        assert target.read_text() == "mine"

    def test_a_target_that_is_a_link_to_a_directory_is_followed_once(
        self, tree, take, manager, target, tmp_path
    ):
        take(tree)
        (tmp_path / "real").mkdir()
        target.symlink_to("real")

        manager.restore("latest", target)

        assert listing(below(tmp_path / "real", tree)) == listing(tree)


def frames_of(reader, entry):
    extents = entry.extents or [chunk.extent for chunk in reader.chunks(entry)]
    return {extent.frame for extent in extents}


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


class TestDamage:
    @pytest.fixture
    def path(self, tree, take, store):
        (tree / "large").write_bytes(os.urandom(4 * SMALL_CAP))
        (tree / "large too").hardlink_to(tree / "large")
        for number in range(12):
            (tree / f"file {number:02}").write_bytes(os.urandom(17_000))
        return store / take(tree).name

    def test_a_damaged_frame_costs_the_files_in_it_and_nothing_else(
        self, tree, path, manager, target
    ):
        reader = manager.open("latest")
        entries = list(reader.entries())
        archive = [n for n, row in enumerate(reader.rows) if row.section is Section.ARCHIVE]
        rows, whole = listing(tree), path.read_bytes()

        for number in archive:
            flip(path, reader.rows[number].offset + 100)
            report = manager.restore("latest", target)
            again = listing(below(target, tree))
            lost = {entry.path for entry in entries if number in frames_of(reader, entry)}
            prefix = len(stored(tree)) + 1
            names = {name[prefix:] for name in lost}
            assert set(rows) - set(again) == names
            for name, row in again.items():
                left = rows[name].linked_names - names
                assert row == rows[name]._replace(linked_names=left)
            assert len(report.damaged) == len(lost)
            for lost_path in lost:
                about = [e for e in report.damaged if str(e).startswith(path_text(lost_path) + ":")]
                assert len(about) == 1
            assert report.problems == []
            path.write_bytes(whole)
            shutil.rmtree(target)
        assert len(archive) > 6

    def test_no_name_is_made_for_what_is_damaged(self, tree, path, manager, target):
        reader = manager.open("latest")
        large = next(e for e in reader.entries() if e.path.endswith(b"/large"))
        flip(path, reader.rows[max(frames_of(reader, large))].offset + 100)

        manager.restore("latest", target, [tree / "large"])

        assert names_in(below(target, tree)) == []

    @pytest.mark.parametrize("section", [Section.INDEX, Section.CHUNKS])
    def test_a_damaged_list_of_what_there_is_is_told_and_nothing_wrong_appears(
        self, tree, path, manager, target, section
    ):
        reader = manager.open("latest")
        entries = list(reader.entries())
        rows, whole = listing(tree), path.read_bytes()

        for number, row in enumerate(reader.rows):
            if row.section is not section:
                continue
            lists = {entry.path: {one.frame for one in entry.chunk_lists} for entry in entries}
            lost = {path for path, frames in lists.items() if number in frames}
            flip(path, row.offset + 60)
            report = manager.restore("latest", target)
            if section is Section.INDEX:
                told = manager.plan_restore("latest", f"{target}2").lost
                assert [str(part) for part in told] == [str(error) for error in report.damaged]
                assert report.entries == len(entries) - sum(part.entries for part in told)
            else:
                assert len(report.damaged) == len(lost) > 0
                gone = set(rows) - set(listing(below(target, tree)))
                assert {stored(tree) + b"/" + name for name in gone} == lost
            shutil.rmtree(target)
            path.write_bytes(whole)

    def test_a_snapshot_that_was_cut_off_is_refused(self, path, manager, target):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

        with pytest.raises(IntegrityError):
            manager.restore("latest", target)

        assert not target.exists()


class TestSnapshotsThatAreNamed:
    def test_a_path_is_enough_wherever_it_lies(self, tree, take, store, manager, tmp_path):
        report = take(tree)
        shutil.copy(store / report.name, tmp_path / "x.enc")

        for path in (store / report.name, tmp_path / "x.enc"):
            located = manager.locate(str(path))
            assert located.open(manager.identities).core.id == report.id

    def test_a_path_that_is_not_there_is_no_snapshot(self, tree, take, manager, tmp_path):
        take(tree)

        with pytest.raises(SnapshotNotFoundError):
            manager.locate(str(tmp_path / "absent.enc"))

    def test_the_beginning_of_an_id_is_enough(self, tree, take, manager):
        report = take(tree)

        assert manager.open(report.id.hex()[:8]).core.id == report.id

    def test_an_empty_store_has_none(self, manager, target):
        with pytest.raises(SnapshotNotFoundError, match="there is no snapshot in"):
            manager.restore("latest", target)

        assert manager.list_snapshots() == []

    def test_the_listing_tells_what_there_is(self, tree, take, manager):
        first, second = take(tree), take(tree)

        found = manager.list_snapshots()

        assert [one.name for one in found] == [first.name, second.name]
        assert [one.sequence for one in found] == [1, 2]

    def test_any_storage_will_do(self, tree, make_request, key, target):
        storage = MemoryStorage()
        take_snapshot(make_request(tree), storage)

        RestoreManager(storage, key).restore("job", target)

        assert listing(below(target, tree)) == listing(tree)

    def test_identities_take_the_place_of_the_key(self, tree, take, store, key, target):
        take(tree)
        identities = [FernetKey.parse(Fernet.generate_key()), FernetKey.parse(key)]

        RestoreManager(store, identities=identities).restore("latest", target)

        assert listing(below(target, tree)) == listing(tree)

    def test_another_key_restores_nothing(self, tree, take, store, target):
        take(tree)

        with pytest.raises(WrongKeyError):
            RestoreManager(store, Fernet.generate_key()).restore("latest", target)

        assert not target.exists()


class TestTargetsThatRefuse:
    def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(
        self, tree, take, manager, tmp_path
    ):
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small file system")
        (tree / "large").write_bytes(os.urandom(2 * MIB))
        (tree / "docs" / "i").write_bytes(os.urandom(100_000))
        take(tree)
        small = tmp_path / "small"
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("cannot mount a small file system")

        try:
            with pytest.raises(RestoreError, match=r"no room: 2\.2 MiB .* 1\.0 MiB left") as early:
                manager.restore("latest", small)
            assert list(small.iterdir()) == []
            plan = manager.plan_restore("latest", small, [tree / "docs"])
            (small / "meanwhile").write_bytes(bytes(MIB - 128 * 1024))
            with pytest.raises(RestoreError, match=r"No space left .* restored before") as late:
                run_restore(plan.snapshot.open(manager.identities), plan)
            files = [path for path in small.rglob("*") if path.is_file() and not path.is_symlink()]
            names = {path.name for path in files}
        finally:
            subprocess.run(["umount", str(small)], check=True)

        assert names == {"meanwhile", "random", "hard"}
        assert not [name for name in names if name.endswith(".partial")]
        assert "free some space" in early.value.hint
        assert "free some space" in late.value.hint

    def test_a_target_that_cannot_be_made_is_an_error(self, open_dir, key, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        source, store = open_dir / "source", open_dir / "store"
        source.mkdir()
        (open_dir / "theirs").mkdir(mode=0o755)
        BackupManager(source, store, key).create_snapshot()
        for path in (store, *store.rglob("*")):
            os.chown(path, 65534, 65534)

        with as_nobody(), pytest.raises(RestoreError, match="Permission denied"):
            RestoreManager(store, key).restore("latest", open_dir / "theirs" / "out")

    def test_a_store_that_cannot_be_read_is_an_error(self, open_dir, key, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        source = open_dir / "source"
        source.mkdir()
        BackupManager(source, open_dir / "store", key).create_snapshot()

        with as_nobody(), pytest.raises(StorageError, match="Permission denied"):
            RestoreManager(open_dir / "store", key).restore("latest", open_dir / "out")
