"""How many inputs each target was given, told at the end of a run."""

from __future__ import annotations

from collections import Counter

given: Counter[str] = Counter()
accepted: Counter[str] = Counter()


def count(name: str, inputs: int, taken: int) -> None:
    """Note that ``name`` was given so many inputs, and accepted some of them."""
    given[name] += inputs
    accepted[name] += taken
