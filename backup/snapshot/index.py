"""The index: entries in segments, segments named by pages, pages named by the end.

Segments are cut where the hash of a path says so, never by metadata, so that an entry that changes
leaves all other segments as they are: a later snapshot names them where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Annotated, NamedTuple

import msgspec

from backup.errors import LimitError, MalformedError
from backup.model import ID_BYTES, Entry, path_key
from backup.snapshot.entry_line import (
    FrameNumber,
    HexDigest,
    Ordinal,
    decode_entry,
    encode_entry,
    from_text,
    to_text,
)

_SEGMENT_ENTRIES = 512
MOST_SEGMENT_ENTRIES = 2048
_PAGE_SEGMENTS = 256
_MOST_PAGE_SEGMENTS = 1024
_MOST_IDS = 2**16


class Reference(NamedTuple):
    """Where a segment or a page lies, the SHA-256 of its bytes, and what it begins with."""

    snapshot: bytes
    frame: int
    digest: bytes
    entries: int
    first: bytes


class WireReference(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A reference as pages and the end write it."""

    at: tuple[Ordinal, FrameNumber]
    sha256: HexDigest
    entries: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    p: str | None = None
    pb: str | None = None


class _Head(msgspec.Struct, kw_only=True):
    kind: str
    snapshots: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")], ...]


class IdTable:
    """The snapshots that a segment, a page or an end names, each once."""

    def __init__(self, *ids: bytes) -> None:
        self._ordinals = {snapshot: place for place, snapshot in enumerate(ids)}

    def ordinal(self, snapshot: bytes) -> int:
        """Return the place of ``snapshot``, adding it where it is new."""
        place = self._ordinals.setdefault(snapshot, len(self._ordinals))
        if place >= _MOST_IDS:
            raise LimitError("a segment names too many snapshots")
        return place

    def ids(self) -> tuple[bytes, ...]:
        """Return the ids by their places."""
        return tuple(self._ordinals)


def encode_segment(entries: Iterable[Entry]) -> bytes:
    """Return the bytes of an index segment."""
    return encode_items((), entries)


def encode_items(ids: Iterable[bytes], items: Iterable[bytes | Entry]) -> bytes:
    """Return the bytes of an index segment of which some entries are lines already.

    Args:
        ids: The snapshots that those lines name, by their ordinals.
        items: Lines, without their newlines, and entries, in order.
    """
    table = IdTable(*ids)
    lines = [
        item if isinstance(item, bytes) else encode_entry(item, table.ordinal) for item in items
    ]
    return _with_head("segment", table, lines)


def encode_page(references: Iterable[Reference]) -> bytes:
    """Return the bytes of a page."""
    table = IdTable()
    lines = [msgspec.json.encode(to_wire(reference, table)) for reference in references]
    return _with_head("page", table, lines)


def _with_head(kind: str, table: IdTable, lines: list[bytes]) -> bytes:
    head = _Head(kind=kind, snapshots=tuple(one.hex() for one in table.ids()))
    return b"\n".join([msgspec.json.encode(head), *lines, b""])


def to_wire(reference: Reference, table: IdTable) -> WireReference:
    """Return ``reference`` as a page or an end with this table writes it."""
    p, pb = to_text(reference.first)
    return WireReference(
        at=(table.ordinal(reference.snapshot), reference.frame),
        sha256=reference.digest.hex(),
        entries=reference.entries,
        p=p,
        pb=pb,
    )


def from_wire(wire: WireReference, ids: tuple[bytes, ...]) -> Reference:
    """Return the reference that ``wire`` means under the table ``ids``.

    Raises:
        MalformedError: It names a snapshot that is not in the table.
    """
    place, frame = wire.at
    if place >= len(ids):
        raise MalformedError("a reference names a snapshot that its table does not have")
    first = from_text(wire.p, wire.pb)
    return Reference(ids[place], frame, bytes.fromhex(wire.sha256), wire.entries, first)


def _split(kind: str, data: bytes) -> tuple[tuple[bytes, ...], list[bytes]]:
    if not data.endswith(b"\n"):
        raise MalformedError(f"an index {kind} has no end")
    head_line, *lines = data[:-1].split(b"\n")
    try:
        data.decode()  # fields that are not known here are passed over without a look
        head = msgspec.json.decode(head_line, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"the head of an index {kind} cannot be read") from error
    ids = tuple(bytes.fromhex(one) for one in head.snapshots)
    if head.kind != kind or any(len(one) != ID_BYTES for one in ids):
        raise MalformedError(f"an index {kind} was expected, not a {head.kind[:20]!r}")
    return ids, lines


def decode_segment(data: bytes) -> list[Entry]:
    """Return the entries of a segment, in their order.

    Raises:
        MalformedError: The bytes are not a segment, or its entries are out of order.
    """
    ids, lines = _split("segment", data)
    entries = [decode_entry(line, ids) for line in lines]
    last = None
    for entry in entries:
        key = path_key(entry.path)
        if last is not None and key <= last:
            raise MalformedError(f"{entry.path[:200]!r} is out of order in the index")
        last = key
    return entries


_wire_decoder = msgspec.json.Decoder(WireReference)


def decode_page(data: bytes) -> list[Reference]:
    """Return the references of a page, in their order.

    Raises:
        MalformedError: The bytes are not a page.
    """
    ids, lines = _split("page", data)
    try:
        return [from_wire(_wire_decoder.decode(line), ids) for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("a reference of an index page cannot be read") from error


def ends_segment(path: bytes) -> bool:
    """Return whether the segment before an entry of this path ends there, by the path's hash."""
    return _hash_says_cut(path, _SEGMENT_ENTRIES)


def _hash_says_cut(path: bytes, one_in: int) -> bool:
    return int.from_bytes(sha256(path).digest()[:4], "big") % one_in == 0


def cut_segments(entries: Iterable[Entry], *, most_bytes: int) -> Iterator[list[Entry]]:
    """Cut ``entries`` into segments of about 512.

    A segment ends before an entry whose path's hash says so. Only where one would grow beyond
    2,048 entries or ``most_bytes`` it ends without.
    """
    segment: list[Entry] = []
    size = 0
    for entry in entries:
        cost = line_bound(entry)
        full = len(segment) >= MOST_SEGMENT_ENTRIES or size + cost > most_bytes
        if segment and (full or ends_segment(entry.path)):
            yield segment
            segment, size = [], 0
        segment.append(entry)
        size += cost
    if segment:
        yield segment


def line_bound(entry: Entry) -> int:
    """Return a bound of the bytes that ``entry`` takes as a line."""
    names = 6 * (len(entry.path) + len(entry.target) + len(entry.user) + len(entry.group))
    attributes = sum(2 * (len(name) + len(value)) for name, value in entry.xattrs)
    content = 48 * len(entry.extents) + 112 * len(entry.chunk_lists)
    content += 42 * len(entry.data or ())
    return 512 + names + attributes + content + 6 * len(entry.error)


def cut_pages(references: Iterable[Reference], *, most_bytes: int) -> Iterator[list[Reference]]:
    """Cut segment references into pages of about 256, by the hash of their first path."""
    page: list[Reference] = []
    size = 0
    for reference in references:
        cost = 256 + 6 * len(reference.first)
        full = len(page) >= _MOST_PAGE_SEGMENTS or size + cost > most_bytes
        if page and (full or _hash_says_cut(b"page" + reference.first, _PAGE_SEGMENTS)):
            yield page
            page, size = [], 0
        page.append(reference)
        size += cost
    if page:
        yield page
