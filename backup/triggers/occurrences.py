"""The moments of a cron line, or of several: the next one, the latest one.

A line says times of a wall clock. One that does not exist on a day counts right after the gap, one
that comes twice counts the first time. Only a line of every hour (its hour is ``*``) goes by each
hour that there is: its times are neither moved nor left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache

from cronsim import CronSim

from backup.triggers.wall_clock import last_change, moment_of, next_change, offset, wall_of

_SECOND = timedelta(seconds=1)
_HOURS = 24


def after(lines: Sequence[str], moment: datetime, zone: tzinfo) -> datetime | None:
    """Return the first occurrence after ``moment``, in UTC."""
    found = [_after(line, moment, zone) for line in lines]
    return min((one for one in found if one is not None), default=None)


def latest(lines: Sequence[str], moment: datetime, zone: tzinfo) -> datetime | None:
    """Return the last occurrence at ``moment`` or before, in UTC."""
    found = [_latest(line, moment, zone) for line in lines]
    return max((one for one in found if one is not None), default=None)


def walls_after(line: str, wall: datetime) -> Iterator[datetime]:
    """Yield the times that ``line`` says, as on a clock that is never put elsewhere."""
    return CronSim(line, wall.replace(microsecond=0, fold=0))


def _walls_until(line: str, wall: datetime) -> Iterator[datetime]:
    return CronSim(line, wall.replace(microsecond=0, fold=0) + _SECOND, reverse=True)


@cache
def _is_hourly(line: str) -> bool:
    return len(CronSim(line, datetime(2000, 1, 1)).hours) == _HOURS  # noqa: DTZ001 - a wall clock's


def _after(line: str, moment: datetime, zone: tzinfo) -> datetime | None:
    if _is_hourly(line):
        return _hourly_after(line, moment, zone)
    walls = walls_after(line, wall_of(moment, zone))
    return next((one for wall in walls if (one := moment_of(wall, zone)) > moment), None)


def _latest(line: str, moment: datetime, zone: tzinfo) -> datetime | None:
    if _is_hourly(line):
        return _hourly_latest(line, moment, zone)
    shown = moment.astimezone(zone)
    # The second time that the clock shows this, later ones were there the first time.
    ahead = (shown.replace(fold=0).utcoffset() or timedelta(0)) - offset(moment, zone)
    walls = _walls_until(line, shown.replace(tzinfo=None) + max(ahead, timedelta(0)))
    return next((one for wall in walls if (one := moment_of(wall, zone)) <= moment), None)


def _hourly_after(line: str, moment: datetime, zone: tzinfo) -> datetime | None:
    start, since = moment, wall_of(moment, zone)
    while True:
        wall = next(walls_after(line, since), None)
        if wall is None:
            return None
        found = wall.replace(tzinfo=UTC) - offset(start, zone)
        change = next_change(start, found, zone)
        if change is None:
            return found
        start, since = change, wall_of(change, zone) - _SECOND


def _hourly_latest(line: str, moment: datetime, zone: tzinfo) -> datetime | None:
    end = moment
    while True:
        wall = next(_walls_until(line, wall_of(end, zone)), None)
        if wall is None:
            return None
        found = wall.replace(tzinfo=UTC) - offset(end, zone)
        change = last_change(found, end, zone)
        if change is None:
            return found
        end = change - _SECOND
