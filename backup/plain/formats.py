"""The formats of plain archives, told by a file's name or by its content."""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO

from backup.archive.records import BLOCK_BYTES
from backup.model import ArchiveType

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd


class Format(StrEnum):
    """What a plain archive is; the value is its usual suffix without the dot."""

    ZIP = "zip"
    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_BZ2 = "tar.bz2"
    TAR_XZ = "tar.xz"
    TAR_ZST = "tar.zst"

    @property
    def suffix(self) -> str:
        """The usual end of such a file's name."""
        return f".{self}"

    @property
    def archive_type(self) -> ArchiveType | None:
        """What a snapshot calls it; ``None`` for zip, which no snapshot holds."""
        return None if self is Format.ZIP else ArchiveType(self.value)


SUFFIXES = {
    **{one.suffix: one for one in Format},
    ".tgz": Format.TAR_GZ,
    ".tbz2": Format.TAR_BZ2,
    ".tbz": Format.TAR_BZ2,
    ".txz": Format.TAR_XZ,
    ".tzst": Format.TAR_ZST,
}
"""Every end of a name that tells a format."""

_NAMES = {suffix.removeprefix("."): one for suffix, one in SUFFIXES.items()}
_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06")
_MAGICS = {
    Format.TAR_GZ: b"\x1f\x8b",
    Format.TAR_BZ2: b"BZh",
    Format.TAR_XZ: b"\xfd7zXZ\0",
    Format.TAR_ZST: b"\x28\xb5\x2f\xfd",
}
_LONGEST_MAGIC = 8
_CHECKSUM = slice(148, 156)
_CHECKSUM_FIELD = re.compile(rb"[ \0]*([0-7]+)[ \0]*")
_CHECKSUM_BLANK = 8 * ord(" ")
_STEP = 64 * 1024
_MOST_COMPRESSED = 2 * 1024 * 1024
"""So much of a file is looked at for its first block: bzip2 gives nothing before 900 kB."""

_EMPTY_TAR_BYTES = 10 * 1024
_XZ_MEMORY = 192 * 1024 * 1024
_ZSTD_WINDOW_LOG = 27
_ERRORS = (lzma.LZMAError, zlib.error, zstd.ZstdError, OSError, EOFError, ValueError)
Inflate = Callable[[bytes, int], bytes]


def format_named(word: str) -> Format | None:
    """Return the format that a user calls ``word``, such as ``tar.gz``, ``tgz`` or ``.zip``."""
    return _NAMES.get(word.strip().lower().removeprefix("."))


def format_of(name: str) -> Format | None:
    """Return the format that the name of a file tells, ``None`` where it tells none.

    >>> format_of("docs.TGZ"), format_of("a.tar.gz.enc")
    (<Format.TAR_GZ: 'tar.gz'>, None)
    """
    lower = name.lower()
    return next((one for suffix, one in SUFFIXES.items() if lower.endswith(suffix)), None)


def format_at(file: BinaryIO) -> Format | None:
    """Return the format of the archive that ``file`` begins with, whatever it is called.

    A compressed file is one only where a tar header comes out of it. ``file`` is read from its
    beginning on, and is left there.

    Raises:
        OSError: It cannot be read.
    """
    file.seek(0)
    head = file.read(BLOCK_BYTES)
    try:
        if head.startswith(_ZIP_MAGICS):
            return Format.ZIP
        for one, magic in _MAGICS.items():
            if head.startswith(magic):
                file.seek(0)
                return one if _is_tar(_first_block(file, inflater(one)), is_packed=True) else None
        is_small = file.seek(0, 2) <= _EMPTY_TAR_BYTES
        return Format.TAR if _is_tar(head, is_packed=is_small) else None
    finally:
        file.seek(0)


def inflater(one: Format) -> Inflate:
    """Return what decompresses the first stream of a file, at most so many bytes a call."""
    if one is Format.TAR_GZ:
        return zlib.decompressobj(wbits=31).decompress
    if one is Format.TAR_BZ2:
        return bz2.BZ2Decompressor().decompress
    if one is Format.TAR_XZ:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY).decompress
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options).decompress


def _first_block(file: BinaryIO, inflate: Inflate) -> bytes:
    """Return the first plain block, or less where it cannot be had."""
    plain = b""
    looked = 0
    while len(plain) < BLOCK_BYTES and looked < _MOST_COMPRESSED:
        data = file.read(_STEP)
        looked += len(data)
        try:
            plain += inflate(data, BLOCK_BYTES - len(plain))
        except _ERRORS:
            break
        if not data:
            break
    return plain


def _is_tar(block: bytes, *, is_packed: bool) -> bool:
    """Return whether ``block`` is a header with its checksum, or the end of an empty archive."""
    if len(block) < BLOCK_BYTES:
        return False
    if not any(block):
        return is_packed  # in a plain file zeros say little
    field = _CHECKSUM_FIELD.fullmatch(block[_CHECKSUM])
    expected = sum(block) - sum(block[_CHECKSUM]) + _CHECKSUM_BLANK
    return field is not None and int(field[1], 8) == expected
