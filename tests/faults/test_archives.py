"""Archives while things go wrong: nothing that looks finished is left, and all of it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import pytest

from backup.errors import IntegrityError, SourceError, StorageError
from backup.manager.frame_wire import encode_job
from backup.manager.plan import FrameJob, Member
from backup.plain.formats import Format
from backup.plain.making import make_archive
from backup.plain.members import name_start
from backup.plain.piece_wire import Order, decode_report, making
from backup.plain.piece_work import PieceWork
from backup.plain.places import FilePlace, StorePlace
from backup.plain.request import ArchiveRequest
from backup.plain.zip_records import ZipMember, central_record, end_of_directory, local_header
from backup.sources.roots import prepare_roots
from backup.sources.tree import TreeWalker
from backup.storage.local_writer import LocalWriter
from backup.storage.memory import MemoryStorage
from tests.cli import run, run_process, start
from tests.processes import wait_until

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
LARGE = 9 << 20
FORMATS = [Format.ZIP, Format.TAR_ZST]


@pytest.fixture
def large(source):
    """Return a source with small files and one of two pieces."""
    (source / "a").write_text("first")
    (source / "large").write_bytes(os.urandom(LARGE))
    (source / "z").write_text("last")
    return source


def request_for(source, form, **fields):
    return ArchiveRequest(roots=prepare_roots([source]), format=form, workers=1, **fields)


def names_of(directory):
    return sorted(os.listdir(directory))  # noqa: PTH208 - names are enough


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_nothing(large, small_disk, form):
    result = run("archive", large, "-o", small_disk / f"x.{form}")

    assert result.status == 14
    assert "No space left on device" in result.err
    assert names_of(small_disk) == []


def test_a_full_disk_leaves_what_was_to_be_replaced(large, small_disk):
    (small_disk / "x.zip").write_text("precious")

    assert run("archive", large, "-o", small_disk / "x.zip", "--yes").status == 14
    assert (small_disk / "x.zip").read_text() == "precious"
    assert names_of(small_disk) == ["x.zip"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--encrypt"]])
def test_an_interrupted_run_leaves_nothing(large, tmp_path, key_file, number, options):
    (large / "more").write_bytes(os.urandom(60 << 20))
    out = tmp_path / "out"
    out.mkdir()
    with start("archive", large, "-o", out / "x.tar.bz2", *options) as process:
        assert wait_until(lambda: names_of(out), 20)
        time.sleep(0.3)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)

    assert process.returncode == 130
    assert b"interrupted; no unfinished archive is left" in told
    assert names_of(out) == []


def test_a_killed_run_leaves_no_file_of_the_final_name(large, tmp_path):
    (large / "more").write_bytes(os.urandom(60 << 20))
    out = tmp_path / "out"
    out.mkdir()
    with start("archive", large, "-o", out / "x.tar.bz2") as process:
        assert wait_until(lambda: names_of(out), 20)
        process.kill()
        process.communicate(timeout=30)

    assert all(name.endswith(".partial") for name in names_of(out))
    with FilePlace(out, "alive.zip").create() as writer:
        (alive,) = [name for name in names_of(out) if name.startswith(".alive")]
        assert run("archive", large / "a", "-o", out / "y.zip").status == 0
        assert names_of(out) == sorted([alive, "y.zip"])
        writer.abort()


class _Lying(MemoryStorage):
    """Returns another byte than was written, at one place."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def create(self, name, *, replace=False):
        writer = super().create(name, replace=replace)
        honest = writer.read_range

        def lying(offset, length):
            data = bytearray(honest(offset, length))
            if offset <= self.at < offset + length:
                data[self.at - offset] ^= 0x10
            return bytes(data)

        writer.read_range = lying
        return writer


@pytest.mark.parametrize("form", list(Format))
def test_what_comes_back_otherwise_is_no_archive(source, form):
    (source / "a").write_text("the first words of a file\n" * 200)
    request = request_for(source, form)
    size = make_archive(request, [StorePlace(MemoryStorage(), "x")]).size

    for at in range(0, size, 1 if DEEP else 41):
        storage = _Lying(at)
        with pytest.raises(IntegrityError, match="would not hold what was read"):
            make_archive(request, [StorePlace(storage, "x")])
        assert storage.stat("x") is None


def test_a_medium_that_lies_leaves_nothing(large, tmp_path, monkeypatch):
    real = LocalWriter._read
    monkeypatch.setattr(
        LocalWriter, "_read", lambda self, at, size: bytes(len(real(self, at, size)))
    )
    out = tmp_path / "out"
    out.mkdir()

    result = run("archive", large, "-o", out / "x.zip")
    assert result.status == 13
    assert "no archive has been made" in result.err
    assert names_of(out) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_source_that_vanishes_makes_no_archive(source, tmp_path, form):
    (source / "a").touch()
    request = request_for(source, form)
    (source / "a").unlink()
    source.rmdir()

    with pytest.raises(SourceError, match="there is nothing to archive"):
        make_archive(request, [FilePlace(tmp_path, "x")])
    assert names_of(tmp_path) == []


@pytest.mark.parametrize("form", FORMATS)
def test_files_that_change_all_the_time_leave_a_valid_archive(large, tmp_path, form):
    is_over = threading.Event()

    def change():
        while not is_over.is_set():
            with (large / "large").open("ab") as file:
                file.write(b"more" * 1000)
            os.truncate(large / "large", LARGE - 5)
            (large / "a").write_text("x" * (time.monotonic_ns() % 5000))
            (large / "comes").write_text("and goes")
            (large / "comes").unlink()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        reports = [
            make_archive(request_for(large, form), [FilePlace(tmp_path, f"{at}.{form}")])
            for at in range(40 if DEEP else 4)
        ]
    finally:
        is_over.set()
        thread.join()

    assert any(report.problems for report in reports)
    for at in range(len(reports)):
        made = tmp_path / f"{at}.{form}"
        command = ["unzip", "-tqq"] if form is Format.ZIP else ["tar", "-tf"]
        assert subprocess.run([*command, made], capture_output=True, check=False).returncode == 0


def test_another_name_of_a_file_brings_the_content_when_the_first_one_has_gone(source):
    (source / "a").write_text("one file, two names")
    (source / "b").hardlink_to(source / "a")
    roots = prepare_roots([source])
    _, first, second = TreeWalker(roots)
    job = FrameJob(0, (Member(first), Member(second, first.path)))
    (source / "a").unlink()

    work = PieceWork(Order(Format.TAR, 0, name_start(roots), 1 << 20))
    report, piece = work.run(memoryview(making(encode_job(job))))
    work.close()

    told = decode_report(report)
    assert [reason for _, reason in told.problems] == ["No such file or directory"]
    listed = subprocess.run(
        ["tar", "-xOf", "-", "source/b"], input=piece + bytes(1024), capture_output=True, check=True
    )
    assert listed.stdout == b"one file, two names"


def test_the_name_is_not_taken_from_somebody_who_was_faster(large, tmp_path):
    class Faster(FilePlace):
        def create(self):
            writer = super().create()
            (tmp_path / "x.zip").write_text("precious")
            return writer

    with pytest.raises(StorageError, match="the name is taken"):
        make_archive(request_for(large, Format.ZIP), [Faster(tmp_path, "x.zip")])
    assert (tmp_path / "x.zip").read_text() == "precious"
    assert not [name for name in names_of(tmp_path) if name.endswith(".partial")]


def test_more_than_4_gib_go_into_a_zip_in_little_memory(source, tmp_path):
    size = (4 << 30) + (100 << 20)
    (source / "after").write_text("what follows")
    with (source / "huge").open("wb") as file:
        if DEEP:  # zeros that are there, not holes
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        else:
            file.truncate(size)
    (source / "zz").write_text("the last one")

    result = run_process("archive", source, "-o", tmp_path / "x.zip")
    assert result.status == 0, result.err
    with zipfile.ZipFile(tmp_path / "x.zip") as opened:
        assert opened.getinfo("source/huge").file_size == size
        assert opened.read("source/zz") == b"the last one"
    listed = subprocess.run(
        ["bsdtar", "-tvf", tmp_path / "x.zip"], capture_output=True, text=True, check=True
    )
    assert str(size) in listed.stdout
    if DEEP:
        subprocess.run(["unzip", "-tqq", tmp_path / "x.zip"], check=True)


def test_a_zip_of_more_than_4_gib_has_64_bit_places(tmp_path):
    far = (5 << 30) + 7
    member = ZipMember(b"a", 0o100644, 0, 0, 0, size=1, packed=1, crc=0xE8B7BE43, offset=far)
    made = tmp_path / "x.zip"
    with made.open("wb") as file:  # a hole where 5 GiB of other members would be
        file.seek(far)
        file.write(local_header(member) + b"a")
        at = file.tell()
        record = central_record(member)
        file.write(record + end_of_directory(1, len(record), at))

    with zipfile.ZipFile(made) as opened:
        held = opened.getinfo("a")
        assert (held.header_offset, opened.read("a")) == (far, b"a")
    assert Path(made).stat().st_size > far
    assert subprocess.run(["unzip", "-tqq", made], check=False).returncode == 0


def test_more_than_65535_members(tmp_path):
    count = 66_000
    held = [ZipMember(b"%d" % at, 0o100644, 0, 0, 0) for at in range(count)]
    blocks = []
    at = 0
    for member in held:
        member.offset = at
        blocks.append(local_header(member))
        at += len(blocks[-1])
    directory = b"".join(map(central_record, held))
    made = tmp_path / "x.zip"
    made.write_bytes(b"".join(blocks) + directory + end_of_directory(count, len(directory), at))

    with zipfile.ZipFile(made) as opened:
        assert len(opened.infolist()) == count
    assert subprocess.run(["unzip", "-tqq", made], check=False).returncode == 0
