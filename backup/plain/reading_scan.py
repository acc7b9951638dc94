"""Reading a tar archive from its beginning to its end: its members, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from msgspec.structs import replace

from backup.archive.records import BLOCK_BYTES, acl_value
from backup.errors import IntegrityError, LimitError, TrailingBytesError, TruncatedError
from backup.model import Entry, EntryType, Extent, path_text
from backup.plain.arranging import Budget, Member, Names, relative
from backup.plain.reading_header import (
    Header,
    Records,
    Runs,
    decimal,
    gnu_runs,
    map_runs,
    more_gnu_runs,
    nanoseconds,
    owner,
    padded,
    parse_header,
    parse_records,
    pax_runs,
    tidy_runs,
)
from backup.plain.reading_stream import PlainStream

_NOTHING = bytes(BLOCK_BYTES)
_MOST_EXTENDED = 16 * 2**20
_FILES = frozenset({b"0", b"\0", b"7", b"S"})
_PLAIN = frozenset({b"0", b"\0"})
_KINDS = {
    b"2": EntryType.SYMLINK,
    b"3": EntryType.CHARACTER_DEVICE,
    b"4": EntryType.BLOCK_DEVICE,
    b"5": EntryType.DIRECTORY,
    b"D": EntryType.DIRECTORY,
    b"6": EntryType.FIFO,
}
_DEVICES = frozenset({EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE})
_LINK = b"1"
_WITHOUT_DATA = frozenset({_LINK, b"2", b"3", b"4", b"5", b"6"})
_OF_ALL = frozenset({b"uid", b"gid", b"uname", b"gname", b"mtime"})
_ACLS = {
    b"SCHILY.acl.access": b"system.posix_acl_access",
    b"SCHILY.acl.default": b"system.posix_acl_default",
}
_XATTR = b"SCHILY.xattr."


class Scan:
    """Reads all headers; ``lost`` says why it did not come to the end, if it did not."""

    def __init__(self, stream: PlainStream, budget: Budget, names: Names) -> None:
        self.lost: IntegrityError | None = None
        self.count = 0
        self._stream = stream
        self._budget = budget
        self._names = names
        self._of_all: Records = {}
        self._last = b""

    def members(self) -> Iterator[Member]:
        """Yield the members, up to the first damage."""
        try:
            yield from self._members()
        except LimitError:
            raise
        except IntegrityError as error:
            after = f", after {path_text(self._last)}" if self._last else ""
            error.message = f"{error.message} (at byte {self._stream.at:,} of the archive{after})"
            error.args = (error.message,)
            self.lost = error

    def _members(self) -> Iterator[Member]:
        records: list[tuple[bytes, bytes]] = []
        long: Records = {}
        while (block := self._block()) is not None:
            header = parse_header(block)
            match header.kind:
                case b"x" | b"X":
                    records = parse_records(self._text(header))
                case b"g":
                    found = dict(parse_records(self._text(header)))
                    self._of_all.update((key, found[key]) for key in _OF_ALL & found.keys())
                case b"L" | b"K":
                    long[header.kind] = self._text(header).partition(b"\0")[0]
                case b"V":
                    self._skip(header.size)
                case _:
                    member = self._member(header, block, records, long)
                    self._budget.add(member.entry)
                    self.count += 1
                    self._last = member.entry.path
                    yield member
                    records, long = [], {}

    def _block(self) -> bytes | None:
        """Return the next header; ``None`` behind the end of the archive."""
        block = bytes(self._stream.read(BLOCK_BYTES))
        if not block:
            raise TruncatedError("the archive has no end mark: something may be missing")
        if len(block) < BLOCK_BYTES:
            raise TruncatedError("the archive ends within a header")
        if block != _NOTHING:
            return block
        if any(self._stream.read(BLOCK_BYTES)):
            raise TrailingBytesError("a single block of zeros stands between members")
        while rest := self._stream.some(1 << 20):
            if bytes(rest).count(0) != len(rest):
                raise TrailingBytesError("something follows after the end of the archive")
        return None

    def _text(self, header: Header) -> bytes:
        if header.size > _MOST_EXTENDED:
            raise LimitError(f"an extended header has {header.size:,} bytes: no reader takes that")
        data = self._stream.read(padded(header.size))
        if len(data) < padded(header.size):
            raise TruncatedError("the archive ends within an extended header")
        return bytes(data[: header.size])

    def _skip(self, size: int) -> None:
        if not self._stream.skip(padded(size)):
            raise TruncatedError("the archive ends too early")

    def _member(
        self, header: Header, block: bytes, records: list[tuple[bytes, bytes]], long: Records
    ) -> Member:
        own = self._of_all | dict(records)
        name = own.get(b"GNU.sparse.name") or own.get(b"path") or long.get(b"L") or header.name
        link = own.get(b"linkpath") or long.get(b"K") or header.link
        is_old = header.kind in _PLAIN and name.endswith(b"/")  # a directory, as in old archives
        kind = EntryType.DIRECTORY if is_old else _KINDS.get(header.kind, EntryType.FILE)
        seconds = own.get(b"mtime")
        entry = Entry(
            path=self._names.path(name),
            type=kind,
            mode=header.mode,
            uid=owner(decimal(own, b"uid", header.uid, is_signed=True)),
            gid=owner(decimal(own, b"gid", header.gid, is_signed=True)),
            user=own.get(b"uname", header.user).decode("utf-8", "surrogateescape"),
            group=own.get(b"gname", header.group).decode("utf-8", "surrogateescape"),
            mtime_ns=nanoseconds(b"%d" % header.seconds if seconds is None else seconds),
            target=link if kind is EntryType.SYMLINK else b"",
            device=header.device if kind in _DEVICES else None,
            xattrs=tuple(_attributes(own)),
            racy=True,  # nothing about its inode is known
        )
        size = decimal(own, b"size", header.size)
        if is_old:
            self._skip(size)
        if header.kind in _WITHOUT_DATA or is_old:
            return Member(entry, link=relative(link) if header.kind == _LINK else None)
        if header.kind not in _FILES:
            self._skip(size)
            unfit = "" if kind is EntryType.DIRECTORY else f"its type is {header.kind!r}"
            return Member(entry, unfit=unfit)
        return self._file(entry, size, block, records)

    def _file(
        self, entry: Entry, size: int, block: bytes, records: list[tuple[bytes, bytes]]
    ) -> Member:
        """Return the member of a file, whose content is read and told by its digest."""
        end = self._stream.at + padded(size)
        if block[156:157] == b"S":
            runs, real, end = self._gnu_map(block, size)
            data, stored = tidy_runs(runs, real, size), size
        else:
            data, real, stored = self._pax_map(dict(records), records, size)
        offset = self._stream.at
        digest = self._digest(stored, entry.path)
        if not self._stream.skip(end - self._stream.at):
            raise TruncatedError(f"the archive ends within {path_text(entry.path)}")
        extents = (Extent(b"", 0, offset, stored),)
        return Member(replace(entry, size=real, data=data, extents=extents, digest=digest))

    def _gnu_map(self, block: bytes, size: int) -> tuple[list[tuple[int, int]], int, int]:
        runs, real, more = gnu_runs(block)
        while more:
            found, more = more_gnu_runs(self._whole_block())
            runs += found
            if len(runs) > _MOST_EXTENDED // BLOCK_BYTES:
                raise LimitError("a sparse file has too many runs of data")
        return runs, real, self._stream.at + padded(size)

    def _pax_map(
        self, own: Records, records: list[tuple[bytes, bytes]], size: int
    ) -> tuple[Runs | None, int, int]:
        """Return the map of a file, its size, and how many bytes of it follow."""
        real = decimal(own, b"GNU.sparse.realsize", decimal(own, b"GNU.sparse.size", size))
        if (own.get(b"GNU.sparse.major"), own.get(b"GNU.sparse.minor")) == (b"1", b"0"):
            before = self._stream.at
            runs = self._leading_map()
            stored = size - (self._stream.at - before)
            return tidy_runs(runs, real, stored), real, stored
        if b"GNU.sparse.map" in own or b"GNU.sparse.numblocks" in own:
            return tidy_runs(pax_runs(records), real, size), real, size
        return None, size, size

    def _leading_map(self) -> list[tuple[int, int]]:
        text = bytearray(self._whole_block())
        first = bytes(text.partition(b"\n")[0])
        wanted = decimal({b"runs": first}, b"runs", 0) * 2 + 1
        lines = text.count(b"\n")
        while lines < wanted:
            if len(text) > _MOST_EXTENDED:
                raise LimitError("a sparse file has too many runs of data")
            block = self._whole_block()
            lines += block.count(b"\n")
            text += block
        return map_runs(bytes(text).split(b"\n")[1:wanted])

    def _whole_block(self) -> bytes:
        block = bytes(self._stream.read(BLOCK_BYTES))
        if len(block) < BLOCK_BYTES:
            raise TruncatedError("the archive ends within the map of a sparse file")
        return block

    def _digest(self, size: int, path: bytes) -> bytes:
        digest = sha256()
        while size:
            piece = self._stream.some(size)
            if not piece:
                raise TruncatedError(f"the archive ends within {path_text(path)}")
            digest.update(piece)
            size -= len(piece)
        return digest.digest()


def _attributes(records: Records) -> Iterator[tuple[bytes, bytes]]:
    for key, value in records.items():
        if key in _ACLS:
            acl = acl_value(value.decode("utf-8", "replace"))
            if acl:
                yield _ACLS[key], acl
        elif key.startswith(_XATTR):
            name = key.removeprefix(_XATTR).replace(b"%3D", b"=").replace(b"%25", b"%")
            yield name, value
