"""The only place that reads the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present moment as an aware ``datetime`` in UTC."""


def system_clock() -> datetime:
    """Return the present moment, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - this is the one place


def now_ns() -> int:
    """Return the present moment in nanoseconds since 1970, as file systems stamp files."""
    return time.time_ns()
