"""Listens at the daemon's socket; each conversation has a thread of its own, and delays nobody."""

from __future__ import annotations

import logging
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backup.control.addresses import may_ask, peer_of, short_path
from backup.control.messages import (
    LONGEST,
    Finished,
    Moved,
    NotAMessageError,
    Refused,
    Reply,
    Request,
    Wrote,
    request_of,
    to_line,
)
from backup.errors import BackupError, ConfigError

_LOG = logging.getLogger(__name__)
_MOST = 32
_MOST_OF_GROUP = 16
_ASKING = 10.0
_SENDING = 30.0
_WAITING = 1000
_FOR_OWNER, _FOR_GROUP = 0o600, 0o660


class Conversation:
    """What is told to one who asked. Telling never waits: what a slow one cannot take is dropped.

    Progress is dropped first, then output; what became of a run is never.
    """

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self._closed = threading.Event()
        self.on_close: Callable[[], object] | None = None

    @property
    def is_open(self) -> bool:
        """Whether anybody listens still."""
        return not self._closed.is_set()

    def tell(self, reply: Reply) -> None:
        """Tell something, from any thread."""
        waiting = self._told.qsize()
        most = {Moved: _WAITING, Wrote: 2 * _WAITING}.get(type(reply))
        if self.is_open and (most is None or waiting < most):
            self._told.put(reply)

    def refuse(self, error: BackupError, job: str = "") -> None:
        """Tell that something is not done."""
        problems = error.problems if isinstance(error, ConfigError) else ()
        self.tell(Refused(error.message, error.exit_code, error.hint or "", job, problems))

    def finish(self) -> None:
        """Tell that nothing more comes."""
        self.tell(Finished())

    def next(self, seconds: float) -> Reply | None:
        """Return what is to be told next, ``None`` where nothing is after so many seconds."""
        with suppress(queue.Empty):
            return self._told.get(timeout=seconds)
        return None

    def close(self) -> None:
        """Note that nobody listens any more."""
        if not self._closed.is_set():
            self._closed.set()
            if self.on_close is not None:
                self.on_close()


Handle = Callable[[Request, Conversation], object]
"""Begins to answer; the conversation goes on until ``Finished`` is told."""


class Server:
    """Listens at ``path``, for root, for the user of this process, and for members of a group.

    What lies at the path is replaced: only one daemon at a time may listen there.

    Args:
        path: Where the socket is to be; its directory is there.
        handle: Answers. A ``BackupError`` that it raises is told.
        group: The id of the group whose members may ask, ``None`` for none.
    """

    def __init__(self, path: Path, handle: Handle, *, group: int | None = None) -> None:
        self._path = path
        self._handle = handle
        self._group = group
        self._places = {
            True: threading.BoundedSemaphore(_MOST),  # of root and of this user, whatever others do
            False: threading.BoundedSemaphore(_MOST_OF_GROUP),
        }
        self._listener: socket.socket | None = None
        self._bound = os.stat_result([0] * 10)
        self._ends = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._listen, name="auto-backup socket", daemon=True)

    def start(self) -> None:
        """Listen.

        Raises:
            OSError: The socket cannot be made.
        """
        self._listener = self._bind()
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and take the socket away; conversations that go on end with this one."""
        if self._listener is None:
            return
        os.eventfd_write(self._ends, 1)
        self._thread.join(1.0)
        with suppress(OSError):
            if os.path.samestat(self._path.lstat(), self._bound):  # none that was made since
                self._path.unlink()
        self._listener.close()
        self._listener = None
        if not self._thread.is_alive():
            os.close(self._ends)

    def _bind(self) -> socket.socket:
        """Return a socket that listens; it gets its name when it does, with its rights."""
        new = self._path.with_name(f".{self._path.name}.new")
        with suppress(FileNotFoundError):
            new.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            before = os.umask(0o177)
            try:
                with short_path(new) as address:
                    listener.bind(address)
            finally:
                os.umask(before)
            if self._group is not None:
                if new.stat().st_gid != self._group:  # a service's filter refuses needless calls
                    os.chown(new, -1, self._group)
                new.chmod(_FOR_GROUP)
            listener.listen(_MOST)
            listener.setblocking(False)
            self._bound = new.lstat()
            new.rename(self._path)
        except BaseException:
            listener.close()
            raise
        return listener

    def _listen(self) -> None:
        listener = self._listener
        if listener is None:
            return
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._ends, select.POLLIN)
        while not any(one == self._ends for one, _ in poll.poll()):
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if not isinstance(error, BlockingIOError | ConnectionError):
                    _LOG.warning("cannot answer at %s: %s", self._path, error.strerror)
                    self._rest()
                continue
            self._attend(connection)

    def _rest(self) -> None:
        """Wait a little, unless the end comes: there may be no descriptor left."""
        select.select([self._ends], [], [], 0.5)

    def _attend(self, connection: socket.socket) -> None:
        try:
            places = self._places[peer_of(connection).uid in {0, os.geteuid()}]
        except OSError:
            connection.close()
            return
        if not places.acquire(blocking=False):
            _refuse_crowd(connection)
            return
        name = "auto-backup conversation"
        thread = threading.Thread(
            target=self._converse, args=(connection, places), name=name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            places.release()
            connection.close()

    def _converse(self, connection: socket.socket, places: threading.BoundedSemaphore) -> None:
        conversation = Conversation()
        try:
            with connection:
                line = _read_line(
                    connection, _ASKING
                )  # unread, it would keep the answer from arriving
                if self._is_allowed(connection):
                    self._answer(line, connection, conversation)
        except OSError:
            pass  # whoever asked is gone
        except Exception as error:  # noqa: BLE001 - the daemon goes on
            _LOG.error("a question at %s ended with %s", self._path, type(error).__name__)
        finally:
            conversation.close()
            places.release()

    def _is_allowed(self, connection: socket.socket) -> bool:
        peer = peer_of(connection)
        if may_ask(peer, os.geteuid(), self._group):
            return True
        _LOG.warning("user %d may not ask for anything at %s", peer.uid, self._path)
        connection.sendall(to_line(Refused("you may not ask this daemon for anything", 11)))
        return False

    def _answer(self, line: bytes, connection: socket.socket, conversation: Conversation) -> None:
        try:
            request = request_of(line)
        except NotAMessageError:
            connection.sendall(to_line(Refused("the daemon does not understand what was asked", 2)))
            return
        try:
            self._handle(request, conversation)
        except BackupError as error:
            conversation.refuse(error)
            conversation.finish()
        connection.settimeout(_SENDING)
        while True:
            reply = conversation.next(1.0)
            if reply is not None:
                connection.sendall(to_line(reply))
            elif _has_left(connection):
                return
            if isinstance(reply, Finished):
                return


def _refuse_crowd(connection: socket.socket) -> None:
    """Tell that too many ask; whoever does not take that in at once is not waited for."""
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.sendall(to_line(Refused("too many ask the daemon at once", 11, "try again")))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)  # unread, it would keep the answer from arriving


def _read_line(connection: socket.socket, seconds: float) -> bytes:
    """Return the line that is asked; whoever takes longer to ask is not waited for."""
    line, deadline = b"", time.monotonic() + seconds
    while not line.endswith(b"\n") and len(line) <= LONGEST:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        block = connection.recv(65536)
        if not block:
            break
        line += block
    return line


def _has_left(connection: socket.socket) -> bool:
    """Tell whether the other end is closed, which sends nothing after its question."""
    ready, _, _ = select.select([connection], [], [], 0)
    return bool(ready) and connection.recv(1, socket.MSG_PEEK) == b""
