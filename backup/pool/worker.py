"""A worker: does the jobs that come over its socket until that closes."""

from __future__ import annotations

import importlib
import socket
from typing import cast

import msgspec

from backup.errors import BackupError
from backup.pool.messages import JOB, RESULT, Factory, Failure, Status, Work
from backup.pool.slots import Slots


def find_factory(name: str) -> Factory:
    """Return the function that ``package.module:function`` names."""
    module, _, function = name.partition(":")
    return cast("Factory", getattr(importlib.import_module(module), function))


def serve(connection: socket.socket, slots: Slots, work: Work) -> None:
    """Do job after job; return when the other side has closed the connection."""
    while message := connection.recv(JOB.size):
        slot, length = JOB.unpack(message)
        connection.send(RESULT.pack(slot, Status.BEGUN, 0, 0))
        status, head, body = _do(work, slots.job(slot)[:length])
        room = slots.result(slot)
        if len(head) + len(body) > len(room):
            status, head, body = Status.TOO_LARGE, b"", b""
        room[: len(head)] = head
        room[len(head) : len(head) + len(body)] = body
        connection.send(RESULT.pack(slot, status, len(head), len(body)))


def _do(work: Work, job: memoryview) -> tuple[Status, bytes, bytes | bytearray | memoryview]:
    try:
        return Status.DONE, *work.run(job)
    except BackupError as error:
        hint = None if error.hint is None else _sendable(error.hint)
        failure = Failure(type(error).__name__, _sendable(error.message), hint)
        return Status.FAILED, msgspec.msgpack.encode(failure), b""
    except Exception as error:  # noqa: BLE001 - the process that asked says it
        failure = Failure(type(error).__name__, _sendable(str(error)))
        return Status.BROKEN, msgspec.msgpack.encode(failure), b""


def _sendable(text: str) -> str:
    """Return ``text`` without the halves of characters that stand for bytes of foreign names."""
    return text.encode(errors="backslashreplace").decode()
