"""What a user says is to be kept: ``last=3,daily=14,within=30d``, or the same as a mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches

from backup.errors import InvalidArgumentError

COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_WORDS = (*COUNTS, "within", "tag")
_EXAMPLE = "last=3,daily=14,weekly=8,monthly=12"
_MOST = 1_000_000
_MOST_DAYS = 100_000
_UNITS = {"h": 1, "hour": 1, "d": 24, "day": 24, "w": 168, "week": 168}
_DURATION = re.compile(r"(?P<number>[0-9]{1,9}) ?(?P<unit>[A-Za-z]+)", re.ASCII)
_TAG = re.compile(r"[^\s,=]{1,64}")


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """How many snapshots of a job to keep; nothing said means that all are kept.

    Args:
        last: The newest ones.
        hourly: The newest one of each of the last so many hours that have any; and so on.
        daily: Days.
        weekly: Weeks, which begin on Monday.
        monthly: Months.
        yearly: Years.
        within: All that are at most so much older than the newest one.
        tags: All that carry one of these words.

    Raises:
        InvalidArgumentError: A count is below 1, or there are tags and nothing else.
    """

    last: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    yearly: int | None = None
    within: timedelta | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for word in COUNTS:
            _check_count(word, getattr(self, word))
        if self.within is not None and self.within <= timedelta(0):
            raise InvalidArgumentError("within needs a duration above zero")
        rest = [getattr(self, one.name) for one in fields(self) if one.name != "tags"]
        if self.tags and not any(rest):
            raise InvalidArgumentError(
                "a policy of tags alone would delete all snapshots without them",
                hint="say what to keep of the others, for example last=1",
            )

    def __bool__(self) -> bool:
        """Tell whether anything may ever be deleted."""
        return self != NOTHING_GOES

    def count_of(self, word: str) -> int | None:
        """Return the count of ``daily`` and so on."""
        count: int | None = getattr(self, word)
        return count


def _check_count(word: str, count: object) -> None:
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int):
        raise InvalidArgumentError(f"{word} needs a whole number, not {count!r}")
    if not 1 <= count <= _MOST:
        raise InvalidArgumentError(
            f"at least 1 snapshot is kept, not {count}"
            if word == "last"
            else f"{word} needs a number from 1 to {_MOST:,}, not {count}",
            hint=f"to have no rule of that kind, leave {word} out",
        )


NOTHING_GOES = RetentionPolicy()
"""The policy without a rule: nothing is ever deleted."""


def parse_keep(texts: Sequence[str]) -> RetentionPolicy:
    """Return the policy that texts such as ``last=3,daily=14`` and ``tag=release`` say together.

    Raises:
        InvalidArgumentError: A word or a unit is unknown, told twice, or has no usable value.
    """
    said: dict[str, object] = {}
    tags: list[str] = []
    for part in (one.strip() for text in texts for one in text.split(",")):
        word, equals, value = (one.strip() for one in part.partition("="))
        if not equals or not value:
            raise InvalidArgumentError(
                f"{part!r} does not say what to keep", hint=f"write it as {_EXAMPLE}"
            )
        if word == "tag":
            tags.append(value)
        elif word not in _WORDS:
            raise _unknown(word)
        elif word in said:
            raise InvalidArgumentError(f"{word} is told twice: {said[word]} and {value}")
        else:
            said[word] = _number(word, value) if word in COUNTS else value
    return make_policy(said | ({"tag": tags} if tags else {}))


def make_policy(said: Mapping[str, object]) -> RetentionPolicy:
    """Return the policy of a mapping such as ``{"last": 3, "within": "30 days", "tags": ["x"]}``.

    Raises:
        InvalidArgumentError: A word or a unit is unknown, or has no usable value.
    """
    values: dict[str, object] = {}
    for word, value in said.items():
        if word in {"tag", "tags"}:
            values["tags"] = _tags(value)
        elif word == "within":
            values[word] = value if isinstance(value, timedelta) else parse_duration(str(value))
        elif word in COUNTS:
            values[word] = value
        else:
            raise _unknown(word)
    return RetentionPolicy(**values)  # type: ignore[arg-type]  # checked by the class itself


def parse_duration(text: str) -> timedelta:
    """Return the duration ``text`` says: ``12h``, ``30d``, ``30 days``, ``8 weeks``.

    Raises:
        InvalidArgumentError: It says none, zero, or one in months or years, whose lengths differ.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise InvalidArgumentError(
            f"{text[:80]!r} is not a duration", hint="write it as 12h, 30d, '30 days' or 8w"
        )
    unit = found["unit"] if found["unit"] in _UNITS else found["unit"].removesuffix("s")
    if unit not in _UNITS:
        raise InvalidArgumentError(
            f"{found['unit']!r} in {text[:80]!r} is not a unit",
            hint="units are h (hours), d (days) and w (weeks); for a year say 365d",
        )
    hours = int(found["number"]) * _UNITS[unit]
    if not 1 <= hours <= _MOST_DAYS * 24:
        raise InvalidArgumentError(f"{text[:80]!r} is not between 1 hour and {_MOST_DAYS:,} days")
    return timedelta(hours=hours)


def _number(word: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", value, re.ASCII):
        raise InvalidArgumentError(
            f"{word} needs a whole number, not {value[:80]!r}", hint=f"write it as {_EXAMPLE}"
        )
    return int(value)


def _tags(value: object) -> tuple[str, ...]:
    words = (value,) if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words:
        raise InvalidArgumentError(f"tags need words, not {value!r}")
    for word in words:
        if not isinstance(word, str) or not _TAG.fullmatch(word):
            raise InvalidArgumentError(
                f"{str(word)[:80]!r} cannot be a tag", hint="a tag is one word of up to 64 letters"
            )
    return tuple(dict.fromkeys(words))


def _unknown(word: str) -> InvalidArgumentError:
    close = get_close_matches(word, _WORDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"what can be said: {', '.join(_WORDS)}"
    return InvalidArgumentError(f"{word[:80]!r} is not something that can be kept", hint=hint)
