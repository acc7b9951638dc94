"""Stores that are not what they were: told, while the others get what they are to get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backup.cli.invocation import Invocation
from backup.cli.output import print_error, print_note
from backup.errors import BackupError
from backup.manager.emptied import refuse_emptied
from backup.storage.base import BaseStorage


def refused_stores(
    call: Invocation, stores: Sequence[BaseStorage], job: str
) -> dict[BaseStorage, BackupError]:
    """Return those of ``stores`` that a snapshot must not go to, and why.

    Raises:
        BackupError: No store is left.
    """
    catalog, host = call.catalog(), call.settings.host_name()
    refused: dict[BaseStorage, BackupError] = {}
    for store in stores:
        try:
            refuse_emptied(catalog, store, host, job)
        except BackupError as error:
            refused[store] = error
    if refused and len(refused) == len(stores):
        first, *others = refused.values()
        for one in others:
            print_error(one)
        raise first
    return refused


def tell_refused(refused: Mapping[BaseStorage, BackupError]) -> None:
    """Tell which stores do not get the snapshot, and why."""
    for store, error in refused.items():
        print_note(f"there is no copy in {store}:")
        print_error(error)
