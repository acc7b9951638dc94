"""When a job is due next: pure functions of its trigger, of what was served, and of the time.

A *moment* is a point in time at which a trigger wants a run. What was served last is a moment, too,
not the time when that run began or ended: so nothing drifts.

- Of moments that were missed only the latest one is due: one run makes up for all.
- If what was served last lies ahead, the clock was set back. Then moments count from when that was
  noticed, but the one served last does not come again if it is the first of them. So a clock that
  is corrected by some seconds brings no second run, and one that was off by years blocks nothing:
  the wait is two intervals at most. When the clock is put right before, all is as it was.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import sha256

from backup.triggers import occurrences
from backup.triggers.time_zones import zone_of
from backup.triggers.trigger import Trigger

_MICROSECOND = timedelta(microseconds=1)
_NEVER = datetime.max.replace(tzinfo=UTC)


def next_run(
    trigger: Trigger,
    last_run: datetime | None,
    now: datetime,
    zone: tzinfo,
    *,
    set_back: datetime | None = None,
) -> datetime:
    """Return the moment that is served next, in UTC; it is due if it is not after ``now``.

    Args:
        trigger: What makes the job due.
        last_run: The moment that was served last, or when the job was first seen; ``None`` for
            neither: then ``every`` is due now, and all else at its next moment.
        now: The time.
        zone: The machine's time zone, which counts where the trigger has none.
        set_back: When ``last_run`` was first seen to lie ahead; ``None`` stands for now.
    """
    now = now.astimezone(UTC)
    if last_run is None:
        return now if trigger.interval is not None else _after(trigger, now, now, zone)
    last = since = last_run.astimezone(UTC)
    if last > now:
        since = min(set_back or now, now).astimezone(UTC)
        if _after(trigger, last, since, zone) == last:
            since = last
    missed = _latest(trigger, last, now, zone)
    if missed is not None and missed > since:
        return missed
    return _after(trigger, last, max(since, now), zone)


def due(
    trigger: Trigger,
    last_run: datetime | None,
    now: datetime,
    zone: tzinfo,
    *,
    set_back: datetime | None = None,
) -> datetime | None:
    """Return the moment that is to be served now, if there is one; see ``next_run``."""
    moment = next_run(trigger, last_run, now, zone, set_back=set_back)
    return moment if moment <= now else None


def delayed(moment: datetime, jitter: timedelta, seed: str) -> datetime:
    """Return when to begin what is due at ``moment``: up to ``jitter`` later.

    It is the same whenever it is asked, and spread evenly over hosts, jobs and moments.

    Args:
        moment: The moment.
        jitter: The longest delay.
        seed: What tells apart who is not to begin at once: host and job.
    """
    text = f"{seed}\0{moment.astimezone(UTC).isoformat()}"
    share = int.from_bytes(sha256(text.encode(errors="surrogateescape")).digest()[:6])
    longest = jitter // _MICROSECOND
    return moment.astimezone(UTC) + (longest * share >> 48) * _MICROSECOND


def _after(trigger: Trigger, last: datetime, moment: datetime, zone: tzinfo) -> datetime:
    """Return the first moment after ``moment``; those of an interval are counted from ``last``."""
    if trigger.interval is not None:
        return last + ((moment - last) // trigger.interval + 1) * trigger.interval
    return occurrences.after(trigger.lines, moment, _zone(trigger, zone)) or _NEVER


def _latest(trigger: Trigger, last: datetime, now: datetime, zone: tzinfo) -> datetime | None:
    if trigger.interval is not None:
        return last + (now - last) // trigger.interval * trigger.interval
    return occurrences.latest(trigger.lines, now, _zone(trigger, zone))


def _zone(trigger: Trigger, zone: tzinfo) -> tzinfo:
    return zone_of(trigger.time_zone) if trigger.time_zone else zone
