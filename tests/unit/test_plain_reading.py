"""Plain archives, made by whatever tool: what is read of them, and that damage is told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import time
import tracemalloc
import zipfile
import zlib

import pytest

from backup.archive.records import acl_text, acl_value
from backup.errors import (
    BackupError,
    DigestError,
    IntegrityError,
    LimitError,
    MalformedError,
    RestoreError,
    TruncatedError,
)
from backup.model import EntryType
from backup.plain.arranging import Limits
from backup.plain.formats import Format, format_at
from backup.plain.reading import open_archive, open_source, place_of, verify_archive
from backup.plain.reading_header import parse_records
from backup.snapshot.content import fill_holes
from backup.snapshot.source import BytesSource
from tests.hostile_archives import Thing, tar_of, zip_of
from tests.needs import needs

LIMITS = Limits()
SIZE = 1 << 30 if os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep" else 1 << 26
PACKERS = {
    Format.TAR: bytes,
    Format.TAR_GZ: lambda data: gzip.compress(data, mtime=0),
    Format.TAR_BZ2: bz2.compress,
    Format.TAR_XZ: lzma.compress,
}


def opened(data, limits=LIMITS):
    return open_source(BytesSource(data, "a file"), format_at(io.BytesIO(data)), limits)


def opened_as(data, form):
    return open_source(BytesSource(data, "a file"), form, LIMITS)


def contents(archive):
    """Return type, content or target, and time of all that an archive gives, by path."""
    archive.check()
    files = [one for one in archive.entries if one.type is EntryType.FILE]
    files = sorted((one for one in files if one.path not in archive.unfit), key=place_of)
    found = {}
    for entry, pieces in zip(files, archive.read(files), strict=True):
        found[entry.path] = b"".join(fill_holes(entry, pieces))
    return {
        one.path: (one.type, found.get(one.path, one.target), one.mtime_ns, one.uid, one.gid)
        for one in archive.entries
        if one.path not in archive.unfit
    }


def outcome(data):
    """Return what an archive holds, or the error of ours that tells of damage."""
    try:
        archive = opened(data)
        found = contents(archive)
    except BackupError as error:
        return error
    if archive.unfit:
        return RestoreError(str(archive.unfit))
    return archive.lost[0] if archive.lost else found


def paths(archive):
    return [one.path for one in archive.entries]


class TestTar:
    def test_names_lose_what_means_nothing(self):
        things = [Thing("dir", "./"), Thing("dir", "./d/"), Thing("file", ".//d/./x")]

        assert paths(opened(tar_of(things))) == [b"d", b"d/x"]

    def test_absolute_names_lose_their_first_slash_which_is_told(self):
        archive = opened(tar_of([Thing("file", "/etc/x"), Thing("file", "y")]))

        assert paths(archive) == [b"etc/x", b"y"]
        assert archive.notes == ["1 name in it is absolute: below the target, without the first /"]

    def test_of_several_of_one_name_the_last_counts_which_is_told(self):
        things = [Thing("file", "x", content=b"old"), Thing("file", "x", content=b"new")]
        archive = opened(tar_of(things))

        assert contents(archive)[b"x"][1] == b"new"
        assert archive.notes == ["1 member has the name of a later one, which counts"]

    def test_a_hard_link_is_what_had_the_name_when_it_came(self):
        things = [
            Thing("file", "x", content=b"old"),
            Thing("hard link", "y", "x"),
            Thing("file", "x", content=b"new"),
        ]
        found = contents(opened(tar_of(things)))

        assert (found[b"x"][1], found[b"y"][1]) == (b"new", b"old")

    def test_names_of_one_file_are_told_as_such(self):
        things = [Thing("file", "x"), Thing("hard link", "y", "x"), Thing("file", "z")]
        x, y, z = opened(tar_of(things)).entries

        assert (x.links, y.links, z.links) == (2, 2, 1)
        assert x.inode == y.inode != z.inode

    @pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_names_and_targets_are_whole(self, form):
        name, to = "d/" * 90 + "x" * 200, "t" * 150
        entry = opened(tar_of([Thing("link", name, to)], form=form)).entries[0]

        assert (entry.path, entry.target) == (name.encode(), to.encode())

    def test_numbers_beyond_octal_are_read(self):
        fields = (("uid", 2**31), ("mtime", -5), ("size", 7))
        thing = Thing("file", "x", fields=fields)
        entry = opened(tar_of([thing], form=tarfile.GNU_FORMAT)).entries[0]

        assert (entry.uid, entry.mtime_ns) == (2**31, -5 * 10**9)

    @pytest.mark.parametrize(
        "records", [b"9 a=bcde\n=x=y\n", b"9 a=bcde\n0 =\n", b"9 a=bcde\n 5 =\n", b"5 abcde\n"]
    )
    def test_records_that_lead_nowhere_are_refused(self, records):
        with pytest.raises(MalformedError, match="extended header is malformed"):
            parse_records(records)

    def test_an_owner_below_zero_is_the_last_but_so_many(self):
        of_pax = Thing("file", "x", fields=(("pax_headers", {"uid": "-2"}),))
        of_gnu = Thing("file", "x", fields=(("uid", -2),))

        assert opened(tar_of([of_pax])).entries[0].uid == 2**32 - 2
        assert opened(tar_of([of_gnu], form=tarfile.GNU_FORMAT)).entries[0].uid == 2**32 - 2

    def test_a_content_that_is_another_one_when_it_is_read_again_is_refused(self, tmp_path):
        path = tmp_path / "a.tar"
        path.write_bytes(tar_of([Thing("file", "x", content=b"content")]))
        archive = open_archive(path, LIMITS)

        with path.open("r+b") as file:
            file.seek(512)
            file.write(b"CONTENT")

        with pytest.raises(DigestError, match="not what it was"):
            b"".join(next(archive.read(archive.entries)))

    def test_very_many_small_streams_take_no_time_to_speak_of(self):
        data = tar_of([Thing("file", "a", content=b"content")])
        packed = gzip.compress(b"", mtime=0) * 20_000 + gzip.compress(data, mtime=0)

        started = time.process_time()
        assert opened_as(packed, Format.TAR_GZ).lost == []

        assert time.process_time() - started < 3

    def test_times_of_pax_are_exact_to_the_nanosecond(self):
        fields = (("pax_headers", {"mtime": "-1.000000001"}),)
        entry = opened(tar_of([Thing("file", "x", fields=fields)])).entries[0]

        assert entry.mtime_ns == -1_000_000_001

    def test_attributes_come_with_their_names_and_acls_as_linux_has_them(self):
        acl = bytes.fromhex("02000000 01000600ffffffff 02000400e8030000")
        records = {"SCHILY.xattr.user.a%3Db": "v", "SCHILY.acl.access": acl_text(acl)}
        entry = opened(tar_of([Thing("file", "x", fields=(("pax_headers", records),))])).entries[0]

        assert dict(entry.xattrs) == {b"user.a=b": b"v", b"system.posix_acl_access": acl}

    def test_an_acl_with_names_counts_by_their_numbers(self):
        text = "user::rwx,user:ann:r--:1000,group::r-x,mask::r-x,other::---"

        assert acl_text(acl_value(text)) == text.replace("ann", "1000").replace(":1000,g", ",g")
        assert acl_value("user:ann:r--") == b""

    def test_what_was_cut_off_is_told_and_what_came_before_is_there(self):
        data = tar_of([Thing("file", "a"), Thing("file", "b", content=bytes(2000))])
        archive = opened(data[:2000])

        assert paths(archive) == [b"a"]
        assert isinstance(archive.lost[0], TruncatedError)
        assert "within /b" in archive.lost[0].message

    def test_an_archive_without_its_end_mark_is_not_whole(self):
        archive = opened(tar_of([Thing("file", "a")])[:1024])

        assert paths(archive) == [b"a"]
        assert "no end mark" in archive.lost[0].message

    def test_what_follows_after_the_end_is_told(self):
        data = tar_of([Thing("file", "a")]) + tar_of([Thing("file", "b")])

        assert "something follows" in opened(data).lost[0].message

    @pytest.mark.parametrize("form", list(PACKERS))
    def test_a_stream_may_be_made_of_several(self, form):
        data = tar_of([Thing("file", "a", content=b"content" * 1000)])
        pack = PACKERS[form]

        packed = b"".join(pack(data[at : at + 3000]) for at in range(0, len(data), 3000))

        assert contents(opened(packed))[b"a"][1] == b"content" * 1000

    @pytest.mark.parametrize("form", list(PACKERS)[1:])
    def test_garbage_behind_the_stream_is_told(self, form):
        packed = PACKERS[form](tar_of([Thing("file", "a")]))

        assert opened(packed + bytes(512)).lost == []
        assert isinstance(opened(packed + b"garbage").lost[0], IntegrityError)

    @pytest.mark.parametrize("form", list(PACKERS)[1:])
    def test_every_truncation_of_a_packed_one_is_told(self, form):
        packed = PACKERS[form](tar_of([Thing("file", "a", content=os.urandom(700))]))

        for length in range(1, len(packed)):
            try:
                assert opened(packed[:length]).lost, length
            except BackupError:
                continue

    @pytest.mark.parametrize("form", list(PACKERS)[1:])
    def test_no_flipped_byte_gives_wrong_contents(self, form):
        packed = PACKERS[form](tar_of([Thing("file", "a", content=b"content")]))
        right = outcome(packed)

        told = 0
        for at in range(len(packed)):
            for bit in (0x01, 0x80, 0xFF):
                flipped = bytearray(packed)
                flipped[at] ^= bit
                found = outcome(bytes(flipped))
                told += isinstance(found, BackupError)
                assert isinstance(found, BackupError) or found == right, at
        assert told > 2.5 * len(packed)

    def test_no_flipped_byte_of_a_header_of_a_plain_one_is_taken(self):
        data = tar_of([Thing("file", "a", content=b"content")])
        right = outcome(data)

        for at in range(512):
            flipped = bytearray(data)
            flipped[at] ^= 0x04
            found = outcome(bytes(flipped))
            assert isinstance(found, BackupError) or found == right, at


ZIPPED = [
    Thing("dir", "d/"),
    Thing("file", "d/text", content=b"some text " * 40),
    Thing("file", "d/é", content=b"x"),
    Thing("file", "empty", content=b""),
    Thing("link", "l", "d/text"),
]


class TestZip:
    def test_members_come_with_types_and_contents(self):
        found = contents(opened(zip_of(ZIPPED)))

        assert {path: one[:2] for path, one in found.items()} == {
            b"d": (EntryType.DIRECTORY, b""),
            b"d/text": (EntryType.FILE, b"some text " * 40),
            "d/é".encode(): (EntryType.FILE, b"x"),
            b"empty": (EntryType.FILE, b""),
            b"l": (EntryType.SYMLINK, b"d/text"),
        }

    METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_that_python_knows_is_read(self, method):
        thing = Thing("file", "x", content=b"content" * 99_999)

        assert contents(opened(zip_of([thing], method=method)))[b"x"][1] == thing.content

    def test_names_without_the_flag_are_cp437_unless_unix_wrote_them(self):
        data = zip_of([Thing("file", "zzzz")])
        flags = struct.pack("<H", 0)
        assert flags in data
        as_dos = data.replace(b"zzzz", b"\x81ber").replace(b"\x14\x03", b"\x14\x00")
        as_unix = data.replace(b"zzzz", b"\xff\xfebr")

        assert paths(opened(as_dos)) == ["über".encode()]
        assert paths(opened(as_unix)) == [b"\xff\xfebr"]

    def test_backslashes_of_windows_are_slashes(self):
        data = zip_of([Thing("file", "dzzx")]).replace(b"\x14\x03", b"\x14\x00")

        assert paths(opened(data.replace(b"dzzx", rb"d\zx"))) == [b"d/zx"]

    def test_no_flipped_byte_gives_wrong_contents(self):
        """But in what no checksum covers and stands once: modes, times, and who made it."""
        data = zip_of(ZIPPED)
        right = outcome(data)
        unseen = _unseen(data)

        told = 0
        for at in range(len(data)):
            for bit in (0x01, 0x10, 0xFF):
                flipped = bytearray(data)
                flipped[at] ^= bit
                found = outcome(bytes(flipped))
                told += isinstance(found, BackupError)
                assert at in unseen or isinstance(found, BackupError) or found == right, at
        assert told > 2 * len(data)

    def test_every_truncation_is_told(self):
        data = zip_of(ZIPPED)

        assert all(isinstance(outcome(data[:length]), BackupError) for length in range(len(data)))

    def test_a_damaged_member_is_told_and_the_others_are_whole(self):
        data = zip_of([Thing("file", "a", content=b"aaaa"), Thing("file", "b")], method=0)
        archive = opened(data.replace(b"aaaa", b"aaba"))

        proof = verify_archive(archive, lambda _: None)

        assert len(proof.errors) == 1
        assert "/a at byte 0 of a file" in proof.errors[0].message

    def test_times_and_owners_of_unix_are_read(self, tmp_path):
        needs(shutil.which("zip") is not None, "there is no zip")
        (tmp_path / "x").write_bytes(b"content")
        os.utime(tmp_path / "x", (0, 1_600_000_001))
        subprocess.run(["zip", "-q", "a.zip", "x"], cwd=tmp_path, check=True)

        entry = open_archive(tmp_path / "a.zip", LIMITS).entries[0]

        assert entry.mtime_ns == 1_600_000_001 * 10**9
        assert (entry.uid, entry.gid) == (os.getuid(), (tmp_path / "x").stat().st_gid)

    def test_a_zip_that_was_streamed_says_sizes_behind_the_content(self, tmp_path):
        needs(shutil.which("zip") is not None, "there is no zip")
        done = subprocess.run(["zip", "-q", "-", "-"], input=b"content" * 99, capture_output=True,
                              check=True)  # fmt: skip
        assert b"PK\x07\x08" in done.stdout

        archive = opened(done.stdout)

        assert contents(archive)[b"-"][1] == b"content" * 99
        broken = done.stdout.replace(b"PK\x07\x08", b"PK\x07\x09")
        assert isinstance(outcome(broken), IntegrityError)

    def test_a_zip64_is_read(self):
        file = io.BytesIO()
        with (
            zipfile.ZipFile(file, "w") as archive,
            archive.open("x", "w", force_zip64=True) as member,
        ):
            member.write(b"content")

        found = opened(_with_end64(file.getvalue()))

        assert contents(found)[b"x"][1] == b"content"

    def test_a_zip64_end_that_does_not_fit_is_refused(self):
        data = _with_end64(zip_of(ZIPPED))

        start = data.rfind(b"PK\6\6")
        for at in (*range(4), *range(4, 12), *range(16, 56)):
            flipped = bytearray(data)
            flipped[start + at] ^= 1
            assert isinstance(outcome(bytes(flipped)), BackupError), at


def _with_end64(data):
    """Return a zip with its end as zip64 has it, and nothing but the place of that in its own."""
    at = data.rfind(b"PK\5\6")
    _, _, _, _, count, size, offset, _ = struct.unpack_from("<4s4H2IH", data, at)
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    old = struct.pack("<4s4H2IH", b"PK\5\6", *[0xFFFF] * 4, *[2**32 - 1] * 2, 0)
    return data[:at] + end + locator + old


def _unseen(data):
    """Return the places in a zip's directory that nothing else repeats."""
    places = set()
    at = data.find(b"PK\1\2")
    while at >= 0:
        # Who made it; time and date (the header's copy is not compared); attributes.
        places |= {at + 5, *range(at + 12, at + 16), *range(at + 36, at + 42)}
        at = data.find(b"PK\1\2", at + 1)
    return places


class TestLimits:
    def test_what_grows_too_much_is_refused_unless_somebody_agrees(self):
        limits = Limits(free=10_000, ratio=20)
        data = tar_of([Thing("file", "x", content=bytes(500_000))], mode="w:gz")
        with pytest.raises(LimitError, match="more than 20 times") as caught:
            opened(data, limits)

        assert "--yes" in caught.value.hint
        assert opened(data, limits._replace(agreed=True)).lost == []

    def test_a_zip_is_refused_by_what_it_declares(self):
        archive = opened(
            zip_of([Thing("file", "x", content=bytes(500_000))]), Limits(free=1000, ratio=20)
        )

        with pytest.raises(LimitError, match="more than 20 times"):
            archive.check()

    def test_members_are_counted(self):
        things = [Thing("file", f"x{number}") for number in range(11)]
        for make in (tar_of, zip_of):
            with pytest.raises(LimitError, match="more than 10 members"):
                opened(make(things), Limits(members=10))

    @pytest.mark.parametrize("form", ["zip", "tar.gz", "tar"])
    def test_memory_stays_bounded_whatever_the_size_of_a_member(self, form, tmp_path):
        path = tmp_path / f"a.{form}"
        _write_large(path, form, SIZE)

        tracemalloc.start()
        try:
            archive = open_archive(path, Limits(agreed=True))
            total = sum(len(piece) for piece in next(archive.read(archive.entries)))
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert total == SIZE
        assert most < 8 << 20


def _write_large(path, form, size):
    """Write an archive with one member of zeros."""
    block = bytes(1 << 20)
    if form == "zip":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("x", "w") as member,
        ):
            for _ in range(size >> 20):
                member.write(block)
        return
    info = tarfile.TarInfo("x")
    info.size = size
    if form == "tar":
        with path.open("wb") as file:
            file.write(info.tobuf())
            file.truncate(512 + size + 1024)
        return
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(packer.compress(info.tobuf()))
        for _ in range(size >> 20):
            file.write(packer.compress(block))
        file.write(packer.compress(bytes(1024)) + packer.flush())


class TestSparse:
    FORMS = ("--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0")

    @pytest.mark.parametrize("option", FORMS)
    def test_every_way_to_tell_holes_is_read(self, option, tmp_path):
        path = tmp_path / "x"
        with path.open("wb") as file:
            for number in range(30):
                file.seek(number * 100_000)
                file.write(b"data")
            file.truncate(5_000_000)
        if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_blocks * 512 >= 5_000_000:
            pytest.skip("this file system knows no holes")
        form = [option] if "gnu" in option else ["--format=posix", option]
        subprocess.run(["tar", "-cSf", "a.tar", *form, "x"], cwd=tmp_path, check=True)

        archive = open_archive(tmp_path / "a.tar", LIMITS)
        (entry,) = archive.entries

        assert entry.path == b"x"
        assert entry.size == 5_000_000
        assert len(entry.data) >= 30
        assert contents(archive)[b"x"][1] == path.read_bytes()
