"""The end of a snapshot: the table of its frames, its pages, and what it refers to; the footer.

``body | signature block``, where the body is one line of JSON, a newline, and one row of 49 bytes
per frame: ``u8 section | u64 offset | u32 length | u32 plain length | tag (32)``.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec.structs import asdict

from backup.errors import FooterError, LimitError, MalformedError
from backup.model import (
    DIGEST_BYTES,
    ID_BYTES,
    NO_RULES,
    EntryType,
    ExcludeRules,
    SnapshotKind,
    SourcePatterns,
)
from backup.snapshot.entry_line import Count, HexDigest, check_path, from_text, to_text
from backup.snapshot.frame import FrameRow, Section
from backup.snapshot.index import IdTable, Reference, WireReference, from_wire, to_wire
from backup.snapshot.token import TAG_BYTES

FOOTER_MAGIC = b"auto-backup end\n"
_FOOTER = struct.Struct(f">Q{len(FOOTER_MAGIC)}s")
FOOTER_BYTES = _FOOTER.size
_ROW = struct.Struct(f">BQII{TAG_BYTES}s")
_MOST_LINE = 64 * 1024 * 1024
END_CAP = 512 * 1024 * 1024
"""The end may take no more bytes than this, uncompressed."""

_Hex16 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")]


class Referred(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier snapshot that this one refers to; ``data_key`` where the writer could read it."""

    id: bytes
    core_digest: bytes
    data_key: bytes | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much a snapshot holds: entries, of these files, their bytes, entries with an error."""

    entries: Count = 0
    files: Count = 0
    bytes: Count = 0
    errors: Count = 0


class FileSystem(msgspec.Struct, frozen=True, kw_only=True):
    """A file system of the source; entries name it by its place in the list."""

    type: str = ""
    id: str = ""


class EndRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the end says of a snapshot.

    ``sources`` are absolute paths without the leading ``/``; ``rules`` have patterns of single
    sources for these alone.
    """

    job: str
    host: str
    kind: SnapshotKind
    sources: tuple[bytes, ...]
    counts: Counts
    pages: tuple[Reference, ...] = ()
    referred: tuple[Referred, ...] = ()
    filesystems: tuple[FileSystem, ...] = ()
    incomplete: bool = False
    program: str = ""
    rules: ExcludeRules = NO_RULES
    tags: tuple[str, ...] = ()


class _WireReferred(msgspec.Struct, kw_only=True, omit_defaults=True):
    id: _Hex16
    core: HexDigest
    key: str | None = None


class _WireSource(msgspec.Struct, kw_only=True, omit_defaults=True):
    p: str | None = None
    pb: str | None = None
    exclude: tuple[str, ...] = ()


class _WireRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    exclude: tuple[str, ...] = ()
    if_present: tuple[str, ...] = ()
    caches: bool = False
    one_file_system: bool = False
    larger_than: Count = 0


_NO_WIRE_RULES = _WireRules()


class _WireEnd(msgspec.Struct, kw_only=True, omit_defaults=True):
    job: str
    host: str
    kind: SnapshotKind
    frames: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    sources: tuple[_WireSource, ...]
    counts: Counts
    pages: tuple[WireReference, ...]
    snapshots: tuple[_WireReferred, ...] = ()
    filesystems: tuple[FileSystem, ...] = ()
    incomplete: bool = False
    program: str = ""
    rules: _WireRules = _NO_WIRE_RULES
    tags: tuple[str, ...] = ()


def encode_end(own_id: bytes, record: EndRecord, rows: Sequence[FrameRow]) -> bytes:
    """Return the body of the end, which the signature is over."""
    table = IdTable(own_id, *(one.id for one in record.referred))
    wire = _WireEnd(
        job=record.job,
        host=record.host,
        kind=record.kind,
        frames=len(rows),
        sources=_sources_to_wire(record),
        counts=record.counts,
        pages=tuple(to_wire(page, table) for page in record.pages),
        snapshots=tuple(_referred_to_wire(one) for one in record.referred),
        filesystems=record.filesystems,
        incomplete=record.incomplete,
        program=record.program,
        rules=_rules_to_wire(record.rules),
        tags=record.tags,
    )
    if len(table.ids()) != len(record.referred) + 1:
        raise MalformedError("a page lies in a snapshot that the end does not name")
    return msgspec.json.encode(wire) + b"\n" + b"".join(_ROW.pack(*row) for row in rows)


def decode_end(own_id: bytes, data: bytes) -> tuple[EndRecord, list[FrameRow], bytes, bytes]:
    """Return the record, the frames' rows, the signed body and the signature block.

    Raises:
        MalformedError: The bytes are not an end.
    """
    line_end = data.find(b"\n", 0, _MOST_LINE)
    try:
        data[: max(line_end, 0)].decode()  # unknown fields are passed over without a look
        wire = msgspec.json.decode(data[: max(line_end, 0)], type=_WireEnd)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("the end of the snapshot cannot be read") from error
    body_end = line_end + 1 + wire.frames * _ROW.size
    if body_end > len(data):
        raise MalformedError("the end of the snapshot has fewer rows than frames")
    rows = [_row(*fields) for fields in _ROW.iter_unpack(data[line_end + 1 : body_end])]
    return _record(own_id, wire), rows, data[:body_end], data[body_end:]


def _row(section: int, offset: int, length: int, plain: int, tag: bytes) -> FrameRow:
    if section not in set(Section) or section == Section.END:
        raise MalformedError(f"a row of the frame table has the unknown section {section}")
    return FrameRow(Section(section), offset, length, plain, tag)


def _record(own_id: bytes, wire: _WireEnd) -> EndRecord:
    referred = tuple(_referred_from_wire(one) for one in wire.snapshots)
    ids = (own_id, *(one.id for one in referred))
    if len(set(ids)) != len(ids):
        raise MalformedError("the end names a snapshot twice")
    sources = tuple(_source(one) for one in wire.sources)
    return EndRecord(
        job=wire.job,
        host=wire.host,
        kind=wire.kind,
        sources=sources,
        counts=wire.counts,
        pages=tuple(from_wire(page, ids) for page in wire.pages),
        referred=referred,
        filesystems=wire.filesystems,
        incomplete=wire.incomplete,
        program=wire.program,
        rules=_rules_from_wire(wire, sources),
        tags=wire.tags,
    )


def _source(wire: _WireSource) -> bytes:
    path = from_text(wire.p, wire.pb)
    check_path(path, EntryType.DIRECTORY)
    return path


def _sources_to_wire(record: EndRecord) -> tuple[_WireSource, ...]:
    """Return the sources, each with the patterns that count for it alone.

    Raises:
        MalformedError: There are patterns for something else.
    """
    own = dict(record.rules.of_source)
    if not own.keys() <= set(record.sources):
        raise MalformedError("there are patterns for a source that the end does not name")
    told = ((to_text(path), own.get(path, ())) for path in record.sources)
    return tuple(_WireSource(p=p, pb=pb, exclude=patterns) for (p, pb), patterns in told)


def _rules_to_wire(rules: ExcludeRules) -> _WireRules:
    if rules is NO_RULES:
        return _NO_WIRE_RULES
    return _WireRules(**{name: getattr(rules, name) for name in _WireRules.__struct_fields__})


def _rules_from_wire(wire: _WireEnd, sources: Sequence[bytes]) -> ExcludeRules:
    pairs = zip(sources, wire.sources, strict=True)
    own = tuple(SourcePatterns(path, one.exclude) for path, one in pairs if one.exclude)
    if wire.rules is _NO_WIRE_RULES and not own:
        return NO_RULES
    return ExcludeRules(**asdict(wire.rules), of_source=own)


def _referred_to_wire(one: Referred) -> _WireReferred:
    key = None if one.data_key is None else base64.b64encode(one.data_key).decode("ascii")
    return _WireReferred(id=one.id.hex(), core=one.core_digest.hex(), key=key)


def _referred_from_wire(wire: _WireReferred) -> Referred:
    try:
        key = None if wire.key is None else base64.b64decode(wire.key, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    snapshot, core = bytes.fromhex(wire.id), bytes.fromhex(wire.core)
    wrong_key = key is not None and len(key) != DIGEST_BYTES
    if wrong_key or len(snapshot) != ID_BYTES or len(core) != DIGEST_BYTES:
        raise MalformedError("the end names a snapshot in a way that cannot be read")
    return Referred(id=snapshot, core_digest=core, data_key=key)


def encode_footer(end_offset: int) -> bytes:
    """Return the last 24 bytes of a file whose end begins at ``end_offset``."""
    return _FOOTER.pack(end_offset, FOOTER_MAGIC)


def decode_footer(data: bytes) -> int:
    """Return where the end begins.

    Raises:
        FooterError: The bytes are not a footer.
    """
    if len(data) == FOOTER_BYTES:
        offset, magic = _FOOTER.unpack(data)
        if magic == FOOTER_MAGIC:
            return int(offset)
    raise FooterError("the file does not end as a snapshot does")


def check_end_size(size: int) -> None:
    """Raise ``LimitError`` where an end of ``size`` bytes is more than a reader may take in."""
    if size > END_CAP:
        raise LimitError(f"the end of the snapshot is larger than {END_CAP} bytes")
