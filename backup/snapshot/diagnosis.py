"""Telling apart in which way a file is not the snapshot that was written.

Only asked when a file has been refused already: it reads the file from its start, frame by frame,
and raises the most telling error it finds.
"""

from __future__ import annotations

from typing import NoReturn

from backup.errors import (
    FooterError,
    FrameError,
    FrameOutOfPlaceError,
    IntegrityError,
    TrailingBytesError,
    TruncatedError,
)
from backup.snapshot.end import FOOTER_BYTES, decode_footer
from backup.snapshot.frame import LENGTH, FrameKeys, Section
from backup.snapshot.source import ByteSource


def explain(source: ByteSource, keys: FrameKeys, start: int, cause: IntegrityError) -> NoReturn:
    """Raise what is wrong with the frames from ``start`` on, else ``cause``.

    Args:
        source: The file.
        keys: What opens its frames.
        start: Where its first frame begins.
        cause: The error with which it was refused.
    """
    at, number = start, 0
    end: int | None = None
    gap: FrameOutOfPlaceError | None = None
    while at < source.size:
        if _is_footer(source, at) and (end is not None or source.size - at == FOOTER_BYTES):
            _at_footer(source, at, end, gap, cause)
        token = _token_at(source, keys, at, number, end_seen=end is not None)
        section, found, _ = keys.open_anywhere(token, place=number)
        if found != number:
            moved = FrameOutOfPlaceError(f"frame {found} stands in the place of frame {number}")
            if found < number or end is not None:
                raise moved
            gap = gap or moved  # or a compaction took frames away, which only the end can tell
        if section is Section.END:
            end = at if end is None else end
        at += LENGTH.size + len(token)
        number = found + 1
    raise TruncatedError(f"the file ends after {number} frames") from cause


def _token_at(
    source: ByteSource, keys: FrameKeys, at: int, number: int, *, end_seen: bool
) -> bytes:
    rest = source.size - at
    if end_seen and rest == FOOTER_BYTES:
        raise FooterError("the footer of the snapshot is damaged")
    if end_seen and rest < FOOTER_BYTES:
        raise TruncatedError("the file ends within its footer")
    if rest < LENGTH.size:
        raise TruncatedError(f"the file ends within frame {number}")
    (length,) = LENGTH.unpack(source.read_at(at, LENGTH.size))
    if length > keys.longest_token():
        raise FrameError(f"the length of frame {number} is damaged")
    if at + LENGTH.size + length > source.size:
        raise TruncatedError(f"the file ends within frame {number}")
    return source.read_at(at + LENGTH.size, length)


def _is_footer(source: ByteSource, at: int) -> bool:
    try:
        decode_footer(source.read_at(at, FOOTER_BYTES))
    except FooterError:
        return False
    return True


def _at_footer(
    source: ByteSource,
    at: int,
    end: int | None,
    gap: FrameOutOfPlaceError | None,
    cause: IntegrityError,
) -> NoReturn:
    rest = source.size - at - FOOTER_BYTES
    if rest > 0:
        raise TrailingBytesError(f"{rest} bytes follow the end of the snapshot") from cause
    if end is not None and decode_footer(source.read_at(at, FOOTER_BYTES)) != end:
        wrong = FooterError("the footer of the snapshot is damaged: it does not point to the end")
        raise gap or wrong from cause
    raise cause
