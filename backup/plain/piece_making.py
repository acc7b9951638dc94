"""Putting a piece together: tar members compressed as one, or zip members one by one."""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import Protocol

from backup.archive.tar import member_header, padding
from backup.manager.piece_buffer import PieceBuffer
from backup.model import ArchiveType, Entry, EntryType
from backup.plain.deflating import deflate, is_hard_to_pack, pack
from backup.plain.members import zip_member
from backup.plain.piece_testing import member_mark
from backup.plain.piece_wire import Order, Piece, Shape
from backup.plain.zip_records import ZipMember, local_header
from backup.snapshot.compression import compress

_SLACK = 1 << 20


class PieceMaker(Protocol):
    """Takes entries, and makes one piece after the other of them."""

    members: list[ZipMember]
    """The members of a zip file that are in the piece."""

    def clear(self) -> None:
        """Begin a piece."""
        ...

    def add(self, entry: Entry, content: bytes, hardlink_to: bytes | None) -> None:
        """Add a whole entry; ``hardlink_to`` is the path of which it is another name."""
        ...

    def add_run(self, entry: Entry, content: bytes, *, is_first: bool, is_last: bool) -> None:
        """Add a part of a file, which is a piece of its own."""
        ...

    def finish(self) -> tuple[Piece, bytes]:
        """Return the piece, and its bytes."""
        ...


class TarMaker:
    """Makes pieces of a tar stream, each one complete compressed stream."""

    def __init__(self, order: Order) -> None:
        self.members: list[ZipMember] = []
        self._archive = order.format.archive_type or ArchiveType.TAR
        self._level = order.level
        self._start = order.start
        self._plain = PieceBuffer(order.capacity + _SLACK)

    def clear(self) -> None:
        """See PieceMaker."""
        self._plain.clear()

    def add(self, entry: Entry, content: bytes, hardlink_to: bytes | None) -> None:
        """See PieceMaker."""
        link = None if hardlink_to is None else hardlink_to[self._start :]
        self._plain.add(member_header(entry, hardlink_to=link, name=entry.path[self._start :]))
        self._plain.add(content)
        self._plain.add(bytes(padding(len(content))))

    def add_run(self, entry: Entry, content: bytes, *, is_first: bool, is_last: bool) -> None:
        """See PieceMaker."""
        if is_first:
            self._plain.add(member_header(entry, name=entry.path[self._start :]))
        self._plain.add(content)
        if is_last:
            self._plain.add(bytes(padding(entry.stored_size)))

    def finish(self) -> tuple[Piece, bytes]:
        """See PieceMaker."""
        plain = memoryview(self._plain.room)[: len(self._plain)]
        # A gzip of what does not compress takes ten times as long to find that out.
        is_hard = self._archive is ArchiveType.TAR_GZ and is_hard_to_pack(plain)
        body = compress(self._archive, 0 if is_hard else self._level, plain) if plain else b""
        return Piece(Shape.TAR, len(body), len(plain), sha256(plain).digest()), body


class ZipMaker:
    """Makes pieces of a zip file: whole members, or a run of a large one's packed bytes."""

    def __init__(self, order: Order) -> None:
        self.members: list[ZipMember] = []
        self._level = order.level
        self._start = order.start
        self.clear()

    def clear(self) -> None:
        """See PieceMaker."""
        self.members = []
        self._shape = Shape.MEMBERS
        self._parts: list[bytes] = []
        self._length = self._plain = 0
        self._digest = sha256()

    def add(self, entry: Entry, content: bytes, hardlink_to: bytes | None) -> None:
        """See PieceMaker."""
        del hardlink_to  # zip knows none
        if entry.type is EntryType.SYMLINK:
            content = entry.target
        packed = pack(content, self._level)
        member = zip_member(entry, self._start)
        member.method, member.packed, member.size = packed.method, len(packed.data), len(content)
        member.crc, member.offset = zlib.crc32(content), self._length
        self._put(local_header(member))
        self._put(packed.data)
        self._plain += len(content)
        self._digest.update(member_mark(member.name, content))
        self.members.append(member)

    def add_run(self, entry: Entry, content: bytes, *, is_first: bool, is_last: bool) -> None:
        """See PieceMaker."""
        del entry, is_first  # its header is written by whoever puts the pieces together
        self._shape = Shape.LAST_RUN if is_last else Shape.RUN
        self._put(deflate(content, self._level, is_last=is_last))
        self._plain = len(content)
        self._digest.update(content)

    def finish(self) -> tuple[Piece, bytes]:
        """See PieceMaker."""
        piece = Piece(self._shape, self._length, self._plain, self._digest.digest())
        return piece, b"".join(self._parts)

    def _put(self, data: bytes) -> None:
        self._parts.append(data)
        self._length += len(data)


def maker_of(order: Order) -> PieceMaker:
    """Return what makes the pieces of an archive."""
    return ZipMaker(order) if order.format.archive_type is None else TarMaker(order)
