"""Runs the command: in this process, as a process of its own, or on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backup.cli import main
from tests.checkout import ROOT

COMMAND = (sys.executable, "-m", "backup")


@dataclass(frozen=True)
class Done:
    """What the command left: its exit status and what it wrote."""

    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: object) -> Done:
    """Run the command in this process."""
    out, err = _text_file(), _text_file()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([os.fspath(one) if isinstance(one, Path) else str(one) for one in arguments])
        out.flush()
        err.flush()
    return Done(status, out.buffer.getvalue(), err.buffer.getvalue().decode())


def done(*arguments: object) -> Done:
    """Run the command, which has to succeed."""
    result = run(*arguments)
    assert result.status == 0, result.err
    return result


def take(*arguments: object) -> Path:
    """Take a snapshot; return its file."""
    return Path(done("--json", "--now", *arguments).json["files"][0])


@cache
def load_all() -> None:
    """Load what the command loads when it needs it: another user may not be able to."""
    with TemporaryDirectory() as name:
        top = Path(name)
        (top / "file").touch()
        options = [f"--{one}={top / one}" for one in ("store", "key-file", "state-dir")]
        done("key", "new", *options)
        take("--source", top / "file", *options)
        done("cat", "latest", top / "file", *options)
        done("restore", "latest", "--target", top / "out", *options)


def start(*arguments: object, command: tuple[str, ...] = COMMAND, **options: Any) -> Any:
    """Start the command as a process of its own."""
    known = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()}
    # A shell lets its background jobs, and whatever they start, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([*command, *map(str, arguments)], **known | options)
    finally:
        signal.signal(signal.SIGINT, before)


def run_process(*arguments: object, **options: Any) -> Done:
    """Run the command as a process of its own."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=60)
    return Done(process.returncode, out or b"", (err or b"").decode())


def run_on_terminal(*arguments: object, columns: int = 80, typed: bytes = b"") -> tuple[int, str]:
    """Run the command on a terminal; return its exit status and all that the terminal got.

    Args:
        arguments: Of the command.
        columns: How wide the terminal is.
        typed: What the user has typed already.
    """
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    env = environment() | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"}
    with start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # how Linux tells that the other end is closed
            while block := os.read(ours, 65536):
                written += block
        os.close(ours)
    return process.returncode, written.decode()


def environment() -> dict[str, str]:
    """Return the environment for a process: this checkout, without what changes how Python runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(ROOT)}


def _text_file() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
