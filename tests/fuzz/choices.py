"""Where a mutation's decisions come from: hypothesis draws them, or a fuzzer's bytes tell them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices(Protocol):
    """Makes every decision of a mutation."""

    def number(self, most: int) -> int:
        """Return a number from 0 to ``most``."""
        ...

    def raw(self, most: int) -> bytes:
        """Return at most ``most`` bytes."""
        ...


def one_of(choices: Choices, values: Sequence[T]) -> T:
    """Return one of ``values``, of which there is at least one."""
    return values[choices.number(len(values) - 1)]


class DrawnChoices:
    """Decisions that hypothesis draws, and makes smaller where a test fails."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def number(self, most: int) -> int:
        """See Choices."""
        return int(self._data.draw(st.integers(0, most)))

    def raw(self, most: int) -> bytes:
        """See Choices."""
        return bytes(self._data.draw(st.binary(max_size=most)))


class BytesChoices:
    """Decisions that are read from ``data``; where that ends, every number is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, most: int) -> int:
        """See Choices."""
        width = max((most.bit_length() + 7) // 8, 1)
        return int.from_bytes(self._take(width), "big") % (most + 1)

    def raw(self, most: int) -> bytes:
        """See Choices."""
        return self._take(self.number(most))

    def _take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken
