"""A command as a process of its own, which may hang, fork, flood or not end: it delays nobody.

It leads a session of its own, so that all that it starts can be ended with it, and it is ended when
the thread that waits for it is gone: a killed scheduler leaves no run behind.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from backup.errors import WorkerError
from backup.pool.starting import find_python

# Between fork and the command: the kernel is asked to end it together with who waits for it. A
# function for subprocess to call there could deadlock, as this process has threads.
_LAUNCH = """\
import ctypes, os, signal, sys
zero = ctypes.c_ulong(0)
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(signal.SIGTERM), zero, zero, zero)
if os.getppid() != int(sys.argv[1]):
    os._exit(143)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    os.write(2, f"cannot start {sys.argv[2]}: {error.strerror}\\n".encode())
    os._exit(127)
"""
NOT_STARTED = 127
_GRACE = 10.0
_PATIENCE = 5.0
_AFTERWARDS = 0.5
_BLOCK = 65536
_KEPT = 65536

OnOutput = Callable[[int, bytes], object]
"""Is told what the process wrote, behind 1 for its standard output or 2 for standard error."""


class ChildEnd(NamedTuple):
    """How a process ended; ``status`` is negative for a signal, ``None`` while it is not gone.

    ``out`` and ``err`` are the last of what it wrote.
    """

    status: int | None
    out: bytes
    err: bytes
    timed_out: bool = False
    stopped: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended; one that waits for a dead disk cannot be killed."""
        return self.status is not None


class _Ears:
    """Hears what a process writes, that it has ended, and that it shall end; without ever waiting.

    ``tails`` has the last of what it wrote to its standard output (1) and standard error (2).
    """

    def __init__(self, process: subprocess.Popen[bytes], others: Sequence[int]) -> None:
        self.tails = {1: bytearray(), 2: bytearray()}
        self.on_output: OnOutput | None = None
        self._numbers: dict[int, int] = {}
        self._poll = select.poll()
        for number, stream in ((1, process.stdout), (2, process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._numbers[stream.fileno()] = number
        for one in (*self._numbers, *others):
            self._poll.register(one, select.POLLIN)

    def listen(self, due: float | None) -> set[int]:
        """Wait until something is heard, at the longest until ``due``; return the others of it."""
        wait = None if due is None else max(0.0, due - time.monotonic()) * 1000
        ready = {one for one, _ in self._poll.poll(wait)}
        for one in ready & self._numbers.keys():
            self._read(one)
        return ready

    def listen_to_the_end(self, others: Sequence[int]) -> None:
        """Read what is left. Who else has the stream open, and lives on, is not waited for long."""
        for one in others:
            self._poll.unregister(one)
        due = time.monotonic() + _AFTERWARDS
        while self._numbers and time.monotonic() < due:
            self.listen(due)

    def _read(self, stream: int) -> None:
        number = self._numbers[stream]
        try:
            block = os.read(stream, _BLOCK)
        except BlockingIOError:
            return
        if not block:
            self._poll.unregister(stream)
            del self._numbers[stream]
            return
        tail = self.tails[number]
        tail += block
        del tail[:-_KEPT]
        if self.on_output is not None:
            self.on_output(number, block)


class ChildRun:
    """One run of a command; ``run`` may be called once.

    Args:
        command: The program and its arguments; no shell is involved.
        timeout: After how many seconds it is asked to end, ``None`` for never.
        grace: How many seconds it has then, before it is killed.
        patience: How many seconds a killed process is waited for.
        held: Descriptors that the process keeps, for example of locks.
        on_output: Is told what it writes, as it comes.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        grace: float = _GRACE,
        patience: float = _PATIENCE,
        held: Sequence[int] = (),
        on_output: OnOutput | None = None,
    ) -> None:
        self._command = list(command)
        self._timeout = timeout
        self._held = tuple(held)
        self._steps = [(signal.SIGTERM, grace), (signal.SIGKILL, patience)]
        self._sent: list[signal.Signals] = []
        self._on_output = on_output
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._wish: int | None = None
        self._timed_out = self._stopped = False

    @property
    def pid(self) -> int | None:
        """The id of the process, and of its group; ``None`` before it has been started."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Ask the process to end, from any thread: SIGTERM, and SIGKILL when the grace is over."""
        with self._lock:
            self._stopped = True
            if self._wish is not None:
                os.eventfd_write(self._wish, 1)

    def is_gone(self) -> bool:
        """Tell whether the process has ended, also after ``run`` gave it up."""
        return self._process is not None and self._process.poll() is not None

    def run(self) -> ChildEnd:
        """Start the process and wait for its end, or until it turns out not to end.

        Raises:
            WorkerError: No process can be started.
        """
        try:
            with self._lock:
                self._wish = os.eventfd(int(self._stopped))
            process = self._process = self._start()
            ears = self._attend(process, self._wish)
        except OSError as error:
            reason = error.strerror or error
            raise WorkerError(f"cannot start {self._command[0]}: {reason}") from error
        finally:
            self._close()
        out, err = bytes(ears.tails[1]), bytes(ears.tails[2])
        return ChildEnd(process.poll(), out, err, self._timed_out, self._stopped)

    def _start(self) -> subprocess.Popen[bytes]:
        launch = [find_python(), "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
        return subprocess.Popen(
            [*launch, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=self._held,
            bufsize=0,
        )

    def _close(self) -> None:
        with self._lock:
            if self._wish is not None:
                os.close(self._wish)
                self._wish = None
        for stream in (self._process.stdout, self._process.stderr) if self._process else ():
            if stream is not None:
                stream.close()

    def _attend(self, process: subprocess.Popen[bytes], wish: int) -> _Ears:
        """Hear a process until it has ended or has to be given up."""
        due = None if self._timeout is None else time.monotonic() + self._timeout
        ended = os.pidfd_open(process.pid)
        try:
            ears = _Ears(process, [ended, wish])
            ears.on_output = self._on_output
            while ended not in (ready := ears.listen(due)):
                is_wished = wish in ready and bool(os.eventfd_read(wish)) and not self._sent
                if is_wished or (due is not None and time.monotonic() >= due):
                    self._timed_out = self._timed_out or not (is_wished or self._stopped)
                    if len(self._sent) == len(self._steps):
                        return ears
                    due = time.monotonic() + self._send(process.pid)
            if self._sent:
                _signal(process.pid, signal.SIGKILL)  # what it left, while its id is not free
            ears.listen_to_the_end([ended, wish])
            return ears
        finally:
            os.close(ended)

    def _send(self, group: int) -> float:
        """Send the next signal; return for how many seconds to wait then."""
        number, wait = self._steps[len(self._sent)]
        self._sent.append(number)
        _signal(group, number)
        return wait


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone, or one that we may not end
        os.killpg(group, number)
