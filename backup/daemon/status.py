"""How it goes, in one line: what is wrong first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from backup.clock import Clock
from backup.errors import BackupError
from backup.running import Going, Runner, Turn
from backup.triggers import span_text

_SHOWN = 3
_MINUTE = timedelta(minutes=1)
_WEEK = timedelta(days=6)
_AGENDA_EVERY = 10.0

Stalled = Callable[[], Mapping[str, timedelta]]
"""Tells which runs have not moved a byte, and for how long."""


def stalled_of(runs: Iterable[Going]) -> dict[str, timedelta]:
    """Return those runs that do not move."""
    return {one.name: timedelta(seconds=one.still) for one in runs if one.is_stalled}


class Situation(NamedTuple):
    """What is to be told.

    Args:
        stalled: Runs that have not moved a byte, and for how long.
        problem: What is wrong with the daemon itself.
        running: Tasks that run.
        turns: When each task is next, the first one at the front.
    """

    stalled: Mapping[str, timedelta] = {}
    problem: str = ""
    running: Sequence[str] = ()
    turns: Sequence[Turn] = ()


def status_text(found: Situation, now: datetime, zone: tzinfo) -> str:
    """Return the line: stalled runs, the daemon's problem, failures, what runs, what is next."""
    parts = [
        _stalled(found.stalled),
        found.problem,
        _failed(found.turns),
        _named("running", [one for one in found.running if one not in found.stalled]),
        _next(found, now, zone),
    ]
    return "; ".join(part for part in parts if part)


def _stalled(stalled: Mapping[str, timedelta]) -> str:
    worst = sorted(stalled, key=lambda name: (-stalled[name], name))
    texts = [f"{name} has not moved a byte for {_minutes(stalled[name])}" for name in worst]
    return f"stalled: {_few(texts)}" if texts else ""


def _minutes(span: timedelta) -> str:
    return span_text(max(_MINUTE, span - span % _MINUTE))


def _failed(turns: Iterable[Turn]) -> str:
    failed = sorted(one.task.name for one in turns if one.known.failures)
    return _named("failed", failed)


def _named(word: str, names: Sequence[str]) -> str:
    return f"{word}: {_few(names)}" if names else ""


def _few(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _next(found: Situation, now: datetime, zone: tzinfo) -> str:
    open_turns = [one for one in found.turns if one.known.paused_since is None]
    coming = [one for one in open_turns if one.task.name not in found.running and one.begins]
    if not coming:
        paused = found.turns and not open_turns
        return "all is paused" if paused else ""
    begins = coming[0].begins or now
    when = "now" if begins <= now else f"at {_time(begins, now, zone)}"
    return f"next: {coming[0].task.name} {when}"


def _time(moment: datetime, now: datetime, zone: tzinfo) -> str:
    local, today = moment.astimezone(zone), now.astimezone(zone)
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{local:%a %H:%M}" if moment - now < _WEEK else f"{local:%Y-%m-%d %H:%M}"


class StatusLine:
    """The line of a runner; what is next is read from the disk now and then only.

    Args:
        runner: What runs the tasks.
        clock: Tells the time.
        zone: The machine's time zone.
        stalled: Tells which runs do not move.
    """

    def __init__(self, runner: Runner, clock: Clock, zone: tzinfo, stalled: Stalled) -> None:
        self._runner = runner
        self._clock = clock
        self._zone = zone
        self._stalled = stalled
        self._running: Sequence[str] = ()
        self._turns: Sequence[Turn] = ()
        self._unread = ""
        self._read = float("-inf")

    def text(self, problem: str) -> str:
        """Return the line."""
        running = self._runner.running()
        if running != self._running or time.monotonic() - self._read > _AGENDA_EVERY:
            self._turns, self._unread = self._agenda()
            self._running, self._read = running, time.monotonic()
        found = Situation(self._stalled(), problem or self._unread, running, self._turns)
        return status_text(found, self._clock(), self._zone) or "nothing is due"

    def forget(self) -> None:
        """Read anew what is next when it is asked for."""
        self._read = float("-inf")

    def _agenda(self) -> tuple[Sequence[Turn], str]:
        """Return when tasks are next, and why that is not known."""
        try:
            return self._runner.agenda(), ""
        except BackupError as error:
            return (), error.message
