"""The small file beside a snapshot that says: it is in the trash.

A marker is in clear and not authenticated: whoever can write to a store can make one. So it hides a
snapshot, and no more: nothing is ever purged because a marker says so.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

MARKER_CAP = 4096
_FORMAT = 1


class TrashMarker(msgspec.Struct, frozen=True, kw_only=True):
    """When a snapshot was put into the trash, why, and by what on which host."""

    format: int = _FORMAT
    time: datetime
    reason: str = ""
    program: str = ""
    host: str = ""


def encode_marker(marker: TrashMarker) -> bytes:
    """Return the bytes of a marker's file."""
    return msgspec.json.encode(marker) + b"\n"


def parse_marker(data: bytes) -> TrashMarker | None:
    """Return what a marker's file says, or ``None`` where it says nothing that is understood."""
    try:
        marker = msgspec.json.decode(data, type=TrashMarker)
        time = marker.time.astimezone(UTC)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, ValueError):
        return None
    known = marker.format == _FORMAT and marker.time.tzinfo is not None
    return msgspec.structs.replace(marker, time=time) if known else None
