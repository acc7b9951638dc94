"""Where the plain bytes of a frame are put together: the same memory for each."""

from __future__ import annotations

from backup.errors import MalformedError


class PieceBuffer:
    """Up to ``capacity`` bytes, added piece by piece.

    A ``bytearray`` that grows is copied over and over, and leaves holes in the memory behind it
    which are as large as itself.
    """

    def __init__(self, capacity: int) -> None:
        self.room = bytearray()
        self.length = 0
        self._capacity = capacity

    def __len__(self) -> int:
        return self.length

    def clear(self) -> None:
        """Begin anew."""
        self.length = 0
        if not self.room:  # not earlier: a process that only forks others needs none
            self.room = bytearray(self._capacity)

    def add(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            MalformedError: There is no room for it.
        """
        end = self.length + len(data)
        if end > self._capacity:
            raise MalformedError(
                f"a frame of {end} bytes is more than the {self._capacity} allowed"
            )
        self.room[self.length : end] = data
        self.length = end
