"""The tables, in Markdown: every contender has its row, whatever became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.contenders import WORKS
from benchmarks.results import Entrant, Metric, Results, Run, best, ratio, typical

_NAMES: dict[Metric, str] = {
    "wall": "time",
    "cpu": "CPU time",
    "stored": "bytes stored",
    "peak": "memory",
}
_READING = (
    "Figures are medians. A ratio is one of medians, with the lowest and the highest of a single"
    " round in brackets; below 1 is better. Memory is the highest sum over all processes of a run,"
    " shared pages counted once (PSS); ≤ where a process does not show more than its RSS, – where"
    " the run was over within a tenth of a second."
)
_MORE = 1.005  # what is told as 1.00 is not lost
_SUPERLATIVES: dict[Metric, str] = {"wall": "fastest", "stored": "smallest"}


def seconds(value: float) -> str:
    """Return seconds as people read them: three figures."""
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def size(value: float) -> str:
    """Return bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


FORMATS: dict[Metric, Callable[[float], str]] = {
    "wall": seconds,
    "cpu": seconds,
    "stored": size,
    "peak": size,
}


def document(results: Results) -> str:
    """Return the whole report."""
    parts = ["# Compared", *_warnings(results), _conditions(results), _versions(results)]
    for data in results.data:
        parts.append(f"## {data['name']}: {data['about']}")
        parts.append(f"{data['entries']:,} entries, {size(data['size'])}.")
        parts += [table(results, data["name"], work) for work in results.works(data["name"])]
    parts += [f"## {name}\n\nLeft out: {why}." for name, why in results.missing.items()]
    return "\n\n".join(parts) + "\n"


def _warnings(results: Results) -> list[str]:
    told = []
    if results.ended != "complete":
        told.append(
            f"**Not complete ({results.ended}): the figures are those of the runs so far.**"
        )
    if results.options["quick"]:
        told.append("**A quick look at small data: start-up counts for much, figures for little.**")
    return told


def _conditions(results: Results) -> str:
    machine = results.machine
    rounds = results.options["rounds"]
    cache = "empty" if results.options["cold"] else "warm"
    return (
        f"{machine['date']}; {machine['processor']}, {machine['cores']} cores,"
        f" {size(machine['memory'])} of memory; {machine['system']}, Linux {machine['kernel']},"
        f" {machine['file system']}; Python {machine['python']}. Rounds: {rounds}; page cache:"
        f" {cache}.\n\n{_READING}"
    )


def _versions(results: Results) -> str:
    rows = [[one.name, one.version or "–", one.why] for one in results.entrants]
    return "\n".join([_row(["tool", "version", ""]), "|---|---|---|", *map(_row, rows)])


def table(results: Results, data: str, work: str) -> str:
    """Return the table of one work on one data set."""
    metrics: list[Metric] = ["wall", "cpu", "peak"]
    if work == "first":
        metrics.insert(2, "stored")
    leaders = {metric: best(results, data, work, metric) for metric in metrics}
    head = ["tool"]
    for metric in metrics:
        head.append(_NAMES[metric])
        if metric in _SUPERLATIVES:
            head.append(f"× {_leader(results, metric, leaders[metric])}")
    lines = [f"### {data}, {work}: {WORKS.get(work, work)}", "", _row([*head, "we lose in"])]
    lines.append("|---|" + "---:|" * (len(head) - 1) + "---|")
    runs = results.of(data, work)
    for entrant in results.entrants_of(data):
        each = runs.get(entrant.key, [])
        lines.append(_row(_cells(entrant, each, runs, leaders, len(head) + 1)))
    return "\n".join(lines)


def _leader(results: Results, metric: Metric, key: str | None) -> str:
    if key is None:
        return "nobody"
    entrant = results.entrant(key)
    return (
        f"{_SUPERLATIVES[metric]} peer, {entrant.name}" if entrant.kind == "peer" else entrant.name
    )


def _cells(
    entrant: Entrant,
    each: list[Run],
    runs: dict[str, list[Run]],
    leaders: dict[Metric, str | None],
    width: int,
) -> list[str]:
    name = f"**{entrant.title}**" if entrant.kind == "ours" else entrant.title
    failed = next((run.failed for run in each if run.failed), "")
    if failed or not each:
        said = f"failed: {failed}" if failed else why_not(entrant)
        return [name, said, *[""] * (width - 2)]
    cells = [name]
    for metric, leader in leaders.items():
        middle = typical(each, metric) or 0.0
        figure = FORMATS[metric](middle) if middle or metric != "peak" else "–"
        exact = metric != "peak" or all(run.exact for run in each)
        cells.append(figure if exact else f"≤ {figure}")
        if metric in _SUPERLATIVES:
            cells.append(str(_against(each, runs, leader, metric) or "–"))
    return [*cells, _losses(each, runs, leaders) if entrant.kind == "ours" else ""]


def why_not(entrant: Entrant) -> str:
    """Return why a contender has no figures though none of its runs failed."""
    if entrant.state == "missing":
        return f"missing: {entrant.why}"
    return "not run"


def _against(
    each: list[Run], runs: dict[str, list[Run]], leader: str | None, metric: Metric
) -> Any:
    return ratio(each, runs[leader], metric) if leader else None


def _losses(each: list[Run], runs: dict[str, list[Run]], leaders: dict[Metric, str | None]) -> str:
    """Return in what the best of the others is better, and how far; a dash where in nothing."""
    told = []
    for metric, leader in leaders.items():
        found = _against(each, runs, leader, metric)
        if found and found.value >= _MORE:
            told.append(f"**{_NAMES[metric]}** × {found}")
    return ", ".join(told) or "–"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
