"""What a process asks of the system for itself."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress

_SET_PDEATHSIG = 1
_SET_DUMPABLE = 4


def keep_memory_private() -> None:
    """Let no core dump and no other process of this user see the keys in this one's memory.

    A limit of 0 does not hold for cores that the kernel pipes to a program, the flag does. It also
    gives ``/proc/self`` to root, which does not matter to a process that looks at its own. Programs
    that are started from here have the flag again.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _prctl(_SET_DUMPABLE, 0)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends.

    Args:
        parent: Its process id. If it is gone already this process ends here and now.
    """
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), zero, zero, zero)
