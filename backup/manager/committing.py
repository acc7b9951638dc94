"""The last steps of storing a snapshot: what lies beside it, then its name; or nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from backup.errors import BackupError, StorageError
from backup.snapshot.names import DIGEST_SUFFIX, KEYS_SUFFIX, SUFFIX, TRASH_SUFFIX
from backup.storage.base import BaseStorage, StorageWriter

_ORPHANS_AFTER = timedelta(hours=1)


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
    except BaseException:
        with suppress(BackupError):
            # The snapshot may be visible: an interruption came then, or its name could not be
            # taken back from a store that fails.
            if storage.stat(name) is None:
                _remove(storage, beside)
        raise


def clear_away(storage: BaseStorage, place: str, now: datetime, *, alone: bool) -> None:
    """Remove what killed runs have left: unfinished files, and what lies beside no snapshot.

    Args:
        storage: The store.
        place: ``host/job``.
        now: The time.
        alone: Whether the place is locked. If not, what is young may belong to a run that is about
            to finish, and stays.

    Raises:
        StorageError: The store does not answer.
    """
    storage.clear_partials()
    names = {file.name: file.modified for file in storage.list_files(place + "/")}
    for name, modified in names.items():
        for suffix in (KEYS_SUFFIX, DIGEST_SUFFIX, TRASH_SUFFIX):
            is_orphan = name.endswith(suffix) and name.removesuffix(suffix) + SUFFIX not in names
            if is_orphan and (alone or now - modified > _ORPHANS_AFTER):
                with suppress(StorageError):
                    storage.delete(name)


def _remove(storage: BaseStorage, names: Iterable[str]) -> None:
    for name in names:
        with suppress(BackupError):
            storage.delete(name)
