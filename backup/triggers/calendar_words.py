"""Days and times as people say them, as cron lines: ``monday at 03:00``, ``1st at 04:00``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from backup.errors import InvalidArgumentError

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_SHORT = {"tues": "tuesday", "weds": "wednesday", "thur": "thursday", "thurs": "thursday"}
_SETS = {"weekdays": range(1, 6), "weekends": (0, 6), "every day": range(7), "daily": range(7)}
_NTH = {"first": "#1", "second": "#2", "third": "#3", "fourth": "#4", "last": "L"}
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::00)?", re.ASCII)
_DATE = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)", re.ASCII)
_BETWEEN = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
_DATES = range(1, 29)  # each month has them
_EXAMPLES = 'write it as "monday at 03:00", "weekdays at 22:00" or "1st at 04:00"'


def lines_at(said: object) -> tuple[str, ...]:
    """Return the cron lines of ``at: "02:30"``: daily, at one or several times.

    Raises:
        InvalidArgumentError: It is no time.
    """
    return tuple(f"{_clock(time)} * * *" for time in _listed(said, "at", '"02:30"'))


def lines_on(said: object) -> tuple[str, ...]:
    """Return the cron lines of ``on: monday at 03:00``.

    Raises:
        InvalidArgumentError: A day or a time is unknown.
    """
    lines = []
    for phrase in _listed(said, "on", '"monday at 03:00"'):
        days, at, times = re.sub(r"\s+", " ", phrase.strip().lower()).partition(" at ")
        if not at:
            raise InvalidArgumentError(
                f"on needs a day and a time, not {phrase[:80]!r}", hint=_EXAMPLES
            )
        fields = [field for day in _BETWEEN.split(days) for field in _day(day)]
        lines += [f"{_clock(time)} {field}" for time in _BETWEEN.split(times) for field in fields]
    return tuple(dict.fromkeys(lines))


def _listed(said: object, word: str, example: str) -> list[str]:
    """Return one text or several, which commas may also part within ``at``."""
    given = list(said) if isinstance(said, list | tuple) else [said]
    if not given or not all(isinstance(one, str) and one.strip() for one in given):
        shown = repr(next((one for one in given if not isinstance(one, str)), said))[:80]
        hint = f"write it in quotes: {word}: {example}"
        raise InvalidArgumentError(f"{word} needs text such as {example}, not {shown}", hint=hint)
    texts = [str(one) for one in given]
    if word == "at":
        return [time for text in texts for time in _BETWEEN.split(text.strip())]
    return texts


def _clock(text: str) -> str:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise InvalidArgumentError(
            f"{text.strip()[:40]!r} is not a time of the day",
            hint='write hours and minutes from 00:00 to 23:59, as in "02:30"',
        )
    return f"{int(found[2])} {int(found[1])}"


def _day(words: str) -> Iterable[str]:
    """Return the last three fields of cron lines for ``monday``, ``mon-fri``, ``1st``."""
    if words in _SETS:
        return [_weekdays(_SETS[words])]
    if words in {"last day", "last day of the month"}:
        return ["L * *"]
    if date := _DATE.fullmatch(words):
        return [_date(words, int(date[1]))]
    nth, _, rest = words.partition(" ")
    if nth in _NTH and rest:
        return [f"* * {_number(rest)}{_NTH[nth]}"]
    first, dash, last = re.sub(r" to | ?- ?", "-", words).partition("-")
    if not dash:
        return [f"* * {_number(words)}"]
    begin, end = _number(first), _number(last)
    return [_weekdays((begin + one) % 7 for one in range((end - begin) % 7 + 1))]


def _weekdays(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    return "* * *" if len(found) == len(_DAYS) else f"* * {','.join(map(str, found))}"


def _date(words: str, number: int) -> str:
    if number not in _DATES:
        hint = "days of the month are 1st to 28th, and last day"
        raise InvalidArgumentError(f"not every month has a {words}", hint=hint)
    return f"{number} * *"


def _number(word: str) -> int:
    name = _SHORT.get(word.removesuffix("."), word.removesuffix("."))
    for number, day in enumerate(_DAYS):
        if name in {day, f"{day}s", day[:3]}:
            return number
    close = get_close_matches(name, [*_DAYS, *_SETS], n=1)
    hint = f"did you mean {close[0]}?" if close else _EXAMPLES
    raise InvalidArgumentError(f"{word[:40]!r} is not a day", hint=hint)
