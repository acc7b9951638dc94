"""Which snapshots to keep: a pure function of a policy and a list, with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from backup.errors import InvalidArgumentError


class Decision(NamedTuple):
    """What happens to one snapshot, and why."""

    name: str
    keep: bool
    reason: str


def plan_keep_last(names: Sequence[str], keep: int) -> list[Decision]:
    """Return the decision for each of ``names``, which come oldest first: the last ``keep`` stay.

    Raises:
        InvalidArgumentError: ``keep`` is below 1.
    """
    if keep < 1:
        raise InvalidArgumentError(f"at least 1 snapshot is kept, not {keep}")
    newest = len(names) - keep
    return [
        Decision(name, keep=True, reason=f"among the newest {keep}")
        if place >= newest
        else Decision(name, keep=False, reason=f"older than the newest {keep}")
        for place, name in enumerate(names)
    ]
