"""What a new configuration may be told, and what it says where nothing is told."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from backup.config.models import Source
from backup.config.survey import Disk, Survey, may_write
from backup.errors import ConfigError
from backup.manager.own_stores import refuse_stores
from backup.retention import NOTHING_GOES, RetentionPolicy, parse_keep
from backup.snapshot.compression import archive_type
from backup.snapshot.names import check_word, slug
from backup.sources.roots import prepare_roots
from backup.storage import open_storage
from backup.triggers import make_trigger

DEFAULT_KEEP = "last=3,daily=14,weekly=8,monthly=12"
DEFAULT_COMPRESSION = "xz"
DEFAULT_SCHEDULE = "at 02:30"
ALL = "all"
"""The answer that lets nothing be deleted."""

BY_HAND = "by hand"
"""The answer that sets no schedule."""

_FOLDER = "auto-backup"
_SYSTEM_STORE = Path("/var/backups") / _FOLDER
_REMOVABLE = ("/media", "/run/media")
_HOMES = (Path("/home"), Path("/root"))
_CACHE = ".cache/"


def suggest_store(survey: Survey, own: Path, *, is_root: bool) -> str:
    """Return where snapshots may go: to a disk of their own where there is one.

    Args:
        survey: What was found.
        own: Where they go for an ordinary user without such a disk.
        is_root: Whether it is root who asks.
    """
    disk = next((one for one in survey.disks if _stays(one)), None)
    if disk is not None:
        return str(disk.path / _FOLDER)
    return str(_SYSTEM_STORE if is_root else own)


def _stays(disk: Disk) -> bool:
    """Tell whether a disk is looked at, and not one that somebody will pull out."""
    return disk.free is not None and not any(map(disk.path.is_relative_to, _REMOVABLE))


def suggest_job(sources: Sequence[Path], home: Path) -> str:
    """Return what the job that saves ``sources`` may be called."""
    if list(sources) == [home]:
        return "home"
    if len(sources) == 1 and sources[0].name:
        return slug(sources[0].name)
    return "system" if {Path("/"), Path("/etc")} & set(sources) else "files"


def split_paths(text: str) -> list[str]:
    """Return the paths in an answer, which have spaces between them, or quotes around.

    Raises:
        ConfigError: A quote is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError:
        raise ConfigError("a quote is opened and not closed") from None


def choose_sources(given: Sequence[str], home: Path) -> list[Source]:
    """Return the sources that paths name, each with what is best left out of it.

    Raises:
        ConfigError: There is none, or two overlap.
        SourceError: One is missing or cannot be saved.
    """
    paths = [absolute_path(one) for one in given]
    prepare_roots(paths)
    return [Source(path=path, exclude=_patterns_for(path, home)) for path in paths]


def _patterns_for(path: Path, home: Path) -> tuple[str, ...]:
    is_home = path in {home, *_HOMES} or path.parent in _HOMES
    return (_CACHE,) if is_home else ()


def choose_store(given: str, sources: Sequence[Source]) -> str:
    """Return the URL or path of a store.

    Raises:
        ConfigError: There is no such kind of store, it could not be written to, or a source lies
            in it.
    """
    if not given:
        raise ConfigError("a store needs a directory or a URL")
    url = given if "://" in given else str(absolute_path(given))
    store = open_storage(url)
    refuse_stores(prepare_roots([one.path for one in sources]), [store])
    place = store.local_root()
    if place is not None:
        check_writable(place)
    return url


def check_writable(place: Path) -> None:
    """Refuse a directory that could not be written to; of one that is missing, where it would be.

    Raises:
        ConfigError: It is none, or this user may not write to it.
    """
    there = next(one for one in (place, *place.parents) if os.path.lexists(one))
    if not there.is_dir():
        raise ConfigError(f"{there} is not a directory")
    if not may_write(there):
        raise ConfigError(
            f"you may not write to {there}", hint="name a directory that you may write to"
        )


def choose_keep(given: str) -> RetentionPolicy:
    """Return what to keep: rules, the number of the newest ones, or everything.

    Raises:
        InvalidArgumentError: It says none of these.
    """
    if given == ALL:
        return NOTHING_GOES
    return parse_keep([f"last={given}" if given.isdecimal() else given])


def choose_schedule(given: str) -> str:
    """Return when jobs run, as ``schedule:`` says it; empty for by hand.

    Raises:
        InvalidArgumentError: It says no time.
    """
    if given == BY_HAND:
        return ""
    word, _, rest = given.partition(" ")
    make_trigger({word: rest.strip()})
    return given


def choose_compression(given: str) -> str:
    """Return the name of a compression, or raise ``InvalidArgumentError``."""
    archive_type(given)
    return given


def choose_host(given: str) -> str:
    """Return the name of a host, or raise ``InvalidArgumentError``."""
    return check_word(given, "host")


def name_stores(urls: Sequence[str]) -> dict[str, str]:
    """Return stores by the names that they get."""
    return {"disk" if number == 1 else f"disk-{number}": url for number, url in enumerate(urls, 1)}


def absolute_path(given: str) -> Path:
    """Return the path that ``given`` means; ``~`` is a home.

    Raises:
        ConfigError: It is none, or nobody has such a home.
    """
    if not given or "\0" in given:
        raise ConfigError(f"{given!r} is not a path")
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise ConfigError(f"nobody is called that whose home {given} names") from None
    return Path(os.path.abspath(path))  # noqa: PTH100 - '..' has no place in a configuration
