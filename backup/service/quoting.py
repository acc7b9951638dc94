"""Words and paths as unit files and crontabs have them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from backup.errors import ConfigError

_PLAIN = re.compile(r"[A-Za-z0-9_@:,.+/=-]+")
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%"})


def unit_word(text: str) -> str:
    """Return ``text`` as one word of a unit file's list, its own meaning of % taken away.

    Raises:
        ConfigError: A line break or the like is in it, or bytes that are not UTF-8: systemd takes
            no such names.
    """
    text = unit_path(text)
    plain = text.replace("%%", "%")
    return text if _PLAIN.fullmatch(plain) else f'"{plain.translate(_ESCAPED)}"'


def unit_words(texts: Iterable[str]) -> str:
    """Return several of them."""
    return " ".join(map(unit_word, texts))


def unit_command(words: Sequence[str]) -> str:
    """Return a command, the program's absolute path first.

    Raises:
        ConfigError: As ``unit_word``, or systemd starts no program of that name.
    """
    if any(one in words[0] for one in "\"'\\"):
        raise ConfigError(
            f"systemd starts no program of the name {words[0]}",
            hint="install it elsewhere, or use --cron",
        )
    return unit_words(words)


def unit_path(text: str) -> str:
    """Return a path where it is all that stands behind the equals sign, or behind a colon.

    Raises:
        ConfigError: As ``unit_word``, or it begins or ends with a blank.
    """
    if not text.isprintable() or text != text.strip():
        raise ConfigError(f"systemd cannot take the name {text!a}", hint="rename it, or use --cron")
    return text.replace("%", "%%")


def cron_command(words: Sequence[str]) -> str:
    """Return a command line for a crontab, where % means a line break.

    Raises:
        ConfigError: A line break or the like is in it.
    """
    line = shlex.join(words)
    if not line.isprintable():
        raise ConfigError(f"cron cannot take the command {line!a}", hint="rename the file")
    return line.replace("%", r"\%")
