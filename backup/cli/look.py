"""``ls`` and ``cat``."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from backup.cli.entries import entry_json, shown_path
from backup.cli.help_text import MORE
from backup.cli.invocation import SNAPSHOT, Invocation, invocation
from backup.cli.output import (
    print_bytes,
    print_json,
    print_line,
    print_note,
    safe_text,
)
from backup.cli.plain_archives import opened_archive
from backup.errors import (
    ConfigError,
    RestoreError,
)
from backup.model import Entry, EntryType, path_text
from backup.plain.reading import PlainArchive, find_archive
from backup.plain.restoring import read_member, select_members
from backup.restore.plan import entry_path
from backup.snapshot.content import fill_holes, read_content
from backup.snapshot.selection import select_entries

_TYPE_BITS = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.STREAM: stat.S_IFREG,
    EntryType.DIRECTORY: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}
_KINDS = {
    EntryType.DIRECTORY: "a directory",
    EntryType.SYMLINK: "a symbolic link",
    EntryType.FIFO: "a FIFO",
    EntryType.CHARACTER_DEVICE: "a device",
    EntryType.BLOCK_DEVICE: "a device",
}
_WHOLE_PATHS = "paths are told whole, as 'auto-backup ls SNAPSHOT' lists them"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("ls", epilog=MORE)(ls)
    app.command("cat", epilog=MORE)(cat)


def ls(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Only these, and what is below.")
    ] = None,
    *,
    long: Annotated[bool, typer.Option("--long", "-l", help="Tell modes, owners, sizes.")] = False,
) -> None:
    """List what a snapshot, or a zip or tar file, holds; with --json one object per line."""
    call = invocation(context)
    wanted = [entry_path(path) for path in paths or []]
    archive_path = find_archive(snapshot)
    if archive_path is not None:
        archive = opened_archive(call, archive_path)
        missing = _list(call, select_members(archive, wanted), wanted, long=long, top="")
        for error in archive.lost:
            raise error
        _refuse_missing(missing, "archive")
        return
    missing = _list(call, select_entries(call.open(snapshot), wanted), wanted, long=long, top="/")
    _refuse_missing(missing, "snapshot")


def _list(
    call: Invocation, entries: Iterable[Entry], wanted: Sequence[bytes], *, long: bool, top: str
) -> set[bytes]:
    """Tell those of ``entries`` that are wanted; return which of ``wanted`` were not there."""
    missing = set(wanted)
    for entry in entries:
        asked = {path for path in wanted if _is_at_or_below(entry.path, path)}
        missing -= asked
        if wanted and not asked:  # a directory on the way to what is wanted
            continue
        if call.json:
            print_json(entry_json(entry, top))
        else:
            print_line(_long_line(entry, top) if long else shown_path(entry, top))
    return missing


def _is_at_or_below(path: bytes, top: bytes) -> bool:
    return not top or path == top or path.startswith(top + b"/")


def _refuse_missing(missing: Collection[bytes], what: str) -> None:
    if missing:
        raise _not_held(min(missing), what)


def _not_held(path: bytes, what: str = "snapshot") -> RestoreError:
    hint = _WHOLE_PATHS.replace("SNAPSHOT", "FILE" if what == "archive" else "SNAPSHOT")
    return RestoreError(f"the {what} does not hold {path_text(path)}", hint=hint)


def _long_line(entry: Entry, top: str) -> str:
    mode = stat.filemode(_TYPE_BITS[entry.type] | entry.mode)
    owner = f"{entry.user or entry.uid}:{entry.group or entry.gid}"
    time = datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC).astimezone()
    name = safe_text(shown_path(entry, top))
    if entry.type is EntryType.SYMLINK:
        name += " -> " + safe_text(entry.target.decode("utf-8", "backslashreplace"))
    if entry.error:
        name += f"  ({entry.error})"
    return f"{mode} {owner:<17} {entry.size:>13,} {time:%Y-%m-%d %H:%M:%S} {name}"


def cat(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file in it.")],
) -> None:
    """Write one file of a snapshot, or of a zip or tar file, to standard output."""
    call = invocation(context)
    wanted = entry_path(path)
    archive_path = find_archive(snapshot)
    if archive_path is not None:
        archive = opened_archive(call, archive_path)
        call.start_action("cat", snapshot=str(archive_path), path=path_text(wanted))
        _cat_member(archive, wanted)
        call.end_action("done", exit_status=0)
        return
    reader = call.open(snapshot)
    call.start_action("cat", snapshot=reader.core.id.hex(), path=path_text(wanted))
    entry = next((one for one in select_entries(reader, [wanted]) if one.path == wanted), None)
    if entry is None:
        raise _not_held(wanted)
    _refuse_others(entry)
    if entry.error:
        print_note(f"when it was saved: {path_text(wanted)}: {entry.error}")
        if not entry.digest:
            raise RestoreError(f"the content of {path_text(wanted)} was not saved: {entry.error}")
    for data in fill_holes(entry, read_content(reader, entry)):
        print_bytes(data)
    call.end_action("done", size=entry.size, exit_status=0)


def _cat_member(archive: PlainArchive, path: bytes) -> None:
    entry = next((one for one in archive.entries if one.path == path), None)
    if entry is None:
        for error in archive.lost:
            raise error
        raise _not_held(path, "archive")
    if path in archive.unfit:
        raise RestoreError(f"{path_text(path)} cannot be read: {archive.unfit[path]}")
    _refuse_others(entry)
    archive.check()
    for data in read_member(archive, entry):
        print_bytes(data)


def _refuse_others(entry: Entry) -> None:
    if entry.type not in {EntryType.FILE, EntryType.STREAM}:
        raise ConfigError(f"{path_text(entry.path)} is not a file, but {_KINDS[entry.type]}")
