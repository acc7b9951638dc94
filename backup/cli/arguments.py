"""Putting arguments into one order: global options first, then the command.

Users write global options wherever they think of them; the parser wants them in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_WITH_VALUE = {
    "--store": "--store",
    "-s": "--store",
    "--dest": "--store",
    "--host": "--host",
    "--job": "--job",
    "--key-file": "--key-file",
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
    "--version": "--version",
}
_NOW = "--now"
_SOURCE = "--source"


class Sorted(NamedTuple):
    """Arguments as the parser wants them."""

    global_options: list[str]
    rest: list[str]

    def joined(self) -> list[str]:
        """Return all of them."""
        return self.global_options + self.rest


def sort_arguments(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with global options in front and ``--now`` made ``backup``.

    ``--source A B C`` becomes three times ``--source``. Behind ``--`` nothing is changed.
    """
    sorted_ = Sorted([], [])
    place = 0
    while place < len(arguments):
        argument = arguments[place]
        if argument == "--":
            sorted_.rest.extend(arguments[place:])
            break
        place += _take(argument, arguments[place + 1 :], sorted_)
    return sorted_.joined()


def _take(argument: str, behind: Sequence[str], into: Sorted) -> int:
    """Sort ``argument`` in, with its values from ``behind``; return how many that were."""
    name, equals, _ = argument.partition("=")
    if argument in _FLAGS:
        into.global_options.append(_FLAGS[argument])
    elif name in _WITH_VALUE and equals:
        into.global_options.append(argument.replace(name, _WITH_VALUE[name], 1))
    elif argument in _WITH_VALUE and behind:
        into.global_options.extend([_WITH_VALUE[argument], behind[0]])
        return 2
    elif argument == _NOW:
        into.rest.insert(0, "backup")
    elif argument == _SOURCE:
        return 1 + _take_sources(behind, into)
    else:
        into.rest.append(argument)
    return 1


def _take_sources(behind: Sequence[str], into: Sorted) -> int:
    taken = 0
    for value in behind:
        if taken and value.startswith("-"):
            break
        into.rest.extend([_SOURCE, value])
        taken += 1
    if not taken:
        into.rest.append(_SOURCE)
    return taken
