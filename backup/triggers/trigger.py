"""What makes a job due, as a configuration or a program says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import islice, pairwise

from backup.errors import InvalidArgumentError
from backup.triggers.calendar_words import lines_at, lines_on
from backup.triggers.cron_lines import parse_cron
from backup.triggers.occurrences import after
from backup.triggers.spans import parse_span, span_text
from backup.triggers.time_zones import check_zone

KINDS = ("every", "at", "on", "cron")
_WORDS = (*KINDS, "time_zone", "jitter")
_EXAMPLE = 'say one of every: 6 hours, at: "02:30", on: monday at 03:00, cron: "30 2 * * 1-5"'
_DAY = timedelta(days=1)
_SOME_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """When a job is due: after an ``interval``, or at the times of cron ``lines``.

    ``make_trigger``, ``every``, ``at``, ``on`` and ``cron`` make one.

    Args:
        interval: The time from one run to the next, of ``every``.
        lines: Cron lines, of everything else.
        words: What was said, for people.
        time_zone: Whose clock the lines mean; the machine's where it is empty.
        jitter: By how much a run may be delayed, so that not all begin at once.
    """

    interval: timedelta | None = None
    lines: tuple[str, ...] = ()
    words: str
    time_zone: str = ""
    jitter: timedelta = timedelta(0)

    def at(self, *times: str) -> Trigger:
        """Return ``every("day")`` at times of the day.

        Raises:
            InvalidArgumentError: One is no time, or this is not each day.
        """
        if self.interval != _DAY:
            raise InvalidArgumentError(
                f"{self.words} has no time of the day", hint='say every("day").at("02:30")'
            )
        lines = lines_at(times)
        words = f"daily at {_enumerated(_times(lines))}"
        return _checked(replace(self, interval=None, lines=lines, words=words))

    def in_time_zone(self, name: str) -> Trigger:
        """Return the same by the clock of ``Europe/Berlin`` and the like.

        Raises:
            InvalidArgumentError: There is no such zone, or this goes by no clock.
        """
        return _checked(replace(self, time_zone=check_zone(name)))

    def with_jitter(self, span: str | timedelta) -> Trigger:
        """Return the same with each run delayed by up to ``span``.

        Raises:
            InvalidArgumentError: It is no time, or as long as runs are apart.
        """
        return _checked(replace(self, jitter=parse_span(span, "jitter")))


def make_trigger(said: Mapping[str, object]) -> Trigger:
    """Return the trigger of a mapping such as ``{"at": "02:30", "time_zone": "Europe/Berlin"}``.

    Raises:
        InvalidArgumentError: A word or a value is unknown, or there is not exactly one of
            ``every``, ``at``, ``on`` and ``cron``.
    """
    if not isinstance(said, Mapping):
        raise InvalidArgumentError(f"a schedule is a mapping, not {repr(said)[:80]}", hint=_EXAMPLE)
    for word in said:
        if word not in _WORDS:
            raise _unknown(str(word))
    kinds = [word for word in KINDS if word in said]
    if len(kinds) != 1:
        has = f"both {kinds[0]} and {kinds[1]}" if kinds else f"none of {', '.join(KINDS)}"
        raise InvalidArgumentError(f"a schedule has {has}", hint=_EXAMPLE)
    makers = {"every": every, "at": at, "on": on, "cron": cron}
    trigger = makers[kinds[0]](said[kinds[0]])
    if said.get("time_zone") is not None:
        trigger = trigger.in_time_zone(said["time_zone"])  # type: ignore[arg-type]  # it checks
    if said.get("jitter") is not None:
        trigger = trigger.with_jitter(said["jitter"])  # type: ignore[arg-type]  # it checks
    return trigger


def every(said: object) -> Trigger:
    """Return the trigger of ``6 hours``, ``15m``, ``day``: so long after the last one.

    Raises:
        InvalidArgumentError: It is no time, or out of range.
    """
    interval = parse_span(said, "every")
    return Trigger(interval=interval, words=f"every {span_text(interval).removeprefix('1 ')}")


def at(said: object) -> Trigger:
    """Return the trigger of ``02:30``, or of several times: each day.

    Raises:
        InvalidArgumentError: It is no time of the day.
    """
    return every("1 day").at(*said) if isinstance(said, list | tuple) and said else _at_one(said)


def _at_one(said: object) -> Trigger:
    lines = lines_at(said)
    return Trigger(lines=lines, words=f"daily at {_enumerated(_times(lines))}")


def on(said: object) -> Trigger:
    """Return the trigger of ``monday at 03:00``, or of several such texts.

    Raises:
        InvalidArgumentError: A day or a time is unknown.
    """
    lines = lines_on(said)
    texts = [said] if isinstance(said, str) else list(said)  # type: ignore[call-overload]
    shown = "; ".join(" ".join(text.lower().split()) for text in texts)
    return Trigger(lines=lines, words=f"on {shown}")


def cron(said: object) -> Trigger:
    """Return the trigger of a cron line, or of ``@daily`` and the like.

    Raises:
        InvalidArgumentError: It is none, or says a date that never comes.
    """
    return Trigger(lines=(parse_cron(said),), words=f"cron {' '.join(str(said).split())}")


def describe(trigger: Trigger) -> str:
    """Return a trigger for people: ``daily at 02:30 Europe/Berlin, up to 10 minutes later``."""
    zone = f" {trigger.time_zone}" if trigger.time_zone else ""
    later = f", up to {span_text(trigger.jitter)} later" if trigger.jitter else ""
    return f"{trigger.words}{zone}{later}"


def _checked(trigger: Trigger) -> Trigger:
    if trigger.time_zone and trigger.interval is not None:
        raise InvalidArgumentError(
            f"{trigger.words} goes by no clock, so it has no time zone", hint="leave time_zone out"
        )
    if trigger.jitter and trigger.jitter >= (least := _shortest_wait(trigger)):
        raise InvalidArgumentError(
            f"jitter has to be shorter than {span_text(least)}, the time between two runs"
        )
    return trigger


def _shortest_wait(trigger: Trigger) -> timedelta:
    if trigger.interval is not None:
        return trigger.interval
    moments = islice(_moments(trigger.lines), 100)
    return min((later - sooner for sooner, later in pairwise(moments)), default=timedelta.max)


def _moments(lines: tuple[str, ...]) -> Iterator[datetime]:
    moment = after(lines, _SOME_MONDAY, UTC)
    while moment is not None and moment < _SOME_MONDAY + 400 * _DAY:
        yield moment
        moment = after(lines, moment, UTC)


def _times(lines: tuple[str, ...]) -> list[str]:
    fields = [line.split() for line in lines]
    return [f"{int(hour):02}:{int(minute):02}" for minute, hour, *_ in fields]


def _enumerated(texts: list[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _unknown(word: str) -> InvalidArgumentError:
    close = get_close_matches(word, _WORDS, n=1)
    hint = f"did you mean {close[0]}?" if close else _EXAMPLE
    return InvalidArgumentError(f"a schedule does not know {word[:40]!r}", hint=hint)
