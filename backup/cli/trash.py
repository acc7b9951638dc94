"""``undelete``, and what ``snapshots --trash`` tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer

from backup.catalog import Catalog
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    count_text,
    print_json,
    print_line,
    print_table,
    size_text,
    time_text,
)
from backup.errors import ConfigError, SnapshotNotFoundError
from backup.listing import StoredSnapshot, Trashed, choose_snapshot, list_job_files, list_trash
from backup.manager.rotation import TRASH_FOR, JobRotation
from backup.manager.trash import take_out_of_trash
from backup.storage.base import BaseStorage

_UNREADABLE = "its marker cannot be read"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("undelete", epilog=MORE)(undelete)


def undelete(
    context: typer.Context,
    snapshots: Annotated[
        list[str] | None, typer.Argument(metavar="SNAPSHOT", help="Which ones.")
    ] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="All that are in the trash.")] = False,
) -> None:
    """Bring snapshots back out of the trash."""
    call = invocation(context)
    if bool(snapshots) == all_:
        raise ConfigError(
            "say which snapshots, or --all",
            hint="'auto-backup snapshots --trash' lists what is in the trash",
        )
    store = call.settings.open_store()
    settings = call.settings
    found = list_trash(store, host=settings.host or "", job=settings.job or "")
    trash = [one.snapshot for one in found]
    chosen = trash if all_ else list(_wanted(call, store, trash, snapshots or []))
    if not call.dry_run:
        call.start_action("undelete", store=store.url, snapshots=[one.name for one in chosen])
        _bring_back(store, chosen)
        call.remember(partial(_note_brought_back, store=store, chosen=chosen))
    if call.json:
        print_json([snapshot_json(one) for one in chosen])
    else:
        _tell_brought_back(call, store, chosen)
    call.end_action("done", exit_status=0)


def _wanted(
    call: Invocation, store: BaseStorage, trash: Sequence[StoredSnapshot], wanted: Iterable[str]
) -> Iterator[StoredSnapshot]:
    host = call.settings.host_name()
    found = [
        choose_snapshot(trash, one, host=host, where=f"the trash of {store}") for one in wanted
    ]
    yield from dict.fromkeys(found)


def _bring_back(store: BaseStorage, chosen: Sequence[StoredSnapshot]) -> None:
    with ExitStack() as locks:
        for name in sorted({f"{one.host}/{one.job}" for one in chosen}):
            locks.enter_context(store.lock(name))
        for one in chosen:
            if store.stat(one.name) is None:
                raise SnapshotNotFoundError(f"{one.name} has been purged meanwhile")
            take_out_of_trash(store, one.name)


def _note_brought_back(
    catalog: Catalog, store: BaseStorage, chosen: Sequence[StoredSnapshot]
) -> None:
    for one in chosen:
        catalog.set_trashed(store.url, one.name, None)


def _tell_brought_back(
    call: Invocation, store: BaseStorage, chosen: Sequence[StoredSnapshot]
) -> None:
    if not chosen:
        call.note(f"there is nothing in the trash of {store}")
    would = "would bring" if call.dry_run else "brought"
    for one in chosen:
        print_line(f"{would} back {one.id[:8]}  {one.name}")


def tell_trash(call: Invocation, store: BaseStorage) -> None:
    """Write what lies in the trash, and from when on ``rotate`` purges it."""
    settings = call.settings
    found = list_trash(store, host=settings.host or "", job=settings.job or "")
    if call.json:
        print_json([trashed_json(one) for one in found])
        return
    if not found:
        call.note(f"there is nothing in the trash of {store}")
        return
    columns = ("id", "time", "job", "size", "purged from", "why")
    print_table(columns, map(_row, found), optional=("size",))
    call.note(f"{count_text(len(found), 'snapshot')} in the trash of {store}")
    call.note(
        "'rotate' purges them from the time told here on, unless its --trash-for says another"
    )


def note_trash(call: Invocation, store: BaseStorage) -> None:
    """Tell that there is more than what was listed: anybody who writes to a store can hide it."""
    settings = call.settings
    files = list_job_files(store, host=settings.host or "", job=settings.job or "")
    if files.trashed:
        call.note(f"{len(files.trashed)} more in the trash: 'auto-backup snapshots --trash'")


def _row(one: Trashed) -> list[str]:
    stored = one.snapshot
    taken, purged_from = time_text(stored.time, short=True), one.since + TRASH_FOR
    why = _UNREADABLE if one.marker is None else f"{one.marker.reason} (by {one.marker.host})"
    job, size = f"{stored.host}/{stored.job}", size_text(stored.size)
    return [stored.id[:8], taken, job, size, time_text(purged_from, short=True), why]


def snapshot_json(stored: StoredSnapshot) -> dict[str, object]:
    """Return what programs are told of a snapshot."""
    return {"id": stored.id, "name": stored.name, "time": stored.time, "size": stored.size}


def trashed_json(trashed: Trashed) -> dict[str, object]:
    """Return what programs are told of a snapshot in the trash."""
    marker = trashed.marker
    return {
        **snapshot_json(trashed.snapshot),
        "since": trashed.since,
        "purged_from": trashed.since + TRASH_FOR,
        "why": None if marker is None else marker.reason,
        "by": None if marker is None else marker.host,
    }


def rotation_json(store: BaseStorage, rotation: JobRotation) -> dict[str, object]:
    """Return what is told in JSON of a rotation."""
    error = rotation.error
    return {
        "store": store.url,
        "host": rotation.host,
        "job": rotation.job,
        "snapshots": [
            {
                **snapshot_json(rotation.snapshots[decision.name]),
                "verdict": str(decision.verdict),
                "reason": decision.reason,
                "counts": decision.counts,
            }
            for decision in rotation.plan.decisions
        ],
        "purges": [trashed_json(one) for one in rotation.purges],
        "held": [
            {**trashed_json(one), "reason": decision.reason} for one, decision in rotation.held
        ],
        "trashed": rotation.trashed,
        "purged": rotation.purged,
        "error": None if error is None else {"class": type(error).__name__, "text": error.message},
    }
