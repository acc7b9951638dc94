"""Signals as words in a queue: the main thread does what they ask for, when it is done with others.

Nothing is blocked, which children would inherit, but for the moment in which this process becomes
another program; nothing is done in a handler but to note it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

_BLOCK = 4096
_SAME_WISH = 0.5

ENDING = (signal.SIGTERM, signal.SIGINT)
_HEARD = (*ENDING, signal.SIGHUP, signal.SIGUSR1)


class Signals:
    """Hears SIGTERM, SIGINT, SIGHUP and SIGUSR1 from when it is made; in the main thread alone.

    Args:
        at_once: Is called, by the handler itself, for a second wish to end. Signals within half a
            second are one wish: ``timeout`` and terminals send them twice.
    """

    def __init__(self, at_once: Callable[[], object]) -> None:
        self._at_once = at_once
        self._heard: deque[signal.Signals] = deque()
        self._ends_since: float | None = None
        self._in, self._out = socket.socketpair()
        for one in (self._in, self._out):
            one.setblocking(False)
        signal.set_wakeup_fd(self._out.fileno(), warn_on_full_buffer=False)
        for number in _HEARD:
            if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)
                signal.siginterrupt(number, False)
        self.release()

    def filenos(self) -> tuple[int, int]:
        """Return the descriptors by which it hears."""
        return self._in.fileno(), self._out.fileno()

    def wait(self, seconds: float | None = None) -> list[signal.Signals]:
        """Wait for signals, or until ``wake``; return those that came, each once, in order."""
        if not self._heard:
            select.select([self._in], [], [], seconds)
        with suppress(BlockingIOError):
            while self._in.recv(_BLOCK):
                pass
        found = []
        while self._heard:
            found.append(self._heard.popleft())
        return list(dict.fromkeys(found))

    def hold(self) -> bool:
        """Let what comes from now on wait for ``release``; tell whether nothing has come before.

        It waits also for the program that this process becomes, which releases it by hearing.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        return not self._heard

    def release(self) -> None:
        """Hear again what comes."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)

    def wake(self) -> None:
        """Let ``wait`` return; from any thread."""
        with suppress(OSError):  # it has enough to read, or hears no more
            self._out.send(b"\0")

    def close(self) -> None:
        """Hear nothing any more: what still comes is ignored."""
        for number in _HEARD:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        for one in (self._in, self._out):
            one.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        one = signal.Signals(number)
        if one in ENDING:
            now = time.monotonic()
            if self._ends_since is None:
                self._ends_since = now
            elif now - self._ends_since > _SAME_WISH:
                self._at_once()
        self._heard.append(one)


def exit_at_once() -> None:
    """End this process here and now; its runs end with it."""
    os._exit(1)


def exit_after(seconds: float) -> None:
    """End this process in time, whatever hangs."""
    last = threading.Timer(seconds, os._exit, [0])
    last.daemon = True
    with suppress(RuntimeError):  # no thread can be started
        last.start()
