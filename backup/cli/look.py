"""``snapshots``, ``ls`` and ``cat``."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import SNAPSHOT, Invocation, invocation
from backup.cli.output import (
    count_text,
    is_terminal,
    print_bytes,
    print_json,
    print_line,
    print_note,
    print_table,
    safe_text,
    size_text,
    time_text,
)
from backup.errors import (
    ConfigError,
    IntegrityError,
    RestoreError,
    SecretKeyError,
    SnapshotNotFoundError,
)
from backup.listing import StoredSnapshot
from backup.locating import locate
from backup.model import Entry, EntryType, path_text
from backup.restore.plan import entry_path
from backup.snapshot.content import read_content
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity
from backup.snapshot.selection import select_entries
from backup.storage.base import BaseStorage

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
    app.command("snapshots", epilog=MORE)(snapshots)
    app.command("ls", epilog=MORE)(ls)
    app.command("cat", epilog=MORE)(cat)


def snapshots(context: typer.Context) -> None:
    """List the snapshots of a store; with --host or --job only those."""
    call = invocation(context)
    store = call.settings.open_store()
    found = call.list_snapshots(store)
    identities, why_none = _identities(call)
    rows = [_describe(one, _open(store, one, identities)) for one in found]
    if call.json:
        print_json(rows)
        return
    if not rows:
        call.note(call.none_found(store))
        return
    _tell_snapshots(found, rows)
    call.note(f"{count_text(len(rows), 'snapshot')} in {store}")
    if why_none:
        call.note(f"not opened: {why_none}")


def _identities(call: Invocation) -> tuple[list[Identity], str]:
    """Return the key, or why there is none."""
    try:
        return [call.settings.load_key()], ""
    except SecretKeyError as error:
        return [], error.message


def _open(
    store: BaseStorage, snapshot: StoredSnapshot, identities: Sequence[Identity]
) -> SnapshotReader | str:
    """Return the opened snapshot, or its state in words."""
    if snapshot.damage:
        return f"damaged: {snapshot.damage}"
    if not identities:
        return "sealed"
    try:
        return locate(store, snapshot.name).open(identities)
    except SecretKeyError:
        return "sealed for another key"
    except SnapshotNotFoundError:
        return "deleted meanwhile"
    except IntegrityError as error:
        return f"damaged: {error.message}"


def _describe(snapshot: StoredSnapshot, opened: SnapshotReader | str) -> dict[str, object]:
    known: dict[str, object] = {}
    if isinstance(opened, SnapshotReader):
        record = opened.record
        known = {
            "entries": record.counts.entries,
            "source_files": record.counts.files,
            "source_bytes": record.counts.bytes,
            "errors": record.counts.errors,
            "sources": [path_text(path) for path in record.sources],
            "signer": opened.signer.hex(),
        }
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "host": snapshot.host,
        "job": snapshot.job,
        "time": snapshot.time,
        "sequence": snapshot.sequence,
        "kind": str(snapshot.kind),
        "archive": str(snapshot.archive),
        "size": snapshot.size,
        "state": opened if isinstance(opened, str) else "ok",
        **known,
    }


def _tell_snapshots(found: Sequence[StoredSnapshot], rows: Sequence[dict[str, object]]) -> None:
    """Write the table: all of it in a pipe, what fits into 80 columns on a terminal."""
    cells = [_cells(*pair) for pair in zip(found, rows, strict=True)]
    if not is_terminal():
        print_table(list(cells[0]), [list(row.values()) for row in cells])
        return
    left_out = {"kind", "archive"}
    if len({one.host for one in found}) == 1:
        left_out.add("host")
    shown = [name for name in cells[0] if name not in left_out]
    reasons = []
    for one, row in zip(found, cells, strict=True):
        row["time"] = time_text(one.time, short=True)
        row["state"], _, reason = row["state"].partition(": ")
        reasons += [f"{row['id']}: {reason}"] if reason else []
    print_table(shown, [[row[name] for name in shown] for row in cells])
    for reason in reasons:
        print_note(reason)


def _cells(snapshot: StoredSnapshot, row: dict[str, object]) -> dict[str, str]:
    entries = row.get("entries")
    return {
        "id": snapshot.id[:8],
        "time": time_text(snapshot.time),
        "host": snapshot.host,
        "job": snapshot.job,
        "kind": str(snapshot.kind),
        "archive": str(snapshot.archive),
        "entries": f"{entries:,}" if isinstance(entries, int) else "-",
        "size": size_text(snapshot.size),
        "state": str(row["state"]),
    }


def ls(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Only these, and what is below.")
    ] = None,
    *,
    long: Annotated[bool, typer.Option("--long", "-l", help="Tell modes, owners, sizes.")] = False,
) -> None:
    """List what a snapshot holds; with --json one object per line."""
    call = invocation(context)
    wanted = [entry_path(path) for path in paths or []]
    missing = set(wanted)
    for entry in select_entries(call.open(snapshot), wanted):
        asked = {path for path in wanted if _is_at_or_below(entry.path, path)}
        missing -= asked
        if wanted and not asked:  # a directory on the way to what is wanted
            continue
        if call.json:
            print_json(_entry_json(entry))
        else:
            print_line(_long_line(entry) if long else path_text(entry.path))
    if missing:
        raise _not_held(min(missing))


def _is_at_or_below(path: bytes, top: bytes) -> bool:
    return not top or path == top or path.startswith(top + b"/")


def _not_held(path: bytes) -> RestoreError:
    return RestoreError(f"the snapshot does not hold {path_text(path)}", hint=_WHOLE_PATHS)


def _long_line(entry: Entry) -> str:
    mode = stat.filemode(_TYPE_BITS[entry.type] | entry.mode)
    owner = f"{entry.user or entry.uid}:{entry.group or entry.gid}"
    time = datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC).astimezone()
    name = safe_text(path_text(entry.path))
    if entry.type is EntryType.SYMLINK:
        name += " -> " + safe_text(entry.target.decode("utf-8", "backslashreplace"))
    if entry.error:
        name += f"  ({entry.error})"
    return f"{mode} {owner:<17} {entry.size:>13,} {time:%Y-%m-%d %H:%M:%S} {name}"


def _entry_json(entry: Entry) -> dict[str, object]:
    return {
        "path": path_text(entry.path),
        "type": str(entry.type),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": entry.user,
        "group": entry.group,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "sha256": entry.digest.hex() if entry.digest and not entry.chunk_lists else None,
        "target": entry.target.decode("utf-8", "backslashreplace") if entry.target else None,
        "error": entry.error or None,
    }


def cat(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file in it.")],
) -> None:
    """Write one file of a snapshot to standard output."""
    call = invocation(context)
    wanted = entry_path(path)
    reader = call.open(snapshot)
    call.start_action("cat", snapshot=reader.core.id.hex(), path=path_text(wanted))
    entry = next((one for one in select_entries(reader, [wanted]) if one.path == wanted), None)
    if entry is None:
        raise _not_held(wanted)
    if entry.type not in {EntryType.FILE, EntryType.STREAM}:
        raise ConfigError(f"{path_text(wanted)} is not a file, but {_KINDS[entry.type]}")
    if entry.error:
        print_note(f"when it was saved: {path_text(wanted)}: {entry.error}")
        if not entry.digest:
            raise RestoreError(f"the content of {path_text(wanted)} was not saved: {entry.error}")
    for data in read_content(reader, entry):
        print_bytes(data)
    call.end_action("done", size=entry.size, exit_status=0)
