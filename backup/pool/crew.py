"""The workers of a pool as the pool sees them: sockets, and what is under way on each."""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from backup.pool.messages import ENDED, JOB, NOT_STARTED, RESULT, WORKER, SetUp, Status
from backup.pool.starting import start_nursery

_MOST_UNDER_WAY = 2
"""Jobs given to one worker: one that it does, and one that it need not wait for afterwards."""

_MOST_REPLACED = 8
_MOMENT = 1.0
_PATIENCE = 3.0
_BUFFER = 1 << 20

# A program may have asked to be killed by writing to what nobody reads.
_SAFELY = socket.MSG_NOSIGNAL

Answer = tuple[Status, int, int]
"""The status, and how many bytes head and body have."""


class Killed(NamedTuple):
    """A worker that ended before its time.

    ``begun``: the slot of the job that it was doing, if any. ``queued``: those that it had yet to
    begin. ``how``: what ended it, in words.
    """

    begun: tuple[int, ...]
    queued: tuple[int, ...]
    how: str


class _Worker:
    def __init__(self, number: int, connection: socket.socket) -> None:
        self.number = number
        self.connection = connection
        self.slots: list[int] = []
        self.refused: list[int] = []
        self.begun: int | None = None
        self.is_gone = False

    @property
    def has_room(self) -> bool:
        return not self.refused and len(self.slots) < _MOST_UNDER_WAY


class Crew:
    """Workers and their nursery.

    Args:
        set_up: What the nursery is told.
        memory: The descriptor of the slots.
        workers: How many to start.

    Raises:
        OSError: No process can be started.
    """

    def __init__(self, set_up: SetUp, memory: int, workers: int) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._workers: dict[int, _Worker] = {}
        self._poll = select.poll()
        self._wanted = workers
        self._started = 0
        self._most = workers + _MOST_REPLACED
        self._ended: dict[int, int] = {}
        self._has_nursery = True
        try:
            with theirs:
                for one in (self._control, theirs):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                self._nursery = start_nursery(theirs, memory)
        except BaseException:
            self._control.close()
            raise
        try:
            self._control.settimeout(_MOMENT)
            self._control.send(msgspec.msgpack.encode(set_up), _SAFELY)
            while self._started < workers:
                self._add()
        except BaseException:
            self.end(0)
            raise

    @property
    def has_room(self) -> bool:
        """Whether a worker can be given another job."""
        return any(one.has_room for one in self._workers.values())

    def give(self, slot: int, length: int) -> None:
        """Give the job in ``slot`` to the worker that has least to do; there must be room."""
        having_room = (one for one in self._workers.values() if one.has_room)
        worker = min(having_room, key=lambda one: len(one.slots))
        try:
            worker.connection.send(JOB.pack(slot, length), _SAFELY)
        except OSError:  # its end is noticed in its turn
            worker.refused.append(slot)
        else:
            worker.slots.append(slot)

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """Wait until something happens; yield the slots that have an answer now."""
        for descriptor, _ in self._poll.poll():
            worker = self._workers[descriptor]
            try:
                message = worker.connection.recv(RESULT.size)
            except ConnectionResetError:
                continue  # it left jobs unread; what it had answered before can still be had
            if not message:
                worker.is_gone = True
                continue
            slot, status, head, body = RESULT.unpack(message)
            if status == Status.BEGUN:
                worker.begun = slot
                continue
            worker.begun = None
            worker.slots.remove(slot)
            yield slot, (Status(status), head, body)

    def killed(self) -> list[Killed]:
        """Return, once, the workers that have ended."""
        gone = [worker for worker in self._workers.values() if worker.is_gone]
        for worker in gone:
            del self._workers[worker.connection.fileno()]
            self._poll.unregister(worker.connection)
            worker.connection.close()
        return [self._account_of(worker) for worker in gone]

    def fill_up(self) -> bool:
        """Start others for the workers that have ended; return whether there is any now.

        Those that cannot be started are done without, and so are those that end all the time.
        """
        with suppress(OSError):
            while len(self._workers) < self._wanted and self._started < self._most:
                self._add()
        return self._has_nursery and bool(self._workers)

    def _add(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker = _Worker(self._started, ours)
        with theirs:
            try:
                files = array.array("i", [theirs.fileno()])
                about = (socket.SOL_SOCKET, socket.SCM_RIGHTS, files)
                self._control.sendmsg([WORKER.pack(worker.number)], [about], _SAFELY)
            except BaseException:
                ours.close()
                raise
        self._started += 1
        self._workers[ours.fileno()] = worker
        self._poll.register(ours, select.POLLIN)

    def _account_of(self, worker: _Worker) -> Killed:
        status = self._status_of(worker.number)
        if status == NOT_STARTED:
            self._wanted -= 1
        slots = (*worker.slots, *worker.refused)
        begun = () if worker.begun is None else (worker.begun,)
        return Killed(begun, tuple(one for one in slots if one not in begun), _how(status))

    def _status_of(self, number: int) -> int | None:
        """Return how a worker ended, as its nursery tells, which knows it a moment later."""
        while number not in self._ended:
            try:
                message = self._control.recv(ENDED.size)
            except TimeoutError:
                return None
            except OSError:
                message = b""
            if not message:
                self._has_nursery = False
                return None
            ended, status = ENDED.unpack(message)
            self._ended[ended] = status
        return self._ended.pop(number)

    def end(self, patience: float) -> None:
        """End all of them, within ``patience`` seconds those that have jobs under way."""
        try:
            if patience:
                self._let_finish(time.monotonic() + patience)
        finally:
            for worker in self._workers.values():
                worker.connection.close()
            self._workers.clear()
            self._end_nursery()

    def _let_finish(self, deadline: float) -> None:
        busy = [worker.connection for worker in self._workers.values() if worker.slots]
        for connection in busy:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        for connection in busy:
            with suppress(OSError):
                while (left := deadline - time.monotonic()) > 0:
                    connection.settimeout(left)
                    if not connection.recv(RESULT.size):
                        break

    def _end_nursery(self) -> None:
        with suppress(OSError):  # a process that the program forked may have the socket, too
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        try:
            self._wait_for_nursery()
        finally:
            self._nursery.kill()
            self._nursery.wait()

    def _wait_for_nursery(self) -> None:
        """Wait until the nursery has ended; ``Popen.wait`` with a limit would sleep in steps."""
        try:
            process = os.pidfd_open(self._nursery.pid)
        except OSError:  # an old kernel
            with suppress(subprocess.TimeoutExpired):
                self._nursery.wait(_PATIENCE)
            return
        poll = select.poll()
        poll.register(process, select.POLLIN)
        try:
            poll.poll(_PATIENCE * 1000)
        finally:
            os.close(process)


def _how(status: int | None) -> str:
    if status is None:
        return "was killed"
    number = status & 0x7F
    if not number:
        return f"ended with status {status >> 8}"
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"was killed by signal {number}"
