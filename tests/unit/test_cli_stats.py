from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from backup.measuring import Taken, extension, measure_job
from tests.cli import done, run, run_on_terminal, take
from tests.lister import listing

START = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def _with_a_key(key_file):
    """Let a test have the key file."""


class TestFiguresOfAJob:
    def test_come_from_all_its_snapshots(self):
        taken = [
            Taken(START + timedelta(days=day), 100 + day, 10 + day, 1000 + 50 * day)
            for day in range(5)
        ]

        found = measure_job(taken)

        assert (found.snapshots, found.entries, found.source) == (5, 14, 1200)
        assert (found.stored, found.average) == (510, 102)
        assert found.ratio == pytest.approx(5500 / 510)
        assert found.growth == pytest.approx(50)
        assert (found.oldest, found.newest) == (START, START + timedelta(days=4))

    def test_a_growth_needs_a_day(self):
        one = Taken(START, 1, 1, 1)

        assert measure_job([one]).growth is None
        assert measure_job([one, one._replace(time=START + timedelta(hours=23))]).growth is None

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (b"a/b.TXT", "txt"),
            (b"a.d/b", ""),
            (b".profile", ""),
            (b"..odd", ""),
            (b"x.tar.gz", "gz"),
            (b"x.", ""),
            (b"x.much-too-long-for-one", ""),
            (b"x.\xff", "\\xff"),
        ],
    )
    def test_extensions(self, path, expected):
        assert extension(path) == expected


@pytest.mark.usefixtures("_with_a_key")
class TestTheCommand:
    def test_a_line_for_each_job(self, tree, store):
        for job in ("one", "one", "two"):
            path = take("--source", tree, "-s", store, "--job", job)

        head, first, second = done("stats", "-s", store).lines
        one, two = done("stats", "-s", store, "--json").json

        assert head.split()[:5] == ["job", "snapshots", "entries", "source", "stored"]
        assert first.split()[:2] == ["testhost/one", "2"]
        assert second.split()[:2] == ["testhost/two", "1"]
        assert two["stored_bytes"] == path.stat().st_size
        assert (one["snapshots"], one["entries"]) == (2, len(listing(tree)))
        assert one["growth_bytes_per_day"] is None
        assert done("stats", "-s", store, "--job", "two", "--json").json == [two]

    def test_a_narrow_terminal_gets_fewer_columns_and_whole_lines(self, tree, store):
        take("--source", tree, "-s", store, "--job", "Documents")

        narrow = run_on_terminal("stats", "-s", store)[1].splitlines()
        wide = run_on_terminal("stats", "-s", store, columns=160)[1]

        assert sum("testhost/Documents" in line and "KiB" in line for line in narrow) == 1
        assert not any("ratio" in line for line in narrow)
        assert "ratio" in wide
        assert "newest" in wide

    def test_what_a_snapshot_holds(self, tree, store):
        path = take("--source", tree, "-s", store)

        found = done("stats", "latest", "-s", store, "--json").json

        rows = listing(tree)
        files = {row.linked_names: row for row in rows.values() if row.type == "-"}
        types = [row.type for row in rows.values()]
        assert found["entries"] == {
            "file": types.count("-"),
            "dir": types.count("d"),
            "link": types.count("l"),
            "fifo": types.count("p"),
        }
        assert found["files"] == len(files)
        assert found["source_bytes"] == sum(row.size for row in files.values())
        assert sum(one["files"] for one in found["sizes"]) == len(files)
        for one in found["sizes"]:
            fitting = [r for r in files.values() if one["below"] // 2 <= r.size < one["below"]]
            assert one["files"] == len(fitting) or one["below"] == 1
        assert found["biggest"][0] == {
            "path": f"{tree}/docs/deep/er/random",
            "size": 70_000,
        }
        assert found["extensions"]["txt"] == {"files": 1, "bytes": 5600}
        stored = sum(one["stored"] for one in found["sections"].values())
        assert stored + found["sealing_bytes"] == found["file_bytes"] == path.stat().st_size

    def test_for_people(self, tree, store):
        path = take("--source", tree, "-s", store)

        lines = done("stats", "latest", "-s", store).lines

        assert lines[0] == path.relative_to(store).as_posix()
        assert any(line.startswith("    archive ") and line.endswith(":1)") for line in lines)
        assert f"{tree}/docs/deep/er/random" in lines[-10]
        assert all(one.isprintable() for line in lines for one in line)

    def test_several_in_json_are_lines(self, tree, store):
        take("--source", tree, "-s", store)

        assert len(done("stats", "latest", "source", "-s", store, "--json").lines) == 2

    def test_those_that_do_not_open_are_told(self, tree, store):
        take("--source", tree, "-s", store)
        path = take("--source", tree, "-s", store)
        path.write_bytes(path.read_bytes()[:-9])

        result = done("stats", "-s", store)

        assert result.lines[1].split()[1] == "1"
        assert "not counted: 1 snapshot that did not open" in result.err

    def test_an_empty_store(self, tmp_path):
        assert "there is no snapshot" in done("stats", "-s", tmp_path).err
        assert done("stats", "-s", tmp_path, "--json").json == []
        assert run("stats", "latest", "-s", tmp_path).status == 10

    def test_more_than_ten_biggest_are_not_told(self, source, store):
        for number in range(15):
            (source / f"f{number:02}").write_bytes(os.urandom(number))
        take("--source", source, "-s", store)

        found = done("stats", "latest", "-s", store, "--json").json

        assert [one["size"] for one in found["biggest"]] == list(range(14, 4, -1))
