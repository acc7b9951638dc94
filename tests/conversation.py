"""Talks with the command on a terminal: waits for each question before it is answered."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli import environment, start

CTRL_C = signal.SIGINT
CTRL_D = b"\x04"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST = 30

Step = tuple[str, object]
"""How a question begins, and the line that is typed then; bytes are typed as they are."""


@dataclass(frozen=True)
class Talked:
    """What became of it: the exit status, and all that the terminal got."""

    status: int
    shown: str

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.shown)]

    def asked(self, question: str) -> int:
        """Return how often a question was asked."""
        return sum(line.startswith(question) and ": " in line + " " for line in self.lines)


def talk(steps: Sequence[Step], *arguments: object, cwd: Path, columns: int = 80) -> Talked:
    """Run the command, and answer its questions; each has to come as it stands in ``steps``."""
    ours, theirs = pty.openpty()
    env = environment() | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"}
    terminal: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    shown = b""
    with start(*arguments, cwd=cwd, env=env, start_new_session=True, **terminal) as process:
        os.close(theirs)
        try:
            for question, line in steps:
                at = len(shown)
                while not _is_asked(question, shown[at:]):
                    shown += _read(ours, shown)
                _answer(ours, process.pid, line)
            with suppress(OSError):  # how Linux tells that the other end is closed
                while True:
                    shown += _read(ours, shown)
        finally:
            process.kill()
            os.close(ours)
    return Talked(process.returncode, _clean(shown))


def _is_asked(question: str, shown: bytes) -> bool:
    last = re.split(r"[\r\n]+", _clean(shown))[-1]
    return last.startswith(question) and last.endswith(": ")


def _read(terminal: int, shown: bytes) -> bytes:
    if not select.select([terminal], [], [], _LONGEST)[0]:
        raise AssertionError(f"nothing comes any more after: {_clean(shown)}")
    data = os.read(terminal, 65536)
    if not data:
        raise OSError("closed")
    return data


def _answer(terminal: int, pid: int, line: object) -> None:
    if isinstance(line, signal.Signals):
        wait_until_it_reads(pid)
        os.kill(pid, line)
    else:
        os.write(terminal, line if isinstance(line, bytes) else f"{line}\n".encode())


def wait_until_it_reads(pid: int) -> None:
    """Wait until a process sleeps: a signal just before it reads would be noticed only after."""
    status = Path(f"/proc/{pid}/stat")
    while status.read_text().rpartition(") ")[2][0] != "S":
        time.sleep(0.01)


def _clean(shown: bytes) -> str:
    return CONTROL.sub("", shown.decode(errors="replace"))
