"""Pieces: each one complete xz stream, zstd frame, gzip member or bzip2 stream.

Such streams may be put together and cut anywhere, so the archive pieces of a full snapshot, in
their order, are a ``tar.xz`` (or ``tar.zst`` …) that any tool reads.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import sys
import zlib
from typing import TYPE_CHECKING

from backup.errors import InvalidArgumentError, LimitError, MalformedError
from backup.model import ArchiveType

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

DEFAULT_LEVELS = {
    ArchiveType.TAR_XZ: 6,
    ArchiveType.TAR_ZST: 3,
    ArchiveType.TAR_GZ: 6,
    ArchiveType.TAR_BZ2: 9,
    ArchiveType.TAR: 0,
}
LEVELS = {
    ArchiveType.TAR_XZ: range(10),
    ArchiveType.TAR_ZST: range(1, 20),
    ArchiveType.TAR_GZ: range(1, 10),
    ArchiveType.TAR_BZ2: range(1, 10),
    ArchiveType.TAR: range(1),
}
COMPRESSIONS = {
    "xz": ArchiveType.TAR_XZ,
    "zstd": ArchiveType.TAR_ZST,
    "gzip": ArchiveType.TAR_GZ,
    "bzip2": ArchiveType.TAR_BZ2,
    "none": ArchiveType.TAR,
}
"""What people call it, and what the archive then is."""
_XZ_DICTIONARY = 8 * 1024 * 1024
"""No piece is longer, so that a larger one would only take memory."""

_XZ_LARGE = range(7, 10)
"""The presets whose dictionary would be larger."""

_XZ_MEMORY = 192 * 1024 * 1024
_ZSTD_WINDOW_LOG = 27
_LZMA2_CHUNK = 65536
# A whole piece may be looked back at: 1.5 % less than with the windows that zstd gives low levels.
_ZSTD_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.checksum_flag: 1,
    zstd.CompressionParameter.window_log: 23,
}
_STORED_RATIO = 0.98
_TRIAL_LEAST = 64 * 1024
_STEP = 32 * 1024
_DECODER_ERRORS = (lzma.LZMAError, zlib.error, zstd.ZstdError, OSError, EOFError, ValueError)


def check_level(archive: ArchiveType, level: int | None) -> int:
    """Return ``level``, or the archive type's default for ``None``.

    Raises:
        InvalidArgumentError: The archive type has no such level.
    """
    if level is None:
        return DEFAULT_LEVELS[archive]
    levels = LEVELS[archive]
    if level not in levels:
        raise InvalidArgumentError(
            f"{archive} has levels {levels.start} to {levels.stop - 1}, not {level}"
        )
    return level


def archive_type(compression: str) -> ArchiveType:
    """Return the archive type that ``compression`` gives.

    Raises:
        InvalidArgumentError: There is no such compression.
    """
    try:
        return COMPRESSIONS[compression]
    except KeyError:
        raise InvalidArgumentError(
            f"there is no compression {compression!r}", hint="use " + ", ".join(COMPRESSIONS)
        ) from None


def metadata_archive(archive: ArchiveType) -> ArchiveType:
    """Return how index, chunk list and end pieces are compressed in a snapshot of ``archive``.

    As the archive itself, but gzip where the archive is not compressed at all.
    """
    return ArchiveType.TAR_GZ if archive is ArchiveType.TAR else archive


def compress(archive: ArchiveType, level: int, plain: bytes | bytearray | memoryview) -> bytes:
    """Return one complete stream that holds ``plain``."""
    match archive:
        case ArchiveType.TAR_XZ:
            return _compress_xz(level, plain)
        case ArchiveType.TAR_ZST:
            return zstd.compress(plain, options=_ZSTD_OPTIONS | _zstd_level(level))
        case ArchiveType.TAR_GZ:
            return _compress_gzip(level, plain)
        case ArchiveType.TAR_BZ2:
            return bz2.compress(plain, level)
        case ArchiveType.TAR:
            return bytes(plain)


def decompress(archive: ArchiveType, piece: bytes | memoryview, *, plain_length: int) -> bytes:
    """Return what the single stream ``piece`` holds: exactly ``plain_length`` bytes.

    Raises:
        MalformedError: The piece is not one complete stream of that length.
    """
    plain = decompress_up_to(archive, piece, limit=plain_length)
    if len(plain) != plain_length:
        raise MalformedError(f"a piece holds {len(plain)} bytes instead of {plain_length}")
    return plain


def decompress_up_to(archive: ArchiveType, piece: bytes | memoryview, *, limit: int) -> bytes:
    """Return what the single stream ``piece`` holds, never more than ``limit`` bytes.

    Raises:
        LimitError: It holds more.
        MalformedError: It is not one complete stream.
    """
    if archive is ArchiveType.TAR:
        plain, complete = bytes(piece[: limit + 1]), True
    else:
        plain, complete = _decompress(archive, piece, limit + 1)
    if len(plain) > limit:
        raise LimitError(f"a piece holds more than the {limit} bytes that it may")
    if not complete:
        raise MalformedError("a piece is not one complete stream")
    return plain


def holds(
    archive: ArchiveType,
    piece: bytes | memoryview,
    plain: bytes | bytearray | memoryview,
    length: int | None = None,
) -> bool:
    """Return whether ``piece`` is one complete stream that holds exactly ``plain``.

    It compares while it decompresses, so that what comes out is never in memory as a whole.

    Args:
        archive: How the piece was compressed.
        piece: What to look into.
        plain: What it should hold.
        length: How many bytes of ``plain``, ``None`` for all.
    """
    content = bytes(plain) if isinstance(plain, memoryview) else plain
    length = len(content) if length is None else length
    if archive is ArchiveType.TAR:
        return piece == content[:length]
    decoder = zlib.decompressobj(wbits=31) if archive is ArchiveType.TAR_GZ else _decoder(archive)
    view = memoryview(piece)
    at = 0
    try:
        for start in range(0, len(view), _STEP):
            block = decoder.decompress(view[start : start + _STEP])
            if not content.startswith(block, at):
                return False
            at += len(block)
            if at > length:
                return False
    except _DECODER_ERRORS:
        return False
    return at == length and decoder.eof and not decoder.unused_data


def _decompress(archive: ArchiveType, piece: bytes | memoryview, most: int) -> tuple[bytes, bool]:
    try:
        if archive is ArchiveType.TAR_GZ:
            inflater = zlib.decompressobj(wbits=31)
            plain = inflater.decompress(piece, most)
            # The trailer is only read once more output is asked for.
            plain += inflater.decompress(inflater.unconsumed_tail, 1) if len(plain) < most else b""
            return plain, inflater.eof and not inflater.unused_data
        decoder = _decoder(archive)
        plain = decoder.decompress(piece, most)
        while not decoder.eof and len(plain) < most:
            more = decoder.decompress(b"", most - len(plain))
            if not more:
                break
            plain += more
        return plain, decoder.eof and not decoder.unused_data
    except _DECODER_ERRORS as error:
        raise MalformedError(f"a piece is not a {archive} stream") from error


def _decoder(
    archive: ArchiveType,
) -> lzma.LZMADecompressor | bz2.BZ2Decompressor | zstd.ZstdDecompressor:
    if archive is ArchiveType.TAR_XZ:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    if archive is ArchiveType.TAR_BZ2:
        return bz2.BZ2Decompressor()
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)


def _zstd_level(level: int) -> dict[int, int]:
    options: dict[int, int] = {zstd.CompressionParameter.compression_level: level}
    if level == DEFAULT_LEVELS[ArchiveType.TAR_ZST]:
        # A quarter of its table of short matches stays in the processor's cache, and loses nothing.
        options[zstd.CompressionParameter.chain_log] = 15
    return options


def _compress_gzip(level: int, plain: bytes | bytearray | memoryview) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, 31)
    return deflater.compress(plain) + deflater.flush()


def _compress_xz(level: int, plain: bytes | bytearray | memoryview) -> bytes:
    if len(plain) >= _TRIAL_LEAST and looks_incompressible(plain):
        return store_xz(plain)
    if level in _XZ_LARGE:
        lzma2 = {"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": _XZ_DICTIONARY}
        return lzma.compress(plain, check=lzma.CHECK_CRC32, filters=[lzma2])
    return lzma.compress(plain, check=lzma.CHECK_CRC32, preset=level)


def looks_incompressible(plain: bytes | bytearray | memoryview) -> bool:
    """Try zstd's quickest level: xz would spend some 30 times as long to find out the same."""
    options: dict[int, int] = {zstd.CompressionParameter.compression_level: -1}
    return len(zstd.compress(plain, options=options)) > len(plain) * _STORED_RATIO


def store_xz(plain: bytes | bytearray | memoryview) -> bytes:
    """Return ``plain`` as an xz stream of uncompressed LZMA2 chunks.

    Source: The .xz File Format 1.2.1 (https://tukaani.org/xz/xz-file-format.txt), sections 2 to 4;
    LZMA2 control byte 1 is an uncompressed chunk with dictionary reset, 2 one without.
    """
    flags = b"\x00\x01"  # the integrity check is CRC32
    view = memoryview(plain)
    # Block header: size field 2 (12 bytes), no optional fields, filter LZMA2, dictionary 8 MiB.
    head = b"\x02\x00\x21\x01\x16\x00\x00\x00"
    block = bytearray(head + _crc(head))
    for start in range(0, len(view), _LZMA2_CHUNK):
        chunk = view[start : start + _LZMA2_CHUNK]
        block += struct.pack(">BH", 1 if start == 0 else 2, len(chunk) - 1) + chunk
    block += b"\x00"
    unpadded = len(block) + 4
    block += bytes(-len(block) % 4) + _crc(view)
    index = b"\x00\x01" + _multibyte(unpadded) + _multibyte(len(view))
    index += bytes(-len(index) % 4)
    index += _crc(index)
    tail = struct.pack("<I", len(index) // 4 - 1) + flags
    start_of_stream = b"\xfd7zXZ\x00" + flags + _crc(flags)
    return b"".join((start_of_stream, block, index, _crc(tail), tail, b"YZ"))


def _crc(data: bytes | bytearray | memoryview) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def _multibyte(number: int) -> bytes:
    coded = bytearray()
    while number >= 0x80:  # noqa: PLR2004 - seven bits a byte
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    coded.append(number)
    return bytes(coded)
