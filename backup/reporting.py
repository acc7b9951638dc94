"""What a run tells its supervisor while it goes on: how far it is, and at its end what came of it.

A supervisor gives the run's process one end of a pipe. What is written there are lines of JSON; the
run never waits for anybody to read them, and the supervisor never trusts them.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from backup.environment import take_report_variable

Told = str | int | float | bool | None
"""What a run may tell of itself: a snapshot's id, bytes."""

COUNTING = "counting"
"""What is done while a source is walked: it goes on also where what is found has no bytes."""

_PAUSE = 0.5
_LONGEST_LINE = 4096  # so much is written to a pipe at once or not at all
_LONGEST_TEXT = 500
_MOST_DETAILS = 32
_MOST = 1 << 62
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Report(NamedTuple):
    """How far a run has come: what is being done, bytes done, bytes in all where that is known."""

    what: str
    done: int
    total: int | None = None


OnBytes = Callable[[int], object]
"""Is told how many bytes have come so far, in all."""


def tell_nobody(_: int) -> None:
    """Tell nobody how many bytes have come."""


OnReport = Callable[[Report], object]
"""Is told how far a run has come."""


class Reporter:
    """A run's side: tells its supervisor, if there is one; it neither waits nor raises.

    Args:
        descriptor: The end of the pipe to write to; ``None`` where nobody listens.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._last: Report | None = None
        self._untold: Report | None = None
        self._told = 0.0

    @property
    def is_heard(self) -> bool:
        """Whether a supervisor listens."""
        return self._descriptor is not None

    def tell(self, what: str, done: float, total: float | None) -> None:
        """Tell how far it is: at most twice a second, but always the first and last of a phase."""
        if self._descriptor is None:
            return
        report = Report(what, int(done), None if total is None else int(total))
        if self._last is not None and self._last.what != what:
            self.flush()
        is_new = self._last is None or self._last.what != what
        self._last = self._untold = report
        if is_new or time.monotonic() - self._told >= _PAUSE:
            self.flush()

    def flush(self) -> None:
        """Tell what has been held back: a phase is over."""
        report, self._untold = self._untold, None
        if report is not None:
            self._told = time.monotonic()
            self._write(report._asdict() | {"what": _text(report.what)})

    def tell_details(self, details: Mapping[str, Told]) -> None:
        """Tell what came of the run; never a secret."""
        self.flush()
        self._write({"details": _checked(details)})

    def close(self) -> None:
        """Tell nothing more."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _write(self, line: Mapping[str, object]) -> None:
        written = json.dumps(line).encode("ascii") + b"\n"
        if self._descriptor is None or len(written) > _LONGEST_LINE:
            return
        try:
            os.write(self._descriptor, written)
        except BlockingIOError:
            return  # nobody reads: what comes later is more important than what is now
        except OSError:
            self.close()  # nobody will


def own_reporter() -> Reporter:
    """Return what tells this process's supervisor, once: nothing that it starts finds it, too."""
    said = take_report_variable()
    descriptor = None if said is None else _open_pipe(said)
    return Reporter(descriptor)


def name_of_pipe(descriptor: int) -> str:
    """Return what the variable says of the pipe's end that a run gets."""
    found = os.fstat(descriptor)
    return f"{descriptor}:{found.st_dev}:{found.st_ino}"


def _open_pipe(said: str) -> int | None:
    """Return the descriptor that is meant, if it is still that pipe: others may have its number."""
    number = said.partition(":")[0]
    if not (number.isascii() and number.isdigit() and len(number) < 8):  # noqa: PLR2004 - an int
        return None
    descriptor = int(number)
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode) or name_of_pipe(descriptor) != said:
            return None
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)
    except OSError:
        return None
    return descriptor


class _Line(msgspec.Struct):
    what: str | None = None
    done: int = 0
    total: int | None = None
    details: dict[str, Told] | None = None


class Reports:
    """A supervisor's side: takes in what a run writes, whatever that is.

    ``last`` is the last report, ``details`` what the run said came of it.
    """

    def __init__(self) -> None:
        self.last: Report | None = None
        self.details: dict[str, Told] = {}
        self._begun = b""
        self._is_too_long = False

    def feed(self, block: bytes) -> list[Report]:
        """Take in what came; return its reports, of each phase the last.

        What makes no sense is dropped.
        """
        *lines, rest = (self._begun + block).split(b"\n")
        if lines and self._is_too_long:
            del lines[0]
            self._is_too_long = False
        self._is_too_long = self._is_too_long or len(rest) > _LONGEST_LINE
        self._begun = b"" if self._is_too_long else rest
        found: list[Report] = []
        for line in lines:
            report = self._take(line) if len(line) <= _LONGEST_LINE else None
            if report is not None:
                if found and found[-1].what == report.what:
                    del found[-1]
                found.append(report)
        self.last = found[-1] if found else self.last
        return found

    def _take(self, text: bytes) -> Report | None:
        try:
            line = msgspec.json.decode(text, type=_Line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        if line.details is not None:
            self.details = _checked(line.details)
        if line.what is None or not _is_amount(line.done):
            return None
        total = line.total if line.total is not None and _is_amount(line.total) else None
        return Report(_text(line.what), line.done, total)


def _checked(details: Mapping[str, Told]) -> dict[str, Told]:
    """Return those details that can be written down: not too many, not too long."""
    named = [(name, value) for name, value in details.items() if _NAME.fullmatch(name)]
    return {
        name: _text(value) if isinstance(value, str) else value
        for name, value in named[:_MOST_DETAILS]
        if not isinstance(value, int | float) or (math.isfinite(value) and abs(value) <= _MOST)
    }


def _is_amount(number: int) -> bool:
    return 0 <= number <= _MOST


def _text(said: str) -> str:
    return said[:_LONGEST_TEXT].encode("utf-8", "replace").decode()
