"""Tab completes paths in an answer, in quotes or without, as a shell does."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from backup.cli.output import safe_text

_SPECIAL = frozenset(" \t\n\\'\"")
_IN_DOUBLE = frozenset('"\\')
_MOST_SHOWN = 60
_GAP = 2

Complete = Callable[[str], list[str]]
"""Gives all lines that a line can become."""


class Word(NamedTuple):
    """The last word of a line: what is before it, what it says, the quote that is open in it."""

    before: str
    text: str
    quote: str


def complete_paths(line: str) -> list[str]:
    """Return all lines that ``line`` becomes when its last word is made a path that exists."""
    return _completed(line, only_directories=False)


def complete_directory(line: str) -> list[str]:
    """Return the same, where the only word is to be a directory."""
    return _completed(line, only_directories=True)


def complete_nothing(_: str) -> list[str]:
    """Return nothing: what is asked for is no path."""
    return []


def _completed(line: str, *, only_directories: bool) -> list[str]:
    before, text, quote = last_word(line)
    if text == "~":
        return [before + quote + "~/"]
    directory, _, begun = text.rpartition("/")
    directory += "/" * ("/" in text)
    found = []
    for name, is_directory in _names_in(directory):
        fits = name.startswith(begun) and (begun or not name.startswith("."))
        if fits and (is_directory or not only_directories):
            path = directory + name + "/" * is_directory
            end = "" if is_directory else f"{quote} "
            found.append(before + quote + _quoted(path, quote) + end)
    return sorted(found)


def _names_in(directory: str) -> list[tuple[str, bool]]:
    """Return the names in a directory, each with whether it is, or leads to, a directory."""
    try:
        with os.scandir(os.path.expanduser(directory) or os.curdir) as entries:  # noqa: PTH111
            return [(one.name, _is_directory(one)) for one in entries]
    except (OSError, ValueError):
        return []


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def last_word(line: str) -> Word:
    """Return the last word of ``line`` as ``shlex.split`` would read it.

    >>> last_word("/etc '/home/my do")
    Word(before='/etc ', text='/home/my do', quote="'")
    """
    start, text, quote = 0, "", ""
    letters = iter(enumerate(line))
    for at, letter in letters:
        if letter == quote:
            quote = ""
        elif letter == "\\" and quote != "'":
            follows = next(letters, (at, ""))[1]
            kept = quote == '"' and follows not in _IN_DOUBLE
            text += letter * kept + follows
        elif quote:
            text += letter
        elif letter in "'\"":
            quote = letter
        elif letter.isspace():
            start, text = at + 1, ""
        else:
            text += letter
    return Word(line[:start], text, quote)


def _quoted(text: str, quote: str) -> str:
    """Return ``text`` so that it says itself within ``quote``, or outside of quotes."""
    if quote == "'":
        return text.replace("'", "'\\''")
    special = _IN_DOUBLE if quote else _SPECIAL
    return "".join("\\" * (letter in special) + letter for letter in text)


@contextmanager
def tab_completes(complete: Complete, prompt: str) -> Iterator[None]:
    """Let Tab complete what is typed at ``prompt``; where lines cannot be edited, nothing.

    From the first time on Python's ``input`` lets people edit lines.
    """
    try:
        import readline  # noqa: PLC0415 - it changes how lines are read, and may be missing
    except ImportError:
        yield
        return
    found: list[str] = []

    def give(line: str, number: int) -> str | None:
        if number == 0:
            found[:] = complete(line)
        return found[number] if number < len(found) else None

    def show(_: str, lines: Sequence[str], __: int) -> None:
        sys.stdout.write("\n" + shown_names(lines) + prompt + readline.get_line_buffer())
        sys.stdout.flush()

    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    readline.set_auto_history(False)
    readline.set_completer_delims("")  # the whole line: quotes are read here
    readline.set_completer(give)
    readline.set_completion_display_matches_hook(show)
    try:
        yield
    finally:
        found.clear()
        readline.set_completer(lambda _line, _number: None)
        readline.set_completion_display_matches_hook(None)


def shown_names(lines: Sequence[str]) -> str:
    """Return the names that the lines end with, in columns, each row with its line end."""
    names = [_name(line) for line in lines]
    shown = names[:_MOST_SHOWN]
    width = max(map(len, shown)) + _GAP
    columns = max(1, shutil.get_terminal_size().columns // width)
    rows = [shown[at : at + columns] for at in range(0, len(shown), columns)]
    text = "".join("".join(one.ljust(width) for one in row).rstrip() + "\n" for row in rows)
    left = len(names) - len(shown)
    return text + (f"and {left:,} more\n" if left else "")


def _name(line: str) -> str:
    text = last_word(line.removesuffix(" ")).text
    tail = text.removesuffix("/").rpartition("/")[2]
    return safe_text(tail) + "/" * text.endswith("/")
