"""What is held of a job and of a run, and what changes when one begins or ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from backup.reporting import Told

Detail = Told
"""What a run may tell of itself: a snapshot's id, bytes."""


class Outcome(StrEnum):
    """What became of a run."""

    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"


FAILURES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED})
"""What is tried again. *Incomplete* is not: some of the source could not be read, the rest is."""

_STATUSES = {Outcome.DONE: 0, Outcome.INCOMPLETE: 3}
_FAILED = 1

ENDED_WITHOUT_A_WORD = "its process ended without a word"


class Cause(StrEnum):
    """What a run was begun for."""

    SCHEDULE = "schedule"
    RETRY = "retry"
    BY_HAND = "by hand"


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run of a job; ``outcome`` and ``ended`` are there when it has ended.

    ``number`` counts the job's runs. ``moment`` is the one that it serves; a run by hand serves
    none. ``process`` is the id of the process that claimed it.
    """

    job: str
    number: int
    cause: Cause
    started: datetime
    process: int
    moment: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome | None = None
    reason: str = ""
    details: dict[str, Detail] = {}

    @property
    def exit_status(self) -> int:
        """The exit status that tells how it ended: that of its process where it has one."""
        if self.outcome in _STATUSES:
            return _STATUSES[self.outcome]
        told = self.details.get("exit_status")
        is_from_signal = not isinstance(told, int) or told <= 0
        return _FAILED if is_from_signal or self.outcome is Outcome.TIMED_OUT else int(told or 0)


class JobRuns(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a job.

    ``served`` is the scheduled moment that was served last, ``last`` the run that was begun last,
    ``last_done`` when one last ended well. ``failures`` counts runs that failed in a row, and
    ``tries`` those of them for the moment that was served last. ``retry_at`` is when to try again.
    ``set_back`` is when ``last_moment`` was first seen to lie ahead of the clock.
    """

    job: str
    first_seen: datetime
    served: datetime | None = None
    count: int = 0
    failures: int = 0
    tries: int = 0
    retry_at: datetime | None = None
    set_back: datetime | None = None
    paused_since: datetime | None = None
    last_done: datetime | None = None
    last: Run | None = None

    @property
    def last_moment(self) -> datetime:
        """The moment that was served last, or when the job was first seen."""
        return self.served or self.first_seen

    @property
    def unended(self) -> Run | None:
        """The run that has not told its end: it goes on, or its process is gone."""
        return self.last if self.last is not None and self.last.outcome is None else None


def seen(known: JobRuns, now: datetime) -> JobRuns:
    """Return what is known at ``now``: whether the clock was set back, or put right again."""
    if known.last_moment <= now:
        return known if known.set_back is None else replace(known, set_back=None)
    if known.set_back is not None and known.set_back <= now:
        return known
    return replace(known, set_back=now)


def begun(known: JobRuns, cause: Cause, started: datetime, process: int) -> JobRuns:
    """Return what is known once a run has begun; ``served`` is already the moment it is for."""
    run = Run(
        job=known.job,
        number=known.count + 1,
        cause=cause,
        moment=None if cause is Cause.BY_HAND else known.served,
        started=started,
        process=process,
    )
    return replace(known, count=run.number, last=run)


def ended(known: JobRuns, run: Run, retry_at: datetime | None) -> JobRuns:
    """Return what is known once ``run`` has ended.

    Args:
        known: What was known while it ran.
        run: The run as it ended.
        retry_at: When to try again; a run by hand leaves what there is.
    """
    last = run if known.last is None or known.last.number <= run.number else known.last
    known = replace(known, last=last, count=max(known.count, run.number))
    if run.outcome in {Outcome.DONE, Outcome.INCOMPLETE}:
        return replace(known, failures=0, tries=0, retry_at=None, last_done=run.ended)
    if run.outcome in FAILURES:
        known = replace(known, failures=known.failures + 1)
        if run.cause is not Cause.BY_HAND:
            known = replace(known, tries=known.tries + 1)
    return known if run.cause is Cause.BY_HAND else replace(known, retry_at=retry_at)


def as_gone(run: Run) -> Run:
    """Return a run whose process is gone; when it ended nobody knows."""
    return replace(run, outcome=Outcome.INTERRUPTED, reason=ENDED_WITHOUT_A_WORD)


def as_ended(
    run: Run, when: datetime, outcome: Outcome, reason: str, details: Mapping[str, Detail]
) -> Run:
    """Return ``run`` with its end."""
    return replace(run, ended=when, outcome=outcome, reason=reason, details=dict(details))
