"""What is due: a pure function of the tasks, of what is known of their runs, and of the time.

The scheduler, ``schedule list`` and ``schedule run --due`` all go by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from backup.run_state import Cause, JobRuns
from backup.running.task import Task
from backup.triggers import Retry, Trigger, delayed, is_retry_due, next_run, retry_at

LOOK_AGAIN = timedelta(seconds=30)
"""After what time to look again at the latest: clocks are set, and machines sleep."""


class Turn(NamedTuple):
    """When a task is next, and why; ``moment`` and ``begins`` are ``None`` for a task that waits.

    ``moment`` is what its trigger says and what will count as served; with jitter the run
    ``begins`` later.
    """

    task: Task
    known: JobRuns
    cause: Cause = Cause.SCHEDULE
    moment: datetime | None = None
    begins: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Tell whether it has to begin."""
        if self.known.paused_since is not None or self.begins is None:
            return False
        if self.cause is Cause.RETRY:
            return is_retry_due(self.begins, now, self.task.retry)
        return self.begins <= now


def plan(
    tasks: Iterable[Task], known: Mapping[str, JobRuns], now: datetime, zone: tzinfo, seed: str
) -> list[Turn]:
    """Return the next turn of each task, those that begin first at the front.

    Args:
        tasks: The tasks.
        known: What is known of them by their names; one that is missing is new.
        now: The time.
        zone: The machine's time zone.
        seed: What tells this machine apart from others with the same tasks.
    """
    turns = [_turn(one, known, now, zone, seed) for one in tasks]
    return sorted(turns, key=lambda one: (one.begins is None, one.begins or now, one.task.name))


def _turn(
    task: Task, all_known: Mapping[str, JobRuns], now: datetime, zone: tzinfo, seed: str
) -> Turn:
    known = all_known.get(task.name) or JobRuns(job=task.name, first_seen=now)
    moment = _moment(task, known, all_known, now, zone)
    begins = None if moment is None else _begin(task, moment, seed)
    again = known.retry_at
    if again is not None and (begins is None or begins > now):
        return Turn(task, known, Cause.RETRY, known.served, again)
    return Turn(task, known, Cause.SCHEDULE, moment, begins)


def _moment(
    task: Task, known: JobRuns, others: Mapping[str, JobRuns], now: datetime, zone: tzinfo
) -> datetime | None:
    """Return the moment that is to be served next."""
    if task.trigger is None:
        other = others.get(task.follows)
        done = None if other is None else other.last_done
        if done is None or (known.last_moment <= now and done <= known.last_moment):
            return None
        return done
    interval = task.trigger.interval
    is_new = known.served is None and task.at_once
    if is_new and interval is not None and now < known.first_seen + interval:
        return min(known.first_seen, now)
    return _next(task.trigger, known, now, zone)


def _next(trigger: Trigger, known: JobRuns, now: datetime, zone: tzinfo) -> datetime:
    return next_run(trigger, known.last_moment, now, zone, set_back=known.set_back)


def _begin(task: Task, moment: datetime, seed: str) -> datetime:
    if task.trigger is None or not task.trigger.jitter:
        return moment
    return delayed(moment, task.trigger.jitter, f"{seed}/{task.name}")


def when_to_retry(
    task: Task, known: JobRuns, tries: int, now: datetime, zone: tzinfo, *, interrupted: bool
) -> datetime | None:
    """Return when to try a task again that has just failed, ``None`` for its next moment.

    Args:
        task: The task.
        known: What is known of it, with the moment that was served.
        tries: How many runs for that moment have failed.
        now: The time.
        zone: The machine's time zone.
        interrupted: Whether it was ended from outside; one such run is made up for in any case.
    """
    following = None
    if task.trigger is not None:
        following = _next(task.trigger, known, now, zone)
    retry = task.retry
    if interrupted and not retry.times:
        retry = Retry(times=1)
    return retry_at(tries, now, retry, following)
