"""Deleting in two steps: into the trash, which can be undone, then for good."""

from __future__ import annotations

from backup.listing import JobFiles
from backup.snapshot.names import DIGEST_SUFFIX, KEYS_SUFFIX, SUFFIX, TRASH_SUFFIX
from backup.snapshot.trash_marker import TrashMarker, encode_marker
from backup.storage.base import BaseStorage


def put_into_trash(storage: BaseStorage, name: str, marker: TrashMarker) -> None:
    """Put a marker beside the snapshot ``name``: nothing is moved, and no listing counts it.

    Raises:
        StorageError: The marker could not be stored; the snapshot counts as before.
    """
    beside = _stem(name) + TRASH_SUFFIX
    if storage.stat(beside) is None:
        with storage.create(beside) as file:
            file.write(encode_marker(marker))
            file.commit()


def take_out_of_trash(storage: BaseStorage, name: str) -> None:
    """Remove the marker of the snapshot ``name``, which counts again."""
    storage.delete(_stem(name) + TRASH_SUFFIX)


def delete_snapshot(storage: BaseStorage, name: str) -> None:
    """Delete the snapshot ``name`` for good, then what lies beside it.

    Its marker goes last: cut short, this leaves nothing that a listing counts.
    """
    stem = _stem(name)
    for suffix in (SUFFIX, KEYS_SUFFIX, DIGEST_SUFFIX, TRASH_SUFFIX):
        storage.delete(stem + suffix)


def finish_purges(storage: BaseStorage, files: JobFiles) -> None:
    """Delete what remains of snapshots whose purge was cut short."""
    for stem in files.orphans:
        delete_snapshot(storage, stem + SUFFIX)


def _stem(name: str) -> str:
    return name.removesuffix(SUFFIX)
