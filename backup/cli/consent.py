"""Asking before something that exists is changed."""

from __future__ import annotations

import sys

import typer

from backup.cli.invocation import Invocation
from backup.errors import ConfigError, RestoreError


def can_be_asked() -> bool:
    """Tell whether there is a person who reads questions and can answer them."""
    return all(file is not None and file.isatty() for file in (sys.stdin, sys.stderr))


def ask(call: Invocation, what: str) -> None:
    """Return where the user agrees to ``what``, by ``--yes`` or by an answer on a terminal.

    Raises:
        ConfigError: There is nobody to ask, and no ``--yes``.
        RestoreError: The answer is no.
    """
    if call.yes:
        return
    if not can_be_asked():
        raise ConfigError(
            f"this would {what}, and there is nobody to ask",
            hint="nothing has been changed; look at the plan with --dry-run, then add --yes",
        )
    if not typer.confirm(f"auto-backup: {what}?", err=True):
        raise RestoreError("you said no", hint="nothing has been changed")
