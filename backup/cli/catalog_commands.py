"""``catalog rebuild``."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import count_text, print_json, print_line, print_note
from backup.clock import system_clock
from backup.listing import list_snapshots
from backup.snapshot.recipients import Identity
from backup.storage.base import BaseStorage
from backup.surveying import rebuild as rebuild_from

app = typer.Typer(rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the commands to ``parent``."""
    parent.add_typer(app, name="catalog", help="What this machine knows of its stores.")


@app.callback()
def _group() -> None:
    """Look after what this machine knows of its stores."""


@app.command("rebuild", epilog=MORE)
def rebuild(context: typer.Context) -> None:
    """Read the stores again; what is there now is what is known from now on."""
    call = invocation(context)
    stores = call.settings.open_stores()
    if call.dry_run:
        for store in stores:
            _tell_plan(call, store)
        return
    # What an empty store holds is known without a key, also to a host that only writes.
    identities = call.settings.identities() if any(map(list_snapshots, stores)) else []
    call.start_action("catalog rebuild", stores=[str(store) for store in stores])
    recorded = sum(_rebuild(call, store, identities) for store in stores)
    call.end_action("done", snapshots=recorded, exit_status=0)


def _tell_plan(call: Invocation, store: BaseStorage) -> None:
    there = {one.name for one in list_snapshots(store)}
    lost = [name for name in call.catalog().snapshots(store.url) if name not in there]
    if call.json:
        print_json({"store": store.url, "snapshots": len(there), "forgotten": lost})
        return
    print_line(f"would read {count_text(len(there), 'snapshot')} of {store}")
    for name in lost:
        print_line(f"  would forget {name}, which is not there")
    print_line("nothing has been changed")


def _rebuild(call: Invocation, store: BaseStorage, identities: Sequence[Identity]) -> int:
    """Rebuild what is known of one store; return how many snapshots that are."""
    before = call.catalog().snapshots(store.url)
    found = rebuild_from(call.catalog(), store, identities, now=system_clock())
    there = {one.stored.name for one in found.seen}
    recorded = sum(one.facts is not None for one in found.seen)
    lost = [name for name in before if name not in there]
    if call.json:
        print_json({"store": store.url, "snapshots": recorded, "forgotten": lost})
    elif not call.quiet:
        print_line(f"recorded {count_text(recorded, 'snapshot')} of {store}")
        for name in lost:
            print_line(f"  forgot {name}, which is not there")
    for one in found.seen:
        if one.error is not None:
            print_note(f"not recorded: {one.stored.name}: {one.error.message}")
    return recorded
