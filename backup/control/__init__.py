"""The daemon's socket: questions to it and what it tells, for this machine's other processes."""

from __future__ import annotations

from backup.control.client import Call, as_error, ask, connect
from backup.control.messages import (
    Answer,
    Begun,
    Ended,
    Finished,
    Moved,
    Refused,
    Reply,
    Request,
    Wrote,
)
from backup.control.server import Conversation, Server

__all__ = [
    "Answer",
    "Begun",
    "Call",
    "Conversation",
    "Ended",
    "Finished",
    "Moved",
    "Refused",
    "Reply",
    "Request",
    "Server",
    "Wrote",
    "as_error",
    "ask",
    "connect",
]
