"""What a service manager is told, and asks for: the protocol of sd_notify(3).

Datagrams to the socket that ``NOTIFY_SOCKET`` names. That nobody listens never matters.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

_SOCKET, _WATCHDOG, _WATCHDOG_PID = VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_BEATS_EACH = 3
_LONGEST_STATUS = 1000
_MICRO = 1_000_000


class Notifier:
    """Tells a service manager how it goes; without one it does nothing.

    Args:
        variables: What the environment said, of ``VARIABLES``.
        pid: This process.
    """

    def __init__(self, variables: Mapping[str, str], pid: int) -> None:
        self.variables = dict(variables)
        self._address = _address(variables.get(_SOCKET, ""))
        self._pid = pid
        self._every = _every(variables, pid)
        self._beaten = float("-inf")
        self._status: str | None = None

    @property
    def is_heard(self) -> bool:
        """Whether there is somebody to tell."""
        return self._address is not None

    def ready(self, *, main: bool = True) -> None:
        """Tell that it works.

        Args:
            main: Whether to tell that this is the process to supervise.
        """
        self._send("READY=1", *([f"MAINPID={self._pid}"] if main else []))

    def reloading(self) -> None:
        """Tell that it reads its configuration anew, or becomes another program; then ``ready``."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that it ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Tell in a line how it goes, where that has changed."""
        line = " ".join(text.split())[:_LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def beat(self) -> None:
        """Tell that it is alive, three times as often as is asked for."""
        now = time.monotonic()
        if self._every is not None and now - self._beaten >= self._every:
            self._beaten = now
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with (
            suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.setblocking(False)  # a manager that does not read must not stop the daemon
            out.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)


def _address(text: str) -> bytes | None:
    """Return the socket's address; a name that begins with ``@`` is an abstract one."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    return os.fsencode(text) if text.startswith("/") else None


def _every(variables: Mapping[str, str], pid: int) -> float | None:
    """Return after how many seconds to beat, ``None`` where nobody watches this process."""
    with suppress(ValueError):
        micro = int(variables.get(_WATCHDOG, "0"))
        if micro > 0 and int(variables.get(_WATCHDOG_PID) or pid) == pid:
            return micro / _MICRO / _BEATS_EACH
    return None
