"""Where a service's files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAME = "auto-backup"
UNIT = f"{NAME}.service"
DAEMON_LOCK = "daemon.pid"
"""What a daemon keeps locked in its state directory."""

USER = NAME
"""The reader's user and group, and the owner of the state."""


@dataclass(frozen=True)
class Places:
    """All below ``root``, which is ``/``; ``home_config`` is the user's ``~/.config``."""

    root: Path
    home_config: Path

    @property
    def unit(self) -> Path:
        """The system's unit."""
        return self.root / "etc/systemd/system" / UNIT

    @property
    def sysusers(self) -> Path:
        """What makes the user."""
        return self.root / "etc/sysusers.d" / f"{NAME}.conf"

    @property
    def user_unit(self) -> Path:
        """The unit of a user's own manager."""
        return self.home_config / "systemd/user" / UNIT

    @property
    def cron(self) -> Path:
        """What cron is told."""
        return self.root / "etc/cron.d" / NAME

    @property
    def state(self) -> Path:
        """The machine's state: systemd makes it, as %S/auto-backup."""
        return self.root / "var/lib" / NAME

    @property
    def systemd(self) -> Path:
        """A directory that is there while systemd is the first process, and only then."""
        return self.root / "run/systemd/system"
