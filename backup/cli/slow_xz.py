"""Saying once, while an xz snapshot is taken, how long that takes and what zstd would take."""

from __future__ import annotations

import time
from collections.abc import Callable

from backup.cli.output import duration_text

_LONG_SECONDS = 600
_SETTLED_SECONDS = 20


def remark_on(elapsed: float, read: int, total: int, quicker: float) -> str | None:
    """Return what to say of an xz run, or ``None`` where it is quick or nobody can tell yet.

    Args:
        elapsed: Seconds since its first result.
        read: Bytes of the sources that were done in that time.
        total: Bytes of the sources in all.
        quicker: How many times as fast the same work was with zstd, 0 where nobody tried.
    """
    if elapsed < _SETTLED_SECONDS or read <= 0 or quicker <= 1:
        return None
    whole = elapsed * max(total, read) / read
    if whole <= _LONG_SECONDS:
        return None
    return (
        f"with xz this takes about {duration_text(whole)};"
        f" --compression zstd would take about {duration_text(whole / quicker)}, and more room"
    )


class SlowXz:
    """Watches one run, and speaks once.

    Args:
        say: Shows a line to the user.
        now: Tells seconds from any start.
    """

    def __init__(
        self, say: Callable[[str], object], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._now = now
        self._first: tuple[float, int] | None = None
        self._has_spoken = False

    def watch(self, read: int, total: int, quicker: float) -> None:
        """Take note of how far the run has come; see ``remark_on``."""
        if self._has_spoken:
            return
        now = self._now()
        # Until the first result workers start, and each is still at its first frame.
        first, before = self._first = self._first or (now, read)
        text = remark_on(now - first, read - before, total, quicker)
        if text is not None:
            self._has_spoken = True
            self._say(text)
