"""``diff``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated

import typer

from backup.cli.entries import entry_json
from backup.cli.help_text import MORE
from backup.cli.invocation import SNAPSHOT, Invocation, invocation
from backup.cli.output import count_text, print_json, print_line, print_note, size_text
from backup.comparing import (
    Change,
    Kind,
    Summary,
    by_content,
    by_inode,
    compare,
    entries_apart,
    with_moves,
)
from backup.errors import ConfigError, RestoreError
from backup.manager.own_stores import directories_of
from backup.matching import Verdict, compare_stored
from backup.model import Entry, path_text
from backup.present import PresentSource
from backup.restore.plan import entry_path
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.selection import is_at_or_below, select_entries

_TOLD = 10
_WORDS = {
    Kind.ADDED: "added",
    Kind.REMOVED: "removed",
    Kind.MOVED: "moved",
    Kind.TYPE: "of another type",
    Kind.CONTENT: "with another content",
    Kind.METADATA: "with other metadata",
    Kind.MAYBE: "not compared",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("diff", epilog=MORE)(diff)


def diff(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
    others: Annotated[
        list[str] | None,
        typer.Argument(metavar="SNAPSHOT PATH", help="The newer one; then paths to look at."),
    ] = None,
    *,
    source: Annotated[
        bool, typer.Option("--source", help="Compare with the source as it is now.")
    ] = False,
    content: Annotated[
        bool, typer.Option("--content", help="With --source: read files whose times changed.")
    ] = False,
) -> None:
    """Tell what changed from one snapshot to another, or since then (--source)."""
    call = invocation(context)
    rest = list(others or [])
    if not source and not rest:
        raise ConfigError(
            "there is nothing to compare it with",
            hint="name a second SNAPSHOT, or --source for what is there now",
        )
    if content and not source:
        raise ConfigError("--content is for --source; snapshots are compared by their digests")
    old = call.open(snapshot)
    new = None if source else call.open(rest.pop(0))
    paths = [entry_path(path) for path in rest]
    if new is None:
        _tell_present(call, old, paths, with_content=content)
        return
    _check_held(paths, old, new)
    changes = compare(*entries_apart(old, new, paths), partial(_compare, old, new))
    _tell(call, with_moves(changes, by_content))


def _compare(old: SnapshotReader, new: SnapshotReader, one: Entry, other: Entry) -> Verdict:
    return compare_stored(old, one, new, other)


def _tell_present(
    call: Invocation, old: SnapshotReader, paths: list[bytes], *, with_content: bool
) -> None:
    skip = directories_of(call.settings.open_stores())
    with PresentSource(old, paths, skip=skip, with_content=with_content) as present:
        saved = (one for one in select_entries(old, paths) if is_at_or_below(one.path, paths))
        changes = compare(saved, present.entries(), present.compare)
        known = (one for one in changes if not _is_unread(one, present))
        summary = _tell(call, with_moves(known, by_inode))
    for one in present.unread[:_TOLD]:
        print_note(f"not compared: {path_text(one.path)}: {one.reason}")
    if len(present.unread) > _TOLD:
        print_note(f"and {len(present.unread) - _TOLD:,} more that could not be read")
    if summary.kinds[Kind.MAYBE] and not with_content:
        call.note("'maybe': as large as it was, touched since: --content reads and compares it")


def _is_unread(change: Change, present: PresentSource) -> bool:
    """Tell whether something only seems to be gone."""
    return change.kind is Kind.REMOVED and present.is_unread(change.entry.path)


def _check_held(paths: Iterable[bytes], *readers: SnapshotReader) -> None:
    for path in paths:
        found = (one for reader in readers for one in select_entries(reader, [path]))
        if not any(is_at_or_below(one.path, [path]) for one in found):
            raise RestoreError(
                f"neither snapshot holds {path_text(path)}",
                hint="paths are told whole, as 'auto-backup ls SNAPSHOT' lists them",
            )


def _tell(call: Invocation, changes: Iterator[Change]) -> Summary:
    summary = Summary()
    following = 0
    for change in changes:
        if change.is_only_times_of_directory and not (call.verbose or call.json):
            following += 1
            continue
        summary.count(change)
        if call.json:
            print_json(_change_json(change))
        else:
            print_line(_line(change))
    if call.json:
        kinds = {str(kind): summary.kinds[kind] for kind in Kind}
        bytes_ = {"added_bytes": summary.added, "removed_bytes": summary.removed}
        print_json({"summary": kinds | bytes_})
        return summary
    told = [f"{summary.kinds[kind]:,} {_WORDS[kind]}" for kind in Kind if summary.kinds[kind]]
    call.note(", ".join(told) if told else "nothing changed")
    if summary.added or summary.removed:
        sizes = f"{size_text(summary.added)} added, {size_text(summary.removed)} removed"
        call.note(f"contents: {sizes}")
    if following:
        what = count_text(following, "directory", "directories")
        call.note(f"besides, the times of {what} changed with what is in them; -v lists them")
    return summary


def _line(change: Change) -> str:
    return f"{change.kind:<8}  {path_text(change.entry.path)}{_details(change)}"


def _details(change: Change) -> str:
    old, new = change.old, change.new
    if old is None or new is None:
        size = change.entry.size
        return f"  ({size_text(size)})" if size else ""
    if change.kind is Kind.TYPE:
        return f"  ({old.type} -> {new.type})"
    told = [f"from {path_text(old.path)}"] if change.kind is Kind.MOVED else []
    if old.size != new.size:
        before, after = size_text(old.size), size_text(new.size)
        same = before == after
        told.append(f"{new.size - old.size:+,} B" if same else f"{before} -> {after}")
    values = {
        "mode": f"mode {old.mode:04o} -> {new.mode:04o}",
        "owner": f"owner {old.user or old.uid} -> {new.user or new.uid}",
        "group": f"group {old.group or old.gid} -> {new.group or new.gid}",
        "target": f"-> {new.target.decode('utf-8', 'backslashreplace')}",
    }
    told += [values.get(name, name) for name in change.fields]
    if change.kind is Kind.CONTENT and told == ["mtime"]:
        return ""
    return f"  ({', '.join(told)})" if told else ""


def _change_json(change: Change) -> dict[str, object]:
    told: dict[str, object] = {
        "change": str(change.kind),
        "path": path_text(change.entry.path),
        "fields": change.fields,
    }
    if change.kind is Kind.MOVED and change.old is not None:
        told["from"] = path_text(change.old.path)
    for name, entry in (("old", change.old), ("new", change.new)):
        if entry is not None:
            told[name] = entry_json(entry)
    return told
