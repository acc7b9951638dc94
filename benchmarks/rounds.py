"""The rounds: everybody in turn, on the same data, under the same conditions."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measuring, trees
from benchmarks.contenders import Contender, Place, Step, common_environment
from benchmarks.data import DataSet
from benchmarks.ground import MANY, Ground
from benchmarks.measuring import FailedError
from benchmarks.results import Results, Run, save

_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Conditions:
    """What holds for all runs."""

    rounds: int
    quick: bool
    cold: bool
    limit: float  # seconds for one run


def order(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Return who comes when in a round: each round begins with the next one."""
    first = (number - 1) % len(contenders)
    return [*contenders[first:], *contenders[:first]]


def one_line(text: str) -> str:
    """Return a text without what a table or a file in UTF-8 cannot hold: names may be anything."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())


class Rounds:
    """All rounds on one data set."""

    def __init__(
        self, results: Results, where: Path, data: DataSet, ground: Ground, conditions: Conditions
    ) -> None:
        self._results = results
        self._where = where  # of the JSON
        self._data = data
        self._ground = ground
        self._conditions = conditions
        self._out: set[tuple[str, str]] = set()  # contender and work that failed

    def run(self, contenders: Sequence[Contender], works: Sequence[str]) -> None:
        """Do all works in all rounds; failures become records."""
        for number in range(1, self._conditions.rounds + 1):
            self._ground.clear(self._data.name)
            self._ground.settle()
            for work in works:
                for contender in order(contenders, number):
                    self._turn(contender, work, number)
                save(self._results, self._where)
        if not self._conditions.quick:  # a quick look clears all at its end
            self._ground.clear(self._data.name)

    def _turn(self, contender: Contender, work: str, number: int) -> None:
        if {(contender.key, "first"), (contender.key, work)} & self._out:
            return
        told = f"{self._data.name} {work}, round {number}: {contender.name}"
        began = time.monotonic()
        try:
            run = self._measured(contender, work, number)
            said = f"{run.wall:.2f} s"
        except (FailedError, OSError) as error:
            self._out.add((contender.key, work))
            why = one_line(str(error))
            run = Run(self._data.name, work, number, contender.key, failed=why)
            said = f"failed: {why}"
        self._results.runs.append(run)
        print(f"{told}: {said} (of {time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)

    def _measured(self, contender: Contender, work: str, number: int) -> Run:
        place = self._place(contender, work)
        if work == "first":
            self._prepare(contender, place)
        place.target.mkdir()
        environment = common_environment(place) | contender.environment(place)
        self._settle(self._data.path if work == "first" else place.repository)
        done = self._do(contender.doing(work, place), place, environment)
        self._check(contender, work, place, thorough=number == 1)
        stored = trees.measured(place.repository).size if work == "first" else 0
        if self._data.entries < MANY:
            shutil.rmtree(place.target)
        return Run(
            data=self._data.name,
            work=work,
            round=number,
            contender=contender.key,
            wall=round(done.wall, 4),
            cpu=round(done.cpu, 4),
            stored=stored,
            peak=done.peak,
            exact=done.exact,
        )

    def _prepare(self, contender: Contender, place: Place) -> None:
        place.top.mkdir(parents=True)
        place.home.mkdir(mode=0o700)
        place.secret.touch(mode=0o600)
        place.secret.write_text(secrets.token_hex(16) + "\n", encoding="ascii")
        environment = common_environment(place) | contender.environment(place)
        for one in contender.prepare(place):
            self._do(one, place, environment)

    def _do(self, step: Step, place: Place, environment: dict[str, str]) -> measuring.Measured:
        limit = self._conditions.limit
        return measuring.run(
            step, environment=environment, cwd=place.top, log=place.log, limit=limit
        )

    def _settle(self, read: Path) -> None:
        """Bring everything to the disk, and what will be read into memory, or out of it."""
        os.sync()  # nobody pays for what the one before wrote
        if self._conditions.cold:
            _CACHES.write_text("3\n", encoding="ascii")
        else:
            trees.warm(read)

    def _check(self, contender: Contender, work: str, place: Place, *, thorough: bool) -> None:
        wrong = None
        if work == "restore":
            restored = contender.restored(place)
            wrong = trees.difference(self._data.path, restored, contents=thorough)
        elif work == "restore-one":
            wrong = trees.difference(place.one, contender.restored_one(place), contents=True)
        if wrong:
            raise FailedError(wrong)

    def _place(self, contender: Contender, work: str) -> Place:
        top = self._ground.top / self._data.name / contender.key
        return Place(top, self._data.path, self._data.path / self._data.one, work)
