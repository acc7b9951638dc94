"""``.env`` files: variables of this program for a directory, where the environment has none."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from backup.environment import (
    PREFIX,
    VARIABLES,
    Default,
    config_directories,
    is_directory,
    set_defaults,
    variable,
)
from backup.errors import ConfigError

NAME = ".env"
_LARGEST = 1024 * 1024


class Dotenv(NamedTuple):
    """The variables that a file sets, and what a person should hear about it."""

    values: dict[str, Default]
    remarks: tuple[str, ...] = ()


def use_dotenv_files(config: Path | None, here: Path = Path()) -> list[str]:
    """Let the ``.env`` files of this call count; return what a person should hear about them.

    That of the current directory wins over the one beside the configuration.

    Args:
        config: What ``--config`` says.
        here: What counts as the current directory.

    Raises:
        ConfigError: One of them sets our variables, and cannot be believed or understood.
    """
    first = read_dotenv(here / NAME)
    set_defaults(first.values)
    found, remarks = dict(first.values), [*first.remarks]
    for directory in _directories(config):
        beside = read_dotenv(directory / NAME)
        found = beside.values | found
        remarks += beside.remarks
    set_defaults(found)
    return list(dict.fromkeys(remarks))


def _directories(config: Path | None) -> list[Path]:
    """Return where the configuration lies, or would lie."""
    text = variable("CONFIG")
    named = config or (Path(text).expanduser() if text else None)
    if named is None:
        return config_directories()
    return [named if is_directory(named) else named.parent]


def read_dotenv(path: Path) -> Dotenv:
    """Return what the file ``path`` sets of our variables; without such a file, nothing.

    Raises:
        ConfigError: It sets some, and others can change it, or it cannot be understood.
    """
    content, status = _content(path)
    if PREFIX.encode() not in content:
        return Dotenv({})
    path = path.absolute()
    if status.st_uid not in {0, os.geteuid()}:
        return Dotenv({}, (f"{path} belongs to another user, and does not count",))
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"others can change {path} (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"look at what is in it, then: chmod go-w {path}",
        )
    return _parse(content.decode("utf-8", "surrogateescape"), path)


def _content(path: Path) -> tuple[bytes, os.stat_result]:
    """Return what is in a regular file that can be read, else nothing."""
    nothing = b"", os.stat_result([0] * 10)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return nothing
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            return nothing
        return os.read(descriptor, _LARGEST), status
    finally:
        os.close(descriptor)


def _parse(text: str, path: Path) -> Dotenv:
    values: dict[str, Default] = {}
    remarks = []
    for line, key, value in _lines(text, path):
        name = key.removeprefix(PREFIX)
        if name in VARIABLES:
            values[name] = Default(value, f"{path}:{line}")
        else:
            remarks.append(f"{path}:{line}: {key}: unknown variable{_instead(key)}")
    return Dotenv(values, tuple(remarks))


def _lines(text: str, path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield our variables with their lines."""
    from dotenv.parser import parse_stream  # noqa: PLC0415 - only where there is such a file

    for one in parse_stream(io.StringIO(text)):
        said = one.original.string
        line = one.original.line + said[: len(said) - len(said.lstrip())].count("\n")
        if PREFIX not in said or said.lstrip().startswith("#"):
            continue
        if one.error or one.value is None or "\0" in one.value:
            raise ConfigError(
                f"{path}:{line}: it does not set a variable",
                hint=f"write it as {PREFIX}STORE=/mnt/disk, and a value with spaces in quotes",
            )
        if one.key is not None and one.key.startswith(PREFIX):
            yield line, one.key, one.value


def _instead(key: str) -> str:
    close = get_close_matches(key.removeprefix(PREFIX), VARIABLES, n=1)
    return f"; did you mean {PREFIX}{close[0]}?" if close else ""
