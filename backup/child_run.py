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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from backup.environment import environment_of_foreign, environment_of_run
from backup.errors import WorkerError
from backup.pool.starting import find_python
from backup.reporting import OnReport, Reports, Told, name_of_pipe

# Between fork and the command: the kernel is asked to end it together with who waits for it, and
# what this process makes of signals is undone. A function for subprocess to call there could
# deadlock, as this process has threads. PR_SET_PDEATHSIG is 1, PR_CAP_AMBIENT_CLEAR_ALL is 47, 4.
_LAUNCH = """\
import ctypes, os, signal, sys
parent, foreign, *command = sys.argv[1:]
prctl, zero = ctypes.CDLL(None).prctl, ctypes.c_ulong(0)
prctl(1, ctypes.c_ulong(signal.SIGKILL if foreign == "1" else signal.SIGTERM), zero, zero, zero)
if os.getppid() != int(parent):
    os._exit(143)
if foreign == "1":
    prctl(47, ctypes.c_ulong(4), zero, zero, zero)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
try:
    os.execvp(command[0], command)
except OSError as error:
    os.write(2, f"cannot start {command[0]}: {error.strerror}\\n".encode())
    os._exit(127)
"""
NOT_STARTED = 127
GRACE = 10.0
_REPORTS = 3
_PATIENCE = 5.0
_AFTERWARDS = 0.5
_BLOCK = 65536
_KEPT = 65536

OnOutput = Callable[[int, bytes], object]
"""Is told what the process wrote, behind 1 for its standard output or 2 for standard error."""


class ChildEnd(NamedTuple):
    """How a process ended; ``status`` is negative for a signal, ``None`` while it is not gone.

    ``out`` and ``err`` are the last of what it wrote, ``details`` what it reported of itself.
    """

    status: int | None
    out: bytes
    err: bytes
    timed_out: bool = False
    stopped: bool = False
    details: Mapping[str, Told] = {}

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended; one that waits for a dead disk cannot be killed."""
        return self.status is not None


class _Ears:
    """Hears what a process writes, that it has ended, and that it shall end; without ever waiting.

    ``tails`` has the last of what it wrote to its standard output (1) and standard error (2).

    Args:
        streams: Descriptors of what it writes, by their numbers.
        others: Descriptors of what else may happen.
        on_output: Is told what it writes, behind the stream's number.
    """

    def __init__(
        self, streams: Mapping[int, int], others: Sequence[int], on_output: OnOutput
    ) -> None:
        self.tails = {1: bytearray(), 2: bytearray()}
        self._on_output = on_output
        self._numbers = {stream: number for number, stream in streams.items()}
        self._poll = select.poll()
        for one in self._numbers:
            os.set_blocking(one, False)
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
        if number in self.tails:
            self.tails[number] += block
            del self.tails[number][:-_KEPT]
        self._on_output(number, block)


class ChildRun:
    """One run of a command; ``run`` may be called once.

    Args:
        command: The program and its arguments; no shell is involved.
        timeout: After how many seconds it is asked to end, ``None`` for never.
        grace: How many seconds it has then, before it is killed.
        patience: How many seconds a killed process is waited for.
        held: Descriptors that the process keeps, for example of locks.
        on_output: Is told what it writes, as it comes.
        on_report: Is told how far it has come, where it is a command of ours.
        is_foreign: Whether it is none of ours: it gets a clean environment, no ambient
            capabilities, and nowhere to report to.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        grace: float = GRACE,
        patience: float = _PATIENCE,
        held: Sequence[int] = (),
        on_output: OnOutput | None = None,
        on_report: OnReport | None = None,
        is_foreign: bool = False,
    ) -> None:
        self._command = list(command)
        self._timeout = timeout
        self._held = tuple(held)
        self._grace, self._patience = grace, patience
        self._sent: list[signal.Signals] = []
        self._on_output = on_output
        self._on_report = on_report
        self._is_foreign = is_foreign
        self._reports = Reports()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._wish: int | None = None
        self._kill_at: float | None = None
        self._timed_out = False

    @property
    def pid(self) -> int | None:
        """The id of the process, and of its group; ``None`` before it has been started."""
        return None if self._process is None else self._process.pid

    def stop(self, grace: float | None = None) -> None:
        """Ask the process to end, from any thread: SIGTERM, and SIGKILL after ``grace`` seconds.

        The earliest SIGKILL that was ever asked for counts.
        """
        due = time.monotonic() + (self._grace if grace is None else grace)
        with self._lock:
            self._kill_at = due if self._kill_at is None else min(due, self._kill_at)
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
            with ExitStack() as closing:
                ears = self._run(closing)
        except OSError as error:
            reason = error.strerror or error
            raise WorkerError(f"cannot start {self._command[0]}: {reason}") from error
        status = None if self._process is None else self._process.poll()
        out, err = bytes(ears.tails[1]), bytes(ears.tails[2])
        stopped = self._kill_at is not None
        return ChildEnd(status, out, err, self._timed_out, stopped, self._reports.details)

    def _run(self, closing: ExitStack) -> _Ears:
        with self._lock:
            wish = self._wish = os.eventfd(int(self._kill_at is not None))
        closing.callback(self._close_wish)
        streams: dict[int, int] = {}
        process = self._process = self._start(streams, closing)
        try:
            ended = os.pidfd_open(process.pid)
        except OSError:  # nobody could attend to it
            _signal(process.pid, signal.SIGKILL)
            raise
        closing.callback(os.close, ended)
        for number, stream in ((1, process.stdout), (2, process.stderr)):
            if stream is not None:
                closing.callback(stream.close)
                streams[number] = stream.fileno()
        ears = _Ears(streams, [ended, wish], self._hear)
        self._attend(ears, process.pid, ended, wish)
        return ears

    def _start(self, streams: dict[int, int], closing: ExitStack) -> subprocess.Popen[bytes]:
        """Start the process; add the stream of its reports to ``streams``."""
        told = [str(os.getpid()), str(int(self._is_foreign))]
        launch = [find_python(), "-I", "-S", "-c", _LAUNCH, *told]
        held, environment = self._held, environment_of_foreign()
        with ExitStack() as started:
            if not self._is_foreign:
                streams[_REPORTS], theirs = os.pipe()
                closing.callback(os.close, streams[_REPORTS])
                started.callback(os.close, theirs)
                held, environment = (*held, theirs), environment_of_run(name_of_pipe(theirs))
            return subprocess.Popen(
                [*launch, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=held,
                env=environment,
                bufsize=0,
            )

    def _close_wish(self) -> None:
        with self._lock:
            if self._wish is not None:
                os.close(self._wish)
                self._wish = None

    def _hear(self, number: int, block: bytes) -> None:
        if number == _REPORTS:
            for report in self._reports.feed(block):
                if self._on_report is not None:
                    self._on_report(report)
        elif self._on_output is not None:
            self._on_output(number, block)

    def _attend(self, ears: _Ears, process: int, ended: int, wish: int) -> None:
        """Hear a process until it has ended or has to be given up."""
        due = None if self._timeout is None else time.monotonic() + self._timeout
        while ended not in (ready := ears.listen(due)):
            now = time.monotonic()
            if wish in ready and os.eventfd_read(wish):
                due = self._wished_end(process, due)
            elif due is not None and now >= due:
                self._timed_out = self._timed_out or self._kill_at is None
                if signal.SIGKILL in self._sent:
                    return
                due = now + self._send(process)
        if self._sent:
            _signal(process, signal.SIGKILL)  # what it left, while its id is not free
        ears.listen_to_the_end([ended, wish])

    def _wished_end(self, group: int, due: float | None) -> float | None:
        """Ask for the end where that has not been done; return when the next step is due."""
        if not self._sent:
            self._send(group)
            return self._kill_at
        ends = [one for one in (due, self._kill_at) if one is not None]
        return due if signal.SIGKILL in self._sent else min(ends)

    def _send(self, group: int) -> float:
        """Send the next signal; return for how many seconds to wait then."""
        number = signal.SIGKILL if self._sent else signal.SIGTERM
        self._sent.append(number)
        _signal(group, number)
        return self._patience if number is signal.SIGKILL else self._grace


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone, or one that we may not end
        os.killpg(group, number)
