"""Which files a configuration is made of, and whether they may be believed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from backup.config.problems import FileProblem, Place
from backup.environment import config_directories, is_directory, variable
from backup.errors import ConfigError

NAMES = ("config.yaml", "config.yml", "config.json", "settings.json")
FOLDER = "conf.d"
LARGEST = 1024 * 1024
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def find_configuration(given: Path | None) -> Path | None:
    """Return the configuration's file, ``None`` where there is none and nobody named one.

    Args:
        given: What ``--config`` says: a file, or the directory that holds it.

    Raises:
        ConfigError: A directory holds two of them, or one that was named holds none.
    """
    named = given or _named_by_variable()
    if named is None:
        found = (_only_one(directory) for directory in config_directories())
        return next((path for path in found if path is not None), None)
    if not is_directory(named):
        return named
    path = _only_one(named)
    if path is None:
        raise ConfigError(
            f"there is no configuration in {named}", hint=f"it has the name {NAMES[0]}"
        )
    return path


def is_to_be_made(given: Path | None) -> bool:
    """Tell whether somebody names a configuration that is not there; ``given`` as above."""
    named = given or _named_by_variable()
    if named is None:
        return False
    names = [named / name for name in NAMES] if named.is_dir() else [named]
    return not any(map(os.path.lexists, names))


def _named_by_variable() -> Path | None:
    text = variable("CONFIG")
    return Path(text).expanduser() if text else None


def _only_one(directory: Path) -> Path | None:
    found = [name for name in NAMES if os.path.lexists(directory / name)]
    if len(found) > 1:
        raise ConfigError(
            f"there are {len(found)} configurations in {directory}: {', '.join(found)}",
            hint="one of them counts: move the other away, or name one with --config",
        )
    return directory / found[0] if found else None


def files_beside(path: Path) -> list[Path]:
    """Return the files of ``conf.d`` beside ``path``, in the order of their names.

    Raises:
        FileProblem: It cannot be listed, or others may put files there for root to read.
    """
    folder = path.parent / FOLDER
    try:
        status = folder.stat()
        names = sorted(one.name for one in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FileProblem(Place(folder), f"it cannot be listed: {error.strerror}") from error
    _refuse_if_changeable(folder, status)
    return [
        folder / name
        for name in names
        if Path(name).suffix in _SUFFIXES and not name.startswith(".")
    ]


def times_of(path: Path) -> list[int]:
    """Return when the files of the configuration ``path`` were changed, as far as one may see."""
    folder = path.parent / FOLDER
    try:
        beside = sorted(folder.iterdir())
    except OSError:
        beside = []
    return [_changed(one) for one in (path, folder, *beside)]


def may_not_read(path: Path) -> bool:
    """Tell whether the file ``path`` is not for this user to read."""
    try:
        with path.open("rb"):
            return False
    except PermissionError:
        return True
    except OSError:
        return False


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def read_text(path: Path) -> str:
    """Return the text of one file.

    Raises:
        FileProblem: It cannot be read, is no text or too long, or others may change it.
    """
    try:
        with path.open("rb") as file:
            _refuse_if_changeable(path, os.fstat(file.fileno()))
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise FileProblem(Place(path), "there is no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name has a NUL in it"
        raise FileProblem(Place(path), f"it cannot be read: {reason}") from error
    if len(content) > LARGEST:
        raise FileProblem(Place(path), f"it is longer than {LARGEST:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileProblem(Place(path, line), "it is not UTF-8") from error


def _refuse_if_changeable(path: Path, status: os.stat_result) -> None:
    """Refuse what others may change where it decides what root reads, and where to."""
    if os.geteuid() != 0 or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    if status.st_uid != 0 or by_group or status.st_mode & stat.S_IWOTH:
        raise FileProblem(
            Place(path),
            f"others can change it (mode {stat.S_IMODE(status.st_mode):04o}, owner"
            f" {status.st_uid}), and it decides what root does; look at what is in it, then:"
            f" chown root {path}; chmod go-w {path}",
        )
