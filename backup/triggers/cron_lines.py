"""Cron lines as they are written in a crontab, checked."""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches

from cronsim import CronSim, CronSimError

from backup.errors import InvalidArgumentError

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 5
_SOME_DAY = datetime(2024, 1, 1)  # noqa: DTZ001 - a wall clock's
_FORM = 'write minute, hour, day of month, month, day of week, as in "30 2 * * 1-5"'


def parse_cron(said: object) -> str:
    """Return a cron line of five fields, also for ``@daily`` and the like.

    Raises:
        InvalidArgumentError: It is none, or says a date that never comes.
    """
    if not isinstance(said, str) or not said.strip():
        raise InvalidArgumentError(f"cron needs a line, not {repr(said)[:80]}", hint=_FORM)
    line = " ".join(said.split())
    line = _nickname(line) if line.startswith("@") else line
    if len(line.split()) != _FIELDS:
        raise InvalidArgumentError(
            f"a cron line has {_FIELDS} fields, and {line[:80]!r} has {len(line.split())}",
            hint=_FORM,
        )
    try:
        comes = next(CronSim(line, _SOME_DAY), None) is not None
    except CronSimError as error:
        if not _is_known_without_month(line):
            what = str(error).lower().removeprefix("bad ").replace("-", " ")
            raise InvalidArgumentError(
                f"the cron line {line[:80]!r} has a {what} that cron does not know", hint=_FORM
            ) from error
        comes = False
    if not comes:
        raise InvalidArgumentError(
            f"the cron line {line[:80]!r} says a date that never comes",
            hint="no such month has that day",
        )
    return line


def _nickname(line: str) -> str:
    if line.lower() == "@reboot":
        raise InvalidArgumentError(
            "cron: @reboot is no time", hint="a run that was missed is made up after a start anyway"
        )
    if line.lower() not in NICKNAMES:
        close = get_close_matches(line.lower(), NICKNAMES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(NICKNAMES)}"
        raise InvalidArgumentError(f"cron does not know {line[:40]!r}", hint=hint)
    return NICKNAMES[line.lower()]


def _is_known_without_month(line: str) -> bool:
    minute, hour, day, _, weekday = line.split()
    try:
        CronSim(f"{minute} {hour} {day} * {weekday}", _SOME_DAY)
    except CronSimError:
        return False
    return True
