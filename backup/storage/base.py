"""What a storage is: named files that appear whole or not at all."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from backup.errors import InvalidArgumentError, LimitError, SnapshotNotFoundError, StorageError
from backup.reporting import OnBytes, tell_nobody
from backup.storage.os_errors import as_storage_errors

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

BACKUP_SUFFIX = ".enc"
BLOCK_BYTES = 1 << 20
READ_LIMIT_BYTES = 64 << 20

_COMPONENT = re.compile(r"[A-Za-z0-9_+@-][A-Za-z0-9._+@-]{0,199}")


class ProofStrength(StrEnum):
    """How it was proven that a storage holds the bytes that were written."""

    READ_BACK = "read-back"  # they were read from the medium again
    ATTESTED = "attested"  # the service computed a digest of what it stored
    EXISTENCE = "existence"  # a file of the right size is there


class StoredFile(NamedTuple):
    """A complete file in a storage; ``modified`` is in UTC."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a storage has taken in, and how sure that is."""

    size: int
    sha256: bytes
    strength: ProofStrength


def check_name(name: str) -> str:
    """Return ``name`` if it may stand in a storage.

    Names are relative paths. Every component has 1 to 200 of the characters ``A-Z a-z 0-9 . _ + @
    -`` and does not begin with a dot, so that no name leads out of a storage, is hidden in it, or
    means something else on another backend.

    Raises:
        InvalidArgumentError: It may not.
    """
    if is_name(name):
        return name
    raise InvalidArgumentError(
        f"{name!r} cannot be the name of a stored file",
        hint="use letters, digits and . _ + @ - in parts of at most 200 characters joined by /",
    )


def is_name(name: str) -> bool:
    """Return whether ``check_name`` accepts ``name``."""
    return all(_COMPONENT.fullmatch(component) for component in name.split("/"))


class StorageWriter(ABC):
    """One file on its way into a storage.

    Nobody sees the file before ``commit``. Leaving the ``with`` block without it leaves nothing
    behind, as does every error; a writer that has failed cannot be used any more.
    """

    @abstractmethod
    def write(self, data: Buffer) -> int:
        """Append all of ``data``, which may be changed afterwards, and return its length."""

    @abstractmethod
    def seal(self, on_proven: OnBytes = tell_nobody) -> Receipt:
        """Make what was written durable, and prove that the storage holds it.

        The file stays invisible, so that what belongs to it can be stored first. Sealing again
        returns the same receipt. ``on_proven`` is told how many bytes have been read back.

        Raises:
            StorageError: It is not durable, or the medium returns something else.
        """

    @abstractmethod
    def read_range(self, offset: int, length: int) -> bytes:
        """Return bytes of what was sealed and is still invisible; see ``BaseStorage``."""

    @abstractmethod
    def commit(self) -> None:
        """Make the file visible under its name, for good; seal it first if that is still to do.

        Raises:
            StorageError: The file could not be stored, or its name is taken.
        """

    @abstractmethod
    def abort(self) -> None:
        """Drop what was written; after ``commit``, or done again, it does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()


class BaseStorage(ABC):
    """A place that keeps files under names which ``check_name`` accepts.

    As text it is what people call that place, for messages.
    """

    def __str__(self) -> str:
        return self.url

    @property
    @abstractmethod
    def url(self) -> str:
        """Where this storage is; ``open_storage`` takes it, and it contains no secret."""

    def local_root(self) -> Path | None:
        """Return the local directory that holds the files, ``None`` where there is none."""
        return None

    @abstractmethod
    def create(self, name: str, *, replace: bool = False) -> StorageWriter:
        """Begin to store a file.

        Args:
            name: What it shall be called.
            replace: Whether it may take the place of a file of that name, which stays as it is
                until the new one is committed.

        Raises:
            StorageError: The name is taken, or the storage cannot be written to.
        """

    @abstractmethod
    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` on, fewer only where the file ends.

        Raises:
            SnapshotNotFoundError: There is no such file.
            StorageError: It cannot be read.
        """

    @abstractmethod
    def list_files(self, prefix: str = "") -> Iterator[StoredFile]:
        """Yield the complete files whose names begin with ``prefix``, sorted by name.

        Files which this package would not have named so are left out.
        """

    @abstractmethod
    def stat(self, name: str) -> StoredFile | None:
        """Describe one file, or return None if there is none."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file for good; that it is absent is not an error."""

    def upload(self, name: str, source: BinaryIO, *, replace: bool = False) -> Receipt:
        """Store ``source``, read to its end, under ``name``, whole or not at all.

        Raises:
            StorageError: The file was not stored; nothing of it is left behind.
        """
        with self.create(name, replace=replace) as writer:
            while block := self._read_source(name, source):
                writer.write(block)
            receipt = writer.seal()
            writer.commit()
        return receipt

    def _read_source(self, name: str, source: BinaryIO) -> bytes:
        try:
            return source.read(BLOCK_BYTES)
        except OSError as error:
            # Hints about the storage would be wrong here, so this is not as_storage_errors.
            message = f"cannot store {name!r} in {self}: its source cannot be read: {error}"
            raise StorageError(message) from error

    def download(self, name: str, target: BinaryIO) -> None:
        """Write all of the file to ``target``.

        Raises:
            SnapshotNotFoundError: There is no such file.
            StorageError: It cannot be read, or not all of it could be written to ``target``.
        """
        task = f"cannot copy {name!r} from {self}"
        offset = 0
        while block := self.read_range(name, offset, BLOCK_BYTES):
            with as_storage_errors(task):
                written = target.write(block)
            if written != len(block):
                raise StorageError(f"{task}: its target took {written} of {len(block)} bytes")
            offset += len(block)

    def list_backups(self, prefix: str = "") -> Iterator[StoredFile]:
        """Yield the stored backups whose names begin with ``prefix``, oldest first."""
        backups = (file for file in self.list_files(prefix) if file.name.endswith(BACKUP_SUFFIX))
        yield from sorted(backups, key=lambda file: (file.modified, file.name))

    def read(self, name: str, limit: int = READ_LIMIT_BYTES) -> bytes:
        """Return the whole file.

        Raises:
            SnapshotNotFoundError: There is no such file.
            LimitError: It has more than ``limit`` bytes.
        """
        # Asking for one byte more tells a file that is too large without a second request.
        content = self.read_range(name, 0, limit + 1)
        if len(content) > limit:
            raise LimitError(f"{name!r} in {self} is larger than {limit} bytes")
        return content

    def clear_partials(self, older_than_seconds: float = 0) -> list[str]:
        """Remove what broken-off writers have left behind, never what a live one is writing.

        Args:
            older_than_seconds: Leave alone what was written to more recently.

        Returns:
            The names of what was removed. Backends that leave nothing behind remove nothing.
        """
        del older_than_seconds
        return []

    def lock(self, name: str) -> AbstractContextManager[bool]:
        """Keep other processes of this machine from working below ``name`` at the same time.

        The lock is the kernel's, or does nothing where a backend knows none: no file tells of it,
        and it ends with the process that holds it, however that ends.

        The context manager tells whether there is a lock: only then is whoever holds it alone.

        Args:
            name: ``host/job``.

        Raises:
            LockedError: Somebody else is at work there.
            StorageError: The storage cannot be written to.
        """
        check_name(name)
        return nullcontext(enter_result=False)

    def close(self) -> None:  # noqa: B027 - not every backend holds something open
        """Let go of connections; afterwards the storage must not be used."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_range(offset: int, length: int) -> None:
    """Raise InvalidArgumentError unless a file may be asked for these bytes."""
    if offset < 0 or length < 0:
        raise InvalidArgumentError(f"cannot read {length} bytes from offset {offset}")


def name_taken(name: str, where: str) -> StorageError:
    """Return the error for a file that would take the place of another one."""
    return StorageError(
        f"cannot store {name!r} in {where}: the name is taken",
        hint="stored files are not overwritten; choose another name, or delete that file first",
    )


def not_found(name: str, where: str) -> SnapshotNotFoundError:
    """Return the error for a file that is absent."""
    return SnapshotNotFoundError(f"there is no {name!r} in {where}")
