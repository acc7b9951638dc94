"""The decision about each snapshot of one job. Nothing is looked at but the arguments.

The rules are told for people in docs/RETENTION.md. What makes them safe: where a list lacks some
snapshots, no rule gives up one that it would keep if it saw all (in one chain; in several, where
no clock went back). Only what refers to what has to be known in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import NamedTuple

from backup.errors import InvalidArgumentError
from backup.retention.age import Placed, by_age
from backup.retention.policy import RetentionPolicy

MOST_DELETIONS = 100
_PASSED = "incomplete, and a later one is whole"
AHEAD = timedelta(hours=1)
"""A snapshot that is dated later than now by more than this does not count."""


class Verdict(StrEnum):
    """What happens to a snapshot; ``pack``: it stays because kept ones refer to it."""

    KEEP = "keep"
    PACK = "pack"
    LATER = "later"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What the plan knows of a snapshot.

    Args:
        name: Its name in the store, which no other one has.
        id: What others refer to it by.
        time: When it was taken; authenticated, unless ``unreadable`` says something.
        chain: Its chain.
        sequence: Its number in the chain.
        tags: Its words.
        refers_to: Ids of the snapshots that it needs.
        incomplete: Whether it holds a part of its source only.
        has_errors: Whether something of its source could not be read.
        unreadable: Why nothing that it says can be believed; empty where it can.
        may_refer: Whether it may need others; asked only of an unreadable one.
    """

    name: str
    id: str
    time: datetime
    chain: str = ""
    sequence: int = 0
    tags: tuple[str, ...] = ()
    refers_to: tuple[str, ...] = ()
    incomplete: bool = False
    has_errors: bool = False
    unreadable: str = ""
    may_refer: bool = False


class Decision(NamedTuple):
    """What happens to one snapshot, and why; ``counts`` tells whether rules counted it."""

    name: str
    verdict: Verdict
    reason: str
    counts: bool = True


class RetentionPlan(NamedTuple):
    """A decision for each snapshot, from old to new, and what to delete, in that order.

    Whoever stops after any of the deletions leaves none that refers to a deleted one.
    """

    decisions: tuple[Decision, ...]
    deletions: tuple[str, ...]

    def verdict_of(self, name: str) -> Verdict:
        """Return what happens to the snapshot ``name``."""
        return next(one.verdict for one in self.decisions if one.name == name)


NO_PLAN = RetentionPlan((), ())


def plan_retention(
    policy: RetentionPolicy,
    snapshots: Collection[Candidate],
    now: datetime,
    *,
    zone: tzinfo | None = None,
    proven: Mapping[str, datetime] | None = None,
    most: int = MOST_DELETIONS,
) -> RetentionPlan:
    """Decide about the snapshots of one job.

    Args:
        policy: What to keep.
        snapshots: All that there are of the job.
        now: The present moment; only snapshots from the future are found by it.
        zone: Whose hours, days and so on count; ``None`` for this machine's.
        proven: When snapshots were proven, by their ids; the newest proven one stays.
        most: How many may go at most.

    Raises:
        InvalidArgumentError: ``most`` is negative.
    """
    if most < 0:
        raise InvalidArgumentError(f"cannot delete {most} snapshots")
    ordered = _from_old_to_new(snapshots)
    odd = _not_counted(ordered, now)
    counted = _from_old_to_new(one for one in ordered if one.name not in odd)
    kept = odd | _kept(policy, counted, zone, proven or {})
    held = _referred(ordered, kept)
    free = [one for one in counted if one.name not in kept | held]
    deletions = tuple(one.name for one in _in_turn(free)[:most])
    going = set(deletions)

    def decide(one: Candidate) -> Decision:
        counts = one.name not in odd and not one.incomplete
        if one.name in kept:
            return Decision(one.name, Verdict.KEEP, kept[one.name], counts)
        if one.name in held:
            return Decision(one.name, Verdict.PACK, held[one.name], counts)
        if one.name in going:
            reason = (
                "incomplete, and a later one is whole" if one.incomplete else "no rule keeps it"
            )
            return Decision(one.name, Verdict.DELETE, reason, counts)
        return Decision(one.name, Verdict.LATER, f"waits: {most} go in this run", counts)

    return RetentionPlan(tuple(map(decide, ordered)), deletions)


def _from_old_to_new(snapshots: Iterable[Candidate]) -> list[Candidate]:
    placed = {one.name: (Placed(one.chain, one.sequence, one.time), one) for one in snapshots}
    ages = by_age(place for place, _ in placed.values())
    return [
        one for place, one in sorted(placed.values(), key=lambda two: (ages[two[0]], two[1].name))
    ]


def _not_counted(ordered: Sequence[Candidate], now: datetime) -> dict[str, str]:
    """Return the snapshots that no rule counts, and why; they stay."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for one in ordered:
        if one.unreadable:
            found[one.name] = one.unreadable
        elif one.time > now + AHEAD:
            found[one.name] = "dated later than now"
        elif first.setdefault(one.id, one.name) != one.name:
            found[one.name] = f"a copy of {first[one.id].rpartition('/')[2]}"
    return found


def _kept(
    policy: RetentionPolicy,
    counted: Sequence[Candidate],
    zone: tzinfo | None,
    proven: Mapping[str, datetime],
) -> dict[str, str]:
    """Return the counted snapshots that a rule keeps, and which rules do."""
    if not policy:
        return {one.name: "no policy" for one in counted}
    whole = [one for one in counted if not one.incomplete]
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, reason in _by_place(policy, whole, proven):
        reasons[name].append(reason)
    for word, period_of in _PERIODS.items():
        count = policy.count_of(word)
        if count is not None and whole:
            for name, reason in _by_period(word, count, whole, lambda at: period_of(at, zone)):  # noqa: B023 - used up within the turn
                reasons[name].append(reason)
    newest_whole = counted.index(whole[-1]) if whole else -1
    for one in counted[newest_whole + 1 :]:
        reasons[one.name].append("incomplete, and the newest")
    return {name: ", ".join(several) for name, several in reasons.items()}


def _by_place(
    policy: RetentionPolicy, whole: Sequence[Candidate], proven: Mapping[str, datetime]
) -> Iterable[tuple[str, str]]:
    """Yield what is kept for being new, proven, without errors or tagged, with the reason."""
    if whole:
        yield whole[-1].name, "newest"
    for one in [one for one in whole if one.id in proven][-1:]:
        yield one.name, "newest proven"
    for one in [one for one in whole if not one.has_errors][-1:]:
        if one is not whole[-1]:
            yield one.name, "newest without errors"
    for number, one in enumerate(reversed(whole[-(policy.last or 0) :] if policy.last else []), 1):
        yield one.name, f"last {number}/{policy.last}"
    latest = max((one.time for one in whole), default=None)
    for one in whole:
        if policy.within is not None and latest is not None and latest - one.time <= policy.within:
            yield one.name, f"within {_duration_text(policy.within)}"
        for tag in policy.tags:
            if tag in one.tags:
                yield one.name, f"tag {tag}"


def _by_period(
    word: str, count: int, whole: Sequence[Candidate], period_of: Callable[[datetime], object]
) -> Iterable[tuple[str, str]]:
    """Yield the newest snapshot of each of the last ``count`` periods that have any.

    As long as there are fewer such periods the oldest snapshot stands in for those to come: else a
    rule for years would lose everything from before its first year's end.
    """
    newest: dict[object, Candidate] = {period_of(one.time): one for one in whole}
    periods = sorted(newest, reverse=True)  # type: ignore[type-var]  # of one kind each
    for number, period in enumerate(periods[:count], 1):
        yield newest[period].name, f"{word} {number}/{count}"
    if len(periods) < count:
        yield whole[0].name, f"oldest, until there are {count} {word}"


def _hour(time: datetime, zone: tzinfo | None) -> datetime:
    # As a moment, since an hour of the clock comes twice when summer time ends.
    local = time.astimezone(zone)
    start = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    return time.astimezone(UTC) - start


_PERIODS: Mapping[str, Callable[[datetime, tzinfo | None], object]] = {
    "hourly": _hour,
    "daily": lambda time, zone: time.astimezone(zone).date(),
    "weekly": lambda time, zone: time.astimezone(zone).isocalendar()[:2],
    "monthly": lambda time, zone: (time.astimezone(zone).year, time.astimezone(zone).month),
    "yearly": lambda time, zone: time.astimezone(zone).year,
}


def _duration_text(duration: timedelta) -> str:
    hours = round(duration.total_seconds() / 3600)
    return f"{hours // 24} d" if hours % 24 == 0 else f"{hours} h"


def _referred(ordered: Sequence[Candidate], kept: Collection[str]) -> dict[str, str]:
    """Return the snapshots that stay for what others need that stay, and why."""
    doubtful = [one for one in ordered if one.unreadable and one.may_refer]
    last = max(doubtful, key=lambda one: one.time, default=None)
    held = {}
    if last is not None:
        short = last.name.rpartition("/")[2]
        reason = f"{short}, which cannot be read, may refer to it"
        held = {one.name: reason for one in ordered if one.time <= last.time}
    by_id: dict[str, list[Candidate]] = defaultdict(list)
    for one in ordered:
        by_id[one.id].append(one)
    staying = [one for one in ordered if one.name in kept or one.name in held]
    while staying:
        user = staying.pop()
        for needed in (one for id_ in user.refers_to for one in by_id[id_]):
            if needed.name not in kept and needed.name not in held:
                held[needed.name] = f"{user.id[:8]} refers to it"
                staying.append(needed)
    return {name: reason for name, reason in held.items() if name not in kept}


def _in_turn(free: Sequence[Candidate]) -> list[Candidate]:
    """Return ``free`` in the order of deletion: the oldest first, after those that refer to it."""
    users: dict[str, list[Candidate]] = defaultdict(list)
    for one in free:
        for referred in one.refers_to:
            users[referred].append(one)
    turn: list[Candidate] = []
    seen: set[str] = set()
    for one in free:
        waiting = [(one, False)]
        while waiting:
            member, its_users_went = waiting.pop()
            if its_users_went:
                turn.append(member)
            elif member.name not in seen:
                seen.add(member.name)
                waiting.append((member, True))
                waiting += [(user, False) for user in users[member.id]]
    return turn
