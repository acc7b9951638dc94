from __future__ import annotations

import os
import re

import pytest

from tests.cli import run_on_terminal, run_process, take

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Return a directory that takes a second or two to save."""
    path = tmp_path_factory.mktemp("large-things")
    for number in range(30):
        (path / f"{number:02}").write_bytes(os.urandom(6_000_000))
    return path


def lines_of(shown):
    """Return the lines that a terminal showed, those that were drawn over as well."""
    return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", shown)) if line.strip()]


class TestProgress:
    def test_taking_tells_how_far_how_fast_and_how_long_still(self, big, store):
        status, shown = run_on_terminal("--now", "--source", big, "-s", store)

        told = r"large-things\d* [━╸╺]+ [0-9.]+ MiB of 171\.7 MiB  [0-9.]+ MiB/s  \d+:\d\d left"
        assert status == 0
        assert [line for line in lines_of(shown) if re.match(told, line)]
        assert max(map(len, lines_of(shown)[:-5])) <= 80

    def test_it_is_gone_when_all_is_done(self, big, store):
        _, shown = run_on_terminal("--now", "--source", big, "-s", store)

        end = shown.rpartition("saved ")[0]
        assert end.endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))
        assert "━" not in shown.rpartition("saved ")[2]

    def test_verifying_and_restoring_tell_it_too(self, big, store, tmp_path):
        take("--source", big, "-s", store, "--compression", "none")

        _, verifying = run_on_terminal("verify", "-s", store)
        _, restoring = run_on_terminal("restore", "latest", "--target", tmp_path / "o", "-s", store)

        assert re.search(r"verifying [━╸╺]+ [0-9.]+ MiB of [0-9.]+ MiB", CONTROL.sub("", verifying))
        assert re.search(r"restoring [━╸╺]+ [0-9.]+ MiB of 171\.7 MiB", CONTROL.sub("", restoring))

    @pytest.mark.parametrize("option", ["-q", "--quiet"])
    def test_quiet_draws_nothing(self, option, tree, store):
        assert run_on_terminal("--now", "--source", tree, "-s", store, option) == (0, "")

    def test_in_a_pipe_nothing_is_drawn(self, tree, store):
        result = run_process("--now", "--source", tree, "-s", store)

        assert result.err == ""
        assert "\x1b" not in result.out

    def test_a_name_of_a_job_that_looks_like_markup_is_shown_as_it_is(self, tmp_path, store):
        source = tmp_path / "[red]"
        source.mkdir()
        (source / "file").write_bytes(b"x")

        status, shown = run_on_terminal("--now", "--source", source, "-s", store)

        assert status == 0
        assert "\x1b[31m" not in shown


class TestTables:
    def test_snapshots_are_drawn_as_a_table(self, tree, store):
        path = take("--source", tree, "-s", store)

        status, shown = run_on_terminal("snapshots", "-s", store)

        head, rule, row, note = (line.strip() for line in lines_of(shown))
        assert status == 0
        assert head.split() == ["id", "time", "job", "entries", "size", "proven", "state"]
        assert set(rule) == {"─"}
        assert row.startswith(path.name.split("-")[2])
        assert row.split()[-1] == "ok"
        assert note == f"auto-backup: 1 snapshot in {store}"

    def test_it_fits_into_80_columns_with_the_longest_names(self, tree, store):
        for host in ("h" * 64, "q" * 64):
            take("--source", tree, "-s", store, "--host", host, "--job", "j" * 64)

        _, shown = run_on_terminal("snapshots", "-s", store)

        *table, _ = lines_of(shown)
        assert max(map(len, table)) <= 80
        assert sum(line.count("q") for line in table[2:]) == 64
        assert sum(line.count("j") for line in table[2:]) == 128
        assert sum(line.rstrip().endswith("  ok") for line in table) == 2

    def test_the_reason_of_damage_stands_below(self, tree, store):
        path = take("--source", tree, "-s", store)
        path.write_bytes(path.read_bytes()[:-9])

        _, shown = run_on_terminal("snapshots", "-s", store)

        lines = [line.strip() for line in lines_of(shown)]
        assert lines[2].endswith("  damaged")
        assert lines[3].startswith(f"auto-backup: {lines[2].split()[0]}: ")

    def test_keys_are_drawn_as_a_table(self, tree, store):
        take("--source", tree, "-s", store)

        _, shown = run_on_terminal("key", "list", "-s", store)

        assert [line.split()[0] for line in lines_of(shown)][::2] == ["type", "fernet"]

    def test_names_cannot_act_upon_it(self, source, store):
        (source / "\x1b[2Jgone\x07").touch()
        take("--source", source, "-s", store)

        _, shown = run_on_terminal("ls", "latest", "-s", store)

        assert shown.splitlines() == [str(source), f"{source}/\\x1b[2Jgone\\x07"]
