"""What a job may wait for, as it is said."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from backup.errors import InvalidArgumentError

_MOST_PORTS = 65_535
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})"
)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What has to hold before a job begins; all of it.

    ``mains_power``: a machine without a battery has it. ``mounted``: something is mounted there.
    ``reachable``: ``host:port`` takes connections. ``command``: exits with 0.
    """

    mains_power: bool = False
    mounted: tuple[str, ...] = ()
    reachable: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


NO_CONDITIONS = Conditions()
_WORDS = ("mains_power", "mounted", "reachable", "command")


def make_conditions(said: Mapping[str, object]) -> Conditions:
    """Return the conditions of a mapping such as ``{"mounted": "/mnt/disk"}``.

    Raises:
        InvalidArgumentError: A word is unknown, or has no usable value.
    """
    values: dict[str, object] = {}
    for word, value in said.items():
        if word == "mains_power":
            values[word] = _is_true(value)
        elif word == "mounted":
            values[word] = tuple(map(_directory, _texts(word, value, "/mnt/disk")))
        elif word == "reachable":
            values[word] = tuple(map(_address, _texts(word, value, "db1:5432")))
        elif word == "command":
            values[word] = _command(value)
        else:
            raise _unknown(str(word))
    return Conditions(**values)  # type: ignore[arg-type]  # each was checked above


def _is_true(value: object) -> bool:
    if value is not True:
        raise InvalidArgumentError("mains_power can only be true", hint="to not ask, leave it out")
    return True


def _texts(word: str, value: object, example: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if (
        not isinstance(texts, list | tuple)
        or not texts
        or not all(isinstance(one, str) and one for one in texts)
    ):
        raise InvalidArgumentError(f"{word} needs a text such as {example}, or a list of them")
    return tuple(texts)


def _directory(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"mounted needs an absolute path, not {path!r}")
    return os.path.normpath(path)


def _address(text: str) -> str:
    host_and_port(text)
    return text


def host_and_port(address: str) -> tuple[str, int]:
    """Return the host and the port of ``host:port``.

    Raises:
        InvalidArgumentError: It is something else.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= _MOST_PORTS:
        raise InvalidArgumentError(
            f"reachable needs a host and a port, not {address[:80]!r}",
            hint="write it as db1:5432 or [2001:db8::1]:5432",
        )
    return found["six"] or found["host"], int(found["port"])


def _command(value: object) -> tuple[str, ...]:
    words = _texts("command", value, "[/usr/bin/test, -e, /x]")
    if isinstance(value, str) or not words[0].startswith("/") or any("\0" in w for w in words):
        raise InvalidArgumentError(
            "command needs a list that begins with the program's absolute path",
            hint="write it as [/usr/bin/test, -e, /x]; no shell is involved",
        )
    return words


def _unknown(word: str) -> InvalidArgumentError:
    close = get_close_matches(word, _WORDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"what can be said: {', '.join(_WORDS)}"
    return InvalidArgumentError(f"{word[:80]!r} is no condition", hint=hint)
