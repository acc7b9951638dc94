"""Testing one piece: unpacked again, and its digest compared with that of what went in."""

from __future__ import annotations

import struct
import zlib
from hashlib import sha256

from backup.errors import DigestError, IntegrityError, MalformedError
from backup.plain.deflating import inflate, unpack
from backup.plain.formats import Format
from backup.plain.piece_wire import Piece, Shape
from backup.plain.zip_records import LOCAL, LOCAL_MAGIC
from backup.snapshot.compression import decompress

_REMEMBERED_BYTES = 256 * 1024


class PieceTester:
    """Tests pieces of one archive.

    Of a piece like the one before, such as those of a file full of zeros, nothing is unpacked.
    """

    def __init__(self, one: Format) -> None:
        self._archive = one.archive_type
        self._last: tuple[Piece, bytes] | None = None

    def test(self, piece: Piece, data: memoryview) -> None:
        """Return where ``data`` holds what was put into ``piece``.

        Raises:
            IntegrityError: It does not.
        """
        if len(data) != piece.length:
            raise MalformedError(f"{len(data)} bytes came back instead of {piece.length}")
        if self._last is not None and self._last[0] == piece and self._last[1] == data:
            return
        if self._digest(piece, data) != piece.digest:
            raise DigestError("what is in it has another digest than what was read")
        if piece.length <= _REMEMBERED_BYTES:
            self._last = piece, bytes(data)

    def _digest(self, piece: Piece, data: memoryview) -> bytes:
        if piece.shape is Shape.MEMBERS:
            try:
                return _digest_of_members(data)
            except struct.error as error:
                raise MalformedError("a member's header is cut off") from error
        if piece.shape is Shape.TAR:
            if self._archive is None:
                raise IntegrityError("a zip file holds no run of a tar stream")
            plain = decompress(self._archive, data, plain_length=piece.plain)
        else:
            plain = inflate(data, piece.plain, is_last=piece.shape is Shape.LAST_RUN)
        return sha256(plain).digest()


def member_mark(name: bytes, plain: bytes | memoryview) -> bytes:
    """Return what the digest of a piece of whole members is made of, for one of them."""
    return sha256(name).digest() + sha256(plain).digest()


def _digest_of_members(data: memoryview) -> bytes:
    found = sha256()
    at = 0
    while at < len(data):
        magic, _, _, method, _, _, crc, packed, size, name, extra = LOCAL.unpack_from(data, at)
        if magic != LOCAL_MAGIC:
            raise MalformedError("a member does not begin where the one before ends")
        begin = at + LOCAL.size + name + extra
        plain = unpack(data[begin : begin + packed], method, size)
        if zlib.crc32(plain) != crc:
            raise DigestError("a member's CRC differs")
        found.update(member_mark(data[at + LOCAL.size :][:name].tobytes(), plain))
        at = begin + packed
    return found.digest()
