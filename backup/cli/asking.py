"""Asking a person for a line, and for another one until it can be used."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TypeVar

from typer import Abort

from backup.cli.output import print_error, safe_text
from backup.errors import BackupError, ConfigError

_T = TypeVar("_T")
_MOST = 5
_YES, _NO = frozenset({"y", "yes"}), frozenset({"n", "no"})


def answer(question: str, default: str, choose: Callable[[str], _T]) -> _T:
    """Return what an answer means; a person whose answer means nothing is asked again.

    Args:
        question: What stands before the answer.
        default: What an empty answer says.
        choose: Gives what the answer means; it raises a ``BackupError`` where it means nothing.

    Raises:
        ConfigError: So many answers meant nothing that no person is likely to be there.
        Abort: There is no answer: Ctrl-C, or the end of what is typed.
    """
    prompt = question_text(question, default)
    for _ in range(_MOST):
        text = _line(prompt) or default
        try:
            return choose(text.strip())
        except BackupError as error:
            print_error(error)
    raise ConfigError(
        f"{_MOST} answers in a row could not be used", hint="nothing has been changed"
    )


def question_text(question: str, default: str) -> str:
    """Return what stands before an answer."""
    return question + (f" [{safe_text(default)}]" if default else "") + ": "


def agrees(question: str, *, usually: bool) -> bool:
    """Return whether the answer is yes; ``usually`` is what an empty one says."""
    return answer(question, "yes" if usually else "no", yes_or_no)


def yes_or_no(text: str) -> bool:
    """Return what an answer says, or raise ``ConfigError``."""
    if text.lower() not in _YES | _NO:
        raise ConfigError(f"{text!r} is neither yes nor no")
    return text.lower() in _YES


def _line(prompt: str) -> str:
    """Return what is typed; standard output may be a file that it must not get into."""
    if isinstance(sys.stdin, io.TextIOWrapper):  # paths may be any bytes
        sys.stdin.reconfigure(errors="surrogateescape")
    sys.stdout.flush()
    is_shown = sys.stdout.isatty()
    if not is_shown:
        sys.stderr.write(prompt)
        sys.stderr.flush()
    try:
        return input(prompt if is_shown else "")
    except (EOFError, KeyboardInterrupt):
        sys.stderr.write("\n")
        raise Abort from None
