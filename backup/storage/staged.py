"""The order of steps that the writers of all backends keep."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

from backup.errors import StorageError
from backup.reporting import OnBytes, tell_nobody
from backup.storage.base import Receipt, StorageWriter, check_range

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Stage(Enum):
    OPEN = auto()
    SEALED = auto()
    COMMITTED = auto()
    ABORTED = auto()


class StagedWriter(StorageWriter):
    """A writer of which a backend only says how each step is done.

    Any error in a step aborts the writer: what may be on the medium after a failed write or sync
    is unknown, and trying the same again could succeed without the bytes being there.

    Args:
        task: What fails if a step does, such as ``cannot store 'a.enc' in /mnt/x``.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._stage = _Stage.OPEN
        self._receipt: Receipt | None = None

    def write(self, data: Buffer) -> int:
        """See StorageWriter."""
        with self._step(_Stage.OPEN):
            block = data if isinstance(data, bytes) else memoryview(data).cast("B")
            self._append(block)
        return len(block)

    def seal(self, on_proven: OnBytes = tell_nobody) -> Receipt:
        """See StorageWriter."""
        if self._receipt is None:
            with self._step(_Stage.OPEN):
                self._receipt = self._settle(on_proven)
            self._stage = _Stage.SEALED
        return self._receipt

    def read_range(self, offset: int, length: int) -> bytes:
        """See StorageWriter."""
        check_range(offset, length)
        with self._step(_Stage.SEALED):
            return self._read(offset, length)

    def commit(self) -> None:
        """See StorageWriter."""
        self.seal()
        with self._step(_Stage.SEALED):
            self._publish()
        self._stage = _Stage.COMMITTED

    def abort(self) -> None:
        """See StorageWriter."""
        if self._stage in {_Stage.OPEN, _Stage.SEALED}:
            self._stage = _Stage.ABORTED
            self._receipt = None
            self._discard()

    @contextmanager
    def _step(self, stage: _Stage) -> Iterator[None]:
        if self._stage is not stage:
            raise StorageError(f"{self._task}: its writer is {self._stage.name.lower()}")
        try:
            yield
        except BaseException:
            self.abort()
            raise

    @abstractmethod
    def _append(self, block: bytes | memoryview) -> None:
        """Write all of ``block``; unless it is bytes, it may change after the return."""

    @abstractmethod
    def _settle(self, on_proven: OnBytes) -> Receipt:
        """Make what was written durable, and prove it."""

    @abstractmethod
    def _read(self, offset: int, length: int) -> bytes:
        """Return bytes of what was settled, fewer only where it ends."""

    @abstractmethod
    def _publish(self) -> None:
        """Make the file visible, for good, and let go of what was held for writing it."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove what was written, and let go; never raise, as an error may be on its way."""
