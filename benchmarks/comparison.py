"""One whole benchmark: all data sets, in one set of results that is on the disk all along."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import chart, machine, report
from benchmarks.contenders import Contender
from benchmarks.data import KINDS, NotThereError, as_json, data_set
from benchmarks.ground import Ground
from benchmarks.results import Entrant, Results, save
from benchmarks.rounds import Conditions, Rounds


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    work: Path
    out: Path
    kernel: Path | None
    data: Sequence[str]
    works: Sequence[str]
    conditions: Conditions


@dataclass
class Comparison:
    """Runs what is wanted."""

    wanted: Wanted
    results: Results = field(init=False)
    _ground: Ground = field(init=False)
    _able: list[Contender] = field(init=False)

    def run(self, contenders: Sequence[Contender]) -> Results:
        """Run everything; Ctrl-C ends it, and the results say so."""
        wanted = self.wanted
        found = [(one, one.found()) for one in contenders]
        entrants = [
            Entrant(one.key, one.name, one.kind, what.state, what.version, what.why)
            for one, what in found
        ]
        told = {key: getattr(wanted.conditions, key) for key in ("rounds", "quick", "cold")}
        self.results = Results(told, machine.facts(wanted.work), entrants)
        self._able = [one for one, what in found if what.runs]
        self._ground = Ground(wanted.work)
        try:
            self._ground.clear()
            for name in wanted.data:
                self._one(name)
            self.results.ended = "complete"
        except KeyboardInterrupt:
            self.results.ended = "interrupted"
            _tell("interrupted: the results are those so far")
        finally:
            save(self.results, self._where)
            with suppress(KeyboardInterrupt):  # a second one, while much is deleted
                self._ground.clear()
        return self.results

    @property
    def _where(self) -> Path:
        return self.wanted.out / "results.json"

    def _one(self, name: str) -> None:
        kind, wanted = KINDS[name], self.wanted
        takers = [one for one in self._able if one.key not in kind.without]
        _tell(f"{name}: {kind.about}")
        try:
            quick = wanted.conditions.quick
            data = data_set(name, wanted.work, quick=quick, kernel=wanted.kernel)
            self._ground.room_for(data, len(takers))
        except NotThereError as error:
            self.results.missing[name] = str(error)
            _tell(f"{name}: left out: {error}")
            return
        self.results.data.append(as_json(data))
        works = [one for one in kind.works if one in wanted.works]
        if takers:
            rounds = Rounds(self.results, self._where, data, self._ground, wanted.conditions)
            rounds.run(takers, works)


def status(results: Results) -> int:
    """Return 0; 1 when this tool failed in anything; 130 when it was interrupted."""
    if results.ended != "complete":
        return 130
    ours = {one.key: one for one in results.entrants if one.kind == "ours"}
    missing = any(one.state == "missing" for one in ours.values())
    return int(missing or any(run.failed and run.contender in ours for run in results.runs))


def draw(results: Results, out: Path) -> None:
    """Print the tables, and write them and a chart for each data set."""
    out.mkdir(parents=True, exist_ok=True)
    text = report.document(results)
    (out / "results.md").write_text(text, encoding="utf-8")
    for data in results.data:
        drawn = chart.drawing(results, data["name"])
        (out / f"{data['name']}.svg").write_text(drawn, encoding="utf-8")
    print(text)
    _tell(f"written to {out}")


def _tell(text: str) -> None:
    print(f"compare: {text}", file=sys.stderr, flush=True)
