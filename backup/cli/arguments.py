"""Putting arguments into one order: global options first, then the command.

Users write global options wherever they think of them; the parser wants them in front.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from backup.errors import ConfigError

_WITH_VALUE = {
    "--store": "--store",
    "-s": "--store",
    "--dest": "--store",
    "--config": "--config",
    "--host": "--host",
    "--job": "--job",
    "--key-file": "--key-file",
    "--identity": "--identity",
    "--passphrase-file": "--passphrase-file",
    "--state-dir": "--state-dir",
    "--log-file": "--log-file",
}
_FLAGS = {
    "--json": "--json",
    "-v": "--verbose",
    "--verbose": "--verbose",
    "-q": "--quiet",
    "--quiet": "--quiet",
    "-n": "--dry-run",
    "--dry-run": "--dry-run",
    "--yes": "--yes",
    "--version": "--version",
}
_INSTEAD = {"--now": ["backup"], "--daemon": ["daemon", "start"]}
_SOURCE = "--source"
_DIFF = "diff"
_SEVERAL_LETTERS = re.compile(r"-[vqnlh]{2,}")

GLOBAL_OPTIONS = (*_WITH_VALUE, *_FLAGS, *_INSTEAD)


class Sorted(NamedTuple):
    """Arguments as the parser wants them."""

    global_options: list[str]
    rest: list[str]

    def joined(self) -> list[str]:
        """Return all of them."""
        return self.global_options + self.rest


def sort_arguments(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with global options in front.

    ``--now`` is ``backup``, ``--daemon`` is ``daemon start``.
    ``--source A B C`` becomes three times ``--source``. Behind ``--`` nothing is changed.

    Raises:
        ConfigError: An option has no value.
    """
    sorted_ = Sorted([], [])
    behind = deque(arguments)
    command: list[str] = []
    while behind:
        argument = behind.popleft()
        if argument == "--":
            sorted_.rest.extend([argument, *behind])
            break
        command = command or _INSTEAD.get(argument, [])
        _take(argument, behind, sorted_)
    if sorted_.rest[: len(command)] != command:
        sorted_.rest[:0] = command
    return sorted_.joined()


def _take(argument: str, behind: deque[str], into: Sorted) -> None:
    """Sort ``argument`` in, with its values, which are taken from ``behind``."""
    name, equals, value = argument.partition("=")
    if argument in _FLAGS:
        into.global_options.append(_FLAGS[argument])
    elif name in _WITH_VALUE:
        value = value if equals else _value_of(name, behind)
        into.global_options.append(f"{_WITH_VALUE[name]}={value}")
    elif argument.startswith("-s"):
        into.global_options.append(f"--store={argument[2:]}")
    elif _SEVERAL_LETTERS.fullmatch(argument):
        for letter in argument[1:]:
            _take("-" + letter, behind, into)
    elif argument == _SOURCE and into.rest[:1] != [_DIFF]:  # there it is a flag
        into.rest.extend([_SOURCE, _value_of(_SOURCE, behind)])
        while behind and not behind[0].startswith("-"):
            into.rest.extend([_SOURCE, behind.popleft()])
    elif argument not in _INSTEAD:
        into.rest.append(argument)


def _value_of(option: str, behind: deque[str]) -> str:
    """Take the value of ``option``; another option is none, or ``--store -q`` would make ``-q``."""
    if not behind:
        raise ConfigError(f"{option} needs a value", hint="see 'auto-backup --help'")
    if behind[0].startswith("-"):
        raise ConfigError(
            f"{option} needs a value, and {behind[0]} looks like an option",
            hint=f"if it is a name, write it as ./{behind[0]}",
        )
    return behind.popleft()
