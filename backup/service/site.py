"""Looking at the place of a service of the system: its user, its state, who reads what."""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from backup.catalog import CATALOG_NAME
from backup.keys import HOST_KEY_NAME
from backup.run_state import RUNS_NAME
from backup.service.installing import ConfigFile, State
from backup.service.steps import Run

_REMEMBERED = (
    HOST_KEY_NAME,
    CATALOG_NAME,
    f"{CATALOG_NAME}-journal",
    RUNS_NAME,
    f"{RUNS_NAME}-journal",
    "chains",
    "backup.log",
)


def user_number(name: str) -> int | None:
    """Return the number of a user, ``None`` where there is none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def config_file(path: Path) -> ConfigFile:
    """Return what is known of a file or directory of the configuration."""
    status = path.stat()
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = ""
    return ConfigFile(path=path, mode=stat.S_IMODE(status.st_mode), group=group)


def closed_directory(path: Path) -> Path | None:
    """Return the first directory above that of ``path`` which not everybody may enter."""
    above = reversed(path.resolve().parent.parents)
    return next((one for one in above if not one.stat().st_mode & stat.S_IXOTH), None)


def state_at(place: Path, before: Sequence[Path]) -> State:
    """Return what is known of the state, and what is to be copied there.

    What is there already is not copied again: the service has gone on with it.

    Args:
        place: Its directory.
        before: Where root's may be from before.
    """
    owner = place.stat().st_uid if place.is_dir() else None
    homes = [one for one in before if one != place and os.path.lexists(one / HOST_KEY_NAME)]
    if not homes or os.path.lexists(place / HOST_KEY_NAME):
        return State(owner=owner)
    found = (homes[0] / name for name in _REMEMBERED if not os.path.lexists(place / name))
    return State(owner=owner, copies=tuple(one for one in found if os.path.lexists(one)))


def is_locked(path: Path) -> bool:
    """Tell whether another process holds the lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def systemd_version(run: Run) -> int | None:
    """Return the number of systemd's version, ``None`` where it does not tell."""
    found = re.match(r"systemd (\d+)", run(("systemctl", "--version"), None).out)
    return int(found[1]) if found else None
