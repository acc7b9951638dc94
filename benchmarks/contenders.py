"""What is compared: what every contender has to do, and what it is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["ours", "peer", "floor"]
Version = tuple[int, ...]

WORKS = {
    "first": "the first snapshot",
    "restore": "restoring all of it",
    "restore-one": "restoring one file",
    "verify": "reading all of it back and comparing",
}


@dataclass(frozen=True)
class Place:
    """Where one contender works in one round; nothing of it outlives the round."""

    top: Path
    source: Path
    one: Path  # the file of the source that is restored by itself
    work: str = ""

    @property
    def repository(self) -> Path:
        return self.top / "repository"

    @property
    def target(self) -> Path:
        return self.top / f"target-{self.work}"

    @property
    def home(self) -> Path:
        return self.top / "home"

    @property
    def secret(self) -> Path:
        return self.top / "secret"

    @property
    def log(self) -> Path:
        return self.top / "log"

    def below_target(self, path: Path) -> Path:
        """Return where a tool that keeps whole paths restores ``path`` to."""
        return self.target / path.relative_to("/")


@dataclass(frozen=True)
class Step:
    """Commands that run at once, each reading what the one before prints."""

    stages: tuple[tuple[str, ...], ...]
    output: Path | None = None
    cwd: Path | None = None

    def __str__(self) -> str:
        text = " | ".join(" ".join(stage) for stage in self.stages)
        return f"{text} > {self.output}" if self.output else text


def step(*command: str | Path, cwd: Path | None = None) -> Step:
    """Return a step of one command."""
    return Step((tuple(str(word) for word in command),), cwd=cwd)


@dataclass(frozen=True)
class Program:
    """A command that is needed, and the versions of it that are asked for."""

    command: tuple[str, ...]
    at_least: Version = ()
    below: Version = ()

    @property
    def name(self) -> str:
        return self.command[0]


@dataclass(frozen=True)
class Found:
    """What there is of a contender on this machine."""

    state: Literal["ok", "other version", "missing"]
    version: str  # for people: '0.19.1', 'tar 1.34, xz 5.4.1'
    why: str = ""

    @property
    def runs(self) -> bool:
        return self.state != "missing"


class Contender(ABC):
    """One row of each table."""

    key: str  # for --only
    name: str  # for tables
    kind: Kind
    programs: tuple[Program, ...]

    def environment(self, place: Place) -> dict[str, str]:
        """Return what its commands find in their environment, besides the common variables."""
        del place
        return {}

    def prepare(self, place: Place) -> list[Step]:
        """Return what makes the empty repository; not measured."""
        del place
        return []

    @abstractmethod
    def first(self, place: Place) -> Step: ...

    @abstractmethod
    def restore(self, place: Place) -> Step: ...

    @abstractmethod
    def restore_one(self, place: Place) -> Step: ...

    @abstractmethod
    def verify(self, place: Place) -> Step: ...

    def restored(self, place: Place) -> Path:
        """Return where ``restore`` puts what was the source."""
        return place.below_target(place.source)

    def restored_one(self, place: Place) -> Path:
        """Return where ``restore_one`` puts the one file."""
        return place.below_target(place.one)

    def doing(self, work: str, place: Place) -> Step:
        """Return the commands of a work."""
        return {
            "first": self.first,
            "restore": self.restore,
            "restore-one": self.restore_one,
            "verify": self.verify,
        }[work](place)

    def found(self) -> Found:
        """Look for its programs."""
        each = [look_for(program) for program in self.programs]
        worst = next((one for one in each if not one.runs), None)
        worst = worst or next((one for one in each if one.state != "ok"), each[0])
        if len(each) == 1 or not worst.runs:
            return worst
        named = zip(self.programs, each, strict=True)
        text = ", ".join(f"{program.name} {one.version}" for program, one in named)
        return Found(worst.state, text, worst.why)


def look_for(program: Program) -> Found:
    """Ask a program for its version."""
    if shutil.which(program.name) is None:
        return Found("missing", "", f"{Path(program.name).name} is not installed")
    try:
        done = subprocess.run(
            program.command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found("missing", "", f"{' '.join(program.command)}: {error}")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return Found("missing", "", f"{' '.join(program.command)}: {said}")
    return judged(program, done.stdout + done.stderr)


def judged(program: Program, said: str) -> Found:
    """Return what a program is that says ``said`` when it is asked for its version."""
    number = re.search(r"\d+(?:\.\d+)+", said)
    if number is None:
        return Found("other version", "unknown", "its version is not known")
    version = tuple(int(part) for part in number[0].split("."))
    if version < program.at_least:
        wanted = ".".join(map(str, program.at_least))
        return Found("other version", number[0], f"too old: {wanted} or newer is asked for")
    if program.below and version >= program.below:
        wanted = ".".join(map(str, program.below))
        return Found("other version", number[0], f"too new: below {wanted} is asked for")
    return Found("ok", number[0])


def common_environment(place: Place) -> dict[str, str]:
    """Return what every command finds in its environment: nothing of the user's but ``PATH``."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(place.home),
        "TMPDIR": str(place.top),
    }
