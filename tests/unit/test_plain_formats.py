"""Formats of plain archives: told by names, and by contents whatever the name is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

from backup.plain.formats import Format, format_at, format_named, format_of
from backup.snapshot.compression import compress


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docs.zip", Format.ZIP),
        ("docs.ZIP", Format.ZIP),
        ("docs.tar", Format.TAR),
        ("docs.tar.gz", Format.TAR_GZ),
        ("docs.tgz", Format.TAR_GZ),
        ("docs.tar.bz2", Format.TAR_BZ2),
        ("docs.tbz2", Format.TAR_BZ2),
        ("docs.tar.xz", Format.TAR_XZ),
        ("docs.txz", Format.TAR_XZ),
        ("docs.tar.zst", Format.TAR_ZST),
        ("docs.tzst", Format.TAR_ZST),
        ("docs.gz", None),
        ("docs.rar", None),
        ("docs.tar.xz.enc", None),
        ("zip", None),
        ("", None),
    ],
)
def test_a_name_tells_the_format(name, expected):
    assert format_of(name) is expected


@pytest.mark.parametrize("word", ["tar.gz", ".tar.gz", "TGZ", " tgz "])
def test_people_may_write_a_format_in_several_ways(word):
    assert format_named(word) is Format.TAR_GZ


def test_an_unknown_word_is_no_format():
    assert format_named("rar") is None


def _tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = 200_000
        archive.addfile(member, io.BytesIO(b"hello" * 40_000))
    return made.getvalue()


def _zip(count: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.txt", b"hello")
    return made.getvalue()


def _zstd(data: bytes) -> bytes:
    return compress(Format.TAR_ZST.archive_type, 3, data)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_zip(1), Format.ZIP),
        (_zip(0), Format.ZIP),
        (_tar(), Format.TAR),
        (bytes(10_240), Format.TAR),
        (gzip.compress(_tar()), Format.TAR_GZ),
        (gzip.compress(bytes(10_240)), Format.TAR_GZ),
        (bz2.compress(_tar()), Format.TAR_BZ2),
        (lzma.compress(_tar()), Format.TAR_XZ),
        (_zstd(_tar()), Format.TAR_ZST),
    ],
)
def test_a_content_tells_the_format(content, expected):
    file = io.BytesIO(content)
    assert format_at(file) is expected
    assert file.tell() == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"hello",
        bytes(1 << 20),
        gzip.compress(b"hello" * 1000),
        bz2.compress(b"hello" * 1000),
        lzma.compress(b"hello" * 1000),
        gzip.compress(_tar())[:12],
        b"BZh9" + bytes(1000),
        _tar()[:300],
        b"x" + _tar()[1:],
    ],
    ids=range(11),
)
def test_anything_else_is_no_archive(content):
    assert format_at(io.BytesIO(content)) is None


def test_a_compressed_file_is_not_unpacked_to_find_out():
    bomb = gzip.compress(_tar() + bytes(64 << 20), 1)
    file = io.BytesIO(bomb)
    assert format_at(file) is Format.TAR_GZ


def test_the_old_tar_without_a_magic_is_known_by_its_checksum():
    block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)[:512])
    block[257:512] = bytes(255)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert format_at(io.BytesIO(bytes(block) + bytes(1024))) is Format.TAR
