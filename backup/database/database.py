"""A database of what is known here: one transaction a call, begun anew when it is damaged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from backup.clock import Clock
from backup.database.file import DamagedFileError, Schema, move_aside, opened, working_at

WAIT = 10.0

_T = TypeVar("_T")
Work = Callable[[sqlite3.Connection], _T]


def tell_nobody(_: str) -> None:
    """Keep a message to oneself."""


class Database:
    """A file of which several processes read and write, each call in a transaction of its own.

    A file that is not what was written is moved aside and begun anew. Work may be done twice, the
    first time without effect. Every method may raise the schema's ``error``: the file cannot be
    used.

    Args:
        path: The file. It is made, with its directory, when there is something to write.
        schema: What it is to be.
        clock: Tells the time.
        tell: Is told about a file that was moved aside.
        wait: For how many seconds to wait for other processes.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        clock: Clock,
        tell: Callable[[str], object] = tell_nobody,
        wait: float = WAIT,
    ) -> None:
        self.path = path
        self._schema = schema
        self._clock = clock
        self._tell = tell
        self._wait = wait

    def is_there(self) -> bool:
        """Tell whether there is a file that can be looked at."""
        return _is_there(self.path)

    def is_writable(self) -> bool:
        """Tell whether something can be written, as far as that can be told beforehand."""
        there = next(
            (one for one in (self.path.parent, *self.path.parents) if _is_there(one)), None
        )
        if there is None or not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            return False
        return not _is_there(self.path) or os.access(self.path, os.W_OK, effective_ids=True)

    def read(self, work: Work[_T], nothing: _T) -> _T:
        """Return what ``work`` reads, or ``nothing`` where there is no file."""
        if not self.is_there():
            return nothing
        return self._begin_anew_if_damaged(work, read_only=not self.is_writable())

    def write(self, work: Work[_T]) -> _T:
        """Let ``work`` write, and return what it returns once that is durable."""
        return self._begin_anew_if_damaged(work, read_only=False)

    def _begin_anew_if_damaged(self, work: Work[_T], *, read_only: bool) -> _T:
        which, what = self._identity(), self._schema.what
        try:
            return self._do(work, read_only=read_only)
        except DamagedFileError as error:
            if read_only:
                raise self._schema.error(f"the {what} {self.path} is damaged") from error
            if which == self._identity():  # else another process has begun it anew
                kept = self._move_aside()
                self._tell(f"the {what} was damaged and is begun anew; the old one is {kept}")
        try:
            return self._do(work, read_only=False)
        except DamagedFileError as error:
            raise self._schema.error(f"the {what} {self.path} is damaged again") from error

    def _move_aside(self) -> Path:
        try:
            with working_at(self.path):
                return move_aside(self.path, f"damaged-{self._clock():%Y%m%dT%H%M%SZ}")
        except OSError as error:
            raise self._schema.error(f"cannot move {self.path} aside: {error.strerror}") from error

    def _do(self, work: Work[_T], *, read_only: bool) -> _T:
        """Do it in a transaction; if the file seems to be damaged, once more.

        SQLite calls it damage too when the system fails to read (``SQLITE_IOERR_CORRUPTFS``), and
        a good file must not be set aside because a disk stumbled once.
        """
        with suppress(DamagedFileError):
            return self._do_once(work, read_only=read_only)
        # Not in a handler: its exception would keep cursors, and by them the lock on the file.
        return self._do_once(work, read_only=read_only)

    def _do_once(self, work: Work[_T], *, read_only: bool) -> _T:
        with opened(self.path, self._schema, read_only=read_only, wait=self._wait) as found:
            return work(found)

    def _identity(self) -> tuple[int, int] | None:
        with suppress(OSError):
            status = self.path.stat()
            return status.st_dev, status.st_ino
        return None


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - pathlib's raises where it may not look
