"""Bringing together what lies in one frame, in the order in which frames are best read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class FramePlace(NamedTuple):
    """An archive frame of a snapshot."""

    snapshot: bytes
    number: int


class Group(Generic[Item]):
    """What lies in one frame, or a part of it; ``size`` is bytes, as whoever added it counts."""

    def __init__(self, place: FramePlace) -> None:
        self.place = place
        self.items: list[Item] = []
        self.size = 0


class Groups(Generic[Item]):
    """Groups items by their frames.

    Whoever goes through an index meets the frames of each snapshot in rising order, but for what
    was moved. So a group is complete when a later frame of its snapshot comes; what comes too late
    waits until much has come, and then comes in the order of the frames.

    Args:
        most_held: How many items may wait.
        most_together: How many a group may have.
        most_bytes: How many bytes a group may have, but for its last item.
    """

    def __init__(self, *, most_held: int, most_together: int, most_bytes: int) -> None:
        self._most_held = most_held
        self._most_together = most_together
        self._most_bytes = most_bytes
        self._present: dict[bytes, Group[Item]] = {}
        self._late: dict[FramePlace, Group[Item]] = {}
        self._held = 0

    def add(self, place: FramePlace, item: Item, size: int) -> Iterator[Group[Item]]:
        """Add ``item``, which lies in the frame ``place``; yield the groups that are complete."""
        group = self._present.get(place.snapshot)
        if group is None or group.place.number < place.number:
            if group is not None and group.items:
                yield self._without(group)
            group = self._present[place.snapshot] = Group(place)
        elif group.place.number > place.number:
            group = self._late.setdefault(place, Group(place))
        group.items.append(item)
        group.size += size
        self._held += 1
        if len(group.items) >= self._most_together or group.size >= self._most_bytes:
            yield self._without(group)
        elif self._held >= self._most_held:
            yield from self.rest()

    def rest(self) -> Iterator[Group[Item]]:
        """Yield all that waits."""
        waiting = [*self._present.values(), *self._late.values()]
        self._present.clear()
        self._late.clear()
        self._held = 0
        yield from sorted((one for one in waiting if one.items), key=_place_of)

    def _without(self, group: Group[Item]) -> Group[Item]:
        """Return what ``group`` has, and leave it empty for what may still come."""
        empty: Group[Item] = Group(group.place)
        if self._present.get(group.place.snapshot) is group:
            self._present[group.place.snapshot] = empty
        else:
            self._late.pop(group.place, None)
        self._held -= len(group.items)
        return group


def _place_of(group: Group[Item]) -> FramePlace:
    return group.place
