"""``snapshots``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

import typer

from backup.catalog import Known, KnownProof
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    age_text,
    count_text,
    is_terminal,
    print_json,
    print_note,
    print_table,
    size_text,
    time_text,
)
from backup.cli.trash import note_trash, tell_trash
from backup.clock import system_clock
from backup.errors import SecretKeyError, SnapshotNotFoundError
from backup.snapshot.recipients import Identity
from backup.surveying import Seen, survey

_TOLD = 10
_OPTIONAL = ("entries", "size", "tags")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("snapshots", epilog=MORE)(snapshots)


def snapshots(
    context: typer.Context,
    *,
    trash: Annotated[bool, typer.Option("--trash", help="Those in the trash instead.")] = False,
) -> None:
    """List the snapshots of a store; with --host or --job only those."""
    call = invocation(context)
    store = call.settings.open_store()
    if trash:
        tell_trash(call, store)
        return
    identities, why_none = _identities(call)
    found = survey(
        store,
        identities,
        catalog=None if call.dry_run else call.catalog(),
        host=call.settings.host or "",
        job=call.settings.job or "",
        own_host=call.settings.host_name(),
        now=system_clock(),
    )
    if found.problem is not None:
        print_note(f"without the catalog: {found.problem.message}")
    trusted = call.settings.trusted_signers()
    rows = [_describe(one, trusted) for one in found.seen]
    if call.json:
        print_json(rows)
    elif rows:
        _tell_snapshots(found.seen, rows)
        call.note(f"{count_text(len(rows), 'snapshot')} in {store}")
    else:
        call.note(call.none_found(store))
    if not call.json:
        note_trash(call, store)
    if why_none and rows and not call.json:
        call.note(f"not opened: {why_none}")
    tell_gone(found.gone)


def tell_gone(gone: Sequence[Known]) -> None:
    """Tell of snapshots that were there, and that nobody here has deleted."""
    if not gone:
        return
    last = time_text(max(one.last_seen for one in gone), short=True)
    what = "snapshot that was" if len(gone) == 1 else "snapshots that were"
    print_note(f"WARNING: {len(gone):,} {what} here on {last} {_is_or_are(gone)} gone:")
    for one in gone[:_TOLD]:
        print_note(f"  {one.facts.name}")
    if len(gone) > _TOLD:
        print_note(f"  and {len(gone) - _TOLD:,} more")
    print_note("hint: if they were deleted on purpose, 'auto-backup catalog rebuild' says so")


def _is_or_are(gone: Sequence[Known]) -> str:
    return "is" if len(gone) == 1 else "are"


def _identities(call: Invocation) -> tuple[list[Identity], str]:
    """Return the key, or why there is none."""
    try:
        return call.settings.identities(), ""
    except SecretKeyError as error:
        return [], error.message


def _state(one: Seen, trusted: Collection[bytes] | None) -> str:
    """Return in words whether a snapshot opened, or why not."""
    if one.facts is not None:
        known = trusted is None or bytes.fromhex(one.facts.signer) in trusted
        return "ok" if known else "signed by an unknown host"
    if one.stored.damage:
        return f"damaged: {one.stored.damage}"
    if one.error is None:
        return "sealed"
    if isinstance(one.error, SecretKeyError):
        return "sealed for another key"
    if isinstance(one.error, SnapshotNotFoundError):
        return "deleted meanwhile"
    return f"damaged: {one.error.message}"


def _describe(one: Seen, trusted: Collection[bytes] | None) -> dict[str, object]:
    known: dict[str, object] = {}
    if one.facts is not None:
        known = {
            "entries": one.facts.entries,
            "source_files": one.facts.files,
            "source_bytes": one.facts.bytes,
            "errors": one.facts.errors,
            "sources": one.facts.sources,
            "tags": one.facts.tags,
            "signer": one.facts.signer,
        }
    proof = one.proof
    return {
        "id": one.stored.id,
        "name": one.stored.name,
        "host": one.stored.host,
        "job": one.stored.job,
        "time": one.stored.time,
        "sequence": one.stored.sequence,
        "kind": str(one.stored.kind),
        "archive": str(one.stored.archive),
        "size": one.stored.size,
        "state": _state(one, trusted),
        "proof": None
        if proof is None
        else {"level": proof.level, "time": proof.finished, "holds": proof.holds},
        **known,
    }


def _proven(proof: KnownProof | None) -> str:
    """Return what was last proven, and how long ago."""
    if proof is None:
        return "-"
    age = age_text((system_clock() - proof.finished).total_seconds())
    return f"{proof.level if proof.holds else 'damaged'} {age}"


def _tell_snapshots(found: Sequence[Seen], rows: Sequence[dict[str, object]]) -> None:
    """Write the table: all of it in a pipe, what fits into 80 columns on a terminal."""
    cells = [_cells(*pair) for pair in zip(found, rows, strict=True)]
    if not any(row["tags"] for row in cells):
        cells = [{name: row[name] for name in row if name != "tags"} for row in cells]
    if not is_terminal():
        print_table(list(cells[0]), [list(row.values()) for row in cells])
        return
    left_out = {"kind", "archive"}
    if len({one.stored.host for one in found}) == 1:
        left_out.add("host")
    shown = [name for name in cells[0] if name not in left_out]
    reasons = []
    for one, row in zip(found, cells, strict=True):
        row["time"] = time_text(one.stored.time, short=True)
        row["state"], _, reason = row["state"].partition(": ")
        reasons += [f"{row['id']}: {reason}"] if reason else []
    table = [[row[name] for name in shown] for row in cells]
    print_table(shown, table, optional=[name for name in _OPTIONAL if name in shown])
    for reason in reasons:
        print_note(reason)


def _state_cell(one: Seen, state: str) -> str:
    """Return the state, and that a snapshot which is sound lacks some of its source."""
    errors = 0 if one.facts is None else one.facts.errors
    return f"{state}, {count_text(errors, 'error')}" if errors else state


def _cells(one: Seen, row: dict[str, object]) -> dict[str, str]:
    snapshot = one.stored
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
        "tags": ", ".join(one.facts.tags) if one.facts is not None else "",
        "proven": _proven(one.proof),
        "state": _state_cell(one, str(row["state"])),
    }
