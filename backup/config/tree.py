"""From the text of a YAML file to a tree in which each value knows its line.

The parser's library only splits the text into events. What they mean is decided here: by the core
schema of YAML 1.2, where ``on`` and ``02:30`` are texts, and with limits, so that no file takes
more time or memory than its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from backup.config.problems import FileProblem, KeyPath, Place, Problem, dotted

_DEEPEST = 30
_MOST_VALUES = 20_000
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {word: word.lower() == "true" for one in ("true", "false") for word in
          (one, one.capitalize(), one.upper())}  # fmt: skip
_INT = re.compile(r"[-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_STANDARD = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({"!", "!!str", f"{_STANDARD}str"})

Scalar = str | int | float | bool | None


class Node(NamedTuple):
    """A value, and the line of its key, or of the value itself in a list.

    ``size`` is how many values there are in it, those of anchors each time that they are used;
    ``depth`` is how many levels of them are nested.
    """

    place: Place
    value: Scalar | list[Node] | dict[str, Node]
    size: int = 1
    depth: int = 0

    def below(self) -> list[tuple[str | int, Node]]:
        """Return what is in a mapping or a list, with its key or its number."""
        if isinstance(self.value, dict):
            return list(self.value.items())
        return list(enumerate(self.value)) if isinstance(self.value, list) else []

    def plain(self) -> object:
        """Return the values without their places."""
        if isinstance(self.value, dict):
            return {key: one.plain() for key, one in self.value.items()}
        if isinstance(self.value, list):
            return [one.plain() for one in self.value]
        return self.value


def walk(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Yield all that is below ``node``, with the way to it."""
    for key, one in node.below():
        yield (*path, key), one
        yield from walk(one, (*path, key))


def parse(text: str, file: Path) -> tuple[Node | None, list[Problem]]:
    """Return what ``text`` says, ``None`` where it says nothing, and the keys told twice.

    Raises:
        FileProblem: It is not YAML, or more than a configuration may be.
    """
    composer = _Composer(file)
    for event in _events(text, file):
        composer.take(event)
    return composer.root, composer.problems


def _events(text: str, file: Path) -> Iterator[Any]:
    from ruamel.yaml import YAML  # noqa: PLC0415 - only where there is a configuration

    from backup.config.syntax import syntax_problem  # noqa: PLC0415 - see above

    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except FileProblem:
        raise
    except Exception as error:
        raise syntax_problem(error, file, text) from error


@dataclass
class _Open:
    """A mapping or a list of which the end has not come yet."""

    place: Place
    value: dict[str, Node] | list[Node]
    anchor: str | None
    key: tuple[str, Place] | None = None
    size: int = 1
    depth: int = 1


@dataclass
class _Composer:
    file: Path
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    _open: list[_Open] = field(default_factory=list)
    _anchors: dict[str, Node] = field(default_factory=dict)
    _documents: int = 0

    def take(self, event: Any) -> None:
        """Take in one event of the parser."""
        place = Place(self.file, event.start_mark.line + 1)
        match type(event).__name__:
            case "DocumentStartEvent":
                self._documents += 1
                if self._documents > 1:
                    raise FileProblem(place, "a second document begins with '---'; one is allowed")
            case "ScalarEvent":
                self._scalar(event, place)
            case "AliasEvent":
                self._alias(event, place)
            case "MappingStartEvent":
                self._begin(event, _Open(place, {}, event.anchor))
            case "SequenceStartEvent":
                self._begin(event, _Open(place, [], event.anchor))
            case "MappingEndEvent" | "SequenceEndEvent":
                closed = self._open.pop()
                self._add(
                    Node(closed.place, closed.value, closed.size, closed.depth), closed.anchor
                )

    def _scalar(self, event: Any, place: Place) -> None:
        text = _whole_text(event.value, place)
        _refuse_tag(event.tag, place)
        if self._awaits_key():
            if event.anchor:
                raise FileProblem(place, f"a key cannot have an anchor: &{event.anchor}")
            self._open[-1].key = (text, place)
            return
        is_plain = event.style is None and event.tag is None
        self._add(Node(place, _meaning(text) if is_plain else text), event.anchor)

    def _alias(self, event: Any, place: Place) -> None:
        if self._awaits_key():
            raise FileProblem(place, "a key has to be a word")
        if event.anchor not in self._anchors:
            raise FileProblem(place, f"*{event.anchor} refers to nothing that stands before it")
        self._add(self._anchors[event.anchor]._replace(place=place), None)

    def _begin(self, event: Any, opened: _Open) -> None:
        _refuse_tag(event.tag, opened.place)
        if self._awaits_key():
            raise FileProblem(opened.place, "a key has to be a word")
        self._refuse_depth(1, opened.place)
        self._open.append(opened)

    def _refuse_depth(self, more: int, place: Place) -> None:
        if len(self._open) + more > _DEEPEST:
            raise FileProblem(place, f"more than {_DEEPEST} levels are nested")

    def _awaits_key(self) -> bool:
        return (
            bool(self._open)
            and isinstance(self._open[-1].value, dict)
            and self._open[-1].key is None
        )

    def _add(self, node: Node, anchor: str | None) -> None:
        """Put ``node`` where it belongs."""
        if anchor:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        self._refuse_depth(node.depth, node.place)
        parent.depth = max(parent.depth, node.depth + 1)
        parent.size += node.size
        if parent.size > _MOST_VALUES:
            raise FileProblem(node.place, f"there are more than {_MOST_VALUES:,} values")
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif parent.key is not None:
            key, place = parent.key
            parent.key = None
            self._refuse_twice(parent.value, key, place)
            parent.value[key] = node._replace(place=place)

    def _refuse_twice(self, mapping: dict[str, Node], key: str, place: Place) -> None:
        if key in mapping:
            way = [one.key[0] if one.key else len(one.value) for one in self._open[:-1]]
            first = mapping[key].place.line
            self.problems.append(
                Problem(place, dotted([*way, key]), f"it is told twice, first in line {first}")
            )


def _meaning(text: str) -> Scalar:
    """Return what a word without quotes means."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    return float(text) if _FLOAT.fullmatch(text) else text


def _refuse_tag(tag: str | None, place: Place) -> None:
    if tag is not None and tag not in _TEXT_TAGS:
        shown = str(tag).replace(_STANDARD, "!!")[:80]
        raise FileProblem(place, f"{shown!r} is a tag, which is not allowed here")


def _whole_text(text: str, place: Place) -> str:
    """Return ``text`` with pairs of surrogates, as JSON escapes have them, joined."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise FileProblem(place, "an escape such as \\ud800 is half a character") from None
