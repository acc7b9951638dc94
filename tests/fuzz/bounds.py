"""What reading a small input may cost: a second of processor time, and 256 MiB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOST_SECONDS = 1.0
MOST_KIB = 256 * 1024
_SELF = Path("/proc/self")


class BoundsError(AssertionError):
    """An input cost more than any input may."""


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where what is done within takes more time or memory than a small input may."""
    before = _memory("VmRSS")
    with suppress(OSError):  # else the peak is that of the whole process so far
        (_SELF / "clear_refs").write_bytes(b"5")
    started = time.process_time()
    yield
    seconds, kib = time.process_time() - started, _memory("VmHWM") - before
    if seconds > MOST_SECONDS:
        raise BoundsError(f"{seconds:.1f} s for a small input")
    if kib > MOST_KIB:
        raise BoundsError(f"{kib // 1024} MiB for a small input")


def _memory(field: str) -> int:
    """Return a line of this process's status, in KiB."""
    _, _, rest = (_SELF / "status").read_text().partition(field + ":")
    return int(rest.split()[0])
