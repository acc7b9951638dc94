"""Asks the daemon, if one listens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from backup.control.addresses import may_answer, peer_of, short_path
from backup.control.messages import (
    LONGEST,
    Answer,
    Finished,
    NotAMessageError,
    Refused,
    Reply,
    Request,
    reply_of,
    to_line,
)
from backup.errors import BackupError, ConfigError, DaemonError, LockedError

_CONNECTING = 5.0
_ANSWERING = 30.0
_PAUSE = 0.02
_ENDED = "the daemon has ended, or waits no longer for this command to listen"
_AFTERWARDS = "'auto-backup history' tells what became of runs, 'auto-backup status' what goes on"
_KINDS: dict[int, type[BackupError]] = {2: ConfigError, 11: LockedError}


class Call:
    """A connection to a daemon, with what was asked: iterates over what it tells, to the end.

    Args:
        connection: The socket, connected.
        request: What to ask.

    Raises:
        DaemonError: The daemon has ended, or hangs.
    """

    def __init__(self, connection: socket.socket, request: Request) -> None:
        self._connection = connection
        self._rest = b""
        with _as_daemon_errors(), suppress(BrokenPipeError):  # it may have said why before
            connection.sendall(to_line(request))

    def __iter__(self) -> Iterator[Reply]:
        while True:
            with _as_daemon_errors():
                line = self._line()
            try:
                reply = reply_of(line)
            except NotAMessageError as error:
                if line:
                    raise DaemonError("the daemon's answer cannot be understood") from error
                raise DaemonError(_ENDED, hint=_AFTERWARDS) from error
            if isinstance(reply, Finished):
                return
            yield reply

    def wait_long(self) -> None:
        """Wait for what is told as long as it takes: runs may be silent for hours."""
        self._connection.settimeout(None)

    def close(self) -> None:
        """Listen no more; what was begun goes on."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _line(self) -> bytes:
        while b"\n" not in self._rest and len(self._rest) <= LONGEST:
            block = self._connection.recv(65536)
            if not block:
                break
            self._rest += block
        line, newline, self._rest = self._rest.partition(b"\n")
        return line + newline


@contextmanager
def _as_daemon_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise DaemonError(
            "the daemon does not answer", hint="SIGUSR1 makes it log what it is doing"
        ) from error
    except OSError as error:
        raise DaemonError(f"the daemon has ended: {error.strerror}") from error


def connect(path: Path, request: Request, trusted: Collection[int] = ()) -> Call | None:
    """Ask the daemon at ``path``; ``None`` where nobody listens.

    Args:
        path: Where its socket is.
        request: What to ask.
        trusted: Users whose daemon may be believed, besides root's and one's own.

    Raises:
        LockedError: Somebody listens, and may not be asked, or not be believed.
        DaemonError: It does not answer.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_CONNECTING)
        if not _reaches(connection, path):
            connection.close()
            return None
        peer = peer_of(connection)
        if not may_answer(peer, {os.geteuid(), *trusted}):
            raise LockedError(
                f"what listens at {path} belongs to another user (number {peer.uid})",
                hint="it is not asked for anything",
            )
        connection.settimeout(_ANSWERING)
        return Call(connection, request)
    except BaseException:
        connection.close()
        raise


def _reaches(connection: socket.socket, path: Path) -> bool:
    try:
        with short_path(path) as address:
            _connect(connection, address)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return False
    except PermissionError as error:
        raise LockedError(
            f"you may not ask the daemon at {path} for anything",
            hint="members of the group that the socket belongs to may, and root",
        ) from error
    except OSError as error:
        raise DaemonError(f"the daemon at {path} does not answer: {error.strerror}") from error
    return True


def _connect(connection: socket.socket, address: str) -> None:
    """Connect; where many do at once the kernel says to try again and does not wait."""
    deadline = time.monotonic() + _CONNECTING
    while True:
        try:
            connection.connect(address)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


def ask(path: Path, request: Request, trusted: Collection[int] = ()) -> Answer | None:
    """Ask for something that is answered in one piece; ``None`` where nobody listens.

    Raises:
        BackupError: What the daemon refuses; else as ``connect``.
    """
    call = connect(path, request, trusted)
    if call is None:
        return None
    with call:
        for reply in call:
            if isinstance(reply, Refused):
                raise as_error(reply)
            if isinstance(reply, Answer):
                return reply
    raise DaemonError("the daemon does not say anything")


def as_error(refused: Refused) -> BackupError:
    """Return the error that the daemon tells."""
    kind = _KINDS.get(refused.status, DaemonError)
    error = kind(refused.message, hint=refused.hint or None)
    if isinstance(error, ConfigError):
        error.problems = refused.problems
    return error
