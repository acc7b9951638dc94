"""What a host remembers of the last snapshot of each job, to continue its chain.

A host that seals for public keys only cannot open what it wrote, so nothing in the store can tell
it authentically which snapshot is its newest. It remembers that itself, under a mac of its signing
key: digests, counts and a name, nothing that opens or tells contents.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from backup.errors import IntegrityError, SecretKeyError, SnapshotNotFoundError, StorageError
from backup.locating import StoredFileSource
from backup.private_files import read_private, write_private
from backup.snapshot.derive import derive_key
from backup.snapshot.header import Core
from backup.snapshot.opening import read_header
from backup.snapshot.signing import HostKey
from backup.storage.base import BaseStorage

_DIRECTORY = "chains"
_LABEL = b"auto-backup/1/chain-memory"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot, as its host remembers it; ids and digests are hexadecimal."""

    name: str
    chain: str
    sequence: int
    digest: str
    entries: int
    sources: tuple[str, ...]

    @property
    def had_content(self) -> bool:
        """Whether there was more in it than its sources themselves."""
        return self.entries > len(self.sources)


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    store: str
    host: str
    job: str
    last: Remembered | None = None
    pending: Remembered | None = None


class ChainMemory:
    """Remembers in ``state_dir``; what was not written with this ``host_key`` does not count."""

    def __init__(self, state_dir: Path, host_key: HostKey) -> None:
        self._state = state_dir
        self._key = derive_key(host_key.secret, b"", _LABEL)

    def recall(self, storage: BaseStorage, host: str, job: str) -> Remembered | None:
        """Return the last snapshot of a job that became visible in ``storage``.

        Raises:
            StorageError: The store does not answer.
        """
        record = self._load(storage, host, job)
        pending = record.pending
        if pending is not None and _is_stored(storage, pending):
            return pending
        return record.last

    def intend(self, storage: BaseStorage, host: str, job: str, snapshot: Remembered) -> None:
        """Remember a snapshot that is about to become visible.

        A run that is killed just then leaves both, and the next one looks which of them it is.
        """
        last = self.recall(storage, host, job)
        self._save(_Record(store=storage.url, host=host, job=job, last=last, pending=snapshot))

    def settle(self, storage: BaseStorage, host: str, job: str, snapshot: Remembered) -> None:
        """Remember that the snapshot has become visible."""
        self._save(_Record(store=storage.url, host=host, job=job, last=snapshot))

    def remember(
        self, core: Core, name: str, *, entries: int, sources: tuple[bytes, ...]
    ) -> Remembered:
        """Return what is worth remembering of a snapshot."""
        return Remembered(
            name=name,
            chain=core.chain.hex(),
            sequence=core.sequence,
            digest=core.digest.hex(),
            entries=entries,
            sources=tuple(map(self.source_mark, sources)),
        )

    def source_mark(self, path: bytes) -> str:
        """Return what tells a source from others to this host alone."""
        return hmac.digest(self._key, b"source" + path, "sha256").hex()

    def _path(self, store: str, host: str, job: str) -> Path:
        place = sha256(store.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return self._state / _DIRECTORY / host / f"{job}-{place}.json"

    def _load(self, storage: BaseStorage, host: str, job: str) -> _Record:
        nothing = _Record(store=storage.url, host=host, job=job)
        try:
            path = self._path(storage.url, host, job)
            line, mac = read_private(path, state=self._state).splitlines()
            if not hmac.compare_digest(mac, self._mac(line)):
                return nothing
            record = msgspec.json.decode(line, type=_Record)
        except (OSError, ValueError, SecretKeyError):  # msgspec's errors are ValueErrors
            return nothing
        same = (record.store, record.host, record.job) == (storage.url, host, job)
        return record if same else nothing

    def _save(self, record: _Record) -> None:
        line = msgspec.json.encode(record)
        path = self._path(record.store, record.host, record.job)
        with suppress(StorageError):  # a state directory that is full must not cost a snapshot
            content = line + b"\n" + self._mac(line) + b"\n"
            write_private(path, content, replace=True, state=self._state)

    def _mac(self, line: bytes) -> bytes:
        return hmac.digest(self._key, line, "sha256").hex().encode()


def _is_stored(storage: BaseStorage, snapshot: Remembered) -> bool:
    found = storage.stat(snapshot.name)
    if found is None:
        return False
    with suppress(IntegrityError, SnapshotNotFoundError):
        core = read_header(StoredFileSource(storage, snapshot.name, found.size)).core
        return core.digest.hex() == snapshot.digest
    return False
