"""Why a walk leaves something out: the causes, and the decisions that need no look at a disk."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from copy import copy
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from backup.errors import ConfigError
from backup.model import ExcludeRules, path_text
from backup.sources.patterns import Patterns, SaidPattern

CACHE_TAG = b"CACHEDIR.TAG"
"""The file that marks a directory as a cache, if it begins with ``CACHE_SIGNATURE``."""
CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.ASCII)
_POWERS = "kmgtp"
_BINARY, _DECIMAL = 1024, 1000
_LARGEST = 2**63 - 1
_UNITS = {"": 1, "b": 1} | {
    letter + ending: base**power
    for power, letter in enumerate(_POWERS, 1)
    for ending, base in (("", _BINARY), ("ib", _BINARY), ("b", _DECIMAL))
}


class Cause(StrEnum):
    """What makes a walk leave something out."""

    PATTERN = "pattern"
    SIZE = "size"
    MARKER = "marker"
    CACHE = "cache"
    OTHER_FILE_SYSTEM = "other-file-system"
    KERNEL = "kernel-file-system"
    LOOP = "loop"
    OWN_STORE = "own-store"


_WORDS = {
    Cause.PATTERN: "excluded by {}",
    Cause.SIZE: "larger than {} bytes",
    Cause.MARKER: "it holds {}",
    Cause.CACHE: "its CACHEDIR.TAG says that it is a cache",
    Cause.OTHER_FILE_SYSTEM: "another file system",
    Cause.KERNEL: "made by the kernel ({})",
    Cause.LOOP: "a loop, it is {} once more",
    Cause.OWN_STORE: "own store",
}
_ALTOGETHER = {Cause.PATTERN, Cause.SIZE, Cause.OWN_STORE}


class Rule(NamedTuple):
    """Why something is left out; ``detail`` is a pattern, a name or a path, as the cause has it.

    ``pattern`` is the pattern with its origin, ``None`` for all other causes.
    """

    cause: Cause
    detail: str = ""
    pattern: SaidPattern | None = None

    @property
    def words(self) -> str:
        """What the cause is, for people."""
        return _WORDS[self.cause].format(self.detail)

    @property
    def reason(self) -> str:
        """The words, and whether it is about the contents of a directory, which itself stays."""
        return self.words if self.cause in _ALTOGETHER else f"contents: {self.words}"


class Excluder:
    """The decisions that ``rules`` lead to, about one name at a time.

    It knows the patterns that count for all sources; ``at`` returns the one for a single source.

    Args:
        rules: What is to be left out.
        origins: Where each pattern was said, for errors and reports: those of ``rules.exclude``,
            then those of each of ``rules.of_source``; their numbers by default.

    Raises:
        ConfigError: One of the rules cannot be used.
    """

    def __init__(self, rules: ExcludeRules, origins: Sequence[str] = ()) -> None:
        said = iter([SaidPattern(*one) for one in zip(*_told(rules, origins), strict=True)])
        self.rules = rules
        self.patterns = Patterns(list(islice(said, len(rules.exclude))))
        self._markers = frozenset(_marker(name) for name in rules.if_present)
        self._at: dict[bytes, Excluder] = {}
        for path, own in rules.of_source:
            if path in self._at:
                raise ConfigError(f"the patterns of the source {path_text(path)} are told twice")
            self._at[path] = copy(self)
            self._at[path].patterns = Patterns(list(islice(said, len(own))), self.patterns)

    def at(self, source: bytes) -> Excluder:
        """Return the excluder for what lies at and below ``source``, a root's path."""
        return self._at.get(source, self)

    def decide(self, name: bytes, relative: bytes, *, is_directory: bool, size: int) -> Rule | None:
        """Return why one name is left out altogether, or ``None``.

        Args:
            name: The last name of the path.
            relative: The path, relative to its source; not that of the source itself.
            is_directory: Whether it is a directory.
            size: The bytes of a regular file, 0 of anything else.
        """
        number = self.patterns.decide(name, relative, is_directory=is_directory)
        if number is not None and not self.patterns.is_negated(number):
            pattern = self.patterns.said[number]
            return Rule(Cause.PATTERN, pattern.text, pattern)
        if size > self.rules.larger_than > 0:
            return Rule(Cause.SIZE, f"{self.rules.larger_than:,}")
        return None

    def markers(self, names: Sequence[bytes]) -> list[bytes]:
        """Return the names, among those in a directory, that keep its contents out."""
        return [name for name in names if name in self._markers] if self._markers else []

    def may_be_cache(self, names: Sequence[bytes]) -> bool:
        """Return whether its tag is to be looked at."""
        return self.rules.caches and CACHE_TAG in names


def parse_size(text: str) -> int:
    """Return the bytes that a user means: ``100M`` and ``100MiB`` count in 1024, ``100MB`` in 1000.

    Raises:
        ConfigError: It is not a size.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    unit = _UNITS.get(found[2]) if found else None
    if found is None or unit is None:
        hint = "a number and a unit: 500K, 100M, 1.5GiB, 2TB"
        raise ConfigError(f"{text!r} is not a size", hint=hint)
    size = int(Decimal(found[1]) * unit)
    if not 1 <= size <= _LARGEST:
        raise ConfigError(f"{text!r} is not a size that a file can have", hint="at least one byte")
    return size


def check_sources(rules: ExcludeRules, sources: Collection[bytes]) -> None:
    """Raise ``ConfigError`` where patterns belong to something that is none of ``sources``."""
    for path, _ in rules.of_source:
        if path not in sources:
            raise ConfigError(
                f"there are patterns for {path_text(path)}, which is not a source",
                hint="patterns for a single source are told with the path of that source",
            )


def _told(rules: ExcludeRules, origins: Sequence[str]) -> tuple[list[str], Sequence[str]]:
    """Return all patterns of the rules, and where each of them was said."""
    texts: list[str] = []
    numbers: list[str] = []
    for place, patterns in [("", rules.exclude), *_of_sources(rules)]:
        texts += patterns
        numbers += [f"pattern {number}{place}" for number in range(1, len(patterns) + 1)]
    return texts, origins or numbers


def _of_sources(rules: ExcludeRules) -> list[tuple[str, tuple[str, ...]]]:
    return [(f" of {path_text(path)}", patterns) for path, patterns in rules.of_source]


def _marker(name: str) -> bytes:
    try:
        marker = name.encode()
    except UnicodeEncodeError:
        marker = b""
    if marker in {b"", b".", b".."} or b"/" in marker or b"\0" in marker:
        raise ConfigError(
            f"{name!r} is not the name of a file in a directory",
            hint="name it without a directory, in UTF-8, such as .nobackup",
        )
    return marker
