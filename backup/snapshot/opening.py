"""Opening a snapshot: nothing of it is believed before it has been authenticated."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from backup.errors import (
    FooterError,
    FrameError,
    FrameOutOfPlaceError,
    HeaderError,
    IntegrityError,
    MalformedError,
    MissingSnapshotError,
    NotASnapshotError,
    SecretKeyError,
    TruncatedError,
    WrongKeyError,
)
from backup.snapshot.compression import decompress_up_to, metadata_archive
from backup.snapshot.diagnosis import explain
from backup.snapshot.end import (
    FOOTER_BYTES,
    EndRecord,
    Referred,
    check_end_size,
    decode_end,
    decode_footer,
)
from backup.snapshot.frame import (
    LENGTH,
    FrameKeys,
    FrameRow,
    Section,
)
from backup.snapshot.header import (
    HEADER_CAP,
    PREAMBLE,
    Header,
    check_header,
    is_header_start,
    parse_header,
    parse_keys_file,
)
from backup.snapshot.recipients import Identity, open_header
from backup.snapshot.signing import check_signature
from backup.snapshot.source import ByteSource, read_exactly
from backup.snapshot.token import TAG_BYTES

_FIRST_READ = 8192


class OpenedHeader(NamedTuple):
    """A header that has been authenticated, and the data key it gave.

    ``length`` is how many bytes the header takes in the file; ``None`` where it is damaged and the
    keys file stood in for it.
    """

    header: Header
    data_key: bytes
    length: int | None


class OpenedEnd(NamedTuple):
    """The end, authenticated; ``signer`` is the public key that signed it."""

    record: EndRecord
    rows: list[FrameRow]
    signer: bytes
    end_offset: int


def read_header(source: ByteSource) -> Header:
    """Return the header of the file, not authenticated yet.

    Raises:
        NotASnapshotError: The file is something else.
        TruncatedError: It ends within the header.
        HeaderError: The header is damaged.
    """
    data = source.read_at(0, _FIRST_READ)
    if PREAMBLE.startswith(data):
        raise TruncatedError(f"{source.name} ends within its first line")
    if not is_header_start(data):
        if _has_footer(source):
            raise HeaderError(f"the first line of {source.name} is damaged")
        raise NotASnapshotError(f"{source.name} is not a snapshot")
    try:
        return parse_header(data)
    except HeaderError:
        if source.size > HEADER_CAP:
            return parse_header(source.read_at(0, HEADER_CAP))
    try:
        return parse_header(source.read_at(0, HEADER_CAP))
    except HeaderError:
        if _has_footer(source):
            raise
        raise TruncatedError(f"{source.name} ends within its header") from None


def _has_footer(source: ByteSource) -> bool:
    try:
        decode_footer(source.read_at(max(source.size - FOOTER_BYTES, 0), FOOTER_BYTES))
    except FooterError:
        return False
    return True


def authenticate_header(
    source: ByteSource, identities: Sequence[Identity], keys_file: bytes | None
) -> OpenedHeader:
    """Return the header with the data key, from the keys file where that opens.

    Raises:
        SecretKeyError: No key, or not the right one.
        IntegrityError: Neither the header nor the keys file is intact.
    """
    try:
        header: Header | None = read_header(source)
        damage: IntegrityError | None = None
    except IntegrityError as error:
        header, damage = None, error
    if keys_file is not None:
        opened = _open_keys_file(keys_file, header, identities)
        if opened is not None:
            return opened
    if header is None:
        raise damage or HeaderError("the header cannot be read")
    return OpenedHeader(header, open_header(header, identities), header.length)


def _open_keys_file(
    data: bytes, header: Header | None, identities: Sequence[Identity]
) -> OpenedHeader | None:
    """Return what the keys file gives, or ``None`` where the header has to do."""
    try:
        keys = parse_keys_file(data)
        data_key = open_header(keys, identities)
    except (IntegrityError, WrongKeyError):
        return None
    if header is None:
        return OpenedHeader(keys, data_key, None)
    if header.core.line != keys.core.line:
        # With a header that is intact the keys file is another snapshot's; with a damaged one
        # it is this snapshot's or none of its frames will open.
        return None if _opens(header, identities) else OpenedHeader(keys, data_key, None)
    return OpenedHeader(keys, data_key, _intact_length(header, data_key))


def _opens(header: Header, identities: Sequence[Identity]) -> bool:
    try:
        open_header(header, identities)
    except (IntegrityError, SecretKeyError):
        return False
    return True


def _intact_length(header: Header, data_key: bytes) -> int | None:
    try:
        check_header(header, data_key)
    except HeaderError:
        return None
    return header.length


def authenticate_with(source: ByteSource, referred: Referred) -> OpenedHeader:
    """Return the header of a snapshot whose data key is known from another snapshot's end."""
    header = read_header(source)
    check_referred(source, header, referred)
    data_key = referred.data_key or b""
    check_header(header, data_key)
    return OpenedHeader(header, data_key, header.length)


def check_referred(source: ByteSource, header: Header, referred: Referred) -> None:
    """Raise ``MissingSnapshotError`` unless ``header`` is that of the snapshot that was named."""
    if (header.core.id, header.core.digest) != (referred.id, referred.core_digest):
        raise MissingSnapshotError(f"{source.name} is not the snapshot that is referred to")


def read_end(
    source: ByteSource, keys: FrameKeys, start: int | None, trusted: Collection[bytes] | None
) -> OpenedEnd:
    """Return the end of the snapshot, authenticated, its table checked against the file.

    Args:
        source: The file.
        keys: What opens its frames.
        start: Where the first frame begins, where that is known.
        trusted: See ``check_signature``.

    Raises:
        IntegrityError: The most telling one of what is wrong.
    """
    try:
        offset = _end_offset(source, start)
        number, data = _end_bytes(source, keys, offset)
        record, rows, body, block = decode_end(keys.core.id, data)
        if number != len(rows):
            raise FrameOutOfPlaceError(f"the end is frame {number}, not frame {len(rows)}")
        _check_table(rows, start, offset)
    except IntegrityError as error:
        if start is None:
            raise
        explain(source, keys, start, error)
    signer = check_signature(keys.core, body, block, trusted)
    _check_rows(rows, keys)
    return OpenedEnd(record, rows, signer, offset)


def _end_offset(source: ByteSource, start: int | None) -> int:
    footer = source.read_at(max(source.size - FOOTER_BYTES, 0), FOOTER_BYTES)
    offset = decode_footer(footer)
    if not (start or 0) <= offset < source.size - FOOTER_BYTES:
        raise FooterError("the footer of the snapshot is damaged: it points nowhere")
    check_end_size(source.size - FOOTER_BYTES - offset)
    return offset


def _end_bytes(source: ByteSource, keys: FrameKeys, offset: int) -> tuple[int, bytes]:
    """Return the number of the first end frame, and what all of them hold.

    Frame by frame: a damaged footer may point far in front of the end.
    """
    archive = metadata_archive(keys.core.archive)
    first: int | None = None
    parts: list[bytes] = []
    at, total = offset, 0
    while at < source.size - FOOTER_BYTES:
        token = _token_of_end(source, keys, at)
        at += LENGTH.size + len(token)
        section, number, piece = keys.open_anywhere(token, place=(first or 0) + len(parts))
        first = number if first is None else first
        if section is not Section.END or number != first + len(parts):
            raise FrameOutOfPlaceError(f"frame {number} stands within the end")
        parts.append(decompress_up_to(archive, piece, limit=keys.core.cap))
        total += len(parts[-1])
        check_end_size(total)
    return first or 0, b"".join(parts)


def _token_of_end(source: ByteSource, keys: FrameKeys, at: int) -> bytes:
    rest = source.size - FOOTER_BYTES - at - LENGTH.size
    if rest < 0:
        raise FrameError("the end of the snapshot is damaged")
    (length,) = LENGTH.unpack(read_exactly(source, at, LENGTH.size, "its end"))
    if length > min(rest, keys.longest_token()):
        raise FrameError("the length of the end is damaged")
    return read_exactly(source, at + LENGTH.size, length, "its end")


_ORDER = (Section.ARCHIVE, Section.CHUNKS, Section.INDEX)
_NO_ROW = FrameRow(Section.ABSENT, 0, 0, 0, bytes(TAG_BYTES))


def _check_rows(rows: list[FrameRow], keys: FrameKeys) -> None:
    """Refuse rows that are authentic and that no writer may write."""
    reached = 0
    for row in rows:
        if row.section is Section.ABSENT:
            if row != _NO_ROW:
                raise MalformedError("a row of a frame that was taken away is not zeros")
            continue
        if row.length > keys.longest_token() or row.plain > keys.core.cap:
            raise MalformedError("a row of the frame table is larger than a frame may be")
        place = _ORDER.index(row.section)
        if place < reached:
            raise MalformedError("the sections of the snapshot are out of order")
        reached = place


def _check_table(rows: list[FrameRow], start: int | None, end: int) -> None:
    """Refuse a table that leaves a byte between header and end to nobody, or to two."""
    present = [row for row in rows if row.section is not Section.ABSENT]
    at = present[0].offset if start is None and present else start or 0
    for row in present:
        if row.offset != at:
            raise FrameOutOfPlaceError("the frames in the file are not those of its table")
        at += LENGTH.size + row.length
    if at != end:
        raise FrameOutOfPlaceError("the frames in the file are not those of its table")
