"""From what a clock on the wall shows to the moment, also when it is put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_STEP = timedelta(days=1)  # no zone changes its clocks twice within it and is as before
_SECOND = timedelta(seconds=1)


def wall_of(moment: datetime, zone: tzinfo) -> datetime:
    """Return what the clock shows at ``moment``, without a zone; ``fold`` is 1 the second time."""
    return moment.astimezone(zone).replace(tzinfo=None)


def moment_of(wall: datetime, zone: tzinfo) -> datetime:
    """Return when the clock shows ``wall``, in UTC.

    Of two moments it is the first. A time that is passed over, as the clock is put forward, is
    the moment right after that.
    """
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if wall_of(moment, zone) == wall:
        return moment
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return next_change(before, moment, zone) or moment


def offset(moment: datetime, zone: tzinfo) -> timedelta:
    """Return by how much the clock is ahead of UTC at ``moment``."""
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def next_change(start: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """Return the first moment after ``start``, up to ``end``, when the clock is put elsewhere."""
    while start < end:
        step = min(start + _STEP, end)
        if offset(step, zone) != offset(start, zone):
            return _first_other(start, step, zone)
        start = step
    return None


def last_change(start: datetime, end: datetime, zone: tzinfo) -> datetime | None:
    """Return the last moment after ``start``, up to ``end``, when the clock is put elsewhere."""
    while end > start:
        step = max(end - _STEP, start)
        if offset(step, zone) != offset(end, zone):
            return _first_other(step, end, zone)
        end = step
    return None


def _first_other(start: datetime, end: datetime, zone: tzinfo) -> datetime:
    """Return the whole second in ``(start, end]`` from which on the offset is that of ``end``."""
    start, end = start.replace(microsecond=0), _rounded_up(end)
    other = offset(end, zone)
    while end - start > _SECOND:
        middle = start + (end - start) // _SECOND // 2 * _SECOND
        if offset(middle, zone) == other:
            end = middle
        else:
            start = middle
    return end


def _rounded_up(moment: datetime) -> datetime:
    floor = moment.replace(microsecond=0)
    return floor if floor == moment else floor + _SECOND
