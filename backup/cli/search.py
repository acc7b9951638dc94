"""``find``."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from backup.cli.entries import entry_json
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import count_text, print_json, print_line, print_note, size_text, time_text
from backup.errors import (
    BackupError,
    ConfigError,
    IntegrityError,
    SecretKeyError,
    SnapshotNotFoundError,
)
from backup.listing import Placed, StoredSnapshot, by_age
from backup.locating import locate
from backup.model import EntryType, path_text
from backup.searching import Found, Search, Searched, Test, Version, like_file, wanted_for
from backup.sources.reading import read_range
from backup.wiring import expanded

_DAMAGED = 13
Opened = tuple[list[Searched], list[tuple[StoredSnapshot, BackupError]]]
"""What can be searched, and what does not open, with the reason."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_UNITS = "KMGTP"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("find", epilog=MORE)(find)


def find(
    context: typer.Context,
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATTERN", help="Names, or with / paths; * ? [] stand for others."),
    ] = None,
    *,
    snapshot: Annotated[
        list[str] | None, typer.Option(metavar="SNAPSHOT", help="Only in this one; repeatable.")
    ] = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="Only in the newest of each job.")
    ] = False,
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", "-i", help="Small and capital letters are the same.")
    ] = False,
    larger_than: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Only files above it: 10M, 1.5G.")
    ] = None,
    newer_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was changed since: 2026-11-20.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="Only files of that content.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only files with the content of this one.")
    ] = None,
) -> None:
    """Tell which snapshots hold what, and when it changed; with --json one object per line."""
    call = invocation(context)
    if snapshot and newest:
        raise ConfigError("--newest and --snapshot do not go together")
    if not any((patterns, larger_than, newer_than, sha256, like)):
        raise ConfigError(
            "there is nothing to look for",
            hint="name a PATTERN, for example: auto-backup find '*.odt'",
        )
    wanted = wanted_for(
        [_as_path(one) for one in patterns or []],
        ignore_case=ignore_case,
        larger_than=None if larger_than is None else _size(larger_than),
        newer_than=None if newer_than is None else _moment_ns(newer_than),
        digest=None if sha256 is None else _digest(sha256),
    )
    with ExitStack() as stack:
        test = None if like is None else _like(Path(expanded(str(like))), stack)
        searched, failed = (
            _open_named(call, snapshot) if snapshot else _open_all(call, newest=newest)
        )
        search = Search(searched, wanted, test)
        count = 0
        for found in search:
            count += 1
            _tell(call, found)
    _tell_end(call, search, count)
    for stored, error in (*failed, *search.problems):
        print_note(f"not searched, or not to its end: {stored.name}: {error.message}")
        call.status = _DAMAGED if isinstance(error, IntegrityError) else error.exit_code


def _as_path(pattern: str) -> str:
    """Return a pattern that begins with ``./``, ``../`` or ``~/`` as that of a whole path."""
    if pattern.startswith("~/"):
        return os.path.expanduser(pattern)  # noqa: PTH111 - it may hold what no path may
    if pattern.startswith(("./", "../")):
        return os.path.normpath(os.path.join(os.getcwd(), pattern))  # noqa: PTH109, PTH118
    return pattern


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{text!r} is not a size", hint="for example 500K, 10M, 1.5G")
    unit = found[2].upper()
    return int(float(found[1]) * 1024 ** (_UNITS.index(unit) + 1 if unit else 0))


def _moment_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{text!r} is not a time", hint="for example 2026-11-20 or 2026-11-20T12:30"
        ) from error
    return int(moment.timestamp()) * 10**9


def _digest(text: str) -> bytes:
    if not _DIGEST.fullmatch(text):
        raise ConfigError(f"{text[:80]!r} is not a SHA-256", hint="it has 64 hexadecimal digits")
    return bytes.fromhex(text)


def _like(path: Path, stack: ExitStack) -> Test:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        stack.callback(os.close, file)
        status = os.fstat(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a regular file")

    def read_at(offset: int, length: int) -> bytes:
        try:
            return read_range(file, offset, length)
        except OSError as error:
            raise BackupError(f"cannot read {path}: {error.strerror}") from error

    return like_file(status.st_size, read_at)


def _open_named(call: Invocation, named: Sequence[str]) -> Opened:
    """Open the snapshots that were named, in whichever store; order them by job and age."""
    manager = call.reader()
    found: dict[bytes, Searched] = {}
    for one in named:
        located = manager.locate(call.wanted(one))
        reader = located.open(manager.identities)
        core, record = reader.core, reader.record
        stored = StoredSnapshot(
            name=located.name,
            size=located.source.size,
            id=core.id.hex(),
            host=record.host,
            job=record.job,
            time=datetime.fromtimestamp(core.time, UTC),
            kind=record.kind,
            archive=core.archive,
            sequence=core.sequence,
            chain=core.chain.hex(),
        )
        found[core.id] = Searched(stored, reader)
    ages = by_age(_placed(one.stored) for one in found.values())

    def order(one: Searched) -> tuple[str, str, tuple[datetime, int]]:
        return one.stored.host, one.stored.job, ages[_placed(one.stored)]

    return sorted(found.values(), key=order), []


def _placed(stored: StoredSnapshot) -> Placed:
    return Placed(stored.chain, stored.sequence, stored.time)


def _open_all(call: Invocation, *, newest: bool) -> Opened:
    """Open what opens of the store; the others are told, unless none does."""
    store = call.settings.open_store()
    identities = call.settings.identities()
    snapshots = call.list_snapshots(store)
    if newest:
        snapshots = list({(one.host, one.job): one for one in snapshots}.values())
    if not snapshots:
        raise SnapshotNotFoundError(call.none_found(store))
    searched: list[Searched] = []
    failed: list[tuple[StoredSnapshot, BackupError]] = []
    for one in snapshots:
        try:
            searched.append(Searched(one, locate(store, one.name).open(identities)))
        except (IntegrityError, SecretKeyError, SnapshotNotFoundError) as error:
            failed.append((one, error))
    if not searched:
        raise failed[0][1]
    return searched, failed


def _tell(call: Invocation, found: Found) -> None:
    if call.json:
        versions = [_version_json(version) for version in found.versions]
        print_json({"path": path_text(found.path), "versions": versions})
        return
    print_line(path_text(found.path))
    for version in found.versions:
        print_line(f"  {_version_line(version)}")


def _version_line(version: Version) -> str:
    """Return, for example, ``7f3a12bc 2026-11-20 16:32 web1/docs  3 snapshots  4.2 KiB  …``."""
    first, count = version.snapshots[0], len(version.snapshots)
    entry = version.entry
    words = [f"{first.id[:8]} {time_text(first.time, short=True)} {first.host}/{first.job}"]
    if count > 1:
        words.append(f"and {count - 1:,} more to {version.snapshots[-1].id[:8]}")
    if entry.type is EntryType.FILE:
        words.append(size_text(entry.size))
    else:
        words.append(str(entry.type))
    changed = datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC)
    words.append(f"modified {time_text(changed, short=True)}")
    if version.changed:
        words.append(f"changed: {', '.join(version.changed)}")
    if version.gone_in is not None:
        words.append(f"not in {version.gone_in.id[:8]} any more")
    return "  ".join(words)


def _version_json(version: Version) -> dict[str, object]:
    first = version.snapshots[0]
    return {
        "host": first.host,
        "job": first.job,
        "snapshots": [one.id for one in version.snapshots],
        "first": first.time,
        "last": version.snapshots[-1].time,
        "changed": version.changed,
        "gone_in": None if version.gone_in is None else version.gone_in.id,
        "entry": entry_json(version.entry),
    }


def _tell_end(call: Invocation, search: Search, count: int) -> None:
    if not count:
        call.note("nothing found")
    elif not call.json:
        call.note(f"{count_text(count, 'path')} found")
    if search.without_plain_digest:
        what = count_text(search.without_plain_digest, "large or sparse file")
        call.note(f"{what} cannot be found by SHA-256: use --like FILE")
