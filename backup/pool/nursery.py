"""The process that workers are forked from: freshly executed, without threads, without files.

It is told what to do over one socket, forks a worker for each that is asked for, tells which have
ended, and kills all of them when the socket closes.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import NoReturn

import msgspec

from backup.pool.messages import ENDED, NOT_STARTED, WORKER, SetUp, Work
from backup.pool.own_process import die_with, keep_memory_private
from backup.pool.slots import Slots, SlotSize
from backup.pool.worker import find_factory, serve

_MOST_SET_UP = 1 << 20


def main(control: int, memory: int, parent: int) -> NoReturn:
    """Serve a pool until it goes.

    Args:
        control: The descriptor of the socket to the pool.
        memory: The descriptor of the slots.
        parent: The process id of the pool's process.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever asked for the work decides when it ends
    keep_memory_private()
    die_with(parent)
    connection = socket.socket(fileno=control)
    set_up = msgspec.msgpack.decode(connection.recv(_MOST_SET_UP), type=SetUp)
    slots = Slots(set_up.slots, SlotSize(set_up.job_bytes, set_up.result_bytes), memory)
    work = find_factory(set_up.factory)(set_up.data)
    Nursery(connection, slots, work).run()
    os._exit(0)  # nothing is to be tidied up, and somebody waits


class Nursery:
    """Forks workers and keeps account of them."""

    def __init__(self, connection: socket.socket, slots: Slots, work: Work) -> None:
        self._connection = connection
        self._slots = slots
        self._work = work
        self._workers: dict[int, int] = {}

    def run(self) -> None:
        """Fork workers as they are asked for, until the connection closes."""
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._connection, WORKER.size, 1)
            if not message:
                break
            (number,) = WORKER.unpack(message)
            with socket.socket(fileno=descriptors[0]) as theirs:
                self._fork(number, theirs)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for process in self._workers:
            os.kill(process, signal.SIGKILL)
        for process in self._workers:
            os.waitpid(process, 0)

    def _fork(self, number: int, theirs: socket.socket) -> None:
        nursery = os.getpid()
        # The child may be gone before its number is known to the one who reaps it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            process = os.fork()
        except OSError:  # too many processes, or too little memory
            self._tell(number, NOT_STARTED)
        else:
            if process == 0:
                self._become_worker(theirs, nursery)
            self._workers[process] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def _become_worker(self, theirs: socket.socket, nursery: int) -> NoReturn:
        status = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            die_with(nursery)
            self._connection.close()
            serve(theirs, self._slots, self._work)
            status = 0
        finally:
            os._exit(status)

    def _reap(self) -> None:
        while self._workers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self._tell(self._workers.pop(process), status)

    def _tell(self, number: int, status: int) -> None:
        with suppress(OSError):  # nobody is there any more to be told
            self._connection.send(ENDED.pack(number, status))
