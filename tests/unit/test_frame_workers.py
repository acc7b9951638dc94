"""Verifying and restoring in worker processes: the same as in one, whatever becomes of them."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backup.errors import WorkerError
from backup.manager import take_snapshot
from backup.model import ArchiveType
from backup.pool.pool import Pool, PoolSize
from backup.pool.slots import SlotSize
from backup.restore import file_work
from backup.restore.file_jobs import FilesJob, decode_report, encode_job, hidden_name
from backup.restore.landlock import confine, landlock_version
from backup.restore.manager import RestoreManager
from backup.restore.tree_writer import TreeWriter
from backup.snapshot import frame_jobs
from backup.snapshot.frame import Section
from backup.snapshot.frame_groups import FramePlace, Groups
from backup.snapshot.frame_jobs import sealed_piece
from backup.storage.local import LocalStorage
from backup.verification import Level
from tests.lister import listing

CAP = 64 * 1024
ROOM = SlotSize(4096, 4096)


@pytest.fixture(autouse=True)
def workers_from_the_start(monkeypatch):
    """Let even the smallest work be worth processes."""
    monkeypatch.setattr(frame_jobs, "_WORTH", 1)
    monkeypatch.setattr(frame_jobs, "_WORTH_IF_SLOW", 1)


@pytest.fixture
def much(tree):
    """Return a tree of many small files, some large ones, and one of everything."""
    chance = random.Random(5)
    for number in range(8):
        directory = tree / f"directory {number}"
        directory.mkdir()
        for name in range(40):
            content = chance.randbytes(chance.randrange(5000))
            (directory / f"file {name}").write_bytes(content)
    for number in range(3):
        (tree / f"large {number}").write_bytes(chance.randbytes(CAP * (number + 3) + 17))
    return tree


@pytest.fixture
def take(make_request, store):
    def taken(source, **fields):
        request = make_request(source, cap=CAP, archive=ArchiveType.TAR_ZST, **fields)
        return store / take_snapshot(request, LocalStorage(store)).name

    return taken


@pytest.fixture
def manager(store, key):
    return RestoreManager(store, key)


def restored(target, source):
    return listing(target / str(source).lstrip("/"))


def told(report):
    """Return what a report says, without what differs from target to target."""
    damaged = [(type(error).__name__, error.message) for error in report.damaged]
    counts = (report.entries, report.files, report.size, report.replaced, report.mended)
    return counts, report.kept, report.left, report.deleted, damaged, report.problems


def damage(path, manager, section=Section.ARCHIVE, places=(1, 3)):
    """Flip a bit in some frames; return their numbers."""
    rows = manager.open("latest").rows
    numbers = [number for number, row in enumerate(rows) if row.section is section]
    data = bytearray(path.read_bytes())
    for place in places:
        row = rows[numbers[place]]
        data[row.offset + 4 + row.length // 2] ^= 4
    path.write_bytes(data)
    return [numbers[place] for place in places]


def processes_below(parent):
    """Return the process ids of the children of ``parent``, and theirs."""
    parents = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            with suppress(OSError):
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                parents[int(directory.name)] = int(fields[1])
    return [(child, above) for child, above in parents.items() if above == parent]


def workers_of(process):
    return [
        worker for nursery, _ in processes_below(process) for worker, _ in processes_below(nursery)
    ]


@contextmanager
def workers_killed(process, *, every=0.02):
    """Kill all workers of a process again and again."""
    over = threading.Event()

    def kill():
        while not over.wait(every):
            for worker in workers_of(process):
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def hidden_files(target):
    return list(target.rglob(".auto-backup-*"))


class TestTheSameAsAlone:
    def test_a_restore_makes_the_same_tree(self, much, take, manager, tmp_path):
        take(much)

        reports = [
            manager.restore("latest", tmp_path / f"by {workers}", workers=workers)
            for workers in (1, 2, 3)
        ]

        for workers in (1, 2, 3):
            assert restored(tmp_path / f"by {workers}", much) == listing(much)
            assert not hidden_files(tmp_path / f"by {workers}")
        assert told(reports[0]) == told(reports[1]) == told(reports[2])

    def test_what_exists_is_replaced_by_the_same_rules(self, much, take, manager, tmp_path):
        take(much)
        targets = [tmp_path / "by 1", tmp_path / "by 2"]
        for target in targets:
            manager.restore("latest", target)
            for path in sorted((target / str(much).lstrip("/")).rglob("file *"))[::3]:
                path.write_bytes(b"something else")

        reports = [
            manager.restore("latest", target, overwrite="if-changed", workers=number)
            for number, target in enumerate(targets, 1)
        ]

        assert told(reports[0]) == told(reports[1])
        assert reports[0].replaced > 100
        for target in targets:
            assert restored(target, much) == listing(much)

    def test_damage_costs_the_same_entries(self, much, take, manager, tmp_path):
        damage(take(much), manager)

        reports = [
            manager.restore("latest", tmp_path / f"by {workers}", workers=workers)
            for workers in (1, 2)
        ]

        assert reports[0].damaged
        assert told(reports[0]) == told(reports[1])
        assert restored(tmp_path / "by 1", much) == restored(tmp_path / "by 2", much)

    @pytest.mark.parametrize("section", [Section.ARCHIVE, Section.INDEX, Section.CHUNKS])
    def test_a_verification_finds_the_same(self, much, take, manager, section):
        path = take(much)
        damage(path, manager, section, places=(0, 2) if section is Section.ARCHIVE else (0,))

        proofs = [manager.validate("latest", workers=workers) for workers in (1, 2)]

        messages = [
            [(type(error).__name__, error.message) for error in proof.errors] for proof in proofs
        ]
        assert messages[0] == messages[1]
        assert messages[0]
        assert proofs[0].content_bytes == proofs[1].content_bytes
        assert proofs[0].level is Level.CONTENT

    def test_frames_that_changed_places_are_told_as_such(self, much, take, manager):
        path = take(much)
        rows = manager.open("latest").rows
        by_length = {}
        for number, row in enumerate(rows):
            by_length.setdefault((row.section, row.length), []).append(number)
        pair = next(numbers for numbers in by_length.values() if len(numbers) > 1)[:2]
        data = bytearray(path.read_bytes())
        one, other = (slice(rows[n].offset, rows[n].offset + rows[n].length + 4) for n in pair)
        data[one], data[other] = data[other], data[one]
        path.write_bytes(data)

        errors = manager.validate("latest", workers=2).errors

        told = {type(error).__name__ for error in errors}
        assert "FrameOutOfPlaceError" in told

    def test_progress_is_told_in_the_order_of_the_entries(self, much, take, manager, tmp_path):
        take(much)
        paths = []

        manager.restore(
            "latest", tmp_path / "out", workers=2, on_restored=lambda _, path: paths.append(path)
        )

        assert paths == [entry.path for entry in manager.open("latest").entries()]

    def test_an_incremental_snapshot_comes_back(self, much, take, manager, tmp_path):
        take(much)
        for path in sorted(much.rglob("file *"))[::7]:
            path.write_bytes(b"new " + path.name.encode())
        take(much)

        report = manager.restore("latest", tmp_path / "out", workers=2)

        assert manager.validate("latest", workers=2).holds
        assert not report.problems
        assert restored(tmp_path / "out", much) == listing(much)


class TestKilledWorkers:
    def test_one_is_replaced_and_all_is_restored(self, much, take, manager, tmp_path):
        take(much)
        killed = []

        def kill_one(_, __):
            if not killed and (workers := workers_of(os.getpid())):
                killed.append(workers[0])
                os.kill(workers[0], signal.SIGKILL)

        report = manager.restore("latest", tmp_path / "out", workers=2, on_restored=kill_one)

        assert killed
        assert not report.problems
        assert not report.damaged
        assert restored(tmp_path / "out", much) == listing(much)
        assert not hidden_files(tmp_path / "out")

    def test_one_is_replaced_and_all_is_verified(self, much, take, manager, key):
        take(much)

        with workers_killed(os.getpid(), every=0.3):
            proof = manager.validate("latest", workers=2)

        assert proof.holds

    def test_where_all_are_killed_nothing_is_half_there(self, much, take, manager, tmp_path):
        take(much)
        whole = listing(much)
        counted = []

        with workers_killed(os.getpid(), every=0.001), suppress(WorkerError):
            manager.restore(
                "latest",
                tmp_path / "out",
                workers=2,
                on_restored=lambda report, _: counted.append(report.files),
            )

        files = {
            path: row for path, row in restored(tmp_path / "out", much).items() if row.type == "-"
        }
        assert {path: row.sha256 for path, row in files.items()} == {
            path: whole[path].sha256 for path in files
        }
        assert len(files) >= max(counted, default=0)
        assert not hidden_files(tmp_path / "out")


class TestDoingAJobAgain:
    @pytest.fixture
    def job(self, much, take, manager):
        take(much)
        reader = manager.open("latest")
        entries = [one for one in reader.entries() if one.extents and one.links == 1]
        number = entries[5].extents[0].frame
        files = [one for one in entries if one.extents[0].frame == number][:6]
        sealed, token = sealed_piece(reader, Section.ARCHIVE, number)
        return FilesJob(sealed, b"0123456789ab", files, []), token

    @pytest.fixture
    def target(self, tmp_path):
        with TreeWriter(tmp_path / "out") as writer:
            work = file_work.FileWork(writer.order())
            yield tmp_path / "out", work
            work.close()

    def test_what_was_made_counts_as_made(self, job, target):
        place, work = target
        data = memoryview(bytearray(encode_job(*job)))

        first = decode_report(work.run(data)[0])
        made = listing(place)
        inodes = {path: path.stat().st_ino for path in place.rglob("*")}
        again = decode_report(work.run(data)[0])

        assert first == again
        assert not again.refused
        assert listing(place) == made
        assert {path: path.stat().st_ino for path in place.rglob("*")} == inodes

    def test_what_was_left_behind_is_made_anew(self, job, target):
        place, work = target
        data = memoryview(bytearray(encode_job(*job)))
        work.run(data)
        lost = place / os.fsdecode(job[0].entries[0].path)
        lost.rename(lost.with_name(os.fsdecode(hidden_name(job[0].hidden, 0))))

        again = decode_report(work.run(data)[0])

        assert not again.refused
        assert lost.stat().st_size == job[0].entries[0].size
        assert not hidden_files(place)

    def test_what_is_another_file_is_not_taken_for_it(self, job, target):
        place, work = target
        data = memoryview(bytearray(encode_job(*job)))
        work.run(data)
        other = place / os.fsdecode(job[0].entries[0].path)
        status = other.stat()
        other.write_bytes(bytes(status.st_size))
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))

        again = decode_report(work.run(data)[0])

        assert [number for number, _ in again.refused] == [0]
        assert other.read_bytes() == bytes(status.st_size)

    def test_nothing_is_taken_for_made_the_first_time(self, job, target):
        _, work = target
        work.run(memoryview(bytearray(encode_job(*job))))

        report = decode_report(work.run(memoryview(bytearray(encode_job(*job))))[0])

        assert len(report.refused) == len(job[0].entries)


class TestTheTarget:
    def test_another_directory_under_its_name_is_not_written_to(
        self, take, much, manager, tmp_path
    ):
        take(much)
        target = tmp_path / "out"
        with TreeWriter(target) as writer:
            order = writer.order()
            target.rename(tmp_path / "moved")
            target.mkdir()
            order.process = 0  # as another process sees it
            work = file_work.FileWork(order)
            reader = manager.open("latest")
            entry = next(one for one in reader.entries() if one.extents and one.links == 1)
            sealed, token = sealed_piece(reader, Section.ARCHIVE, entry.extents[0].frame)

            report = decode_report(
                work.run(memoryview(encode_job(FilesJob(sealed, b"0" * 12, [entry], []), token)))[0]
            )

        assert report.fatal is not None
        assert "another directory" in report.fatal[2].message
        assert not list(target.iterdir())

    def test_a_worker_is_confined_as_the_process_that_started_it(self, tmp_path):
        if landlock_version() < 2:
            pytest.skip("this kernel has no Landlock that fits")
        inside, outside = tmp_path / "inside", tmp_path / "outside"
        inside.mkdir()
        outside.mkdir()
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                confine(inside)
                size = PoolSize(workers=2, slots=4, slot=ROOM, worth=1)
                with Pool("probe_work:make_probe", b"", size) as pool:
                    for place in (inside / "a", outside / "b", inside / "c", outside / "d"):
                        pool.submit(os.fsencode(place))
                    answers = [bytes(pool.next().head).decode() for _ in range(4)]
                    answers.append(len(workers_of(os.getpid())))
                os.write(write_end, json.dumps(answers).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        with open(read_end, "rb") as pipe:  # noqa: PTH123 - a descriptor
            answers = json.loads(pipe.read())
        os.waitpid(child, 0)

        assert answers == ["made", "Permission denied", "made", "Permission denied", 2]
        assert not list(outside.iterdir())


class TestGroups:
    def test_frames_come_as_the_index_meets_them_and_what_is_late_in_order(self):
        groups = Groups(most_held=100, most_together=10, most_bytes=1000)
        order = [(b"a", 1), (b"b", 1), (b"a", 1), (b"a", 2), (b"a", 0), (b"b", 0), (b"a", 0)]

        found = []
        for number, place in enumerate(order):
            complete = groups.add(FramePlace(*place), number, 1)
            found += [(group.place, group.items) for group in complete]
        rest = [(group.place, group.items) for group in groups.rest()]

        assert found == [((b"a", 1), [0, 2])]
        assert rest == [((b"a", 0), [4, 6]), ((b"a", 2), [3]), ((b"b", 0), [5]), ((b"b", 1), [1])]
        assert not list(groups.rest())

    def test_no_group_and_no_number_of_groups_is_too_large(self):
        groups = Groups(most_held=8, most_together=3, most_bytes=50)
        sizes = []
        for number in range(100):
            place = FramePlace(b"s", 100 - number if number % 2 else 100)
            sizes += [len(group.items) for group in groups.add(place, number, 10)]
        sizes += [len(group.items) for group in groups.rest()]

        assert sum(sizes) == 100
        assert max(sizes) == 3
