"""What a walk left out on purpose: counted by reason, a part of it remembered."""

from __future__ import annotations

from collections import Counter

from backup.manager.request import LeftOut, Problem

MOST_REMEMBERED = 1000


class Omissions:
    """Takes in what is left out; needs no more memory for a million than for a thousand."""

    def __init__(self) -> None:
        self._told: list[Problem] = []
        self._counts: Counter[str] = Counter()

    def append(self, found: Problem) -> None:
        """Take in one path, which may stand for a whole directory."""
        self._counts[found.reason] += 1
        if len(self._told) < MOST_REMEMBERED:
            self._told.append(found)

    def summary(self) -> LeftOut:
        """Return the counts, the most frequent reason first, and what is remembered."""
        return LeftOut(tuple(self._told), tuple(self._counts.most_common()))
