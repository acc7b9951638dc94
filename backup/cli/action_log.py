"""``backup.log``: one line of JSON for the start and the end of every action."""

from __future__ import annotations

import logging
import os
import stat
import sys
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from backup.cli.output import json_text, print_note
from backup.clock import Clock, system_clock

LOG_NAME = "backup.log"
_MOST_BYTES = 5 * 1024 * 1024
_KEPT = 5


class _Handler(RotatingFileHandler):
    """Files for their owner only, also those that rotation makes."""

    def _open(self) -> TextIOWrapper:
        file = open(self.baseFilename, "a", encoding="utf-8", opener=_open_private)  # noqa: SIM115
        # Devices such as /dev/null belong to everybody.
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fchmod(file.fileno(), 0o600)
        return file

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's
        """Tell it, and go on: a full disk must not end a backup, nor print a traceback."""
        error = sys.exception()
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        print_note(f"cannot write the log {self.baseFilename}: {reason}")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


class ActionLog:
    """Writes what was done, when, and how it ended; never a secret.

    Args:
        path: The file, which is rotated at 5 MiB and kept five times.
        clock: Tells the time.
    """

    def __init__(self, path: Path, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._started: datetime | None = None
        self._action = ""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = _Handler(path, maxBytes=_MOST_BYTES, backupCount=_KEPT)
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
