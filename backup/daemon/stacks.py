"""What every thread is at: for a daemon that seems to hang. Places in the code, and no values."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

_LOG = logging.getLogger(__name__)


def stack_lines() -> Iterator[str]:
    """Yield, for each thread, its name and below it where it is, the innermost place last."""
    names = {one.ident: one.name for one in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - documented, and the only way
    for number, frame in sorted(frames.items()):
        yield f"thread {names.get(number, number)}:"
        yield from (f"  {place}" for place in _places(frame))


def _places(frame: FrameType) -> list[str]:
    found = []
    inner: FrameType | None = frame
    while inner is not None:
        file = "/".join(Path(inner.f_code.co_filename).parts[-2:])
        found.append(f"{file}:{inner.f_lineno} {inner.f_code.co_name}")
        inner = inner.f_back
    return found[::-1]


def child_processes() -> list[int]:
    """Return the ids of this process's children."""
    found: set[int] = set()
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):
                found.update(map(int, (thread / "children").read_text("ascii").split()))
    return sorted(found)


def tell_stacks(running: Sequence[str]) -> None:
    """Log where every thread is, which runs go on, and their processes."""
    for line in stack_lines():
        _LOG.info("%s", line)
    processes = ", ".join(map(str, child_processes())) or "none"
    runs = ", ".join(running) or "none"
    _LOG.info("runs: %s; processes below this one: %s", runs, processes)
