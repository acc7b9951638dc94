"""Entries as lines of JSON, with paths that need not be UTF-8."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Annotated

import msgspec

from backup.errors import MalformedError
from backup.model import DIGEST_BYTES, PLAIN_PATH, Entry, EntryType, Extent, ListRef

_MOST_NAME = 255
_MOST_MODE = 0o7777
Ordinal = Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
FrameNumber = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Offset = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
HexDigest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
_Id = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
_Time = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

WireExtent = tuple[Ordinal, FrameNumber, Offset, Offset]
WireRun = tuple[Count, Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]]
WireListRef = tuple[Ordinal, FrameNumber, HexDigest, Count]


class EntryLine(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One line of an index segment, as docs/FORMAT.md names its fields."""

    t: EntryType
    p: str | None = None
    pb: str | None = None
    mode: Annotated[int, msgspec.Meta(ge=0, le=_MOST_MODE)] = 0
    uid: _Id = 0
    gid: _Id = 0
    user: str = ""
    group: str = ""
    size: Count = 0
    mtime: _Time = 0
    ctime: _Time = 0
    ino: Annotated[int, msgspec.Meta(ge=0)] = 0
    fs: Ordinal = 0
    links: Annotated[int, msgspec.Meta(ge=1)] = 1
    to: str | None = None
    tob: str | None = None
    dev: tuple[_Id, _Id] | None = None
    xattrs: tuple[tuple[str, str], ...] = ()
    sha256: HexDigest | None = None
    ext: tuple[WireExtent, ...] = ()
    chunks: tuple[WireListRef, ...] = ()
    racy: bool = False
    error: str = ""
    data: tuple[WireRun, ...] | None = None


_decoder = msgspec.json.Decoder(EntryLine)
_encoder = msgspec.json.Encoder()


def to_text(raw: bytes) -> tuple[str | None, str | None]:
    """Return ``raw`` as (UTF-8 text, None), or as (None, base64) where it is not UTF-8."""
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(raw).decode("ascii")


def from_text(text: str | None, coded: str | None) -> bytes:
    """Return the bytes that ``to_text`` was given.

    Raises:
        MalformedError: Neither or both are given, or the base64 is not what ``to_text`` writes.
    """
    if (text is None) == (coded is None):
        raise MalformedError("a name is told twice or not at all")
    if text is not None:
        return text.encode()
    try:
        raw = base64.b64decode(coded or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("a name's base64 cannot be read") from error
    if to_text(raw)[1] != coded:
        raise MalformedError("a name is told in base64 without need")
    return raw


def check_path(path: bytes, kind: EntryType) -> None:
    """Raise ``MalformedError`` unless ``path`` stays below the root from which it is told."""
    if PLAIN_PATH.fullmatch(path) or (not path and kind is EntryType.DIRECTORY):
        return
    for name in path.split(b"/"):
        if not name or name in {b".", b".."} or b"\0" in name or len(name) > _MOST_NAME:
            raise MalformedError(f"{path[:200]!r} is not a path that an entry may have")


def encode_entry(entry: Entry, ordinal: Callable[[bytes], int]) -> bytes:
    """Return ``entry`` as one line, without its newline.

    Args:
        entry: The entry.
        ordinal: Gives the place of a snapshot's id in the table of the segment.
    """
    p, pb = to_text(entry.path)
    line = EntryLine(
        t=entry.type,
        p=p,
        pb=pb,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        user=entry.user,
        group=entry.group,
        size=entry.size,
        mtime=entry.mtime_ns,
        ctime=entry.ctime_ns,
        ino=entry.inode,
        fs=entry.filesystem,
        links=entry.links,
        dev=entry.device,
        sha256=entry.digest.hex() or None,
        ext=tuple((ordinal(e.snapshot), e.frame, e.offset, e.length) for e in entry.extents),
        chunks=tuple(
            (ordinal(ref.snapshot), ref.frame, ref.digest.hex(), ref.rows)
            for ref in entry.chunk_lists
        ),
        racy=entry.racy,
        error=entry.error,
        data=entry.data,
    )
    if entry.type is EntryType.SYMLINK:
        line.to, line.tob = to_text(entry.target)
    if entry.xattrs:
        line.xattrs = tuple((_b64(name), _b64(value)) for name, value in entry.xattrs)
    return _encoder.encode(line)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("an extended attribute cannot be read") from error


def decode_entry(line: bytes | memoryview, ids: tuple[bytes, ...]) -> Entry:
    """Return the entry of ``line``.

    Args:
        line: The line, without its newline.
        ids: The segment's table of snapshot ids.

    Raises:
        MalformedError: The line is not an entry.
    """
    try:
        wire = _decoder.decode(line)
        extents = tuple([Extent(ids[o], frame, at, size) for o, frame, at, size in wire.ext])
        lists = tuple(
            [
                ListRef(ids[o], frame, bytes.fromhex(digest), rows)
                for o, frame, digest, rows in wire.chunks
            ]
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError, RecursionError) as error:
        raise MalformedError("an entry of the index cannot be read") from error
    path = from_text(wire.p, wire.pb)
    check_path(path, wire.t)
    target = from_text(wire.to, wire.tob) if wire.t is EntryType.SYMLINK else b""
    if b"\0" in target:
        raise MalformedError(f"the target of {path[:200]!r} is none that a link may have")
    entry = Entry(
        path=path,
        type=wire.t,
        mode=wire.mode,
        uid=wire.uid,
        gid=wire.gid,
        user=wire.user,
        group=wire.group,
        size=wire.size,
        mtime_ns=wire.mtime,
        ctime_ns=wire.ctime,
        inode=wire.ino,
        filesystem=wire.fs,
        links=wire.links,
        target=target,
        device=wire.dev,
        xattrs=tuple([(_unb64(name), _unb64(value)) for name, value in wire.xattrs]),
        digest=bytes.fromhex(wire.sha256) if wire.sha256 else b"",
        extents=extents,
        chunk_lists=lists,
        racy=wire.racy,
        error=wire.error,
        data=wire.data,
    )
    _check_data(entry)
    _check_content(entry)
    return entry


_WITH_CONTENT = frozenset({EntryType.FILE, EntryType.STREAM})


def _check_data(entry: Entry) -> None:
    if entry.data is None:
        return
    if entry.type is not EntryType.FILE:
        raise MalformedError(f"{entry.path[:200]!r} has holes, which a {entry.type} has not")
    end = -1  # of the run before: there is a hole between two
    for offset, length in entry.data:
        if offset <= end or offset + length > entry.size:
            raise MalformedError(f"the runs of data of {entry.path[:200]!r} are out of order")
        end = offset + length


def _check_content(entry: Entry) -> None:
    content = bool(entry.extents or entry.chunk_lists or entry.digest)
    if content and entry.type not in _WITH_CONTENT:
        raise MalformedError(f"{entry.path[:200]!r} has a content, which a {entry.type} has not")
    if entry.extents and entry.chunk_lists:
        raise MalformedError(f"{entry.path[:200]!r} tells its content twice")
    if entry.type in _WITH_CONTENT and not entry.error and len(entry.digest) != DIGEST_BYTES:
        raise MalformedError(f"{entry.path[:200]!r} has no digest")
    counted = entry.type in _WITH_CONTENT and not entry.chunk_lists and not entry.error
    if counted and sum([extent.length for extent in entry.extents]) != entry.stored_size:
        raise MalformedError(f"the extents of {entry.path[:200]!r} are not its size")
