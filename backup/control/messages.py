"""What goes through the socket: lines of JSON. No key and no snapshot is ever among it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

LONGEST = 1024 * 1024
"""A line of more bytes is refused."""


class NotAMessageError(Exception):
    """A line is not what the other side may send; never leaves this package."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked for, once in a connection.

    ``names`` are jobs, or upkeep; ``options`` those of the command that change how it tells.
    """

    do: Literal["hello", "status", "run", "reload"]
    names: tuple[str, ...] = ()
    options: tuple[Literal["--json", "--verbose", "--quiet"], ...] = ()


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What is told in one piece."""

    fields: dict[str, Any] = {}


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """A run has begun."""

    job: str


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """How far a run has come, in bytes; ``total`` is ``None`` where nobody knows."""

    job: str
    what: str
    done: float
    total: float | None = None


class Wrote(msgspec.Struct, frozen=True, tag="wrote"):
    """What a run wrote to its standard output (1) or standard error (2)."""

    job: str
    stream: Literal[1, 2]
    block: bytes


class Ended(msgspec.Struct, frozen=True, tag="ended", omit_defaults=True):
    """A run has ended; ``status`` is the exit status that tells how."""

    job: str
    outcome: str
    status: int
    reason: str = ""


class Refused(msgspec.Struct, frozen=True, tag="refused", omit_defaults=True):
    """Something is not done, and why; of one job where that is named."""

    message: str
    status: int = 1
    hint: str = ""
    job: str = ""
    problems: tuple[str, ...] = ()


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """Nothing more comes."""


Reply = Answer | Begun | Moved | Wrote | Ended | Refused | Finished


def to_line(message: msgspec.Struct) -> bytes:
    """Return a message as a line."""
    return msgspec.json.encode(message) + b"\n"


def request_of(line: bytes) -> Request:
    """Return the request that a line is.

    Raises:
        NotAMessageError: It is none.
    """
    request: Request = _decode(line, Request)
    return request


def reply_of(line: bytes) -> Reply:
    """Return the reply that a line is.

    Raises:
        NotAMessageError: It is none.
    """
    reply: Reply = _decode(line, Reply)
    return reply


def _decode(line: bytes, kind: Any) -> Any:
    if len(line) > LONGEST or not line.endswith(b"\n"):
        raise NotAMessageError
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotAMessageError from error
