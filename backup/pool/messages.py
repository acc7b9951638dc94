"""What a pool, its nursery and its workers say to each other: short packets over sockets."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

import msgspec


class Work(Protocol):
    """Does jobs, one after the other."""

    def run(self, job: memoryview) -> tuple[bytes, bytes | bytearray | memoryview]:
        """Do the job of these bytes; return a head and a body. Raise errors of this package."""
        ...

    def close(self) -> None:
        """Let go of what is kept between jobs; may be called twice."""
        ...


Factory = Callable[[bytes], Work]
"""Makes the work from the set-up's bytes."""

JOB = struct.Struct("=IQ")
"""The slot, and how many bytes the job in it has."""

RESULT = struct.Struct("=IIQQ")
"""The slot, the status, and how many bytes the head and the body behind it have."""

ENDED = struct.Struct("=Qi")
"""The number of a worker that has ended, and the status that the system gave."""

NOT_STARTED = -1
"""In place of a status: the system let no such process begin."""

WORKER = struct.Struct("=Q")
"""The number of a worker to start; its socket comes along."""


class Status(IntEnum):
    """What became of a job. ``FAILED`` and ``BROKEN`` have a ``Failure`` as head.

    ``BEGUN`` comes before: from there on the job may be what ends its worker.
    """

    DONE = 0
    FAILED = 1
    BROKEN = 2
    TOO_LARGE = 3
    BEGUN = 4


class Failure(msgspec.Struct, array_like=True):
    """An error on its way to the process that asked."""

    kind: str
    message: str
    hint: str | None = None


class SetUp(msgspec.Struct, array_like=True):
    """What a nursery is told first; ``data`` may hold keys, so it goes over a socket."""

    factory: str
    data: bytes
    slots: int
    job_bytes: int
    result_bytes: int
