"""Exclude patterns, as gitignore files have them, and where each one was said.

``pathspec`` knows what the wildcards of one name mean. Order, negation and directories are decided
here: a walk asks about one name at a time, below directories that it has entered.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from backup.errors import ConfigError

_WILD = re.compile(r"[*?\[\\]")
# What git reads otherwise than pathspec does: an escape or a named class between brackets.
_BRACKET = re.compile(r"(?<!\\)\[[!^]?\]?[^\]]*?(\\|\[:)")
_SPACES_BEHIND = re.compile(r"((?<!\\)(?:\\\\)*)\s+\Z")
_ANY_LEVELS = "**"
_MOST_PATTERNS = 10_000

Test = re.Pattern[str] | str
"""What a name has to be: equal to a text, or what an expression says."""


class SaidPattern(NamedTuple):
    """A pattern's text, and its origin in words: ``--exclude``, or ``/etc/x.excludes:12``."""

    text: str
    origin: str


class _Pattern(NamedTuple):
    """A pattern, understood; in ``segments`` ``None`` stands for any number of directories."""

    is_negated: bool
    directories_only: bool
    segments: tuple[Test | None, ...]
    last: str

    def fits(self, names: Sequence[str]) -> bool:
        """Return whether it fits the path of ``names``."""
        first, *others = self.segments
        if first is None and len(others) == 1:  # a name at any level: by far the most patterns
            return _fit(others, names[-1:])
        return _fit(self.segments, names)


class Patterns:
    """The patterns of a walk, in order: the last one that fits a name decides.

    Args:
        said: The patterns, each with its origin.
        before: Patterns that come before them.

    Raises:
        ConfigError: One of them cannot be used.
    """

    def __init__(self, said: Sequence[SaidPattern], before: Patterns | None = None) -> None:
        self.said: tuple[SaidPattern, ...] = (*(before.said if before else ()), *said)
        if len(self.said) > _MOST_PATTERNS:
            count = f"there are {len(self.said):,} patterns"
            raise ConfigError(f"{count}; {_MOST_PATTERNS:,} are allowed")
        known: list[_Pattern] = before._patterns if before else []  # noqa: SLF001 - of the same class
        self._patterns: list[_Pattern] = [*known, *(_understand(one) for one in said)]
        self._index()

    def _index(self) -> None:
        """Sort the patterns by what a last name must be, so that most names are asked for none."""
        self._always: list[int] = []
        self._by_name: dict[str, list[int]] = {}
        self._by_start: dict[str, list[int]] = {}
        self._by_end: dict[str, list[int]] = {}
        for number, pattern in enumerate(self._patterns):
            last = pattern.last
            if not _WILD.search(last):
                self._by_name.setdefault(last, []).append(number)
            elif last[0] == "*" and len(last) > 1 and not _WILD.search(last[1:]):
                self._by_end.setdefault(last[1:], []).append(number)
            elif last[-1] == "*" and len(last) > 1 and not _WILD.search(last[:-1]):
                self._by_start.setdefault(last[:-1], []).append(number)
            else:
                self._always.append(number)
        self._starts, self._ends = tuple(self._by_start), tuple(self._by_end)

    def is_negated(self, number: int) -> bool:
        """Return whether pattern ``number`` brings back rather than leaves out."""
        return self._patterns[number].is_negated

    def decide(self, name: bytes, relative: bytes, *, is_directory: bool) -> int | None:
        """Return the number of the pattern that decides about a name, ``None`` where none fits.

        Args:
            name: The last name of the path.
            relative: The path, relative to its source.
            is_directory: Whether it is one.
        """
        text = name.decode("utf-8", "surrogateescape")
        candidates = self._candidates(text)
        if not candidates:
            return None
        names = relative.decode("utf-8", "surrogateescape").split("/")
        for number in sorted(candidates, reverse=True):
            pattern = self._patterns[number]
            if (is_directory or not pattern.directories_only) and pattern.fits(names):
                return number
        return None

    def _candidates(self, name: str) -> list[int]:
        found = [*self._always, *self._by_name.get(name, ())]
        if name.endswith(self._ends):
            found += _numbers(self._by_end, filter(name.endswith, self._ends))
        if name.startswith(self._starts):
            found += _numbers(self._by_start, filter(name.startswith, self._starts))
        return found


def read_patterns(path: Path) -> list[SaidPattern]:
    """Return the patterns of a file, one a line; empty lines and comments (``#``) say nothing.

    Raises:
        ConfigError: It cannot be read, or is not UTF-8.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot read the exclude file {path}: {error.strerror}") from error
    said = []
    for number, line in enumerate(lines, 1):
        origin = f"{path}:{number}"
        text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
        if text.strip() and not text.startswith("#"):
            said.append(SaidPattern(text, origin))
    return said


def _numbers(by: dict[str, list[int]], keys: Iterable[str]) -> Iterator[int]:
    return (number for key in keys for number in by[key])


def _trimmed(text: str) -> str:
    return _SPACES_BEHIND.sub(r"\1", text)


def _understand(said: SaidPattern) -> _Pattern:
    text = _trimmed(said.text)
    if text.startswith("#"):
        raise _refused(
            said, "a comment", rf"to leave out what begins with '#', write it as \{text}"
        )
    if not _is_unicode(text):
        raise _refused(said, "not UTF-8", "write '?' for each byte that is not")
    is_negated = text.startswith("!")
    core = text[1:] if is_negated else text
    directories_only = core.endswith("/")
    core = core.removesuffix("/")
    if not core.strip("/"):
        raise _refused(said, "empty", "name what is to be left out, such as '*.log' or 'cache/'")
    levels = _levels(core)
    segments = tuple(None if one == _ANY_LEVELS else _test(one, said) for one in levels)
    return _Pattern(is_negated, directories_only, segments, levels[-1])


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _levels(core: str) -> list[str]:
    """Return the segments of a pattern; what has no ``/`` stands for a name at any level."""
    if "/" not in core:
        return [_ANY_LEVELS, core if core != _ANY_LEVELS else "*"]
    levels: list[str] = []
    for one in core.removeprefix("/").split("/"):
        if one != _ANY_LEVELS or levels[-1:] != [_ANY_LEVELS]:
            levels.append(one)
    # At the end it means whatever lies below, and not the directory itself.
    return [*levels, "*"] if levels[-1] == _ANY_LEVELS else levels


def _test(segment: str, said: SaidPattern) -> Test:
    """Return what fits one segment."""
    if not _WILD.search(segment):
        return segment
    if _BRACKET.search(segment):
        raise _refused(said, "not understood", "write no '\\' and no '[:' between brackets")
    try:
        expression = _translate(segment)
    except (ValueError, re.error) as error:
        hint = "a '\\' at the end escapes nothing; a range goes upwards, as in [a-z]"
        raise _refused(said, "not complete", hint) from error
    if expression is None:
        raise _refused(said, "not complete", r"a '[' has no ']'; if a '[' is meant, write '\['")
    return expression


def _translate(segment: str) -> re.Pattern[str] | None:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415 - only where needed

    if segment[-1].isspace() and segment[-2:-1] != "\\":  # which pathspec would take away
        segment = f"{segment[:-1]}[{segment[-1]}]"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a '[' between brackets
        found: re.Pattern[str] | None = GitIgnoreSpecPattern("/" + segment).regex
    return found


def _refused(said: SaidPattern, why: str, hint: str) -> ConfigError:
    return ConfigError(f'the pattern "{said.text}" ({said.origin}) is {why}', hint=hint)


def _fit(segments: Sequence[Test | None], names: Sequence[str]) -> bool:
    """Return whether all of ``names`` are what ``segments`` say."""
    if not segments:
        return not names
    first, behind = segments[0], segments[1:]
    if first is None:
        return any(_fit(behind, names[count:]) for count in range(len(names)))
    return bool(names) and _equals(first, names[0]) and _fit(behind, names[1:])


def _equals(test: Test, name: str) -> bool:
    if isinstance(test, str):
        return test == name
    found = test.match(name)
    # Its '$' lets a line break at the end pass.
    return found is not None and found.end() == len(name)
