"""The only place that reads the environment: where keys, state and snapshots lie."""

from __future__ import annotations

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


class Default(NamedTuple):
    """What a variable is where the environment does not have it, and where that was said."""

    value: str
    origin: str


_defaults: dict[str, Default] = {}


def set_defaults(defaults: Mapping[str, Default]) -> None:
    """Let variables be ``defaults`` where the environment does not have them, and no others."""
    _defaults.clear()
    _defaults.update(defaults)


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
    """Return where state lies: ``AUTO_BACKUP_STATE_DIR``, else the user's state directory."""
    given = variable("STATE_DIR")
    if given:
        return Path(given).expanduser()
    return own_state_dir()


def own_state_dir() -> Path:
    """Return the user's state directory, whatever the environment says."""
    import platformdirs  # noqa: PLC0415 - see above

    return platformdirs.user_state_path(_APP)


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
