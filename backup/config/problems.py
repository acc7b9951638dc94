"""What is wrong with a configuration: where it says it, about which key, in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from backup.errors import ConfigError

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_CHECK = "'auto-backup config validate' checks it again; --config /dev/null leaves it aside"

KeyPath = tuple[str | int, ...]
"""The way from the top of a configuration to a value: keys, and places in lists."""


class Place(NamedTuple):
    """A line of a file; 0 stands for the file as a whole."""

    file: Path
    line: int = 0

    def __str__(self) -> str:
        """Return it as editors and compilers write it."""
        return f"{self.file}:{self.line}" if self.line else str(self.file)


class Problem(NamedTuple):
    """One thing that is wrong; ``key`` is empty where it is about a file."""

    place: Place
    key: str
    text: str

    def __str__(self) -> str:
        """Return it as a line."""
        return ": ".join(filter(None, (str(self.place), self.key, self.text)))


class FileProblem(Exception):  # noqa: N818 - it never leaves this package
    """A file cannot be taken in at all."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(place, "", text)


def dotted(path: Sequence[str | int]) -> str:
    """Return a way as people write it: ``jobs.shop.sources[0].path``; other names in quotes."""
    text = ""
    for one in path:
        if isinstance(one, int):
            text += f"[{one}]"
        else:
            text += ("." if text else "") + (one if _PLAIN.fullmatch(one) else f'"{one}"')
    return text


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return the end of a sentence that names what is like ``word``, or all that is known."""
    close = get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def refuse_unknown_jobs(
    names: Iterable[str], known: Collection[str], who: str = "the configuration"
) -> None:
    """Refuse names that no job has.

    Args:
        names: What was asked for.
        known: All jobs.
        who: Who should know them.

    Raises:
        ConfigError: One of them is none; the hint names what is like it, or all.
    """
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"{who} has no job {name!r}", hint=hint if known else None)


def refusal(problems: Iterable[Problem]) -> ConfigError:
    """Return the error that tells all of ``problems``, in the order of files and lines."""
    told = tuple(str(one) for one in sorted(problems))
    return ConfigError.of_problems("the configuration", told, hint=_CHECK)
