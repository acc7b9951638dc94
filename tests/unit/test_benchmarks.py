"""The benchmark's own arithmetic, tables and charts, and what it takes for a result."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from benchmarks import chart, command, report, results
from benchmarks.results import Entrant, Ratio, Results, Run, best, load, ratio, save, typical

SVG = "{http://www.w3.org/2000/svg}"
MACHINE = {
    "date": "2026-11-20",
    "processor": "one",
    "cores": 2,
    "memory": 1 << 33,
    "system": "Linux",
    "kernel": "6.1",
    "file system": "ext4",
    "python": "3.11.2",
}
ENTRANTS = [
    Entrant("ours-zstd", "auto-backup, zstd", "ours", "ok", "1.0"),
    Entrant("ours-xz", "auto-backup, xz", "ours", "ok", "1.0"),
    Entrant("restic", "restic", "peer", "other version", "0.14.0", "too old: 0.19 is asked for"),
    Entrant("kopia", "kopia", "peer", "ok", "0.23.1"),
    Entrant("rustic", "rustic", "peer", "missing", "", "rustic is not installed"),
    Entrant("tar-xz", "tar | xz -T0", "floor", "ok", "tar 1.34, xz 5.4.1"),
]


def run_of(contender, number=1, **figures):
    figures = {"wall": 1.0, "cpu": 1.0, "stored": 100, "peak": 1 << 20} | figures
    return Run("kernel", figures.pop("work", "first"), number, contender, **figures)


def of(*runs, **fields):
    told = {"name": "kernel", "about": "a tree", "entries": 1234, "size": 1 << 30, "one": "a"}
    data = [told | {"against": "", "without": []} | fields.pop("data", {})]
    options = {"rounds": 1, "quick": False, "cold": False}
    return Results(
        options, MACHINE, ENTRANTS, data, runs=list(runs), **{"ended": "complete"} | fields
    )


def rows(text):
    """Return the cells of each row of a table by its first one."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.replace("\\|", "¦").split("|")[1:-1]] for line in lines]
    return {row[0].strip("*"): row[1:] for row in cells}


class TestRatios:
    def test_one_is_of_medians_with_the_extremes_of_single_rounds(self):
        ours = [run_of("a", number, wall=wall) for number, wall in enumerate([2, 3, 10], 1)]
        theirs = [run_of("b", number, wall=wall) for number, wall in enumerate([4, 4, 5], 1)]

        assert ratio(ours, theirs, "wall") == Ratio(0.75, 0.5, 2.0)

    def test_only_rounds_count_that_both_have_done(self):
        ours = [run_of("a", 1, wall=1), run_of("a", 2, wall=100)]
        theirs = [run_of("b", 1, wall=2), run_of("b", 2, failed="broken")]

        assert ratio(ours, theirs, "wall") == Ratio(0.5, 0.5, 0.5)

    def test_there_is_none_to_nothing(self):
        assert ratio([run_of("a")], [], "wall") is None
        assert ratio([run_of("a")], [run_of("b", stored=0)], "stored") is None

    def test_who_failed_once_has_no_median(self):
        assert typical([run_of("a", 1, wall=1), run_of("a", 2, failed="broken")], "wall") is None

    def test_the_fastest_peer_is_compared_with_even_when_a_floor_is_faster(self):
        found = of(run_of("restic", wall=5), run_of("kopia", wall=4), run_of("tar-xz", wall=1))

        assert best(found, "kernel", "first", "wall") == "kopia"

    def test_a_peer_that_failed_is_not_compared_with(self):
        found = of(run_of("restic", wall=5), run_of("kopia", failed="broken"))

        assert best(found, "kernel", "first", "wall") == "restic"

    def test_without_peers_it_is_a_floor(self):
        assert best(of(run_of("tar-xz"), run_of("ours-xz")), "kernel", "first", "wall") == "tar-xz"

    def test_a_data_set_may_name_who_is_compared_with(self):
        found = of(run_of("kopia"), run_of("tar-xz", wall=9), data={"against": "tar-xz"})

        assert best(found, "kernel", "first", "wall") == "tar-xz"


class TestTables:
    def test_every_contender_has_a_row_whatever_became_of_it(self):
        found = of(run_of("ours-zstd"), run_of("kopia"), run_of("restic", failed="it is broken"))

        table = rows(report.table(found, "kernel", "first"))

        assert table["restic 0.14.0 (too old: 0.19 is asked for)"][0] == "failed: it is broken"
        assert table["rustic"][0] == "missing: rustic is not installed"
        assert table["tar ¦ xz -T0"][0] == "not run"
        assert len(table) == len(ENTRANTS) + 1

    def test_what_is_lost_is_said_in_our_rows(self):
        found = of(
            run_of("ours-zstd", wall=1, stored=50),
            run_of("ours-xz", wall=8, stored=40),
            run_of("kopia", wall=4, stored=100),
        )

        table = rows(report.table(found, "kernel", "first"))

        assert table["auto-backup, zstd"][-1] == "–"
        assert table["auto-backup, xz"][-1] == "**time** × 2.00"
        assert table["auto-backup, zstd"][:2] == ["1.00 s", "0.25"]
        assert table["kopia 0.23.1"][-1] == ""

    def test_a_loss_against_the_leanest_of_them_is_one(self):
        peers = run_of("kopia", wall=4, peak=9 << 20), run_of("restic", wall=8, peak=1 << 20)
        found = of(run_of("ours-zstd", peak=2 << 20), *peers)

        table = rows(report.table(found, "kernel", "first"))

        assert table["auto-backup, zstd"][-1] == "**memory** × 2.00"

    def test_the_spread_is_told_where_there_are_rounds(self):
        ours = [run_of("ours-zstd", number, wall=wall) for number, wall in enumerate([1, 2, 3], 1)]
        found = of(*ours, *(run_of("kopia", number, wall=4) for number in (1, 2, 3)))

        assert rows(report.table(found, "kernel", "first"))["auto-backup, zstd"][1] == (
            "0.50 (0.25..0.75)"
        )

    def test_memory_that_is_a_bound_is_marked(self):
        found = of(run_of("kopia", exact=False))

        assert "≤ 1.0 MiB" in rows(report.table(found, "kernel", "first"))["kopia 0.23.1"]

    def test_memory_that_nobody_saw_is_no_figure(self):
        table = rows(
            report.table(of(run_of("ours-xz"), run_of("kopia", peak=0)), "kernel", "first")
        )

        assert table["kopia 0.23.1"][5] == "–"
        assert "memory" not in table["auto-backup, xz"][-1]

    def test_those_that_a_data_set_goes_without_have_no_row(self):
        table = rows(
            report.table(of(run_of("kopia"), data={"without": ["rustic"]}), "kernel", "first")
        )

        assert "rustic" not in table

    def test_an_unfinished_benchmark_says_so_first(self):
        text = report.document(
            of(run_of("kopia"), ended="interrupted", missing={"small": "no room"})
        )

        assert "Not complete (interrupted)" in text
        assert text.index("Not complete") < text.index("| tool")
        assert "## small\n\nLeft out: no room." in text

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0, "0 B"), (1536, "1.5 KiB"), (200 << 20, "200 MiB"), (3 << 30, "3.00 GiB")],
    )
    def test_sizes_have_three_figures(self, value, text):
        assert report.size(value) == text


class TestCharts:
    def found(self, **fields):
        walls = {"ours-zstd": (1, 2, 3), "kopia": (4, 4, 4)}
        runs = [
            run_of(key, number, wall=wall)
            for key, each in walls.items()
            for number, wall in enumerate(each, 1)
        ]
        return of(*runs, run_of("restic", failed="broken <&>"), **fields)

    def test_bars_are_as_long_as_the_medians(self):
        drawn = ET.fromstring(chart.drawing(self.found(), "kernel"))  # noqa: S314 - our own

        bars = {kind: drawn.find(f".//{SVG}rect[@class='{kind}']") for kind in ("ours", "peer")}
        assert float(bars["peer"].get("width")) == 2 * float(bars["ours"].get("width"))

    def test_the_spread_of_rounds_is_drawn(self):
        drawn = ET.fromstring(chart.drawing(self.found(), "kernel"))  # noqa: S314 - our own

        line = drawn.find(f".//{SVG}line[@class='spread']")
        bar = drawn.find(f".//{SVG}rect[@class='ours']")
        middle = float(bar.get("x")) + float(bar.get("width"))
        assert float(line.get("x1")) < middle < float(line.get("x2"))

    def test_those_without_figures_are_named(self):
        drawn = ET.fromstring(chart.drawing(self.found(), "kernel"))  # noqa: S314 - our own

        said = [text.text for text in drawn.iter(f"{SVG}text")]
        assert {"failed", "missing", "not run", "tar | xz -T0", "rustic"} <= set(said)

    def test_memory_that_nobody_saw_has_no_bar(self):
        drawn = chart.drawing(of(run_of("kopia", peak=0)), "kernel")

        assert drawn.count("too short to see") == 1

    def test_the_background_is_drawn_for_both_colour_schemes(self):
        text = chart.drawing(self.found(), "kernel")

        assert 'class="page"' in text
        assert "prefers-color-scheme: dark" in text

    def test_a_chart_of_half_a_benchmark_says_so(self):
        assert "not complete: interrupted" in chart.drawing(
            self.found(ended="interrupted"), "kernel"
        )

    def test_what_was_written_is_drawn_again(self, tmp_path, capsys):
        save(self.found(), tmp_path / "results.json")

        assert command.main(["--from-json", str(tmp_path / "results.json")]) == 0

        assert (tmp_path / "kernel.svg").read_text() == chart.drawing(self.found(), "kernel")
        assert (tmp_path / "results.md").read_text() == report.document(self.found())
        assert "0.50 (0.25..0.75)" in capsys.readouterr().out


class TestResults:
    def test_they_come_back_from_json_as_they_were(self, tmp_path):
        found = of(run_of("kopia"), run_of("restic", failed="broken"))
        save(found, tmp_path / "results.json")

        assert load(tmp_path / "results.json") == found

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 7}', '{"format": 1, "runs": []}'])
    def test_other_files_are_refused_in_words(self, tmp_path, text, capsys):
        (tmp_path / "x.json").write_text(text)

        assert command.main(["--from-json", str(tmp_path / "x.json")]) == 2

        assert capsys.readouterr().err.startswith(f"compare: {tmp_path}/x.json")


def test_json_of_results_has_no_paths(tmp_path):
    save(of(run_of("kopia")), tmp_path / "r.json")

    assert str(tmp_path) not in (tmp_path / "r.json").read_text()
    assert json.loads((tmp_path / "r.json").read_text())["format"] == results.FORMAT
