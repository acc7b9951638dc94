"""The directories and files that a backup starts from."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from backup.errors import ConfigError, SourceError
from backup.model import SourcePatterns, path_key, path_text


class Root(NamedTuple):
    """One directory or file that a backup starts from.

    ``path`` has the form of ``Entry.path``, and no component of it was a symbolic link when it was
    looked at.
    """

    path: bytes
    is_directory: bool


def prepare_roots(paths: Sequence[str | bytes | Path]) -> list[Root]:
    """Return ``paths`` as roots in walking order.

    Symbolic links on the way are followed, the last component included: who names a link means what
    is behind it.

    Args:
        paths: Directories and regular files; relative ones start at the working directory.

    Returns:
        The roots, absolute and sorted by ``path_key``.

    Raises:
        ConfigError: There is no path, or two of them overlap.
        SourceError: A path is missing, of another kind, or a directory that cannot be listed.
    """
    if not paths:
        raise ConfigError("there is nothing to back up", hint="name at least one directory or file")
    roots = sorted((_prepare(os.fsencode(path)) for path in paths), key=_walking_order)
    for first, second in pairwise(roots):
        _check_apart(first.path, second.path)
    return roots


def patterns_of_sources(
    said: Iterable[tuple[str | bytes | Path, Iterable[str]]],
) -> tuple[SourcePatterns, ...]:
    """Return patterns of single sources as ``ExcludeRules.of_source`` has them.

    Args:
        said: Sources as they are named to ``prepare_roots``, each with its patterns; one without
            patterns is passed over.

    Raises:
        ConfigError: One of them is not a path.
    """
    pairs = ((_real(os.fsencode(path), strict=False), tuple(patterns)) for path, patterns in said)
    return tuple(SourcePatterns(path, patterns) for path, patterns in pairs if patterns)


def _real(given: bytes, *, strict: bool) -> bytes:
    """Return where a source lies, in the form of ``Entry.path``."""
    if not given or b"\0" in given:
        raise ConfigError(f"{given!r} is not a path")
    return os.path.realpath(given, strict=strict).lstrip(b"/")


def _walking_order(root: Root) -> bytes:
    return path_key(root.path)


def _prepare(given: bytes) -> Root:
    try:
        path = _real(given, strict=True)
        is_directory = _check_kind(b"/" + path)
    except OSError as error:
        message = f"cannot back up {os.fsdecode(given)}: {error.strerror}"
        hint = "check the spelling, the permissions, and whether its file system is mounted"
        raise SourceError(message, hint=hint) from error
    return Root(path, is_directory)


def _check_kind(path: bytes) -> bool:
    """Return whether ``path`` is a directory; refuse what is neither that nor a regular file."""
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        # A root that cannot be listed would make an empty snapshot which looks like a good one.
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    elif not stat.S_ISREG(mode):
        message = f"cannot back up {os.fsdecode(path)}: neither a directory nor a regular file"
        raise SourceError(message, hint="name the directory that it lies in")
    return stat.S_ISDIR(mode)


def _check_apart(first: bytes, second: bytes) -> None:
    # In walking order whatever lies inside a root follows it directly.
    if first == second:
        message = f"the source {path_text(first)} is named twice"
        raise ConfigError(message, hint="leave the second one out")
    if not first or second.startswith(first + b"/"):
        below = path_text(second[len(first) :].lstrip(b"/"))
        raise ConfigError(
            f"the source {path_text(second)} lies inside the source {path_text(first)}",
            hint=f"leave out {path_text(second)}, and give its patterns, if it has some, to"
            f" {path_text(first)}, beginning with {below}/",
        )
