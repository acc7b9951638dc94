"""Noticing that the program on disk is another one than the one that runs."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import backup._version

_LOG = logging.getLogger(__name__)
EVERY = 30.0
STABLE = 5.0


class OnDisk(NamedTuple):
    """What tells a program from another one."""

    device: int
    inode: int
    changed: int
    size: int
    digest: bytes


Which = Callable[[], OnDisk | None]
"""Tells which program is on disk; ``None`` while there is none, as in the middle of an upgrade."""


def program_on_disk(path: Path = Path(backup._version.__file__)) -> OnDisk | None:  # noqa: SLF001
    """Return which program is on disk, by the file of its version."""
    try:
        status, content = path.stat(), path.read_bytes()
    except OSError:
        return None
    digest = hashlib.sha256(content).digest()
    return OnDisk(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, digest)


class UpgradeWatch:
    """Looks now and then whether there is another program, and has been for some seconds.

    Args:
        which: Tells which program is on disk.
        every: After how many seconds to look again.
        stable: For how many seconds it has to stay the same.
        now: A clock that nobody sets.
    """

    def __init__(
        self,
        which: Which = program_on_disk,
        *,
        every: float | None = None,
        stable: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._which = which
        self._every = EVERY if every is None else every
        self._stable = STABLE if stable is None else stable
        self._now = now
        self._own = which()
        self._seen: OnDisk | None = self._own
        self._since = self._looked = now()

    @property
    def seen(self) -> OnDisk | None:
        """The program that was on disk when it was looked at last."""
        return self._seen

    def is_changed(self, *, now: bool = False) -> bool:
        """Tell whether another program is on disk, since long enough to be complete.

        Args:
            now: Whether to look although it is not time.
        """
        time_ = self._now()
        is_waiting = self._seen != self._own
        if not (now or is_waiting or time_ - self._looked >= self._every):
            return False
        self._looked = time_
        found = self._which()
        if found != self._seen:
            self._seen, self._since = found, time_
        return found not in {None, self._own} and time_ - self._since >= self._stable

    def refuse(self) -> None:
        """Let the program that was seen be none to change to; the next one may be."""
        self._own = self._seen


class NewerRecord:
    """Tells, now and then, that another program has changed the record of runs to its own schema.

    Args:
        is_newer: Looks whether it has.
        every: After how many seconds to look again.
    """

    def __init__(self, is_newer: Callable[[], bool], every: float = EVERY) -> None:
        self._is_newer = is_newer
        self._every = every
        self._looked = time.monotonic()

    def __call__(self) -> bool:
        """Tell whether it has."""
        if time.monotonic() - self._looked < self._every:
            return False
        self._looked = time.monotonic()
        return self._is_newer()


class Upgrade:
    """Becoming the program that is on disk: it is asked first, and no run is cut off.

    Args:
        watch: Notices that there is another one.
        objection: Tells why the new program cannot take over, ``None`` if it can; may take long.
        is_idle: Tells whether nothing runs.
        take_over: Lets the new program take over, now that it can and nothing runs.
    """

    def __init__(
        self,
        watch: UpgradeWatch,
        *,
        objection: Callable[[], str | None],
        is_idle: Callable[[], bool],
        take_over: Callable[[], object],
    ) -> None:
        self._watch = watch
        self._objection = objection
        self._is_idle = is_idle
        self._take_over = take_over
        self._accepted: OnDisk | None = None
        self._asking: threading.Thread | None = None
        self.problem = ""

    @property
    def is_waited_for(self) -> bool:
        """Whether no run is to begin, as the new program waits for those that go on to end."""
        return self._accepted is not None

    def beat(self, *, now: bool = False) -> None:
        """Do what is to be done next; called about each second by one thread.

        Args:
            now: Whether to look although it is not time.
        """
        if self._asking is not None and self._asking.is_alive():
            return
        is_changed = self._watch.is_changed(now=now)
        if self._accepted is not None and self._watch.seen != self._accepted:
            self._accepted = None  # it is being changed once more
        if not is_changed:
            return
        if self._accepted is None:
            self._asking = threading.Thread(
                target=self._ask, args=(self._watch.seen,), name="auto-backup upgrade", daemon=True
            )
            self._asking.start()
        elif self._is_idle():
            self._take_over()

    def refuse(self, reason: str) -> None:
        """Go on as this program until there is another one on disk."""
        self._accepted = None
        self._watch.refuse()
        self.problem = "another program is on disk, and cannot take over"
        _LOG.error("another program is on disk, and cannot take over: %s", reason)

    def _ask(self, seen: OnDisk | None) -> None:
        _LOG.info("another program is on disk: it is asked whether it can take over")
        reason = self._objection()
        if reason is not None:
            self.refuse(reason)
            return
        self.problem = ""
        self._accepted = seen
        _LOG.info("it can: no run is begun until it does, which waits for those that go on")
