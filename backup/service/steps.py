"""What installing and uninstalling are made of: files and commands, as a plan tells them."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from backup.errors import BackupError

_LONGEST_ANSWER = 400


class Write(NamedTuple):
    """A file to be written whole."""

    path: Path
    text: str
    mode: int = 0o644


class Remove(NamedTuple):
    """A file to be removed."""

    path: Path


class Command(NamedTuple):
    """A command to be run: why, and what it reads from standard input."""

    words: tuple[str, ...]
    why: str
    given: str | None = None

    def __str__(self) -> str:
        """Return it as one would type it."""
        return shlex.join(self.words)


Step = Write | Remove | Command


class Answer(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


Run = Callable[[Sequence[str], str | None], Answer]
"""Runs a command with what it reads from standard input."""


def run_command(words: Sequence[str], given: str | None = None) -> Answer:
    """Run a command of the system.

    Raises:
        BackupError: It cannot be started.
    """
    try:
        done = subprocess.run(
            words, input=given or "", capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise BackupError(f"cannot run {words[0]}: {error.strerror}") from error
    return Answer(done.returncode, done.stdout, done.stderr)


def carry_out(steps: Iterable[Step], run: Run) -> None:
    """Do what a plan says, in its order; the first step that fails is the last one.

    Raises:
        BackupError: A file cannot be written or removed, or a command has failed.
    """
    for step in steps:
        try:
            if isinstance(step, Write):
                _write(step)
            elif isinstance(step, Remove):
                step.path.unlink(missing_ok=True)
            else:
                _run(step, run)
        except OSError as error:
            what = "remove" if isinstance(step, Remove) else "write"
            raise BackupError(f"cannot {what} {step.path}: {error.strerror}") from error  # type: ignore[union-attr]  # commands raise ours


def _run(step: Command, run: Run) -> None:
    answer = run(step.words, step.given)
    if answer.status:
        told = " ".join((answer.err or answer.out).split())[:_LONGEST_ANSWER]
        raise BackupError(
            f"cannot {step.why}: '{step}' has failed with status {answer.status}"
            + (f": {told}" if told else ""),
            hint="when that is mended, the same command goes on;"
            " 'auto-backup service uninstall' takes back what it wrote",
        )


def _write(step: Write) -> None:
    """Write a file beside its place, and then put it there."""
    step.path.parent.mkdir(parents=True, exist_ok=True)
    new = step.path.with_name(f".{step.path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(step.text)
            file.flush()
            os.fchmod(file.fileno(), step.mode)
            os.fsync(file.fileno())
        new.replace(step.path)
    finally:
        with suppress(OSError):
            new.unlink()
