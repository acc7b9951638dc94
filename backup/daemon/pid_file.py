"""``daemon.pid``: one daemon for a state directory at a time, and which process it is.

What counts is the lock (``flock``), which the kernel takes back when the process is gone, whatever
ended it. The process id inside tells whom to signal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from backup.errors import LockedError, RunStateError
from backup.owners import give_to_owner

PID_NAME = "daemon.pid"
_TRIES, _PAUSE = 20, 0.01
_LONGEST = 32
_STDERR = 2
_POLL = 0.02


class PidFile:
    """The right to be the daemon; as a context manager it says which process is.

    Args:
        path: The file; it is made, with its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def take(self) -> None:
        """Lock it, or go on holding it where this process was the daemon under another program.

        Raises:
            LockedError: Another process is the daemon.
            RunStateError: The file cannot be made.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for _ in range(_TRIES):  # who looks whether there is a daemon holds it for a moment
                self._descriptor = _kept(self.path) or _locked(self.path)
                if self._descriptor >= 0:
                    return
                time.sleep(_PAUSE)
        except OSError as error:
            raise RunStateError(
                f"cannot lock {self.path}: {error.strerror}",
                hint="is the state directory on a local disk, and yours?",
            ) from error
        number = _number(self.path)
        who = f" (process {number})" if number else ""
        raise LockedError(f"the daemon runs already{who}", hint="'auto-backup daemon stop' ends it")

    def fileno(self) -> int:
        """Return the descriptor that holds the lock."""
        return self._descriptor

    def is_there(self) -> bool:
        """Tell whether the file that is locked still is the one that others would lock."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(self.path))
        except FileNotFoundError:
            return False
        except OSError:  # it may not be looked at just now
            return True

    def __enter__(self) -> Self:
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise RunStateError(f"cannot write {self.path}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it. The file stays: who waits for the lock must not lock a deleted one."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _locked(path: Path) -> int:
    """Return the file, open and locked; -1 where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)  # who was it before is not meant any more
        if os.geteuid() == 0:
            _give(path, descriptor)
        kept, descriptor = descriptor, -1
    except BlockingIOError:
        return -1
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return kept


def _give(path: Path, descriptor: int) -> None:
    """Give a file that root has made to the owner of its directory, who runs the next daemon."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            give_to_owner(descriptor, directory)
    finally:
        os.close(directory)


def _kept(path: Path) -> int:
    """Return the descriptor by which this very process has the file locked already; else 0.

    It was left open by the program that this process was before.
    """
    if _number(path) != os.getpid():
        return 0
    for number in [int(one.name) for one in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if number > _STDERR and os.path.samestat(os.fstat(number), path.stat()):
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.set_inheritable(number, False)
                return number
    return 0


def _number(path: Path) -> int:
    """Return the process id in the file; 0 where there is none."""
    try:
        with path.open("rb") as file:
            return max(0, int(file.read(_LONGEST).split(b"\n")[0]))
    except (OSError, ValueError):
        return 0


def is_held(path: Path) -> bool:
    """Tell whether there is a daemon.

    Raises:
        RunStateError: That may not be looked at.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunStateError(f"cannot look at {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in {errno.EWOULDBLOCK, errno.EACCES}
    finally:
        os.close(descriptor)
    return False


class Holder:
    """The process that is the daemon; signals reach it, and never another one of its number.

    Args:
        path: The pid file.
        pid: The process's id.
        process: Its ``pidfd``.
    """

    def __init__(self, path: Path, pid: int, process: int) -> None:
        self.path = path
        self.pid = pid
        self._process = process

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone needs none.

        Raises:
            LockedError: It is another user's.
        """
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)
        except PermissionError as error:
            raise LockedError(f"the daemon (process {self.pid}) is another user's") from error

    def wait(self, seconds: float) -> bool:
        """Wait until it is the daemon no more; tell whether it came to that."""
        deadline = time.monotonic() + seconds
        while is_held(self.path) and _number(self.path) in {self.pid, 0}:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        return True

    def close(self) -> None:
        """Forget it."""
        os.close(self._process)


def find_holder(path: Path) -> Holder | None:
    """Return the daemon, ``None`` where there is none.

    Raises:
        RunStateError: The file may not be looked at, or its process is not to be seen from here.
    """
    deadline = time.monotonic() + 1
    while is_held(path):
        pid = _number(path)
        try:
            process = os.pidfd_open(pid) if pid else -1
        except OSError:
            process = -1
        # Still locked by the same one: so this process was it when it was opened.
        if process >= 0 and is_held(path) and _number(path) == pid:
            return Holder(path, pid, process)
        if process >= 0:
            os.close(process)
        if time.monotonic() >= deadline:
            raise RunStateError(
                f"{path} is held by a process that is not to be seen from here",
                hint="is the daemon in a container, or just beginning?",
            )
        time.sleep(_POLL)
    return None
