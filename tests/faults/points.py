"""Fault points: which there are, which of them are tried, and the process that tries them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkout import ROOT

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MEMORY = Path("/dev/shm")  # noqa: S108 - where syncing costs nothing

ERRORS = (
    "EIO",
    "ENOSPC",
    "EDQUOT",
    "EROFS",
    "EACCES",
    "EMFILE",
    "ENOMEM",
    "EINTR",
    "ESTALE",
    "EPERM",
)
LASTING = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "ESTALE")
ALLOCATING = ("write", "create", "fsync", "mkdir", "link", "rename", "symlink", "mknod", "setxattr")
NAMING = (
    "create",
    "mkdir",
    "link",
    "rename",
    "unlink",
    "rmdir",
    "symlink",
    "mknod",
    "chmod",
    "chown",
)
AFFECTED = {"ENOSPC": ALLOCATING, "EDQUOT": ALLOCATING, "EROFS": NAMING, "EACCES": NAMING}
# A restore is not read back from its target.
NOT_PROMISED = {("restore", "FLIP")}
READ_ERRORS = ("EIO", "ESTALE", "EACCES", "EMFILE", "ENOMEM", "EINTR")


@dataclass(frozen=True)
class Point:
    """A call of a workload, by its number and its kind, and what becomes of it."""

    workload: str
    at: int
    kind: str
    action: str
    error: str = ""
    domain: str = "writes"
    below: tuple[str, ...] = ()

    @property
    def fault(self) -> str:
        """What goes wrong, as one word."""
        return " ".join(filter(None, (self.action.lower().replace("_", "-"), self.error)))

    def asked(self) -> dict[str, Any]:
        """Return what the server is asked."""
        asked: dict[str, Any] = {
            "workload": self.workload,
            "at": self.at,
            "action": self.action,
            "domain": self.domain,
            "below": self.below,
        }
        if self.error:
            asked["error"] = self.error
        if self.action == "FAIL_ON" and self.error in AFFECTED:
            asked["eligible"] = AFFECTED[self.error]
        return asked


def write_faults(kind: str) -> Iterator[tuple[str, str]]:
    """Yield what can become of a call that changes something."""
    yield from (("KILL_BEFORE", ""), ("KILL_AFTER", ""))
    yield from (("INTERRUPT_BEFORE", ""), ("INTERRUPT_AFTER", ""))
    if kind == "write":
        yield from (("KILL_MIDDLE", ""), ("SHORT", ""), ("FLIP", ""))
    yield from (("FAIL", error) for error in ERRORS)
    for error in LASTING:
        if kind in AFFECTED.get(error, (kind,)):
            yield "FAIL_ON", error


def read_faults(kind: str) -> Iterator[tuple[str, str]]:
    """Yield what can become of a call that reads."""
    yield from (("FAIL", error) for error in READ_ERRORS)
    yield "FAIL_ON", "EIO"
    if kind == "read":
        yield "SHORT", ""


def points(
    workload: str, calls: Iterable[str], *, domain: str = "writes", below: tuple[str, ...] = ()
) -> list[Point]:
    """Return all points of a workload whose run makes these ``calls``."""
    faults = write_faults if domain == "writes" else read_faults
    return [
        Point(workload, at, kind, action, error, domain, below)
        for at, kind in enumerate(calls, 1)
        for action, error in faults(kind)
        if (workload, action) not in NOT_PROMISED
    ]


def sample(every: list[Point], most: int, seed: int) -> list[Point]:
    """Return about ``most`` points: of each kind and of each fault one at least."""
    if len(every) <= most:
        return every
    chance = random.Random(seed)
    shuffled = chance.sample(every, len(every))
    first = {
        one: point for point in shuffled for one in (("kind", point.kind), ("fault", point.fault))
    }
    chosen = set(first.values())
    for point in shuffled:
        if len(chosen) >= most:
            break
        chosen.add(point)
    return sorted(chosen, key=lambda point: (point.at, point.fault))


@dataclass
class Tally:
    """What was tried, and what was found."""

    tried: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    missed: list[Point] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def take(self, point: Point, answer: Mapping[str, Any]) -> None:
        """Take in the answer for a point."""
        where = f"{point.workload}, {point.fault} at call {point.at} ({point.kind})"
        if "crash" in answer:
            self.wrong.append(f"{where}: the check itself failed: {answer['crash']}")
            return
        if not answer["fired"]:
            self.missed.append(point)
            return
        self.tried[point.workload, answer["fired"], point.fault] += 1
        self.wrong.extend(f"{where}, {answer['end']}: {one}" for one in answer["wrong"])

    def report(self) -> str:
        """Return a table: how many points of each workload, kind of call and kind of fault."""
        lines = []
        for column, title in enumerate(("workload", "call", "fault")):
            sums: Counter[str] = Counter()
            for key, number in self.tried.items():
                sums[key[column]] += number
            told = ", ".join(f"{name} {number:,}" for name, number in sums.most_common())
            lines.append(f"by {title}: {told}")
        return f"{self.tried.total():,} points\n" + "\n".join(lines)


class Client:
    """The other end of a fork server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Have one workload run; return what the server tells of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the server has ended with {self._process.wait(5)}"
        return json.loads(line)  # type: ignore[no-any-return]

    def calls(
        self, workload: str, *, domain: str = "writes", below: tuple[str, ...] = ()
    ) -> list[str]:
        """Return the kinds of calls of a run in which nothing goes wrong."""
        answer = self.ask(workload=workload, domain=domain, below=below, calls=True)
        assert answer.get("end") == "done", answer
        assert not answer["wrong"], answer
        return answer["calls"]  # type: ignore[no-any-return]


@contextmanager
def served(library: Path, package: Path = ROOT) -> Iterator[Client]:
    """Start a server with the package in the directory ``package``."""
    code = f"import sys; sys.path[1:1] = {[str(ROOT), str(ROOT / 'tests')]!r}\n"
    code += "from tests.faults.fork_server import main; main(sys.argv[1:])"
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place, prefix="auto-backup-faults-") as base:
        environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", code, base],
            cwd=package,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Client(process)
        finally:
            process.kill()
            process.communicate()
