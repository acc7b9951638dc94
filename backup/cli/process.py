"""An orderly end by signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def interrupted_by_sigterm(*, alone: bool) -> Iterator[None]:
    """Let SIGTERM end what is done within as Ctrl-C does; only the main thread may ask for that.

    Args:
        alone: Whether the process ends with it. Then nothing interrupts what is left to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        if alone:
            leave_uninterrupted()
        signal.signal(signal.SIGTERM, before)


def leave_uninterrupted() -> None:
    """Let this process end with the status that has been decided.

    Python ends itself by SIGINT where a KeyboardInterrupt has ever passed through an ``exec``, such
    as those of dataclasses, although it was caught; a signal that is blocked leaves the status.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
