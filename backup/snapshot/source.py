"""What a snapshot is read from: bytes at offsets."""

from __future__ import annotations

from typing import Protocol

from backup.errors import TruncatedError


class ByteSource(Protocol):
    """A file of known size that can be read anywhere. Raises only errors of this package."""

    size: int
    name: str

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``, fewer only at the end."""
        ...


class BytesSource:
    """A source in memory."""

    def __init__(self, data: bytes, name: str = "bytes") -> None:
        self.size = len(data)
        self.name = name
        self._data = data

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource."""
        return self._data[offset : offset + length]


def read_exactly(source: ByteSource, offset: int, length: int, what: str) -> bytes:
    """Return ``length`` bytes at ``offset``, or raise ``TruncatedError`` about ``what``."""
    data = source.read_at(offset, length)
    if len(data) != length:
        raise TruncatedError(f"the file ends within {what}")
    return data
