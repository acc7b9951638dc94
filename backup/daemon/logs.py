"""Where the daemon's log goes: to the journal, to a terminal or a container, or to a file."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from backup.owners import give_to_owner

LOG_NAME = "daemon.log"
_MOST_BYTES = 5 * 1024 * 1024
_KEPT = 5
_STDERR = 2
_LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class _Lines(logging.Formatter):
    """One record, each of its lines with what stands in front of the first."""

    def format(self, record: logging.LogRecord) -> str:
        front = self.front(record)
        text = record.getMessage()
        return "\n".join(front + line for line in text.splitlines() or [""])

    def front(self, record: logging.LogRecord) -> str:
        """Return the time and, where it is no ordinary line, how bad it is."""
        word = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {word}"


class _JournalLines(_Lines):
    """As the journal takes them: its own time, and the priority as a number in front."""

    def front(self, record: logging.LogRecord) -> str:
        found = (number for level, number in _LEVELS if record.levelno >= level)
        return f"<{next(found, 7)}>"


class _Private(RotatingFileHandler):
    """Files for their owner only, also those that rotation makes."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=_open_private)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """Go on: a full disk must not end the daemon."""


class _ToStream(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """Go on: nobody listens any more."""


def _open_private(path: str, flags: int) -> int:
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # no pipe is waited for
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file")
    with suppress(OSError):
        os.fchmod(descriptor, 0o600)
        directory = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            give_to_owner(descriptor, directory)
        finally:
            os.close(directory)
    return descriptor


def log_to_stderr(journal: str, level: int = logging.INFO) -> logging.Handler:
    """Let the log go to standard error.

    Args:
        journal: ``JOURNAL_STREAM``: which file the journal reads.
        level: The least that is told.
    """
    handler = _ToStream(sys.stderr)
    handler.setFormatter(_JournalLines() if is_journal(journal) else _Lines())
    return _use(handler, level)


def log_to_file(path: Path, level: int = logging.INFO) -> logging.Handler:
    """Let the log go to a file, which is rotated at 5 MiB and kept five times.

    Raises:
        OSError: It cannot be opened.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = _Private(path, maxBytes=_MOST_BYTES, backupCount=_KEPT)
    handler.setFormatter(_Lines())
    return _use(handler, level)


def _use(handler: logging.Handler, level: int) -> logging.Handler:
    logger = logging.getLogger("backup")
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler


def is_journal(journal: str, descriptor: int = _STDERR) -> bool:
    """Tell whether a descriptor is the file that ``JOURNAL_STREAM`` names: device and inode."""
    with suppress(OSError):
        status = os.fstat(descriptor)
        return journal == f"{status.st_dev}:{status.st_ino}"
    return False
