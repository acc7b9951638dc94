"""The only place that reads the environment: where keys, state and snapshots lie."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
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
    """Return where state lies: ``AUTO_BACKUP_STATE_DIR``, else the machine's, else the user's.

    The machine's is for root, where there is one: what root does by hand then is one with what the
    daemon does, which may have a user of its own.
    """
    given = variable("STATE_DIR")
    if given:
        return Path(given).expanduser()
    if os.geteuid() == 0 and SYSTEM_STATE.is_dir():
        return SYSTEM_STATE
    import platformdirs  # noqa: PLC0415 - see above

    return platformdirs.user_state_path(_APP)


def control_socket(state: Path) -> Path:
    """Return the socket by which one talks to the daemon whose state lies in ``state``."""
    is_system = os.path.realpath(state) == os.path.realpath(SYSTEM_STATE)
    return (SYSTEM_RUNTIME if is_system else state) / _CONTROL


def default_store_dir() -> Path:
    """Return where snapshots go when nobody says where: below the user's data directory."""
    import platformdirs  # noqa: PLC0415 - see above

    return platformdirs.user_data_path(_APP) / "snapshots"


def host_name() -> str:
    """Return this machine's name in the stores: ``AUTO_BACKUP_HOST``, else its short host name."""
    return variable("HOST") or socket.gethostname().split(".")[0] or "localhost"


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
