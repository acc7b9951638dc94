"""What was measured: one record per run, one JSON document per benchmark, and ratios of both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

FORMAT = 1
Metric = Literal["wall", "cpu", "stored", "peak"]


class UnreadableError(Exception):
    """A file is not one that this benchmark wrote."""


@dataclass(frozen=True)
class Run:
    """One run of one contender: seconds and bytes, or why it failed."""

    data: str
    work: str
    round: int
    contender: str
    wall: float = 0.0
    cpu: float = 0.0
    stored: int = 0
    peak: int = 0
    exact: bool = True
    failed: str = ""


@dataclass(frozen=True)
class Entrant:
    """A contender as results know it."""

    key: str
    name: str
    kind: str  # ours, peer, floor
    state: str  # ok, other version, missing
    version: str = ""
    why: str = ""

    @property
    def title(self) -> str:
        """Return name and version, and what is wrong with the version."""
        number = f" {self.version}" if self.version and self.kind == "peer" else ""
        return f"{self.name}{number}" + (f" ({self.why})" if self.state == "other version" else "")


@dataclass
class Results:
    """A whole benchmark."""

    options: dict[str, Any]
    machine: dict[str, Any]
    entrants: list[Entrant]
    data: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # data sets, and why
    runs: list[Run] = field(default_factory=list)
    ended: str = "running"  # complete, interrupted

    def entrants_of(self, data: str) -> list[Entrant]:
        """Return those that have a row in the tables of a data set."""
        without = next(one["without"] for one in self.data if one["name"] == data)
        return [one for one in self.entrants if one.key not in without]

    def entrant(self, key: str) -> Entrant:
        return next(one for one in self.entrants if one.key == key)

    def of(self, data: str, work: str) -> dict[str, list[Run]]:
        """Return the runs of one table by contender."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            if (run.data, run.work) == (data, work):
                found.setdefault(run.contender, []).append(run)
        return found

    def works(self, data: str) -> list[str]:
        """Return the works that were done on a data set, in order."""
        return list(dict.fromkeys(run.work for run in self.runs if run.data == data))


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, with the lowest and highest ratio of a single round."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{_short(self.value)}"
        return f"{_short(self.value)} ({_short(self.low)}..{_short(self.high)})"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def ratio(ours: Iterable[Run], theirs: Iterable[Run], metric: Metric) -> Ratio | None:
    """Return how many times ours is of theirs, over the rounds in which both were run.

    ``None`` where there is no such round, or theirs is nothing.
    """
    left = {run.round: float(getattr(run, metric)) for run in ours if not run.failed}
    right = {run.round: float(getattr(run, metric)) for run in theirs if not run.failed}
    both = sorted(left.keys() & right.keys())
    if not both or any(right[one] <= 0 for one in both):
        return None
    each = [left[one] / right[one] for one in both]
    middle = median(left[one] for one in both) / median(right[one] for one in both)
    return Ratio(middle, min(each), max(each))


def typical(runs: Iterable[Run], metric: Metric) -> float | None:
    """Return the median over all rounds; ``None`` where one of them failed, or there is none."""
    runs = list(runs)
    if not runs or any(run.failed for run in runs):
        return None
    return median(float(getattr(run, metric)) for run in runs)


def best(results: Results, data: str, work: str, metric: Metric) -> str | None:
    """Return who of those that the others are compared with has the lowest figure.

    That is the peers; where none of them was run, the floors; for some data sets a named contender.
    """
    runs = results.of(data, work)
    figures = {key: typical(each, metric) for key, each in runs.items()}
    known = {key: figure for key, figure in figures.items() if figure}
    against = next((one["against"] for one in results.data if one["name"] == data), "")
    if against in known:
        return str(against)
    for kind in ("peer", "floor"):
        able = {key: known[key] for key in known if results.entrant(key).kind == kind}
        if able:
            return min(able, key=lambda key: able[key])
    return None


def save(results: Results, path: Path) -> None:
    """Write results as JSON, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    text = json.dumps({"format": FORMAT} | asdict(results), indent=1)
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105 - says what it does


def load(path: Path) -> Results:
    """Read results back.

    Raises:
        UnreadableError: There is no such file, or it is another one.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("format") != FORMAT:
            raise UnreadableError(f"{path}: of another version of this benchmark")
        told["entrants"] = [Entrant(**one) for one in told["entrants"]]
        told["runs"] = [Run(**one) for one in told["runs"]]
        return Results(**told)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError(f"{path}: {error}") from error
