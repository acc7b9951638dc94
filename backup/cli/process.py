"""An orderly end by signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGHUP)
"""The latter comes where the terminal is closed or its connection is lost."""


@contextmanager
def interrupted_by_signals(*, alone: bool) -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is done within as Ctrl-C does: nothing is left behind.

    Only the main thread may ask for that. What is ignored, as with ``nohup``, stays so.

    Args:
        alone: Whether the process ends with it. Then nothing interrupts what is left to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, meant in before.items():
        if meant is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        if alone:
            leave_uninterrupted()
        for number, meant in before.items():
            signal.signal(number, meant)


def leave_uninterrupted() -> None:
    """Let this process end with the status that has been decided.

    Python ends itself by SIGINT where a KeyboardInterrupt has ever passed through an ``exec``, such
    as those of dataclasses, although it was caught; a signal that is blocked leaves the status.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *_ENDING})


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
