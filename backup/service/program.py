"""How a service calls this installation, and whether it may."""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from backup.errors import ConfigError
from backup.pool.starting import find_python
from backup.service.places import NAME, USER

_PACKAGE = Path(__file__).resolve().parents[1]


class Program(NamedTuple):
    """What a service runs, its absolute path first, and the files of which it is made."""

    words: tuple[str, ...]
    files: tuple[Path, ...]


class Part(NamedTuple):
    """One of its files, or a directory around one: whose it is, and what others may do."""

    path: Path
    owner: int
    mode: int


def this_program() -> Program:
    """Return how to call this very installation.

    Raises:
        ConfigError: There is no Python to start it with.
    """
    try:
        python = find_python()
    except OSError as error:
        raise ConfigError("there is no Python that a service could be run with") from error
    script, checkout = Path(sys.exec_prefix) / "bin" / NAME, _PACKAGE.parent / "backup.py"
    if os.access(script, os.X_OK):
        words = [str(script)]
    elif checkout.is_file():
        words = [python, str(checkout)]
    else:
        words = [python, "-I", "-m", "backup"]
    libraries = Path(sysconfig.get_path("purelib"))
    files = [*(Path(one) for one in words if one.startswith("/")), Path(python), _PACKAGE]
    return Program(tuple(words), tuple(dict.fromkeys([*files, libraries])))


def parts_of(program: Program) -> list[Part]:
    """Return the files of a program, and all directories around them, links followed."""
    found: dict[Path, Part] = {}
    for file in program.files:
        for path in (file, file.resolve()):
            for one in (*reversed(path.parents), path):
                if one not in found:
                    status = one.stat()
                    found[one] = Part(one, status.st_uid, status.st_mode)
    return list(found.values())


def program_problem(parts: Sequence[Part], *, as_reader: bool) -> str | None:
    """Return why a service of the system should not, or could not, run a program."""
    for one in parts:
        by_all = one.mode & stat.S_IWOTH and not one.mode & stat.S_ISVTX
        if one.owner != 0 or (by_all and not stat.S_ISLNK(one.mode)):
            return f"the program can be changed by others than root: {one.path} is not root's alone"
    needed = stat.S_IXOTH if as_reader else 0
    for one in parts:
        if stat.S_ISDIR(one.mode) and one.mode & needed != needed:
            return f"the user {USER} cannot start the program: it may not enter {one.path}"
        if as_reader and stat.S_ISREG(one.mode) and not one.mode & stat.S_IROTH:
            return f"the user {USER} cannot start the program: it may not read {one.path}"
    return None


def program_hint() -> str:
    """Return how to install the program for a service."""
    checkout = _PACKAGE.parent
    source = str(checkout) if (checkout / "pyproject.toml").is_file() else "FILE.whl"
    return (
        f"install it where all can use it and root alone can change it:\n"
        f"/usr/bin/python3 -m venv /opt/{NAME}\n"
        f"/opt/{NAME}/bin/pip install {source}\n"
        f"/opt/{NAME}/bin/{NAME} service install"
    )
