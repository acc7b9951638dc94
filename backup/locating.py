"""From a name in a store, or a path, to everything that is needed to read a snapshot."""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backup.errors import IntegrityError, SnapshotNotFoundError, StorageError
from backup.snapshot.end import Referred
from backup.snapshot.header import Header, parse_keys_file
from backup.snapshot.names import (
    DIGEST_SUFFIX,
    KEYS_SUFFIX,
    SUFFIX,
    parse_digest_line,
    parse_name,
)
from backup.snapshot.opening import read_header
from backup.snapshot.reader import FindSource, SnapshotReader, open_snapshot
from backup.snapshot.recipients import Identity
from backup.snapshot.source import ByteSource
from backup.storage import open_storage
from backup.storage.base import BaseStorage

_KEYS_LIMIT = 256 * 1024
_DIGEST_LIMIT = 4096


@dataclass(frozen=True)
class Located:
    """A snapshot's file, what lies beside it, and how to find those that it refers to.

    ``store`` is the URL of the store that it lies in, empty where it lies in none.
    """

    name: str
    source: ByteSource
    keys_file: bytes | None
    recorded_digest: bytes | None
    find: FindSource
    store: str = ""

    def open(
        self, identities: Sequence[Identity], *, trusted: Collection[bytes] | None = None
    ) -> SnapshotReader:
        """Open it; see ``open_snapshot``."""
        return open_snapshot(
            self.source,
            identities,
            keys_file=self.keys_file,
            trusted=trusted,
            find=self.find,
        )

    def newest_header(self) -> Header:
        """Return the header whose slots count, from the keys file where that is this snapshot's.

        Nothing of it is authenticated: enough to tell people who can open, never to believe it.

        Raises:
            IntegrityError: Neither can be read.
        """
        keys: Header | None = None
        if self.keys_file is not None:
            with suppress(IntegrityError):
                keys = parse_keys_file(self.keys_file)
        try:
            header = read_header(self.source)
        except IntegrityError:
            if keys is None:
                raise
            return keys
        return keys if keys is not None and keys.core.line == header.core.line else header


class StoredFileSource:
    """A file of a store as a ``ByteSource``."""

    def __init__(self, storage: BaseStorage, name: str, size: int) -> None:
        self.size = size
        self.name = name.rpartition("/")[2]
        self._storage = storage
        self._name = name

    def locate(self) -> Located:
        """Return the snapshot whose file this is."""
        return locate(self._storage, self._name)

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource."""
        return self._storage.read_range(self._name, offset, length)


class PathSource:
    """A file of any name as a ``ByteSource``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name
        try:
            self._file = path.open("rb")
            weakref.finalize(self, self._file.close)
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            raise SnapshotNotFoundError(f"there is no file {path}") from None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error

    def locate(self) -> Located:
        """Return the snapshot whose file this is."""
        return locate_path(self._path)

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource."""
        wanted = max(min(length, self.size - offset), 0)
        try:
            return os.pread(self._file.fileno(), wanted, offset)
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror}") from error


def locate(storage: BaseStorage, name: str) -> Located:
    """Return the snapshot ``name`` of a store.

    Raises:
        SnapshotNotFoundError: There is none of that name.
        StorageError: The store does not answer.
    """
    file = storage.stat(name)
    if file is None:
        raise SnapshotNotFoundError(f"there is no snapshot {name!r} in {storage}")
    stem = name.removesuffix(SUFFIX)
    line = _read_small(storage, stem + DIGEST_SUFFIX, _DIGEST_LIMIT)
    return Located(
        name=name,
        source=StoredFileSource(storage, name, file.size),
        keys_file=_read_small(storage, stem + KEYS_SUFFIX, _KEYS_LIMIT),
        recorded_digest=None if line is None else parse_digest_line(line),
        find=lambda referred: _find_by_id(storage, referred),
        store=storage.url,
    )


def locate_path(path: Path) -> Located:
    """Return the snapshot in the file ``path``, which may lie in a store or anywhere else.

    Raises:
        SnapshotNotFoundError: There is no such file.
        StorageError: It cannot be read.
    """
    path = path.absolute()
    if parse_name("/".join(path.parts[-3:])) is not None:
        storage = open_storage(path.parents[2])
        return locate(storage, "/".join(path.parts[-3:]))
    stem = str(path).removesuffix(SUFFIX)
    line = _read_beside(Path(stem + DIGEST_SUFFIX), _DIGEST_LIMIT)
    return Located(
        name=str(path),
        source=PathSource(path),
        keys_file=_read_beside(Path(stem + KEYS_SUFFIX), _KEYS_LIMIT),
        recorded_digest=None if line is None else parse_digest_line(line),
        find=lambda referred: _find_beside(path.parent, referred),
    )


def is_file_url(text: str) -> bool:
    """Tell whether ``text`` is the URL of a snapshot's file."""
    return "://" in text and text.endswith(SUFFIX)


def locate_url(url: str) -> Located:
    """Return the snapshot in the file at ``url``: in a store of any kind, or ``file://`` anywhere.

    Raises:
        SnapshotNotFoundError: There is no such file.
        ConfigError: There is no storage for such URLs.
        StorageError: It cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return locate_path(Path(unquote(parts.path)))
    root, *name = url.rsplit("/", 3)
    if len(name) < 3 or parse_name("/".join(name)) is None:  # noqa: PLR2004 - host, job, file
        raise SnapshotNotFoundError(
            f"{url} is not the URL of a snapshot in a store",
            hint="it ends with HOST/JOB/ and the name of the file",
        )
    return locate(open_storage(root), "/".join(name))


def _read_small(storage: BaseStorage, name: str, limit: int) -> bytes | None:
    found = storage.stat(name)
    return None if found is None or found.size > limit else storage.read(name, limit)


def _read_beside(path: Path, limit: int) -> bytes | None:
    with suppress(OSError), path.open("rb") as file:
        data = file.read(limit + 1)
        return data if len(data) <= limit else None
    return None


def _find_by_id(storage: BaseStorage, referred: Referred) -> ByteSource | None:
    for file in storage.list_files():
        name = parse_name(file.name) if file.name.endswith(SUFFIX) else None
        if name is None or name.id_start != referred.id.hex()[:4]:
            continue
        source = StoredFileSource(storage, file.name, file.size)
        with suppress(IntegrityError):
            if read_header(source).core.id == referred.id:
                return source
    return None


def _find_beside(directory: Path, referred: Referred) -> ByteSource | None:
    for path in sorted(directory.glob("*" + SUFFIX)):
        with suppress(IntegrityError, StorageError, SnapshotNotFoundError):
            source = PathSource(path)
            if read_header(source).core.id == referred.id:
                return source
    return None
