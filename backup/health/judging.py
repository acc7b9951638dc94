"""Why a job is not well: decisions, of facts alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from backup.config.scheduling import Checks
from backup.health.records import JobHealth, StoreHealth
from backup.run_state import FAILURES, JobRuns, Outcome

GRACE = timedelta(minutes=15)
"""A run that is due for longer has been missed: others that run come first, for a while."""
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_LATE = 2


class Upkeep(NamedTuple):
    """A task that looks after a job's snapshots; ``what`` it does, for people."""

    what: str
    known: JobRuns


def lasting(time: timedelta) -> str:
    """Return a length of time for people, in its largest unit: ``3 days``, ``1 hour``."""
    for unit, name, least in (
        (_DAY, "day", 2 * _DAY),
        (_HOUR, "hour", _HOUR),
        (_MINUTE, "minute", _MINUTE),
    ):
        if time >= least:
            count = time // unit
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "less than a minute"


def reasons_against(
    job: JobHealth,
    known: JobRuns,
    upkeep: Iterable[Upkeep],
    checks: Mapping[str, timedelta | None],
    now: datetime,
) -> Iterator[str]:
    """Yield all reasons why a job is not well, what matters most first.

    Args:
        job: What is known of it.
        known: Its runs.
        upkeep: What looks after its snapshots.
        checks: How often they are to be verified, by level; ``None`` for never.
        now: The time.
    """
    yield from _damaged(job.stores)
    yield from _stalled(job, now)
    yield from _runs(job, known)
    yield from _due(job, now)
    yield from _snapshots(job)
    for store in job.stores:
        yield from _proofs(store, known, checks, now)
    for one in upkeep:
        if one.known.failures and one.known.last is not None:
            yield f"{one.what} failed{_times(one.known.failures)}{_why(one.known.last.reason)}"


def levels(checks: Checks, *, is_readable: bool) -> dict[str, timedelta | None]:
    """Return how often a job's snapshots are verified here, by level."""
    return {"checksum": checks.checksum, "content": checks.content if is_readable else None}


def _damaged(stores: Iterable[StoreHealth]) -> Iterator[str]:
    for store in stores:
        if store.damaged:
            count = len(store.damaged)
            more = f" and {count - 1} more" if count > 1 else ""
            yield f"damaged in {store.store}: {store.damaged[0]}{more}"


def _stalled(job: JobHealth, now: datetime) -> Iterator[str]:
    if job.progress is not None and job.progress.is_stalled:
        still = timedelta(seconds=job.progress.still_for)
        yield f"its run has not moved a byte for {lasting(still)}"
    elif job.running_since is not None and job.progress is None:
        since = now - job.running_since
        if since > _DAY:
            yield f"runs for {lasting(since)}, and nobody tells whether it moves"


def _runs(job: JobHealth, known: JobRuns) -> Iterator[str]:
    last = known.last
    if known.failures and last is not None and job.running_since is None:
        yield f"{_said(last.outcome, known.failures)}{_why(last.reason)}"
    elif known.failures:
        yield f"failed{_times(known.failures)}, and runs again"


def _said(outcome: Outcome | None, failures: int) -> str:
    """Return how a job failed: of several times in a row how it did so last."""
    last = outcome if outcome in FAILURES else Outcome.FAILED
    if failures == 1 or last is Outcome.FAILED:
        return f"{last}{_times(failures)}"
    return f"failed{_times(failures)}, {last} the last time"


def _times(count: int) -> str:
    return "" if count == 1 else f" {count:,} times"


def _why(reason: str) -> str:
    return f": {reason}" if reason else ""


def _due(job: JobHealth, now: datetime) -> Iterator[str]:
    waits = f", and waits: {job.waits_for}" if job.waits_for else ""
    if job.paused_since is not None:
        yield f"paused for {lasting(now - job.paused_since)}"
    elif job.running_since is None and job.next is not None and now - job.next > GRACE:
        yield f"due for {lasting(now - job.next)}{waits}"


def _snapshots(job: JobHealth) -> Iterator[str]:
    newest = job.newest
    if newest is None or newest.newest is None:
        yield "no snapshot of it is known here" if job.last_done else "there is no snapshot yet"
        return
    if not newest.errors and job.outcome == Outcome.INCOMPLETE:
        yield "some of the source could not be read"
    if newest.errors:
        count = f"{newest.errors:,} {'entry' if newest.errors == 1 else 'entries'}"
        yield f"{count} of the source could not be read"
    for store in job.stores:
        if store.newest is None:
            yield f"{store.store} has no snapshot of it"
        elif store.newest < newest.newest:
            yield f"{store.store} has not got the newest snapshot"


def _proofs(
    store: StoreHealth,
    known: JobRuns,
    checks: Mapping[str, timedelta | None],
    now: datetime,
) -> Iterator[str]:
    proven: list[tuple[str, Callable[[StoreHealth], datetime | None]]] = [
        ("checksum", lambda one: one.checksum),
        ("content", lambda one: one.content),
    ]
    for level, when in proven:
        interval = checks.get(level)
        if interval is None or store.newest is None:
            continue
        last = when(store)
        late = interval * _LATE + _DAY
        if now - (last or known.first_seen) > late:
            since = f"for {lasting(now - last)}" if last is not None else "yet"
            yield f"{level} not proven {since} in {store.store}"
