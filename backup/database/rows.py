"""Records as rows: each with its digest, as SQLite does not notice flipped bits in values."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import TypeVar

import msgspec

_Record = TypeVar("_Record", bound=msgspec.Struct)


class DamagedRowError(Exception):
    """A row is not what was written; never leaves the classes that keep such files."""


def to_row(record: msgspec.Struct) -> tuple[bytes, bytes]:
    """Return the record's text and its digest."""
    body = msgspec.json.encode(record)
    return body, sha256(body).digest()


def from_row(kind: type[_Record], body: object, digest: object) -> _Record:
    """Return the record of a row.

    Raises:
        DamagedRowError: The row is not what was written.
    """
    if not isinstance(body, bytes) or sha256(body).digest() != digest:
        raise DamagedRowError
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise DamagedRowError from error


def to_text(moment: datetime) -> str:
    """Return a moment as rows have it."""
    return moment.isoformat()


def from_text(text: object) -> datetime:
    """Return the moment that ``to_text`` wrote.

    Raises:
        DamagedRowError: It wrote something else.
    """
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise DamagedRowError from error
    if moment.tzinfo is None:
        raise DamagedRowError
    return moment
