"""The lock that a job holds while it runs: one run of a job at a time, across processes.

``flock`` on a file of the job's own. The kernel lets go of it when the process is gone, whatever
ended it: no process id that another process may have by now, nothing that a reboot leaves behind.
It goes with the open file, so a process that is started for the run keeps the lock if it gets the
descriptor: it is held as long as one of them lives. Children that are merely forked lose it, or a
job that leaves one behind would keep others from running.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.parse import quote
from weakref import WeakSet

from backup.errors import RunStateError
from backup.owners import as_owner

# Whoever looks whether a run is alive holds the lock for a moment.
_TRIES, _PAUSE = 4, 0.01
_LONGEST = 200
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would be waited for


class JobLock:
    """A lock that is held until ``close``.

    Args:
        path: The file.
        descriptor: The file, open and locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        _HELD.add(self)

    def fileno(self) -> int:
        """Return the descriptor that holds the lock."""
        return self._descriptor

    def close(self) -> None:
        """Let go of the lock, as far as this process is concerned."""
        # Not by unlocking: that would take it from a process that was given the descriptor.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            _close(descriptor)

    def __del__(self) -> None:
        self.close()  # a claim that was forgotten about must not keep its job from running

    def delete(self) -> None:
        """Delete the file; who has opened it meanwhile will see that it is gone."""
        with _as_owner(self._path), suppress(OSError):
            self._path.unlink()


_HELD: WeakSet[JobLock] = WeakSet()


def _close_all() -> None:
    for lock in list(_HELD):
        lock.close()


os.register_at_fork(after_in_child=_close_all)


def take_lock(directory: Path, job: str) -> JobLock | None:
    """Return the lock of ``job``, ``None`` if it is held.

    Raises:
        RunStateError: The file cannot be made, or locks do not work there.
    """
    path = _path(directory, job)
    try:
        with _as_owner(path):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE)
            descriptor = _locked(path)
            if descriptor is not None:
                return JobLock(path, descriptor)
    except OSError as error:
        raise RunStateError(
            f"cannot lock {path}: {error.strerror}", hint="is the state directory on a local disk?"
        ) from error
    return None


def _locked(path: Path) -> int | None:
    with _as_owner(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    try:
        if _try(descriptor, fcntl.LOCK_EX) and _is_still(path, descriptor):
            kept, descriptor = descriptor, -1
            return kept
    finally:
        if descriptor >= 0:
            _close(descriptor)
    return None


def _close(descriptor: int) -> None:
    """Close a file that nothing was written to: an error means nothing, and it is closed."""
    with suppress(OSError):
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether the file has its name still: a job may have been forgotten meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise
    return True


def is_held(directory: Path, job: str) -> bool:
    """Tell whether the lock of ``job`` is held; a file that may not be looked at counts as held."""
    path = _path(directory, job)
    try:
        with _as_owner(path):
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    except OSError:
        return True
    finally:
        _close(descriptor)


def _as_owner(path: Path) -> AbstractContextManager[bool]:
    """Let root be the owner of the state directory, in which the locks' directory lies."""
    locks = path.parent
    return as_owner(locks.parent, f"{locks.name}/{path.name}")


def _path(directory: Path, job: str) -> Path:
    name = quote(job, safe=" ").replace(".", "%2E")
    if len(name) > _LONGEST:
        raise RunStateError(f"the name of the job {job[:40]!r}… is too long")
    return directory / f"{name}.lock"
