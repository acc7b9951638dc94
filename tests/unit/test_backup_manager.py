from __future__ import annotations

import dataclasses
import errno
import os
import secrets
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.errors import (
    ConfigError,
    IntegrityError,
    InvalidArgumentError,
    KeyMissingError,
    SecretKeyError,
    SourceError,
    StorageError,
    WrongKeyError,
)
from backup.listing import list_snapshots
from backup.locating import locate, locate_path
from backup.manager import BackupManager, take_snapshot
from backup.model import ArchiveType, EntryType
from backup.restore.manager import RestoreManager
from backup.snapshot.compression import COMPRESSIONS
from backup.snapshot.content import read_content
from backup.snapshot.frame import Section, piece_capacity
from backup.snapshot.opening import read_header
from backup.snapshot.recipients import FernetKey
from backup.storage.base import ProofStrength
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage
from backup.verification import verify_snapshot
from tests.lister import listing

SMALL_CAP = 64 * 1024
TAR_OPTIONS = {
    "xz": "--xz",
    "zstd": "--zstd",
    "gzip": "--gzip",
    "bzip2": "--bzip2",
    "none": "--no-auto-compress",
}
MIB = 1024 * 1024


@pytest.fixture
def manager(source, store, key, clock):
    return BackupManager(source, store, key, clock=clock)


def files_below(store):
    """Return what a store holds of snapshots; the tool to read them with lies at its top."""
    names = (path.relative_to(store) for path in Path(store).rglob("*") if path.is_file())
    return sorted(str(name) for name in names if name.parent != Path())


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def opened(path, key):
    return locate_path(Path(path)).open([FernetKey.parse(key)])


def entries_of(path, key, below):
    """Return the entries of a snapshot by their paths below ``below``."""
    prefix = os.fsencode(below).lstrip(b"/")
    return {
        os.fsdecode(entry.path[len(prefix) :]).lstrip("/"): entry
        for entry in opened(path, key).entries()
    }


def archive_of(reader):
    return b"".join(
        reader.compressed_piece(Section.ARCHIVE, number)
        for number, row in enumerate(reader.rows)
        if row.section is Section.ARCHIVE
    )


def untar(archive, target, *options):
    target.mkdir()
    command = ["tar", "-x", "-p", "--numeric-owner", *options, "-C", str(target)]
    done = subprocess.run(command, input=archive, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def below(target, source):
    """Return where the tree ``source`` lies in what was restored to ``target``."""
    return target / str(source).lstrip("/")


def restored(path, key, source, target):
    """Restore everything; return the listing of the restored twin of ``source``."""
    report = RestoreManager(Path(path).parent, key).restore(path, target)
    assert not report.damaged
    assert not report.problems
    return listing(below(target, source))


class TestASnapshot:
    def test_the_path_of_an_enc_file_below_the_store_comes_back_as_text(self, manager, tree, store):
        path = manager.create_snapshot()

        assert isinstance(path, str)
        assert path.endswith(".tar.xz.enc")
        assert Path(path).is_file()
        assert Path(path).is_relative_to(store)

    def test_its_name_tells_host_job_time_and_kind(self, manager, tree, store):
        path = Path(manager.create_snapshot())

        identity = manager.last_report.id.hex()[:4]
        name = f"source-20261120T163205Z-{identity}-full.tar.xz.enc"
        assert path == store / "testhost" / "source" / name

    def test_sha256sum_accepts_the_file_beside_it(self, manager, tree):
        path = manager.create_snapshot()

        command = ["sha256sum", "--strict", "-c", path + ".sha256"]
        done = subprocess.run(command, cwd=Path(path).parent, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == Path(path).name.encode() + b": OK\n"

    def test_its_keys_file_opens_it_when_its_header_is_lost(self, manager, tree, key):
        path = Path(manager.create_snapshot())
        damaged = bytearray(path.read_bytes())
        damaged[5:60] = bytes(55)
        path.write_bytes(damaged)

        reader = opened(path, key)

        assert not reader.header_intact
        assert sum(1 for _ in reader.entries()) == manager.last_report.counts.entries

    def test_it_opens_without_the_files_beside_it(self, manager, tree, key, tmp_path):
        path = manager.create_snapshot()
        shutil.copy(path, tmp_path / "alone.enc")

        assert opened(tmp_path / "alone.enc", key).header_intact

    def test_all_of_it_is_for_its_owner_only(self, manager, tree, store):
        os.umask(0)
        try:
            manager.create_snapshot()
        finally:
            os.umask(0o022)

        made = list(store.rglob("*"))
        assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o600}
        assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o700}

    def test_three_files_are_all_that_is_left_in_the_store(self, manager, tree, store):
        path = Path(manager.create_snapshot())

        name = str(path.relative_to(store))
        assert files_below(store) == [name, name + ".keys", name + ".sha256"]

    def test_the_report_tells_what_was_stored(self, manager, tree, clock):
        path = Path(manager.create_snapshot())

        report, rows = manager.last_report, listing(tree)
        assert report.counts.entries == len(rows)
        assert report.counts.files == sum(row.type == "-" for row in rows.values())
        assert report.counts.bytes == sum(row.size for row in rows.values())
        assert report.size == path.stat().st_size
        assert report.strength is ProofStrength.READ_BACK
        assert (report.started, report.sequence, report.problems) == (clock(), 1, ())

    def test_progress_only_grows_and_ends_with_everything(self, tree, store, key):
        steps = []

        manager = BackupManager(tree, store, key, on_progress=steps.append)
        manager.create_snapshot()

        assert steps == sorted(steps, key=lambda step: (step.entries, step.read, step.stored))
        counts = manager.last_report.counts
        assert (steps[-1].entries, steps[-1].read) == (counts.entries, counts.bytes)

    def test_nothing_of_names_and_contents_stands_in_clear(self, source, store, key):
        (source / "a-telling-name").write_text("a telling content")

        path = BackupManager(source, store, key, compression="none").create_snapshot()

        data = Path(path).read_bytes() + Path(path + ".keys").read_bytes()
        assert b"telling" not in data

    def test_it_is_signed_with_the_key_of_this_host(self, manager, tree, key, private_home):
        first = opened(manager.create_snapshot(), key).signer
        second = opened(manager.create_snapshot(), key).signer

        assert first == second
        assert stat.S_IMODE((private_home / "auto-backup-state").stat().st_mode) == 0o700

    def test_a_name_in_use_is_never_replaced(self, manager, tree, store, monkeypatch):
        monkeypatch.setattr("secrets.token_bytes", lambda length: b"\x77" * length)
        path = Path(manager.create_snapshot())
        before = path.read_bytes()

        with pytest.raises(StorageError, match="the name is taken"):
            manager.create_snapshot()

        assert path.read_bytes() == before
        assert len(files_below(store)) == 3


class TestCompressions:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_gnu_tar_makes_the_same_tree_of_the_decrypted_pieces(
        self, tree, store, key, tmp_path, compression
    ):
        path = BackupManager(tree, store, key, compression=compression).create_snapshot()

        untar(archive_of(opened(path, key)), tmp_path / "out", TAR_OPTIONS[compression])

        assert path.endswith(f".{COMPRESSIONS[compression]}.enc")
        assert listing(below(tmp_path / "out", tree)) == listing(tree)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_gnu_tar_takes_many_small_frames_for_one_archive(
        self, tree, make_request, tmp_path, compression
    ):
        (tree / "large").write_bytes(os.urandom(5 * SMALL_CAP + 123))
        (tree / "large too").hardlink_to(tree / "large")
        storage = MemoryStorage()
        request = make_request(tree, archive=COMPRESSIONS[compression], cap=SMALL_CAP)

        report = take_snapshot(request, storage)

        reader = locate(storage, report.name).open(request.identities)
        untar(archive_of(reader), tmp_path / "out", TAR_OPTIONS[compression])
        assert listing(below(tmp_path / "out", tree)) == listing(tree)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("cap", [32 * 1024, SMALL_CAP, 300_000, MIB])
    def test_frames_full_of_what_does_not_compress_fit(
        self, source, make_request, compression, cap
    ):
        archive = COMPRESSIONS[compression]
        for number in range(40):
            (source / f"small {number:02}").write_bytes(os.urandom(cap // 11))
        for size in (piece_capacity(archive, cap) - 3600, 3 * cap + 17, 4 * cap):
            (source / f"large {size}").write_bytes(os.urandom(size))
        storage = MemoryStorage()
        request = make_request(source, archive=archive, cap=cap)

        report = take_snapshot(request, storage)

        located = locate(storage, report.name)
        proof = verify_snapshot(located, request.identities)
        fullest = max(row.plain for row in located.open(request.identities).rows)
        assert proof.holds, proof.errors
        assert 0.9 * piece_capacity(archive, cap) < fullest <= cap

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_twenty_random_mebibytes_come_back_with_frames_of_the_usual_size(
        self, source, store, key, tmp_path, compression
    ):
        (source / "random").write_bytes(os.urandom(20 * MIB))

        path = BackupManager(source, store, key, compression=compression).create_snapshot()

        assert Path(path).stat().st_size < 20 * MIB * 1.03
        assert restored(path, key, source, tmp_path / "out") == listing(source)

    def test_a_level_makes_a_difference(self, source, store, key):
        text = "".join(f"{number * number} lines\n" for number in range(100_000))
        (source / "text").write_text(text)

        sizes = [
            Path(
                BackupManager(
                    source, store, key, compression="gzip", level=level
                ).create_snapshot()
            ).stat().st_size
            for level in (1, 9)
        ]  # fmt: skip

        assert sizes[1] < sizes[0]

    @pytest.mark.parametrize(
        ("compression", "level"), [("lzma", None), ("XZ", None), ("xz", 10), ("none", 1)]
    )
    def test_what_does_not_exist_is_refused_before_anything_is_stored(
        self, tree, store, key, compression, level
    ):
        with pytest.raises(InvalidArgumentError):
            BackupManager(tree, store, key, compression=compression, level=level)

        assert not store.exists()


class TestNames:
    def test_an_id_that_would_take_a_name_in_use_is_drawn_again(
        self, tree, make_request, clock, monkeypatch
    ):
        storage = MemoryStorage()
        request = dataclasses.replace(make_request(tree), clock=clock)
        first = take_snapshot(request, storage)
        drawn = iter([first.id])
        real = secrets.token_bytes
        monkeypatch.setattr(secrets, "token_bytes", lambda size: next(drawn, None) or real(size))

        second = take_snapshot(request, storage)

        assert next(drawn, None) is None
        assert second.name != first.name
        assert second.sequence == first.sequence + 1


class TestWhatIsLeftOut:
    def test_a_store_inside_the_source_is(self, tree, key):
        manager = BackupManager(tree, tree / "backups" / "store", key)

        manager.create_snapshot()
        path = manager.create_snapshot()

        names = entries_of(path, key, tree)
        assert "backups" in names
        assert not [name for name in names if name.startswith("backups/")]
        assert [problem.reason for problem in manager.last_report.skipped] == ["own store"]

    def test_a_socket_is_and_that_is_no_problem(self, source, manager):
        import socket  # noqa: PLC0415 - for this test alone

        (source / "file").touch()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(source / "socket"))
            manager.create_snapshot()

        assert [problem.reason for problem in manager.last_report.skipped] == ["socket"]
        assert manager.last_report.problems == ()


class TestSourcesThatCannotBeRead:
    def test_a_store_is_not_saved_into_itself(self, tmp_path, key):
        store = tmp_path / "store"
        (store / "inside").mkdir(parents=True)

        for source in (store, store / "inside"):
            with pytest.raises(ConfigError, match="is the store"):
                BackupManager(source, store, key).create_snapshot()

        assert list(store.rglob("*.enc")) == []

    def test_a_source_stays_what_it_was_when_the_program_moves(
        self, tree, store, key, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tree.parent)
        manager = BackupManager(tree.name, store, key)
        monkeypatch.chdir("/")

        assert Path(manager.create_snapshot()).exists()

    def test_a_missing_source_is_an_error_and_nothing_is_stored(self, tmp_path, store, key):
        manager = BackupManager(tmp_path / "absent", store, key)

        with pytest.raises(SourceError, match="absent: No such file"):
            manager.create_snapshot()

        assert not store.exists()

    def test_a_source_of_another_kind_is_an_error(self, tmp_path, store, key):
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(SourceError, match="neither a directory nor a regular file"):
            BackupManager(tmp_path / "pipe", store, key).create_snapshot()

    def test_one_that_became_empty_is_refused_and_its_snapshot_stays(
        self, manager, tree, store, key
    ):
        manager.create_snapshot()
        before = files_below(store)
        shutil.rmtree(tree)
        tree.mkdir()

        with pytest.raises(SourceError, match="is empty, and was not") as caught:
            manager.create_snapshot()

        assert "mounted" in caught.value.hint
        assert files_below(store) == before

    def test_one_that_was_always_empty_is_not(self, manager, source):
        manager.create_snapshot()
        manager.create_snapshot()

        assert manager.last_report.counts.entries == 1

    def test_a_file_that_became_empty_is_not(self, tmp_path, store, key):
        (tmp_path / "file").write_text("content")
        manager = BackupManager(tmp_path / "file", store, key)
        manager.create_snapshot()
        (tmp_path / "file").write_text("")

        manager.create_snapshot()

        assert manager.last_report.counts.bytes == 0

    def test_files_closed_to_this_user_are_problems_and_the_rest_is_stored(
        self, open_dir, key, as_nobody, tmp_path
    ):
        with as_nobody():
            source = open_dir / "source"
            (source / "closed dir").mkdir(parents=True)
            (source / "closed").write_text("secret")
            (source / "closed again").hardlink_to(source / "closed")
            (source / "large").write_bytes(bytes(9 * MIB))
            (source / "open").write_text("public")
            for name in ("closed", "closed dir", "large"):
                (source / name).chmod(0)
            manager = BackupManager(source, open_dir / "store", key, state=open_dir / "state")
            path = manager.create_snapshot()

        problems = {Path(os.fsdecode(one.path)).name: one for one in manager.last_report.problems}
        out = tmp_path / "out"
        report = RestoreManager(open_dir / "store", key).restore("latest", out)
        assert sorted(problems) == ["closed", "closed again", "closed dir", "large"]
        assert {one.reason for one in problems.values()} == {"Permission denied"}
        assert manager.last_report.counts.errors == 4  # what is in the directory is unknown
        assert names_in(below(out, source)) == ["closed dir", "open"]
        assert not report.damaged
        assert len(report.problems) == 3
        assert entries_of(path, key, source)["large"].error == "Permission denied"

    def test_a_directory_closed_to_this_user_is_refused_as_a_source(self, open_dir, key, as_nobody):
        with as_nobody():
            source = open_dir / "source"
            source.mkdir(mode=0)
            manager = BackupManager(source, open_dir / "store", key, state=open_dir / "state")
            with pytest.raises(SourceError, match="Permission denied"):
                manager.create_snapshot()

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_a_single_file_that_cannot_be_read_gives_a_snapshot_that_says_so(
        self, open_dir, key, as_nobody, compression
    ):
        with as_nobody():
            source = open_dir / "file"
            source.touch(mode=0)
            manager = BackupManager(
                source, open_dir / "store", key, state=open_dir / "s", compression=compression
            )
            manager.create_snapshot()

        assert [one.reason for one in manager.last_report.problems] == ["Permission denied"]
        assert RestoreManager(open_dir / "store", key).validate("latest").holds


class Reads:
    """Does something when a file is read: what may happen between any two system calls."""

    def __init__(self, monkeypatch):
        self._pread = os.pread
        self._actions = []
        self.count = 0
        self.halving = False
        monkeypatch.setattr(os, "pread", self._read)

    def before(self, path, action, *, nth=1):
        self._actions.append([path.stat().st_ino, nth, action, "before"])

    def after(self, path, action, *, nth=1):
        self._actions.append([path.stat().st_ino, nth, action, "after"])

    def _read(self, descriptor, length, offset):
        inode = os.fstat(descriptor).st_ino
        due = []
        for waiting in list(self._actions):
            if waiting[0] == inode:
                self.count += 1
                waiting[1] -= 1
                if waiting[1] == 0:
                    self._actions.remove(waiting)
                    due.append(waiting)
        for *_, action, when in due:
            if when == "before":
                action()
        wanted = -(-length // 2) if self.halving and length > 1000 else length
        data = self._pread(descriptor, wanted, offset)
        for *_, action, when in due:
            if when == "after":
                action()
        return data


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def replace_by_file(path):
    other = path.with_name("other")
    other.write_text("another file")
    other.rename(path)


def replace_by_link(path):
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_directory(path):
    path.unlink()
    path.mkdir()


def change_in_place(path):
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"CHANGED")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # covers its tracks


CHANGES = {
    "removed": Path.unlink,
    "grown": grow,
    "much grown": lambda path: path.write_bytes(bytes(2 * SMALL_CAP)),
    "shrunk": lambda path: os.truncate(path, 3),
    "emptied": lambda path: os.truncate(path, 0),
    "changed": change_in_place,
    "another file": replace_by_file,
    "a link": replace_by_link,
    "a pipe": replace_by_pipe,
    "a directory": replace_by_directory,
}


def rewrite(path):
    """Replace all of the content by another one of the same length, and cover the tracks."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def let_the_clock_tick():
    """Wait until the file system stamps a change with another time than what was before."""
    time.sleep(0.02)


class TestSourcesThatChangeMeanwhile:
    """Whatever happens, an entry is whole and true, or says that it is not."""

    @pytest.fixture
    def reads(self, monkeypatch):
        return Reads(monkeypatch)

    @pytest.fixture
    def take(self, source, make_request):
        storage = MemoryStorage()
        # What happens at a read is noticed in this process only.
        request = make_request(source, cap=SMALL_CAP, archive=ArchiveType.TAR_ZST, workers=1)

        def taken():
            report = take_snapshot(request, storage)
            located = locate(storage, report.name)
            reader = located.open(request.identities)
            assert verify_snapshot(located, request.identities).holds
            prefix = os.fsencode(source).lstrip(b"/") + b"/"
            found = {}
            for entry in reader.entries():
                data = b"".join(read_content(reader, entry))
                found[os.fsdecode(entry.path.removeprefix(prefix))] = (entry, data)
                if entry.type is EntryType.FILE and not entry.error:
                    assert len(data) == entry.size
                    assert entry.digest
            return report, found

        return taken

    @pytest.mark.parametrize("change", CHANGES)
    def test_between_the_walk_and_the_read(self, source, reads, take, change):
        (source / "a").write_text("read first")
        victim = source / "b"
        victim.write_text("the content that was there")
        (source / "c").write_text("read last")
        reads.before(source / "a", lambda: CHANGES[change](victim))

        report, found = take()

        entry, data = found["b"]
        if entry.error:
            assert change in {"removed", "much grown", "a link", "a pipe", "a directory"}
            assert [problem.reason for problem in report.problems] == [entry.error]
        else:
            assert data == victim.read_bytes()
            assert (entry.mtime_ns, entry.size) == (victim.stat().st_mtime_ns, len(data))
        assert found["a"][1] + found["c"][1] == b"read firstread last"

    @pytest.mark.parametrize("change", ["grown", "shrunk", "changed"])
    def test_a_change_during_the_read_is_made_good_by_reading_again(
        self, source, reads, take, change
    ):
        victim = source / "victim"
        victim.write_text("the content that was there")
        let_the_clock_tick()
        reads.after(victim, lambda: CHANGES[change](victim))

        report, found = take()

        assert report.problems == ()
        assert found["victim"][1] == victim.read_bytes()

    @pytest.mark.parametrize("change", ["grown", "changed"])
    def test_a_file_that_does_not_rest_is_stored_with_a_note(self, source, reads, take, change):
        victim = source / "victim"
        victim.write_text("the content that was there")
        let_the_clock_tick()
        for nth in (1, 2, 3):
            reads.after(victim, lambda: CHANGES[change](victim), nth=nth)

        report, found = take()

        assert found["victim"][0].error == "changed while it was read"
        assert len(report.problems) == report.counts.errors == 1

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("nth", [1, 2, 3, 4, 6])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_large_file_at_any_of_its_reads(  # noqa: PLR0917 - fixtures
        self, source, reads, take, change, nth, when
    ):
        victim = source / "victim"
        victim.write_bytes(content := os.urandom(5 * SMALL_CAP))
        (source / "z").write_text("read last")
        let_the_clock_tick()
        getattr(reads, when)(victim, lambda: CHANGES[change](victim), nth=nth)

        report, found = take()

        entry, data = found["victim"]
        assert found["z"][1] == b"read last"
        assert reads.count >= nth
        if entry.error:
            assert [problem.reason for problem in report.problems] == [entry.error]
        else:
            assert data == content

    @pytest.mark.parametrize("size", [20_000, 5 * SMALL_CAP])
    def test_between_the_two_halves_of_any_read(self, source, reads, take, size):
        """The system may give less than it was asked for, long before the end of a file."""
        victim = source / "victim"
        victim.write_bytes(os.urandom(size))
        reads.halving = True
        reads.before(victim, lambda: None, nth=10**9)
        take()
        total, noted = reads.count, 0
        contents = {victim.read_bytes()}

        def change():
            rewrite(victim)
            contents.add(victim.read_bytes())

        for nth in range(1, total + 1):
            let_the_clock_tick()
            reads.after(victim, change, nth=nth)
            entry, data = take()[1]["victim"]
            noted += bool(entry.error)
            assert entry.error or data in contents

        assert total > (2 if size < SMALL_CAP else 10)
        assert bool(noted) == (size > SMALL_CAP)

    def test_many_files_that_grow_share_what_room_a_frame_has(self, source, reads, take):
        (source / "a").write_text("read first")
        for number in range(10):
            (source / f"b{number}").write_bytes(os.urandom(100))
        (source / "c").write_text("read last")

        def grow_all():
            for number in range(10):
                (source / f"b{number}").write_bytes(os.urandom(9000))

        reads.before(source / "a", grow_all)
        report, found = take()

        whole = {f"b{n}" for n in range(10) if not found[f"b{n}"][0].error}
        assert all(found[name][1] == (source / name).read_bytes() for name in whole)
        assert 0 < len(whole) < 10
        assert report.counts.errors == 10 - len(whole)
        assert found["c"][1] == b"read last"

    def test_a_file_that_gets_another_name_is_stored_on_its_own(self, source, reads, take):
        (source / "a").write_text("read first")
        (source / "b").write_text("content")
        reads.before(source / "a", lambda: (source / "c").hardlink_to(source / "b"))

        report, found = take()

        assert report.problems == ()
        assert (found["b"][0].links, found["b"][1]) == (1, b"content")

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("size", [100, 3 * SMALL_CAP])
    def test_one_of_the_names_of_a_file(self, source, reads, take, change, size):
        (source / "a").write_text("read first")
        first, second = source / "b", source / "c"
        first.write_bytes(content := os.urandom(size))
        second.hardlink_to(first)
        let_the_clock_tick()
        reads.before(source / "a", lambda: CHANGES[change](first))

        report, found = take()

        for path in (first, second):
            entry, data = found[path.name]
            now = path.read_bytes() if path.is_file() else b""
            assert entry.error or data in {content, now}, path
        assert report.counts.errors == len(report.problems)

    @pytest.mark.parametrize("far_apart", [False, True])
    def test_where_the_first_name_is_gone_the_others_have_the_content(
        self, source, reads, take, far_apart
    ):
        (source / "a").write_text("read first")
        first, second, third = source / "b", source / "y", source / "z"
        first.write_text("content of three names")
        second.hardlink_to(first)
        third.hardlink_to(first)
        if far_apart:
            (source / "c").write_bytes(os.urandom(SMALL_CAP - 6000))
        reads.before(source / "a", first.unlink)

        _, found = take()

        assert found["b"][0].error
        for name in ("y", "z"):
            assert (found[name][0].error, found[name][1]) == ("", b"content of three names")

    def test_an_inode_that_serves_another_file_by_now_does_not_join_the_two(
        self, source, reads, take
    ):
        """File systems give the inode of a removed file to the next one."""
        for name in "123":
            (source / name).mkdir()
        first, second = source / "1" / "a", source / "1" / "b"
        first.write_text("a file with two names")
        second.hardlink_to(first)
        inode = first.stat().st_ino
        filler = source / "2" / "filler"
        filler.write_bytes(os.urandom(SMALL_CAP - 8000))
        (source / "2" / "more").write_bytes(os.urandom(SMALL_CAP - 8000))

        def reuse():
            first.unlink()
            second.unlink()
            for number in range(500):
                candidate = source / "2" / f"candidate {number}"
                candidate.write_text("another file")
                if candidate.stat().st_ino == inode:
                    candidate.rename(source / "3" / "c")
                    (source / "3" / "d").hardlink_to(source / "3" / "c")
                    return
            pytest.skip("this file system does not use inodes again soon")

        reads.before(filler, reuse)
        _, found = take()

        for name in ("1/a", "1/b"):
            assert found[name][0].error or found[name][1] == b"a file with two names"
        for name in ("3/c", "3/d"):
            entry, data = found[name]
            assert (entry.error, data) == ("", b"another file")
        groups = [found[name][0] for name in ("1/a", "3/c")]
        assert len({(one.filesystem, one.inode) for one in groups if one.links > 1}) == len(
            [one for one in groups if one.links > 1]
        )


class TestChains:
    def test_each_snapshot_follows_the_one_before(self, manager, tree, clock):
        paths = []
        for _ in range(3):
            paths.append(manager.create_snapshot())
            clock.advance(hours=1)

        cores = [read_header(locate_path(Path(path)).source).core for path in paths]
        assert [core.sequence for core in cores] == [1, 2, 3]
        assert [core.previous for core in cores] == [None, cores[0].digest, cores[1].digest]
        assert len({core.chain for core in cores}) == 1
        assert len({core.id for core in cores}) == 3

    def test_a_chain_goes_on_when_the_clock_was_set_back(self, manager, tree, clock):
        manager.create_snapshot()
        clock.advance(days=-400)

        manager.create_snapshot()

        assert manager.last_report.sequence == 2

    def test_another_key_begins_another_chain(self, manager, tree, store, clock):
        first = manager.create_snapshot()
        other = BackupManager(tree, store, Fernet.generate_key(), clock=clock, job="source")

        second = other.create_snapshot()

        one, two = (read_header(locate_path(Path(path)).source).core for path in (first, second))
        assert (two.sequence, two.previous) == (1, None)
        assert one.chain != two.chain

    def test_the_first_key_then_goes_on_with_its_own(self, manager, tree, store, clock):
        manager.create_snapshot()
        BackupManager(tree, store, Fernet.generate_key(), job="source").create_snapshot()

        manager.create_snapshot()

        assert manager.last_report.sequence == 2

    def test_a_damaged_snapshot_is_passed_over(self, manager, tree):
        manager.create_snapshot()
        Path(manager.create_snapshot()).write_bytes(b"something else")

        manager.create_snapshot()

        assert manager.last_report.sequence == 2

    def test_a_forged_header_does_not_lead_it_astray(self, manager, tree, key):
        path = Path(manager.create_snapshot())
        data = path.read_bytes()
        forged = data.replace(b'"seq":1', b'"seq":9')
        forged_path = path.with_name(path.name.replace("-full", "-full").replace("T16", "T17"))
        assert forged != data
        forged_path.write_bytes(forged)

        manager.create_snapshot()

        assert manager.last_report.sequence == 2


class TestJobs:
    def test_two_sources_of_one_name_do_not_become_one_job(self, tmp_path, store, key):
        paths = []
        for parent in ("one", "two"):
            (tmp_path / parent / "data").mkdir(parents=True)
            (tmp_path / parent / "data" / "file").write_text(parent)
            paths.append(tmp_path / parent / "data")
        managers = [BackupManager(path, store, key) for path in paths]

        for manager in managers * 2:
            manager.create_snapshot()

        jobs = [manager.last_report.name.split("/")[1] for manager in managers]
        assert jobs[0] == "data"
        assert jobs[1].startswith("data-")
        assert [manager.last_report.sequence for manager in managers] == [2, 2]

    def test_a_given_job_is_taken_as_it_is(self, tree, store, key):
        path = BackupManager(tree, store, key, job="my-job_1.x", host="box").create_snapshot()

        assert Path(path).is_relative_to(store / "box" / "my-job_1.x")

    @pytest.mark.parametrize("name", ["", "..", "a/b", ".a", "a b", "x" * 65])
    def test_names_that_could_not_be_directories_are_refused(self, tree, store, key, name):
        if name:
            with pytest.raises(InvalidArgumentError, match="cannot be the name of a job"):
                BackupManager(tree, store, key, job=name).create_snapshot()

        with pytest.raises(InvalidArgumentError, match="cannot be the name of a host"):
            take_snapshot_as(tree, store, key, host=name)

    @pytest.mark.parametrize(
        ("name", "job"),
        [
            (b"a b\nc", "a-b-c"),
            (b"...", "files"),
            ("данные".encode(), "files"),
            (b"caf\xe9", "caf"),
            (b"-rf", "rf"),
            (b"n" * 255, "n" * 56),
        ],
    )
    def test_any_name_of_a_source_makes_a_job(self, tmp_path, store, key, name, job):
        source = tmp_path / os.fsdecode(name)
        source.mkdir()
        (source / "file").write_text("content")

        path = BackupManager(source, store, key).create_snapshot()

        assert Path(path).parent == store / "testhost" / job
        assert restored(path, key, source, tmp_path / "out") == listing(source)


def take_snapshot_as(source, store, key, *, host):
    manager = BackupManager(source, store, key, host=host or "x")
    manager._host = host
    manager.create_snapshot()


class TestEncryptingAFile:
    @pytest.fixture
    def file(self, source):
        path = source / "notes.txt"
        path.write_text("what nobody else shall read")
        path.chmod(0o640)
        return path

    def test_an_encrypted_twin_appears_beside_it(self, manager, file, key, store, tmp_path):
        before = listing(file.parent)[b"notes.txt"]

        encrypted = manager._encrypt_file(file)

        assert encrypted == f"{file}.enc"
        assert stat.S_IMODE(Path(encrypted).stat().st_mode) == 0o600
        assert listing(file.parent)[b"notes.txt"] == before
        assert names_in(file.parent) == ["notes.txt", "notes.txt.enc"]
        assert not store.exists()

    def test_restoring_it_gives_the_same_file(self, manager, file, key, tmp_path):
        encrypted = manager._encrypt_file(file)

        report = RestoreManager(file.parent, key).restore(encrypted, tmp_path / "out")

        again = below(tmp_path / "out", file)
        assert (report.files, report.problems, report.damaged) == (1, [], [])
        assert listing(again.parent)[b"notes.txt"] == listing(file.parent)[b"notes.txt"]
        assert again.read_text() == "what nobody else shall read"

    def test_it_is_a_snapshot_of_one_entry(self, manager, file, key):
        reader = opened(manager._encrypt_file(str(file)), key)

        assert [entry.path for entry in reader.entries()] == [os.fsencode(file).lstrip(b"/")]
        assert reader.core.sequence == 1

    def test_a_large_file_works_too(self, manager, source, key, tmp_path):
        (source / "large").write_bytes(os.urandom(9 * MIB))

        encrypted = manager._encrypt_file(source / "large")

        RestoreManager(source, key).restore(encrypted, tmp_path / "out")
        again = below(tmp_path / "out", source / "large")
        assert again.read_bytes() == (source / "large").read_bytes()

    @pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"n" * 220])
    def test_names_of_any_bytes_work_too(self, manager, source, key, tmp_path, name):
        path = source / os.fsdecode(name)
        path.write_text("content")

        encrypted = manager._encrypt_file(path)

        RestoreManager(source, key).restore(encrypted, tmp_path / "out")
        assert below(tmp_path / "out", path).read_text() == "content"

    def test_nothing_is_ever_replaced(self, manager, file):
        Path(f"{file}.enc").write_text("something dear")

        with pytest.raises(StorageError, match="taken"):
            manager._encrypt_file(file)

        assert Path(f"{file}.enc").read_text() == "something dear"
        assert names_in(file.parent) == ["notes.txt", "notes.txt.enc"]

    @pytest.mark.parametrize("name", ["", "absent"])
    def test_a_directory_and_an_absent_file_are_refused(self, manager, source, name):
        with pytest.raises(SourceError):
            manager._encrypt_file(source / name)

        assert names_in(source) == []
        assert not Path(f"{source}.enc").exists()

    def test_a_file_that_cannot_be_read_leaves_nothing(self, open_dir, key, as_nobody):
        with as_nobody():
            path = open_dir / "file"
            path.touch(mode=0)
            manager = BackupManager(open_dir, open_dir / "store", key, state=open_dir / "state")
            with pytest.raises(SourceError, match=r"cannot encrypt .*file: Permission denied"):
                manager._encrypt_file(path)

        assert names_in(open_dir) == ["file", "state"]

    def test_a_directory_that_cannot_be_written_to_is_an_error(self, open_dir, key, as_nobody):
        if os.geteuid() != 0:
            pytest.skip("needs two users")
        (open_dir / "sub").mkdir()
        path = open_dir / "sub" / "file"
        path.write_text("content")
        path.chmod(0o644)
        with as_nobody():
            manager = BackupManager(path, open_dir / "store", key, state=open_dir / "state")

            with pytest.raises(StorageError, match="Permission denied"):
                manager._encrypt_file(path)

        assert names_in(open_dir / "sub") == ["file"]


class TestRotating:
    @pytest.fixture
    def take(self, manager, clock):
        def taken(count=1):
            for _ in range(count):
                clock.advance(minutes=7)
                yield manager.create_snapshot()

        return lambda count=1: list(taken(count))

    def test_the_newest_remain_and_the_paths_of_the_others_come_back(self, manager, take, tree):
        paths = take(5)

        removed = manager._rotate_backups(2)

        assert removed == paths[:3]
        assert all(isinstance(path, str) for path in removed)
        assert [path for path in paths if Path(path).exists()] == paths[3:]

    def test_no_other_file_that_ends_in_enc_is_left(self, manager, take, tree, store):
        paths = take(4)

        manager._rotate_backups(1)

        assert [str(path) for path in store.rglob("*.enc")] == paths[3:]

    def test_what_lies_beside_them_goes_and_stays_with_them(self, manager, take, tree, store):
        paths = take(3)

        manager._rotate_backups(1)

        name = str(Path(paths[2]).relative_to(store))
        assert files_below(store) == [name, name + ".keys", name + ".sha256"]

    def test_keeping_more_than_there_are_removes_nothing(self, manager, take, tree):
        take(2)

        assert manager._rotate_backups(2) == []
        assert manager._rotate_backups(99) == []

    def test_in_a_store_that_does_not_exist_there_is_nothing_to_do(self, manager, store):
        assert manager._rotate_backups(1) == []
        assert not store.exists()

    @pytest.mark.parametrize("keep", [0, -1])
    def test_keeping_less_than_one_is_refused(  # noqa: PLR0917 - fixtures
        self, manager, take, tree, keep, store, key
    ):
        (path,) = take(1)

        with pytest.raises(ValueError, match="at least 1 snapshot is kept"):
            manager._rotate_backups(keep)
        with pytest.raises(ValueError, match="at least 1 snapshot is kept"):
            BackupManager(tree, store, key, keep=keep)

        assert Path(path).exists()

    def test_keep_in_the_constructor_rotates_after_each_snapshot(self, tree, store, key, clock):
        manager = BackupManager(tree, store, key, keep=2, clock=clock)
        paths = []
        for _ in range(4):
            paths.append(manager.create_snapshot())
            clock.advance(seconds=1)

        assert sorted(map(str, store.rglob("*.enc"))) == sorted(paths[2:])

    def test_snapshots_of_other_sources_stay(  # noqa: PLR0917 - fixtures
        self, manager, take, tree, tmp_path, store, key
    ):
        (tmp_path / "other").mkdir()
        other = BackupManager(tmp_path / "other", store, key).create_snapshot()
        part = BackupManager(tree / "docs", store, key).create_snapshot()
        take(3)

        manager._rotate_backups(1)

        assert Path(other).exists()
        assert Path(part).exists()

    def test_snapshots_of_other_hosts_stay(self, manager, take, tree, store, key):
        other = BackupManager(tree, store, key, host="another").create_snapshot()
        take(2)

        manager._rotate_backups(1)

        assert Path(other).exists()

    def test_snapshots_that_do_not_open_and_foreign_files_stay(self, manager, take, tree, store):
        first, second, third = take(3)
        BackupManager(tree, store, Fernet.generate_key(), job="source").create_snapshot()
        foreign = Path(third).with_name("letter.enc")
        foreign.write_text("not a snapshot")
        pretender = Path(str(third).replace("T16", "T01"))
        pretender.write_text("not a snapshot either")
        before = set(files_below(store))

        removed = manager._rotate_backups(1)

        gone = {str(Path(path).relative_to(store)) for path in (first, second)}
        assert removed == [first, second]
        assert before - set(files_below(store)) == {
            name + suffix for name in gone for suffix in ("", ".keys", ".sha256")
        }

    def test_the_newest_is_the_last_one_taken_whatever_the_clock_said(
        self, tree, store, key, clock
    ):
        manager = BackupManager(tree, store, key, keep=1, clock=clock)
        manager.create_snapshot()
        clock.advance(days=-30)

        path = manager.create_snapshot()

        assert [str(path) for path in store.rglob("*.enc")] == [path]

    def test_a_source_in_two_jobs_keeps_the_newest_of_both_together(self, tree, store, key, clock):
        paths = []
        for job in ("one", "two", "one", "two"):
            paths.append(BackupManager(tree, store, key, job=job, clock=clock).create_snapshot())
            clock.advance(hours=1)

        removed = BackupManager(tree, store, key)._rotate_backups(1)

        assert removed == paths[:3]

    def test_a_job_that_was_named_is_the_only_one_to_rotate(self, tree, store, key, clock):
        paths = {}
        for job in ("one", "two"):
            manager = BackupManager(tree, store, key, job=job, clock=clock)
            paths[job] = [manager.create_snapshot(), manager.create_snapshot()]

        removed = BackupManager(tree, store, key, job="one")._rotate_backups(1)

        assert removed == paths["one"][:1]
        assert all(Path(path).exists() for path in paths["two"])

    def test_a_relative_source_is_the_same_as_an_absolute_one(  # noqa: PLR0917 - fixtures
        self, manager, take, tree, store, key, monkeypatch
    ):
        paths = take(2)
        monkeypatch.chdir(tree.parent)
        (tree.parent / "alias").symlink_to(tree)

        assert BackupManager("source", store, key)._rotate_backups(1) == paths[:1]
        assert BackupManager("alias", store, key)._rotate_backups(1) == []

    @settings(
        max_examples=15 if settings().max_examples < 1000 else 200,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        steps=st.lists(
            st.one_of(
                st.tuples(st.just("take"), st.integers(0, 2), st.integers(-3, 50)),
                st.tuples(st.just("rotate"), st.integers(0, 2), st.integers(1, 5)),
            ),
            max_size=14,
        )
    )
    def test_any_sequence_of_runs_leaves_what_a_simple_model_says(
        self, tmp_path_factory, key, clock, steps
    ):
        top = tmp_path_factory.mktemp("rotating")
        sources = [top / "a" / "data", top / "b" / "data", top / "c" / "other"]
        for source in sources:
            source.mkdir(parents=True)
        managers = [BackupManager(source, top / "store", key, clock=clock) for source in sources]
        model = [[], [], []]

        for action, which, number in steps:
            if action == "take":
                clock.advance(seconds=number * 10 + 1)
                model[which].append(managers[which].create_snapshot())
            else:
                removed = managers[which]._rotate_backups(number)
                assert removed == model[which][:-number]
                model[which] = model[which][-number:]

        left = sorted(str(path) for path in (top / "store").rglob("*.enc"))
        assert left == sorted(path for paths in model for path in paths)
        assert len(files_below(top / "store") if left else []) == 3 * len(left)
        shutil.rmtree(top)


class TestKeysOfAManager:
    def test_text_and_bytes_are_the_same_key(self, tree, store, key):
        BackupManager(tree, store, key).create_snapshot()
        manager = BackupManager(tree, store, key.encode())

        manager.create_snapshot()

        assert manager.last_report.sequence == 2
        assert RestoreManager(store, key.encode()).validate("source").holds

    def test_without_one_the_key_file_is_taken(self, tree, store, key, key_file):
        path = BackupManager(tree, store).create_snapshot()

        assert opened(path, key).record.job == "source"
        assert RestoreManager(store).validate("source").holds

    def test_without_a_key_file_there_is_no_manager(self, tree, store):
        with pytest.raises(KeyMissingError, match="there is no key file"):
            BackupManager(tree, store)
        with pytest.raises(KeyMissingError, match="there is no key file"):
            RestoreManager(store)

    @pytest.mark.parametrize("wrong", ["", "short", b"\xff" * 44, "é" * 44, "A" * 45])
    def test_what_is_no_key_is_refused(self, tree, store, wrong):
        with pytest.raises(InvalidArgumentError, match="32 bytes in base64url") as caught:
            BackupManager(tree, store, wrong)

        assert repr(wrong) not in str(caught.value) or not wrong

    def test_another_key_opens_nothing(self, manager, tree, store):
        path = manager.create_snapshot()

        with pytest.raises(WrongKeyError):
            opened(path, Fernet.generate_key())
        with pytest.raises(SecretKeyError):
            RestoreManager(store, Fernet.generate_key()).validate("source")

    def test_no_representation_shows_the_key(self, manager, key):
        assert key not in repr(manager) + repr(vars(manager)) + repr(FernetKey.parse(key))


class TestStores:
    def test_a_url_and_a_path_are_the_same_store(self, tree, store, key):
        first = BackupManager(tree, store.as_uri(), key).create_snapshot()
        manager = BackupManager(tree, str(store), key)

        second = manager.create_snapshot()

        assert Path(first).parent == Path(second).parent
        assert manager.last_report.sequence == 2

    def test_an_unknown_store_is_refused(self, tree, key):
        with pytest.raises(ConfigError, match="there is no storage for URLs"):
            BackupManager(tree, "gopher://x/y", key)

    def test_a_store_that_is_a_file_is_an_error(self, tree, tmp_path, key):
        (tmp_path / "file").touch()

        with pytest.raises(StorageError):
            BackupManager(tree, tmp_path / "file", key).create_snapshot()


class FailingStorage(MemoryStorage):
    """Fails to create the file of the given number."""

    def __init__(self, fails_at):
        super().__init__()
        self._left = fails_at

    def create(self, name, *, replace=False):
        self._left -= 1
        if self._left == 0:
            raise StorageError(f"cannot store {name!r}: no space left")
        return super().create(name, replace=replace)


class TestStoresThatFail:
    @pytest.mark.parametrize("fails_at", [1, 2, 3])
    def test_a_failure_at_any_file_leaves_nothing(self, tree, make_request, fails_at):
        storage = FailingStorage(fails_at)

        with pytest.raises(StorageError, match="no space left"):
            take_snapshot(make_request(tree), storage)

        assert list(storage.list_files()) == []

    def test_a_sync_that_fails_at_any_time_leaves_nothing(self, tree, make_request, tmp_path):
        request = make_request(tree)
        calls = []
        take_snapshot(request, LocalStorage(tmp_path / "whole", sync=calls.append))

        failures = 0
        for number in range(1, len(calls) + 1):
            storage = LocalStorage(tmp_path / f"{number}", sync=FailsAt(number))
            try:
                report = take_snapshot(request, storage)
            except StorageError:
                assert list(storage.list_files()) == []
                failures += 1
            else:
                assert verify_snapshot(locate(storage, report.name), request.identities).holds
            assert not list((tmp_path / f"{number}").rglob(".*.partial"))
        assert failures >= 6

    def test_a_medium_that_returns_something_else_is_found_out(self, tree, make_request, tmp_path):
        def spoil(descriptor):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.pwrite(descriptor, b"\0\0\0", 300)

        storage = LocalStorage(tmp_path / "store", sync=spoil)

        with pytest.raises(StorageError, match="did not return what was written"):
            take_snapshot(make_request(tree), storage)

        assert files_below(tmp_path / "store") == []

    def test_memory_that_forgets_is_found_out_before_anything_is_stored(
        self, tree, make_request, monkeypatch
    ):
        import lzma  # noqa: PLC0415 - for this test alone

        compress = lzma.compress

        def forgetful(data, **options):
            return compress(bytes(data[:-1]) + b"?", **options)

        monkeypatch.setattr(lzma, "compress", forgetful)
        storage = MemoryStorage()

        with pytest.raises(IntegrityError, match="did not decompress to what went in"):
            take_snapshot(make_request(tree), storage)

        assert list(storage.list_files()) == []

    def test_what_is_interrupted_leaves_nothing(self, tree, make_request, store):
        def interrupt(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            take_snapshot(make_request(tree), LocalStorage(store), on_progress=interrupt)

        assert files_below(store) == []

    def test_what_is_interrupted_when_it_can_be_seen_already_is_whole(self, tree, make_request):
        class InterruptedAfterwards(MemoryStorage):
            def create(self, name, *, replace=False):
                writer = super().create(name, replace=replace)
                commit = writer.commit

                def commit_and_interrupt():
                    commit()
                    if name.endswith(".enc"):
                        raise KeyboardInterrupt

                writer.commit = commit_and_interrupt
                return writer

        storage, request = InterruptedAfterwards(), make_request(tree)

        with pytest.raises(KeyboardInterrupt):
            take_snapshot(request, storage)

        (found,) = list_snapshots(storage)
        located = locate(storage, found.name)
        assert located.keys_file
        assert located.recorded_digest
        assert verify_snapshot(located, request.identities).holds

    def test_remains_of_a_run_that_was_killed_go_with_the_next_one(
        self, tree, store, manager, clock
    ):
        path = Path(manager.create_snapshot())
        orphans = [path.with_name(path.name.replace("T16", "T15") + ".keys")]
        orphans.append(orphans[0].with_suffix(".sha256"))
        young = path.with_name(path.name.replace("T16", "T14") + ".keys")
        for orphan in (*orphans, young):
            orphan.touch()
        stale = path.with_name(f".{path.name}.0123abcd.partial")
        stale.touch()
        now = clock.now.timestamp()
        for orphan in orphans:
            os.utime(orphan, (now - 4000, now - 4000))
        os.utime(young, (now - 60, now - 60))

        manager.create_snapshot()

        assert [one.exists() for one in (*orphans, stale, young, path)] == [
            False, False, False, False, True,
        ]  # fmt: skip

    def test_without_a_lock_what_is_young_may_belong_to_another_run(
        self, tree, store, manager, clock, monkeypatch
    ):
        def flock(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        path = Path(manager.create_snapshot())
        old, young = (
            path.with_name(path.name.replace("T16", one) + ".keys") for one in ("T15", "T14")
        )
        for orphan, age in ((old, 4000), (young, 60)):
            orphan.touch()
            os.utime(orphan, (clock.now.timestamp() - age,) * 2)
        monkeypatch.setattr("fcntl.flock", flock)

        manager.create_snapshot()

        assert [one.exists() for one in (old, young)] == [False, True]


class FailsAt:
    """Syncs fail from the given call on."""

    def __init__(self, number):
        self._left = number

    def __call__(self, descriptor):
        self._left -= 1
        if self._left <= 0:
            raise OSError(5, "Input/output error")


class TestSeveralSources:
    def test_all_of_them_are_in_one_snapshot(self, tree, tmp_path, make_request, key, store):
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "file").write_text("2")
        (tmp_path / "third").write_text("3")
        storage = LocalStorage(store)

        report = take_snapshot(
            make_request(tmp_path / "third", str(tree), os.fsencode(tmp_path / "second")), storage
        )

        RestoreManager(store, key).restore("latest", tmp_path / "out")
        assert report.counts.entries == len(listing(tree)) + 3
        again = below(tmp_path / "out", tmp_path)
        assert names_in(again) == ["second", "source", "third"]
        for name in ("source", "second"):
            assert listing(again / name) == listing(tmp_path / name)
        assert listing(again)[b"third"] == listing(tmp_path)[b"third"]

    @pytest.mark.parametrize("names", [[], ["source", "source"], ["source", "source/docs"]])
    def test_none_and_overlapping_ones_are_refused(self, tree, tmp_path, make_request, names):
        storage = MemoryStorage()

        with pytest.raises(ConfigError):
            take_snapshot(make_request(*(tmp_path / name for name in names)), storage)

        assert list_snapshots(storage) == []

    def test_one_that_is_empty_among_others_is_not_refused(self, tree, tmp_path, make_request):
        other = tmp_path / "other"
        other.mkdir()
        (other / "file").touch()
        storage = MemoryStorage()
        take_snapshot(make_request(tree, other), storage)
        (other / "file").unlink()

        report = take_snapshot(make_request(tree, other), storage)

        assert report.sequence == 2
