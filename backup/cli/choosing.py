"""What answers to the questions of ``auto-backup`` alone mean."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from backup.config.choices import absolute_path, check_writable, split_paths
from backup.errors import ConfigError, SourceError
from backup.plain.formats import SUFFIXES, Format, format_named, format_of
from backup.plain.naming import check_stem
from backup.snapshot.names import SUFFIX as ENCRYPTED
from backup.snapshot.names import check_word
from backup.sources.roots import prepare_roots
from backup.storage import open_storage

SNAPSHOT = "snapshot"
FORMATS = {
    "zip": "any tool opens it",
    "tar.gz": "usual where zip is not; quick",
    "tar.bz2": "smaller, slow",
    "tar.xz": "smallest, slow",
    "tar.zst": "small and quickest; not every tool opens it",
    SNAPSHOT: "encrypted, signed, proven; what jobs take",
}
"""What is offered, in this order, each with what to know of it."""

_WORDS = list(FORMATS)


def choose_sources(text: str) -> list[Path]:
    """Return the paths in an answer, all of which can be read.

    Raises:
        ConfigError: There is none, or two overlap.
        SourceError: One is missing, or cannot be saved.
    """
    whole = absolute_path(text) if text else None
    if whole is not None and os.path.lexists(whole):  # with spaces, and nobody thought of quotes
        paths = [whole]
    else:
        paths = [absolute_path(one) for one in split_paths(text)]
    if not paths:
        raise ConfigError("nothing is named that could be saved")
    prepare_roots(paths)
    for path in paths:
        if not os.access(path, os.R_OK):
            raise SourceError(f"cannot back up {path}: you may not read it")
    return paths


def choose_where(text: str, stores: Mapping[str, str]) -> str | None:
    """Return the directory or the URL of an answer; ``None`` for the usual place.

    Args:
        text: The answer.
        stores: URLs by the names that may be said instead.

    Raises:
        ConfigError: It is none that could be written to.
    """
    if not text:
        return None
    if text in stores and not Path(text).is_dir():
        return stores[text]
    if "://" in text:
        return open_storage(text).url
    return str(choose_directory(text))


def choose_directory(text: str) -> Path:
    """Return the directory of an answer, which may be one that is to be made.

    Raises:
        ConfigError: It is none that could be written to.
    """
    if not text:
        raise ConfigError("a directory is needed")
    path = _one_path(text)
    check_writable(path)
    return path


def _one_path(text: str) -> Path:
    whole = absolute_path(text)
    if whole.is_dir():
        return whole
    words = split_paths(text)
    if len(words) != 1:
        raise ConfigError(
            f"these are {len(words)} directories, and one is needed",
            hint="one with a space in its name stands in quotes",
        )
    return absolute_path(words[0])


def choose_form(text: str) -> Format | None:
    """Return the format that a number or a name means; ``None`` for a snapshot.

    Raises:
        ConfigError: There is no such format.
    """
    if text.isdecimal() and 0 < int(text) <= len(_WORDS):
        text = _WORDS[int(text) - 1]
    if text.lower() == SNAPSHOT:
        return None
    found = format_named(text)
    if found is None:
        raise ConfigError(
            f"there is no format {text!r}", hint=f"1 to {len(_WORDS)}, or a name in that list"
        )
    return found


def choose_stem(text: str, form: Format) -> str:
    """Return the name of an archive without its end, which may tell its format, and no other one.

    Raises:
        ConfigError: It cannot be the name of one.
    """
    name = check_stem(text)
    told = format_of(name)
    if (told and told is not form) or name.lower().endswith(ENCRYPTED):
        raise ConfigError(
            f"{name} would be taken for something else than a {form}",
            hint="leave out the end of the name; it is put there",
        )
    while (end := _suffix_of(name)) and len(name) > len(end):
        name = name[: -len(end)]
    return name


def _suffix_of(name: str) -> str:
    fitting = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return max(fitting, key=len, default="")


def choose_job(text: str) -> str:
    """Return the name of a job, or raise ``InvalidArgumentError``; empty is the source's."""
    return check_word(text, "job") if text else ""
