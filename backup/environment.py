"""The only place that reads the environment: where keys, state and snapshots lie."""

from __future__ import annotations

import grp
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, tzinfo
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

_APP = "auto-backup"
PREFIX = "AUTO_BACKUP_"
SYSTEM_CONFIG = Path("/etc") / _APP
SYSTEM_STATE = Path("/var/lib") / _APP
SYSTEM_RUNTIME = Path("/run") / _APP
_CONTROL = "control.sock"
GROUP = _APP
_CONTAINER_VARIABLE = "container"  # in small letters, as its makers write it
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv")

VARIABLES: Mapping[str, str] = {
    "CONFIG": "the configuration's file, or the directory that holds it",
    "STORE": "where snapshots lie: a directory or a URL",
    "HOST": "this machine's name in the stores",
    "KEY_FILE": "the key",
    "IDENTITY": "the private half of a public key",
    "PASSPHRASE_FILE": "a file whose only line is a passphrase",
    "RECIPIENTS": "public keys, or files of them, to seal for, with ':' between",
    "SIGNERS": "the list of hosts whose signatures are accepted",
    "STATE_DIR": "signing key, log and catalog",
    "YES": "agree beforehand to what would be asked: 1 or 0",
}
"""What can be set in the environment or in an ``.env`` file, without its prefix."""


# Not for people: how a supervisor tells a run where to report to.
_REPORTS = "_AUTO_BACKUP_REPORTS"
# What belongs to the service manager's talk with a supervisor, not with what that starts.
_OF_THE_SUPERVISOR = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
_OF_EVERYBODY = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"})


class Default(NamedTuple):
    """What a variable is where the environment does not have it, and where that was said."""

    value: str
    origin: str


_defaults: dict[str, Default] = {}


def set_defaults(defaults: Mapping[str, Default]) -> None:
    """Let variables be ``defaults`` where the environment does not have them, and no others."""
    _defaults.clear()
    _defaults.update(defaults)


def known_defaults() -> dict[str, Default]:
    """Return what ``set_defaults`` was given last."""
    return dict(_defaults)


def variable(name: str) -> str | None:
    """Return ``AUTO_BACKUP_<name>``, ``None`` where it is unset or empty.

    The environment wins over defaults, also where it has the variable without a value.
    """
    if PREFIX + name in os.environ:
        return os.environ[PREFIX + name] or None
    default = _defaults.get(name)
    return default.value or None if default else None


def variable_origin(name: str) -> str | None:
    """Return where the value of ``variable`` was said, in words; ``None`` where it has none."""
    if variable(name) is None:
        return None
    if PREFIX + name in os.environ:
        return f"environment {PREFIX}{name}"
    return _defaults[name].origin


def key_file_path() -> Path:
    """Return where the key file lies: ``AUTO_BACKUP_KEY_FILE``, else the user's configuration."""
    given = variable("KEY_FILE")
    if given:
        return Path(given).expanduser()
    return config_path("key")


def config_path(name: str) -> Path:
    """Return where the user's configuration has, or would have, the file ``name``."""
    import platformdirs  # noqa: PLC0415 - imported where it is needed: it costs start-up time

    return platformdirs.user_config_path(_APP) / name


def config_directories() -> list[Path]:
    """Return where a configuration is looked for; root looks for the machine's first."""
    system = [SYSTEM_CONFIG] if os.geteuid() == 0 else []
    return [*system, config_path("config").parent]


def state_dir() -> Path:
    """Return where state lies: ``AUTO_BACKUP_STATE_DIR``, else the machine's, else the user's.

    The machine's is for root, where there is one: what root does by hand then is one with what the
    daemon does, which may have a user of its own.
    """
    given = variable("STATE_DIR")
    if given:
        return Path(given).expanduser()
    if os.geteuid() == 0 and SYSTEM_STATE.is_dir():
        return SYSTEM_STATE
    return own_state_dir()


def own_state_dir() -> Path:
    """Return the user's state directory, whatever the environment says."""
    import platformdirs  # noqa: PLC0415 - see above

    return platformdirs.user_state_path(_APP)


def is_directory(path: Path) -> bool:
    """Tell whether ``path`` is a directory, as far as this user may know."""
    try:
        return path.is_dir()
    except OSError:  # one on the way to it may not be entered
        return False


def control_socket(state: Path) -> Path:
    """Return the socket by which one talks to the daemon whose state lies in ``state``."""
    is_system = os.path.realpath(state) == os.path.realpath(SYSTEM_STATE)
    return (SYSTEM_RUNTIME if is_system else state) / _CONTROL


def group_id(name: str) -> int | None:
    """Return the id of a group, ``None`` where there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def default_store_dir() -> Path:
    """Return where snapshots go when nobody says where: below the user's data directory."""
    import platformdirs  # noqa: PLC0415 - see above

    return platformdirs.user_data_path(_APP) / "snapshots"


def host_name() -> str:
    """Return this machine's name in the stores: ``AUTO_BACKUP_HOST``, else its short host name."""
    return variable("HOST") or socket.gethostname().split(".")[0] or "localhost"


def in_container(top: Path = Path("/")) -> bool:
    """Tell whether this is a container that gets a new host name each time it is made."""
    marks = [top / one for one in _CONTAINER_MARKS]
    return is_container(os.environ.get(_CONTAINER_VARIABLE), marks)


def is_container(said: str | None, marks: Iterable[Path]) -> bool:
    """Tell the same by what the variable ``container`` says, and by files that only they have."""
    return bool(said) or any(os.path.lexists(one) for one in marks)


def credentials_dir() -> Path | None:
    """Return where systemd has put the secrets of this service, ``None`` outside of one."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(given) if given else None


def search_path() -> str:
    """Return where commands are looked for."""
    return os.environ.get("PATH", "") or os.defpath


def local_zone(file: Path = Path("/etc/localtime")) -> tzinfo:
    """Return the machine's time zone with its changes over the year: ``TZ``, else ``file``."""
    name = os.environ.get("TZ", "").removeprefix(":")
    with suppress(ValueError, OSError, KeyError):  # one that it does not know, or the long form
        if name.startswith("/"):
            file = Path(name)
        elif name:
            return ZoneInfo(name)
    with suppress(ValueError, OSError), file.open("rb") as opened:
        return ZoneInfo.from_file(opened, key="local")
    return UTC


def environment_with(defaults: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, and ``defaults`` where it says nothing."""
    return {**defaults, **os.environ}


def environment_of_run(report: str) -> dict[str, str]:
    """Return the environment of a run of our own command.

    Args:
        report: What ``take_report_variable`` shall find there.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_SUPERVISOR)
    }
    return kept | {_REPORTS: report}


def environment_of_foreign() -> dict[str, str]:
    """Return the environment of a command that is none of ours: nothing in it is confidential."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _OF_EVERYBODY or name.startswith("LC_")
    }


def take_report_variable() -> str | None:
    """Return where this run is to report to, and let nothing find it that this process starts."""
    return os.environ.pop(_REPORTS, None)


def of_others(name: str) -> str:
    """Return a variable that is not ours, such as systemd's; empty where there is none."""
    return os.environ.get(name, "")


def take_out(names: Iterable[str]) -> dict[str, str]:
    """Remove variables from the environment, so that no child has them; return those there were."""
    return {name: os.environ.pop(name) for name in names if name in os.environ}


def settle(directory: Path) -> None:
    """Make paths in variables absolute: for who goes to another directory than ``directory``."""
    for name in VARIABLES:
        if PREFIX + name in os.environ:
            os.environ[PREFIX + name] = _settled(name, os.environ[PREFIX + name], directory)
    set_defaults(
        {
            name: one._replace(value=_settled(name, one.value, directory))
            for name, one in _defaults.items()
        }
    )


def _settled(name: str, value: str, directory: Path) -> str:
    if name == "RECIPIENTS":
        return ":".join(_absolute(one, directory) for one in value.split(":"))
    is_path = name not in {"HOST", "YES"} and (name != "STORE" or "/" in value)
    return _absolute(value, directory, may_be_missing=is_path)


def _absolute(value: str, directory: Path, *, may_be_missing: bool = False) -> str:
    """Return a relative path as an absolute one; what is no path as it is."""
    if not value or value.startswith(("/", "~")) or "://" in value:
        return value
    path = directory / value
    return str(path) if may_be_missing or os.path.lexists(path) else value
