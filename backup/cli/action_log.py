"""``backup.log``: one line of JSON for the start and the end of every action."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from backup.cli.output import json_text, print_note
from backup.clock import Clock, system_clock
from backup.owners import as_owner

LOG_NAME = "backup.log"
_MOST_BYTES = 5 * 1024 * 1024
_KEPT = 5


class _Handler(RotatingFileHandler):
    """Files for their owner only, also those that rotation makes."""

    def __init__(self, path: Path, *, is_state: bool) -> None:
        self._is_state = is_state
        with self._as_owner(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(path, maxBytes=_MOST_BYTES, backupCount=_KEPT)

    def _open(self) -> TextIOWrapper:
        with self._as_owner(Path(self.baseFilename)) as is_other:
            file = open(self.baseFilename, "a", encoding="utf-8", opener=_open_private)  # noqa: SIM115
            # Devices such as /dev/null belong to everybody.
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                os.fchmod(file.fileno(), 0o600)
            elif is_other:
                file.close()
                raise OSError(errno.EINVAL, "it is not a regular file")
        os.set_blocking(file.fileno(), True)
        return file

    def doRollover(self) -> None:  # noqa: N802 - logging's
        """Begin a new file, as whoever the directory belongs to."""
        with self._as_owner(Path(self.baseFilename)):
            super().doRollover()

    def _as_owner(self, path: Path) -> AbstractContextManager[bool]:
        if not self._is_state:
            return nullcontext(enter_result=False)
        kept = [f"{path.name}.{number}" for number in range(1, _KEPT + 1)]
        return as_owner(path.parent, path.name, *kept)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's
        """Tell it, and go on: a full disk must not end a backup, nor print a traceback."""
        error = sys.exception()
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        print_note(f"cannot write the log {self.baseFilename}: {reason}")


def _open_private(path: str, flags: int) -> int:
    # Where nobody reads a pipe, this fails; else it would be waited for.
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)


class ActionLog:
    """Writes what was done, when, and how it ended; never a secret.

    Args:
        path: The file, which is rotated at 5 MiB and kept five times.
        clock: Tells the time.
        is_state: Whether it lies in the state directory, whose owner's it then is.
    """

    def __init__(self, path: Path, clock: Clock = system_clock, *, is_state: bool = False) -> None:
        self._clock = clock
        self._started: datetime | None = None
        self._action = ""
        handler = _Handler(path, is_state=is_state)
        handler.setFormatter(logging.Formatter("%(message)s"))
        self._handler = handler

    def start(self, action: str, **fields: object) -> None:
        """Tell that ``action`` begins."""
        self._started, self._action = self._clock(), action
        self._write("start", fields)

    def end(self, status: str, **fields: object) -> None:
        """Tell how the action ended."""
        if self._started is None:
            return
        seconds = round((self._clock() - self._started).total_seconds(), 3)
        self._write("end", {"status": status, "seconds": seconds, **fields})
        self._started = None

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written has been told
            self._handler.close()

    def _write(self, event: str, fields: dict[str, object]) -> None:
        line = {
            "time": self._clock().isoformat(timespec="milliseconds"),
            "pid": os.getpid(),
            "action": self._action,
            "event": event,
            **fields,
        }
        text = json_text(line)
        self._handler.emit(logging.LogRecord("backup", logging.INFO, "", 0, text, None, None))
