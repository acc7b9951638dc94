"""Shared memory in slots, each with room for a job and for its result."""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

_PAGE = mmap.PAGESIZE


class SlotSize(NamedTuple):
    """How many bytes a slot has for a job, and for its result; only what is used takes memory."""

    job: int
    result: int

    @property
    def total(self) -> int:
        """How many bytes a slot spans, in whole pages."""
        return -(-(self.job + self.result) // _PAGE) * _PAGE


class Slots:
    """``count`` slots in one anonymous file, which a process shares with those that it starts.

    Args:
        count: How many.
        size: How large each of them is.
        file: The descriptor of an existing one, which this object takes over; ``None`` makes it.

    Raises:
        OSError: The system has no such memory.
    """

    def __init__(self, count: int, size: SlotSize, file: int | None = None) -> None:
        self.count = count
        self.size = size
        self.file = _make(count * size.total) if file is None else file
        try:
            self._memory = mmap.mmap(self.file, count * size.total)
        except BaseException:
            os.close(self.file)
            raise
        self._view = memoryview(self._memory)

    def job(self, slot: int) -> memoryview:
        """Return the part of ``slot`` that holds its job."""
        start = slot * self.size.total
        return self._view[start : start + self.size.job]

    def result(self, slot: int) -> memoryview:
        """Return the part of ``slot`` that holds its result."""
        start = slot * self.size.total + self.size.job
        return self._view[start : start + self.size.result]

    def close(self) -> None:
        """Let go of the descriptor; the memory goes with the last view of it."""
        os.close(self.file)
        self._view.release()


def _open_nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("auto-backup-slots")
    # A Python that was built for systems of before 2018 lacks the call.
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)  # noqa: S108


def _make(length: int) -> int:
    file = _open_nameless()
    try:
        os.ftruncate(file, length)
    except BaseException:
        os.close(file)
        raise
    return file
