"""``snapshots``, ``ls`` and ``cat``."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from backup.cli.invocation import SNAPSHOT, Invocation, invocation
from backup.cli.output import (
    count_text,
    print_json,
    print_line,
    print_note,
    print_table,
    safe_text,
    size_text,
    time_text,
)
from backup.errors import ConfigError, IntegrityError, RestoreError, SecretKeyError
from backup.listing import StoredSnapshot, list_snapshots
from backup.locating import locate
from backup.model import Entry, EntryType, path_text
from backup.restore.manager import entry_path
from backup.snapshot.content import read_content
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity
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


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("snapshots")(snapshots)
    app.command("ls")(ls)
    app.command("cat")(cat)


def snapshots(context: typer.Context) -> None:
    """List the snapshots of a store; with --host or --job only those."""
    call = invocation(context)
    store = call.settings.open_store()
    found = list_snapshots(store, host=call.settings.host or "", job=call.settings.job or "")
    identities: list[Identity] = []
    with suppress(SecretKeyError):
        identities.append(call.settings.load_key())
    rows = [
        _describe(store_snapshot, _open(call, store_snapshot, identities))
        for store_snapshot in found
    ]
    if call.json:
        print_json(rows)
        return
    if not rows:
        call.note(f"there is no snapshot in {store}")
        return
    print_table(
        ("id", "time", "host", "job", "kind", "archive", "entries", "size", "state"),
        [_cells(snapshot, row) for snapshot, row in zip(found, rows, strict=True)],
    )
    call.note(f"{count_text(len(rows), 'snapshot')} in {store}")
    if not identities:
        call.note(f"not opened: there is no key file at {call.settings.key_path()}")


def _open(
    call: Invocation, snapshot: StoredSnapshot, identities: Sequence[Identity]
) -> SnapshotReader | str:
    """Return the opened snapshot, or its state in words."""
    if snapshot.damage:
        return f"damaged: {snapshot.damage}"
    if not identities:
        return "sealed"
    try:
        return locate(call.settings.open_store(), snapshot.name).open(identities)
    except SecretKeyError:
        return "sealed for another key"
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


def _cells(snapshot: StoredSnapshot, row: dict[str, object]) -> tuple[str, ...]:
    entries = row.get("entries")
    return (
        snapshot.id[:8],
        time_text(snapshot.time),
        snapshot.host,
        snapshot.job,
        str(snapshot.kind),
        str(snapshot.archive),
        f"{entries:,}" if isinstance(entries, int) else "-",
        size_text(snapshot.size),
        str(row["state"]),
    )


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
    reader = call.reader().open(snapshot)
    found = False
    for entry in _chosen(reader, paths or []):
        found = True
        if call.json:
            print_json(_entry_json(entry))
        else:
            print_line(_long_line(entry) if long else safe_text(path_text(entry.path)))
    if not found:
        raise RestoreError("the snapshot holds none of these paths")


def _chosen(reader: SnapshotReader, paths: Sequence[str]) -> Iterator[Entry]:
    """Yield the entries of ``paths`` and below, without the directories on the way to them."""
    wanted = [entry_path(path) for path in paths]
    for entry in select_entries(reader, wanted):
        below = any(
            not path or entry.path == path or entry.path.startswith(path + b"/") for path in wanted
        )
        if below or not wanted:
            yield entry


def _long_line(entry: Entry) -> str:
    mode = stat.filemode(_TYPE_BITS[entry.type] | entry.mode)
    owner = f"{entry.user or entry.uid}:{entry.group or entry.gid}"
    time = datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC).astimezone()
    name = safe_text(path_text(entry.path))
    if entry.type is EntryType.SYMLINK:
        name += " -> " + safe_text(entry.target.decode("utf-8", "backslashreplace"))
    if entry.error:
        name += f"  ({safe_text(entry.error)})"
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
    reader = invocation(context).reader().open(snapshot)
    wanted = entry_path(path)
    entry = next((one for one in select_entries(reader, [wanted]) if one.path == wanted), None)
    if entry is None:
        raise RestoreError(f"the snapshot does not hold {path_text(wanted)}")
    if entry.type not in {EntryType.FILE, EntryType.STREAM}:
        raise ConfigError(f"{path_text(wanted)} is not a file, but a {entry.type}")
    if entry.error:
        print_note(f"when it was saved: {path_text(wanted)}: {entry.error}")
        if not entry.digest:
            raise RestoreError(f"the content of {path_text(wanted)} was not saved: {entry.error}")
    for data in read_content(reader, entry):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
