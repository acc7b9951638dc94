"""Making an entry fit: what it may bring along into a frame and into a segment of the index."""

from __future__ import annotations

from msgspec.structs import replace

from backup.archive.records import attribute_bound
from backup.model import Entry
from backup.sources.attributes import Attributes
from backup.sources.sparse import merge_runs

_MOST_ATTRIBUTE_BYTES = 512 * 1024
"""Readers of tar refuse extended headers above 1 MiB."""

_ATTRIBUTE_PART = 8
_BYTES_PER_RUN = 256
"""How many bytes a frame must have for each run of data that an entry tells."""


def fit_entry(entry: Entry, capacity: int) -> tuple[Entry, str]:
    """Return ``entry`` with what fits into a frame of ``capacity`` bytes, and what does not.

    The largest attributes go first; a sparse map of too many runs gets fewer and longer ones.

    Returns:
        The entry, and the reason to tell where attributes are missing, else ``""``.
    """
    if entry.data is not None:
        most = max(capacity // _BYTES_PER_RUN, 1)
        if len(entry.data) > most:
            entry = replace(entry, data=merge_runs(entry.data, most))
    if not entry.xattrs:
        return entry, ""
    kept = _fit_attributes(entry.xattrs, min(_MOST_ATTRIBUTE_BYTES, capacity // _ATTRIBUTE_PART))
    if kept == entry.xattrs:
        return entry, ""
    missing = len(entry.xattrs) - len(kept)
    reason = f"saved without {missing} of {len(entry.xattrs)} extended attributes: too large"
    return replace(entry, xattrs=kept), reason


def _fit_attributes(attributes: Attributes, room: int) -> Attributes:
    costs = [(attribute_bound((one,)), place) for place, one in enumerate(attributes)]
    total = sum(cost for cost, _ in costs)
    if total <= room:
        return attributes
    kept = set()
    for cost, place in sorted(costs):
        room -= cost
        if room < 0:
            break
        kept.add(place)
    return tuple(one for place, one in enumerate(attributes) if place in kept)
