"""Refusing a store of which nothing is left where there was something: a disk is not mounted.

Saving there would fill the disk below it, and begin a new chain; and nobody would notice.
"""

from __future__ import annotations

from contextlib import suppress

from backup.catalog import Catalog, Known
from backup.errors import CatalogError, StorageError
from backup.listing import list_jobs
from backup.storage.base import BaseStorage


def refuse_emptied(catalog: Catalog, storage: BaseStorage, host: str, job: str = "") -> None:
    """Refuse ``storage`` if nothing of ``host`` is in it, of which the catalog knows snapshots.

    That is told by what is in the trash, too. Where the catalog cannot be used, nothing is known.
    That it is meant is known once the catalog was rebuilt.

    Args:
        catalog: What is known.
        storage: The store.
        host: This machine's name in the store.
        job: The job that is to be saved; where it is not known yet all of the host's count.

    Raises:
        StorageError: It is empty, or does not answer.
    """
    known = _known(catalog, storage, host, job)
    if not known or list_jobs(storage, host=host, job=job):
        return
    what = "has none of them" if list_jobs(storage) else "is empty or missing"
    were = "1 snapshot" if len(known) == 1 else f"{len(known):,} snapshots"
    raise StorageError(
        f"the store {storage} {what}, although {were} of {f'{host}/{job}' if job else host}"
        f" {'was' if len(known) == 1 else 'were'} there on"
        f" {max(one.last_seen for one in known):%Y-%m-%d}; is it mounted?",
        hint="if that is meant, 'auto-backup catalog rebuild' with this --store says so,"
        " and the next run begins anew there",
    )


def _known(catalog: Catalog, storage: BaseStorage, host: str, job: str) -> list[Known]:
    with suppress(CatalogError):
        found = catalog.snapshots(storage.url, host=host, job=job).values()
        # What is in the trash may have been purged by a run that could not record it.
        return [one for one in found if one.trashed is None]
    return []
