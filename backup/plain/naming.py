"""What an archive is called, and which format that makes it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from backup.errors import ConfigError
from backup.plain.formats import SUFFIXES, Format, format_named, format_of
from backup.snapshot.names import SUFFIX as ENCRYPTED
from backup.sources.roots import Root

_MOST_BYTES = 200
"""Beside a name there has to be one with a mark for what is unfinished, of 255 bytes at most."""

_FOREIGN = re.compile(
    r"\.(rar|7z|lzh|lha|arj|ace|cab|cpio|dmg|iso|jar|lz|lzma|lz4|br|Z|tlz|tar\.(?:lz|lzma|lz4|lzo|Z))$",
    re.IGNORECASE,
)
_UNWANTED = re.compile(r"[\x00-\x1f\x7f/]+")
_FORMATS = ", ".join(Format)


class Chosen(NamedTuple):
    """A format, and what to tell about it: what could not be had, and what there is instead."""

    format: Format
    not_had: str = ""


def choose_format(word: str | None, name: str | None, *, encrypt: bool) -> Chosen:
    """Return the format that is asked for by a word, else by the end of a file's name, else zip.

    What is not known becomes a zip; a snapshot holds no zip, so an encrypted one becomes a tar.xz.

    Raises:
        ConfigError: The two say different things.
    """
    usual = Format.TAR_XZ if encrypt else Format.ZIP
    by_name = format_of(_without(name, ENCRYPTED)) if name else None
    by_word = format_named(word) if word is not None else None
    said = by_word or (Format.ZIP if word is not None else None)
    if said and by_name and said is not by_name:
        raise ConfigError(
            f"--format says {word}, and {name} is the name of a {by_name}",
            hint=f"leave one of them out; formats are {_FORMATS}",
        )
    foreign = word if word is not None else _foreign_end(name or "")
    if (word is not None and by_word is None) or (not (said or by_name) and foreign):
        return Chosen(usual, f"unsupported format {foreign}")
    wanted = said or by_name
    if encrypt and wanted is Format.ZIP:
        return Chosen(usual, "an encrypted archive holds no zip")
    return Chosen(wanted or usual)


def _foreign_end(name: str) -> str:
    found = _FOREIGN.search(name)
    return found[1] if found else ""


def file_name(given: str | None, stem: str, one: Format, *, encrypt: bool) -> str:
    """Return what the file is called.

    Args:
        given: The name that was asked for, which stays as it is, unless what is asked for cannot
            be had; ``None`` where none was.
        stem: The beginning of its name otherwise.
        one: What it is, or what is in it.
        encrypt: Whether it is a snapshot, whose name has to tell.

    Raises:
        ConfigError: The name is that of an encrypted file, which it will not be.
    """
    if not encrypt:
        if given is not None and given.lower().endswith(ENCRYPTED):
            raise ConfigError(
                f"{given} is the name of an encrypted archive", hint="add --encrypt, or leave .enc"
            )
        return given if given is not None else stem + one.suffix
    name = stem + one.suffix if given is None else _without(given, ENCRYPTED)
    told = format_of(name)
    if told is not None and told is not one:
        name = _without_suffix(name) + one.suffix
    return name + ENCRYPTED


def stem_of(roots: Sequence[Root], name: str | None, now: datetime) -> str:
    """Return the beginning of a file's name: ``name``, else the first source's and the time.

    Raises:
        ConfigError: ``name`` is none.
    """
    if name is not None:
        return _without_suffix(check_stem(name))
    source = os.fsdecode(roots[0].path.rpartition(b"/")[2])
    source = _UNWANTED.sub("-", source).lstrip(".-") or ("root" if not source else "files")
    stamp = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    while len(os.fsencode(source)) > _MOST_BYTES:
        source = source[:-1]
    return f"{source}-{stamp}"


def check_stem(name: str) -> str:
    """Return ``name`` where it may be given to ``--name``.

    Raises:
        ConfigError: It is a path, or none at all.
    """
    if name.strip() in {"", os.curdir, os.pardir} or "/" in name or "\0" in name:
        raise ConfigError(
            f"{name!r} cannot be the name of an archive",
            hint="a name has no slash; which directory it goes to is said by -o",
        )
    return name


def _without(name: str, suffix: str) -> str:
    return name[: -len(suffix)] if name.lower().endswith(suffix) else name


def _without_suffix(name: str) -> str:
    """Return ``name`` without the longest suffix that tells a format."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
