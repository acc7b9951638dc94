"""The first process of a container: passes signals on, and buries what dies below it.

The kernel gives process 1 every orphan, and it has to be waited for; and a signal for which it has
no handler does not reach it. So the daemon is its child, and it does nothing else.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_WAITED_FOR = frozenset({*_PASSED_ON, signal.SIGCHLD})
_FOR_THE_REST = 1.0
_BY_SIGNAL = 128


def fork_from_first() -> int | None:
    """Fork: return ``None`` in the child, and in this process, once that has ended, its status.

    To be called before there are threads, and before anything heavy is imported.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    child = os.fork()
    if child == 0:
        # A terminal's Ctrl-C comes to the group of process 1, which passes it on: once is enough.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    for number in _WAITED_FOR:
        signal.signal(number, lambda *_: None)
    status = _attend(child)
    _end_the_rest()
    return status


def _attend(child: int) -> int:
    """Pass signals on, and bury; return the status of ``child`` when it has ended."""
    while True:
        number = signal.sigwait(_WAITED_FOR)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        ended = _bury()
        if child in ended:
            return ended[child]


def _bury() -> dict[int, int]:
    """Wait for all that have ended; return their exit statuses."""
    ended = {}
    with suppress(ChildProcessError):
        while True:
            pid, how = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            code = os.waitstatus_to_exitcode(how)
            ended[pid] = code if code >= 0 else _BY_SIGNAL - code
    return ended


def _end_the_rest() -> None:
    """Ask all other processes to end, and give them a moment; the kernel kills what is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(-1, signal.SIGTERM)
    deadline = time.monotonic() + _FOR_THE_REST
    while time.monotonic() < deadline:
        _bury()
        try:
            os.kill(-1, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)
