"""The daemon's ear: its socket, and the runs that were asked for there."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from backup.control import Server
from backup.daemon.answers import Answers

_LOG = logging.getLogger(__name__)
_FOR_GROUP = 0o750


class Place(NamedTuple):
    """Where to listen; members of ``group`` may ask there, ``None`` for nobody else."""

    path: Path
    group: int | None = None


class Listening:
    """Listens at a socket; where that is not possible the daemon works without.

    Args:
        answers: What is answered.
        place: Where to listen, ``None`` for nowhere.
    """

    def __init__(self, answers: Answers, place: Place | None) -> None:
        self._answers = answers
        self._place = place
        self._server: Server | None = None

    def start(self) -> None:
        """Begin."""
        if self._place is None:
            return
        server = Server(self._place.path, self._answers.handle, group=self._place.group)
        try:
            _make_directory(self._place)
            server.start()
        except OSError as error:
            where = self._place.path
            _LOG.error("nobody can ask the daemon at %s: %s", where, error.strerror)
        else:
            self._server = server

    def stop(self) -> None:
        """End; runs that were asked for and have not begun do not begin."""
        self._answers.handovers.stop()
        if self._server is not None:
            with suppress(OSError):
                self._server.stop()


def _make_directory(place: Place) -> None:
    """Make the socket's directory where no service manager has, and let the group enter it."""
    directory = place.path.parent
    with suppress(FileExistsError):
        directory.mkdir(mode=_FOR_GROUP)
    # systemd gives root's service a directory of root's group. One of somebody else stays as it is.
    if place.group is not None and place.group != directory.stat().st_gid:
        with suppress(PermissionError):
            os.chown(directory, -1, place.group)
