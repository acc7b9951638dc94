"""Under which conditions a job runs at all: ``only_if``."""

from __future__ import annotations

from backup.conditions.answers import SURROUNDINGS, Asker, Surroundings, reason_against
from backup.conditions.words import NO_CONDITIONS, Conditions, make_conditions

__all__ = [
    "NO_CONDITIONS",
    "SURROUNDINGS",
    "Asker",
    "Conditions",
    "Surroundings",
    "make_conditions",
    "reason_against",
]
