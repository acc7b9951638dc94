"""Stored files in memory, for tests and trials."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from threading import Lock

from backup.clock import Clock, system_clock
from backup.errors import LockedError
from backup.reporting import OnBytes
from backup.storage.base import (
    BaseStorage,
    ProofStrength,
    Receipt,
    StoredFile,
    check_name,
    check_range,
    name_taken,
    not_found,
)
from backup.storage.staged import StagedWriter


class MemoryStorage(BaseStorage):
    """Keep files as long as the process runs.

    Args:
        clock: Dates the files.
    """

    def __init__(self, *, clock: Clock = system_clock) -> None:
        self._files: dict[str, tuple[bytes, datetime]] = {}
        self._clock = clock
        self._lock = Lock()
        self._at_work: set[str] = set()

    @property
    def url(self) -> str:
        """See BaseStorage."""
        return "memory:"

    def create(self, name: str, *, replace: bool = False) -> StagedWriter:
        """See BaseStorage."""
        if check_name(name) in self._files and not replace:
            raise name_taken(name, self.url)
        task = f"cannot store {name!r} in {self}"
        return _MemoryWriter(task, partial(self._put, name, replace=replace))

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """See BaseStorage."""
        with self._lock:
            if check_name(name) in self._at_work:
                raise LockedError(f"cannot lock {name!r} in {self}: another run is at work there")
            self._at_work.add(name)
        try:
            yield True
        finally:
            self._at_work.discard(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """See BaseStorage."""
        check_range(offset, length)
        try:
            content, _ = self._files[check_name(name)]
        except KeyError as error:
            raise not_found(name, self.url) from error
        return content[offset : offset + length]

    def list_files(self, prefix: str = "") -> Iterator[StoredFile]:
        """See BaseStorage."""
        with self._lock:
            files = sorted(self._files.items())
        for name, (content, modified) in files:
            if name.startswith(prefix):
                yield StoredFile(name, len(content), modified)

    def stat(self, name: str) -> StoredFile | None:
        """See BaseStorage."""
        if found := self._files.get(check_name(name)):
            content, modified = found
            return StoredFile(name, len(content), modified)
        return None

    def delete(self, name: str) -> None:
        """See BaseStorage."""
        with self._lock:
            self._files.pop(check_name(name), None)

    def _put(self, name: str, content: bytes, *, replace: bool) -> None:
        with self._lock:
            if name in self._files and not replace:
                raise name_taken(name, self.url)
            self._files[name] = (content, self._clock())


class _MemoryWriter(StagedWriter):
    def __init__(self, task: str, put: Callable[[bytes], None]) -> None:
        super().__init__(task)
        self._put = put
        self._content = bytearray()

    def _append(self, block: bytes | memoryview) -> None:
        self._content += block

    def _settle(self, on_proven: OnBytes) -> Receipt:
        digest = hashlib.sha256(self._content).digest()
        on_proven(len(self._content))
        return Receipt(len(self._content), digest, ProofStrength.READ_BACK)

    def _read(self, offset: int, length: int) -> bytes:
        return bytes(self._content[offset : offset + length])

    def _publish(self) -> None:
        self._put(bytes(self._content))

    def _discard(self) -> None:
        self._content.clear()
