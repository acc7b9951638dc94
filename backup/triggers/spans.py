"""Spans of time as people write them: ``6 hours``, ``15m``."""

from __future__ import annotations

import re
from datetime import timedelta
from difflib import get_close_matches

from backup.errors import InvalidArgumentError

_MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60, "week": 7 * 24 * 60}
_SHORT = {"m": "minute", "min": "minute", "h": "hour", "d": "day", "w": "week"}
_WEEKDAYS = {f"{one}day" for one in ("mon", "tues", "wednes", "thurs", "fri", "satur", "sun")}
_SPAN = re.compile(r"(?P<number>[0-9]{1,9})?\s*(?P<unit>[^\W\d_]+)")
_MOST_DAYS = 3660
_EXAMPLES = "write it as 15 minutes, 6 hours, 1 day or 2 weeks"
_NOT_FIXED = {
    "month": "months differ in length: say 30 days, or on: 1st at 02:30",
    "year": "years differ in length: say 365 days, or cron: @yearly",
    "second": "the shortest is 1 minute",
}


def parse_span(said: object, what: str) -> timedelta:
    """Return the time that ``6 hours``, ``6h``, ``1 day`` or ``day`` says.

    Args:
        said: The text.
        what: What it is said of, as in ``every``.

    Raises:
        InvalidArgumentError: It has no number, another unit, or is out of range.
    """
    if isinstance(said, timedelta):
        return _checked(said, str(said), what)
    if isinstance(said, int | float) and not isinstance(said, bool):
        raise InvalidArgumentError(f"{what} needs a unit beside {said}", hint=_EXAMPLES)
    found = _SPAN.fullmatch(said.strip()) if isinstance(said, str) else None
    if found is None:
        raise InvalidArgumentError(
            f"{what} needs a time such as 6 hours, not {_shown(said)}", hint=_EXAMPLES
        )
    minutes = int(found["number"] or 1) * _MINUTES[_unit(found["unit"], what)]
    if minutes > _MOST_DAYS * 24 * 60:
        raise _out_of_range(_shown(said), what)
    return _checked(timedelta(minutes=minutes), _shown(said), what)


def _unit(word: str, what: str) -> str:
    lower = word.lower()
    unit = _SHORT.get(lower, lower.removesuffix("s") if len(lower) > 1 else lower)
    if unit in _MINUTES:
        return unit
    if unit in _NOT_FIXED:
        raise InvalidArgumentError(f"{what} cannot count {unit}s", hint=_NOT_FIXED[unit])
    if lower.removesuffix("s") in _WEEKDAYS:
        raise InvalidArgumentError(
            f"{what} needs a time, not a day", hint=f"say on: {lower.removesuffix('s')} at 03:00"
        )
    close = get_close_matches(lower, [*_MINUTES, *(f"{one}s" for one in _MINUTES)], n=1)
    hint = f"did you mean {close[0]}?" if close else "units are minutes, hours, days and weeks"
    raise InvalidArgumentError(f"{what} does not know the unit {word[:40]!r}", hint=hint)


def _checked(span: timedelta, shown: str, what: str) -> timedelta:
    if not timedelta(minutes=1) <= span <= timedelta(days=_MOST_DAYS):
        raise _out_of_range(shown, what)
    if span % timedelta(minutes=1):
        raise InvalidArgumentError(f"{what} counts whole minutes, not {shown}")
    return span


def _out_of_range(shown: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{what} is between 1 minute and {_MOST_DAYS:,} days, not {shown}")


def _shown(said: object) -> str:
    return repr(said)[:80]


def span_text(span: timedelta) -> str:
    """Return a span in the largest unit that it is a whole number of."""
    minutes = span // timedelta(minutes=1)
    unit = next(one for one in reversed(_MINUTES) if minutes % _MINUTES[one] == 0)
    count = minutes // _MINUTES[unit]
    return f"{count} {unit}{'' if count == 1 else 's'}"
