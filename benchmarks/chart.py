"""The chart of one data set: bars in an SVG that is readable by day and by night."""

from __future__ import annotations

from html import escape

from benchmarks.report import FORMATS, why_not
from benchmarks.results import Metric, Results, Run, typical

_PANELS: dict[str, tuple[Metric, ...]] = {"first": ("wall", "stored", "peak")}
_TITLES: dict[Metric, str] = {"wall": "seconds", "cpu": "CPU", "stored": "stored", "peak": "memory"}
_WIDTH, _NAME, _BAR, _ROW, _HEAD, _GAP = 520, 170, 230, 22, 34, 20
_COLUMNS = 2

# The background is drawn, too: the text is readable whatever page the picture is put on.
_STYLE = """
  .page { fill: #ffffff } text { font: 13px sans-serif; fill: #1f2328 }
  .title { font-weight: bold; font-size: 15px } .panel { font-weight: bold }
  .mine { font-weight: bold } .none { font-style: italic; fill: #59636e }
  .ours { fill: #0969da } .peer { fill: #bc4c00 } .floor { fill: #8c959f }
  .spread { stroke: #1f2328 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #e6edf3 } .none { fill: #9198a1 } .ours { fill: #4493f8 }
    .peer { fill: #db6d28 } .floor { fill: #6e7681 } .spread { stroke: #e6edf3 }
  }
"""


def drawing(results: Results, data: str) -> str:
    """Return the SVG of a data set: a panel per work, and for the first snapshot one per figure."""
    panels = [
        (work, metric) for work in results.works(data) for metric in _PANELS.get(work, ("wall",))
    ]
    height = _HEAD + _ROW * len(results.entrants_of(data)) + _GAP
    lines = (len(panels) + _COLUMNS - 1) // _COLUMNS
    about = next(one["about"] for one in results.data if one["name"] == data)
    whole = (_COLUMNS * _WIDTH + _GAP, _HEAD + lines * height + _ROW)
    title = f"{data}: {about}" + _remark(results)
    box = f'viewBox="0 0 {whole[0]} {whole[1]}" width="{whole[0]}" height="{whole[1]}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{whole[0]}" height="{whole[1]}"/>',
        f'<text class="title" x="{_GAP}" y="26">{escape(title)}</text>',
    ]
    for number, (work, metric) in enumerate(panels):
        x = _GAP + number % _COLUMNS * _WIDTH
        y = _HEAD + number // _COLUMNS * height
        parts += [
            f'<g transform="translate({x} {y})">',
            *_panel(results, data, work, metric),
            "</g>",
        ]
    foot = "Medians; the line is from the lowest to the highest round. Shorter is better."
    parts.append(f'<text class="none" x="{_GAP}" y="{whole[1] - 8}">{foot}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _remark(results: Results) -> str:
    told = "" if results.ended == "complete" else f" (not complete: {results.ended})"
    return told + (" (a quick look)" if results.options["quick"] else "")


def _panel(results: Results, data: str, work: str, metric: Metric) -> list[str]:
    runs = results.of(data, work)
    highest = max(
        (float(getattr(run, metric)) for each in runs.values() for run in each if not run.failed),
        default=0.0,
    )
    drawn = [f'<text class="panel" x="0" y="24">{work}: {_TITLES[metric]}</text>']
    for number, entrant in enumerate(results.entrants_of(data)):
        each = runs.get(entrant.key, [])
        y = _HEAD + number * _ROW
        own = "mine" if entrant.kind == "ours" else "other"
        drawn.append(f'<text class="{own}" x="0" y="{y + 12}">{escape(entrant.name)}</text>')
        middle = typical(each, metric)
        if not middle:
            said = "failed" if any(run.failed for run in each) else "too short to see"
            said = said if each else why_not(entrant).partition(":")[0]
            drawn.append(f'<text class="none" x="{_NAME}" y="{y + 12}">{escape(said)}</text>')
        else:
            drawn += _bar(each, metric, middle=middle, highest=highest, y=y, kind=entrant.kind)
    return drawn


def _bar(
    each: list[Run], metric: Metric, *, middle: float, highest: float, y: int, kind: str
) -> list[str]:
    figures = [float(getattr(run, metric)) for run in each]
    scale = _BAR / highest if highest else 0.0
    low, high = (_NAME + scale * end for end in (min(figures), max(figures)))
    length = max(scale * middle, 1.0)
    figure = FORMATS[metric](middle)
    parts = [
        f'<rect class="{kind}" x="{_NAME}" y="{y}" width="{length:.1f}" height="15"/>',
        f'<text x="{max(high, _NAME + length) + 6:.1f}" y="{y + 12}">{figure}</text>',
    ]
    if low < high:
        where = f'x1="{low:.1f}" x2="{high:.1f}" y1="{y + 7.5}" y2="{y + 7.5}"'
        parts.append(f'<line class="spread" {where}/>')
    return parts
