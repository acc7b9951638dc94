"""Which of a job's snapshots is the older one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple


class Placed(NamedTuple):
    """A snapshot's place in time: ``sequence`` counts within its chain."""

    chain: str
    sequence: int
    time: datetime


def by_age(places: Iterable[Placed]) -> dict[Placed, tuple[datetime, int]]:
    """Return what sorts ``places`` from old to new.

    Within a chain its sequence decides, whatever the clock said; between chains, of which a new key
    begins another, time does.
    """
    ages = {}
    latest: dict[str, datetime] = {}
    for place in sorted(places):
        time = max(place.time, latest.get(place.chain, place.time))
        latest[place.chain] = time
        ages[place] = (time, place.sequence)
    return ages
