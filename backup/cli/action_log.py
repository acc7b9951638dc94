"""``backup.log``: one line of JSON for the start and the end of every action."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec

from backup.clock import Clock, system_clock

LOG_NAME = "backup.log"
_MOST_BYTES = 5 * 1024 * 1024
_KEPT = 5


class _Handler(RotatingFileHandler):
    """A log that cannot be written (a full disk) must not end a backup, nor print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """See logging.Handler."""


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
        handler = _Handler(path, maxBytes=_MOST_BYTES, backupCount=_KEPT, encoding="utf-8")
        path.chmod(0o600)
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
        self._handler.close()

    def _write(self, event: str, fields: dict[str, object]) -> None:
        line = {
            "time": self._clock().isoformat(timespec="milliseconds"),
            "pid": os.getpid(),
            "action": self._action,
            "event": event,
            **fields,
        }
        text = msgspec.json.encode(line, enc_hook=str).decode()
        self._handler.emit(logging.LogRecord("backup", logging.INFO, "", 0, text, None, None))
