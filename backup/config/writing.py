"""Writing a new configuration: whole or not at all, never over one that somebody has."""

from __future__ import annotations

import os
from pathlib import Path

from backup.config.finding import FOLDER, NAMES
from backup.environment import SYSTEM_CONFIG, config_path, is_directory, variable
from backup.errors import ConfigError
from backup.private_files import write_private
from backup.storage.os_errors import as_storage_errors

OLD_SUFFIX = ".old"
_PART_SUFFIX = ".yaml"
_PRIVATE, _FOR_GROUP = 0o600, 0o640
_UNCHANGEABLE = 0o755
_FORCE = "--force"


def place_of(given: Path | None, *, is_root: bool) -> Path:
    """Return where a new configuration goes: where it will be looked for, if nobody says where.

    Args:
        given: What ``--config`` says: a file, or a directory for it.
        is_root: Whether it is root's.
    """
    named = given or (Path(said).expanduser() if (said := variable("CONFIG")) else None)
    if named is None:
        return SYSTEM_CONFIG / NAMES[0] if is_root else config_path(NAMES[0])
    path = Path(os.path.realpath(named))  # a link stays one
    return path / NAMES[0] if is_directory(path) else path


def check_place(path: Path, *, force: bool) -> None:
    """Refuse a place where a configuration is already, or where this one would not count.

    Raises:
        ConfigError: It cannot be written there.
    """
    beside = [name for name in NAMES if path.name in NAMES and name != path.name]
    other = next((path.parent / name for name in beside if os.path.lexists(path.parent / name)), "")
    if other:
        raise ConfigError(
            f"there is a configuration already: {other}",
            hint=f"two in a directory are refused: move it away before {path.name} is made",
        )
    if os.path.lexists(path) and not force:
        raise _taken(path)
    if os.path.lexists(path) and not path.is_file():
        raise ConfigError(f"{path} is not a file", hint="name another one with --config")


def mode_of(path: Path) -> int:
    """Return the mode of a new configuration: services of the machine's group may read its."""
    return _FOR_GROUP if path.parent == SYSTEM_CONFIG else _PRIVATE


def write_configuration(path: Path, text: str, *, force: bool, mode: int = _PRIVATE) -> Path | None:
    """Write a configuration; return where the one is kept that was there before.

    Args:
        path: Where to; missing directories are made.
        text: All that it says.
        force: Whether there may be one.
        mode: Its permissions.

    Raises:
        ConfigError: There is one and it may not go, or it cannot be read.
        StorageError: It cannot be written; what was there is as it was.
    """
    check_place(path, force=force)
    old = path.with_name(path.name + OLD_SUFFIX) if os.path.lexists(path) else None
    if old is not None:
        write_private(old, _content(path), replace=True)
    try:
        write_private(path, text.encode(), replace=old is not None)
    except FileExistsError:
        raise _taken(path) from None
    if mode != _PRIVATE:
        path.chmod(mode)
    return old


def write_part(configuration: Path, name: str, text: str) -> Path:
    """Write a file that adds to a configuration; whoever may read that may read it, too.

    Args:
        configuration: The file that it adds to.
        name: What it is called, without a suffix.
        text: All that it says.

    Returns:
        Where it lies.

    Raises:
        ConfigError: There is one of that name.
        StorageError: It cannot be written.
    """
    folder = configuration.parent / FOLDER
    is_new = not folder.exists()
    path = folder / f"{name}{_PART_SUFFIX}"
    try:
        write_private(path, text.encode())
    except FileExistsError:
        raise ConfigError(
            f"there is a file of that name already: {path}", hint="call the job otherwise"
        ) from None
    with as_storage_errors(f"cannot give {path} to those who may read {configuration}"):
        if is_new:
            _share(folder, configuration.parent)
        _share(path, configuration)
    return path


def _share(path: Path, like: Path) -> None:
    """Give ``path`` the group and the permissions of ``like``, but nobody else may change it."""
    status = like.stat()
    if path.stat().st_gid != status.st_gid:
        os.chown(path, -1, status.st_gid)
    path.chmod(status.st_mode & _UNCHANGEABLE)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _taken(path: Path) -> ConfigError:
    return ConfigError(
        f"there is a configuration already: {path}",
        hint=f"{_FORCE} makes a new one and keeps that as {path.name}{OLD_SUFFIX}",
    )
