"""The last steps of storing a snapshot: what lies beside it, then its name; or nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from backup.errors import BackupError
from backup.storage.base import BaseStorage, StorageWriter


def commit_with(
    storage: BaseStorage, sink: StorageWriter, name: str, beside: Mapping[str, bytes]
) -> None:
    """Store the small files ``beside`` the sealed snapshot ``name``, then let that be seen.

    Raises:
        StorageError: One of them could not be stored; none of them is left.
    """
    try:
        for other, content in beside.items():
            with storage.create(other) as file:
                file.write(content)
                file.commit()
        sink.commit()
    except BackupError:
        _remove(storage, beside)
        raise
    except BaseException:
        with suppress(BackupError):
            # An interruption may come when the snapshot can be seen already.
            if storage.stat(name) is None:
                _remove(storage, beside)
        raise


def _remove(storage: BaseStorage, names: Iterable[str]) -> None:
    for name in names:
        with suppress(BackupError):
            storage.delete(name)
