"""The last steps of storing a snapshot: what lies beside it, then its name; or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from backup.errors import BackupError
from backup.storage.base import BaseStorage, StorageWriter


def commit_with(storage: BaseStorage, sink: StorageWriter, beside: Mapping[str, bytes]) -> None:
    """Store the small files ``beside`` a sealed snapshot, then let the snapshot be seen.

    Raises:
        StorageError: One of them could not be stored; none of them is left.
    """
    try:
        for name, content in beside.items():
            with storage.create(name) as file:
                file.write(content)
                file.commit()
        sink.commit()
    except BaseException:
        for name in beside:
            with suppress(BackupError):
                storage.delete(name)
        raise
