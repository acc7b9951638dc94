"""What a store holds for the day on which this tool is gone: ``recover.py`` and how to use it.

The copy in a store is a convenience and is trusted by nobody: who holds the store could change it.
Its digest stands in docs/RECOVERY.md, and ``verify`` compares it.
"""

from __future__ import annotations

from importlib.resources import files

from backup.storage.base import BaseStorage

RECOVER_NAME = "recover.py"
README_NAME = "README.txt"
_SOURCES = {RECOVER_NAME: "recover.py", README_NAME: "RECOVER_README.txt"}
_LIMIT = 1024 * 1024


def recovery_files() -> dict[str, bytes]:
    """Return the files by their names in a store."""
    package = files("backup")
    return {name: package.joinpath(source).read_bytes() for name, source in _SOURCES.items()}


def differing_files(storage: BaseStorage) -> list[str]:
    """Return the names of those files that are missing in ``storage``, or differ."""
    return [name for name, content in recovery_files().items() if _stored(storage, name) != content]


def place_recovery_files(storage: BaseStorage) -> list[str]:
    """Put the files into ``storage`` where they are missing or differ; return which ones.

    Raises:
        StorageError: The store refuses.
    """
    wanted = recovery_files()
    placed = differing_files(storage)
    for name in placed:
        with storage.create(name, replace=True) as file:
            file.write(wanted[name])
            file.commit()
    return placed


def _stored(storage: BaseStorage, name: str) -> bytes | None:
    found = storage.stat(name)
    return storage.read(name, _LIMIT) if found is not None and found.size <= _LIMIT else None
