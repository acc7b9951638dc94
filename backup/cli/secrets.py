"""Asking a person for a passphrase, which is not shown while it is typed."""

from __future__ import annotations

import sys

from backup.errors import SecretKeyError
from backup.keys import check_passphrase


def can_ask() -> bool:
    """Tell whether a person sits at a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def ask_passphrase(prompt: str, *, again: str = "") -> str:
    """Return the passphrase that a person types.

    Args:
        prompt: What to ask.
        again: What to ask then, where it is to be typed twice.

    Raises:
        SecretKeyError: There is nobody to ask, it is empty, or the two differ.
    """
    if not can_ask():
        raise SecretKeyError(
            "there is no passphrase, and nobody to ask for one",
            hint="put it into a file for its owner alone, and name that",
        )
    from getpass import getpass  # noqa: PLC0415 - only terminals need it

    text = check_passphrase(getpass(f"auto-backup: {prompt}"), "the passphrase")
    if again and getpass(f"auto-backup: {again}") != text:
        raise SecretKeyError("the two passphrases differ; nothing has been changed")
    return text
