"""Who is run, in which order, by which commands, on which data; and when a tree is whole."""

from __future__ import annotations

import pytest

from benchmarks import command, report, trees
from benchmarks.contenders import Place, Program, judged, look_for
from benchmarks.data import KINDS, made
from benchmarks.filling import FILLERS, slice_of
from benchmarks.floors import Tar
from benchmarks.ours import everybody
from benchmarks.rounds import one_line, order


class TestVersions:
    @pytest.mark.parametrize(
        ("said", "state"),
        [
            ("restic 0.19.1 compiled with go1.26", "ok"),
            ("restic 0.20", "ok"),
            ("restic 0.9.6", "other version"),
            ("restic 1.0.0", "other version"),
            ("no number", "other version"),
        ],
    )
    def test_are_compared_as_numbers(self, said, state):
        assert judged(Program(("restic", "version"), (0, 19), (1, 0)), said).state == state

    @pytest.fixture
    def fake(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

        def make(name, text):
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)

        return make

    def test_a_program_in_the_path_is_asked(self, fake):
        fake("fancy", 'echo "fancy $1.2.3"')

        found = look_for(Program(("fancy", "7"), at_least=(7, 2)))

        assert (found.state, found.version) == ("ok", "7.2.3")

    def test_one_that_is_too_old_runs_and_is_marked(self, fake):
        fake("restic", "echo restic 0.14.0")
        restic = next(one for one in everybody() if one.key == "restic")

        found = restic.found()

        assert found.runs
        assert (found.version, found.why) == ("0.14.0", "too old: 0.19 or newer is asked for")

    def test_one_that_fails_is_as_good_as_missing_and_its_words_are_told(self, fake):
        fake("fancy", "echo library not found >&2; exit 127")

        found = look_for(Program(("fancy", "--version")))

        assert not found.runs
        assert found.why == "fancy --version: library not found"

    def test_a_pipeline_needs_all_of_its_programs(self, fake):
        floor = Tar("nosuchcompressor")

        assert floor.found().why == "nosuchcompressor is not installed"


class TestPlans:
    def test_each_round_begins_with_another_one(self):
        everyone = everybody()

        firsts = [order(everyone, number)[0].key for number in range(1, len(everyone) + 2)]

        assert sorted(firsts[:-1]) == sorted(one.key for one in everyone)
        assert firsts[-1] == firsts[0]
        assert sorted(one.key for one in order(everyone, 3)) == sorted(firsts[:-1])

    def test_reasons_fit_a_line_whatever_name_is_in_them(self):
        assert one_line("a\nb\udcff is missing") == "a b\\udcff is missing"

    def test_tools_are_chosen_by_name_or_family(self):
        keys = [one.key for one in command.chosen(everybody(), ["restic", "ours"])]

        assert keys == ["ours-zstd", "ours-xz", "restic"]

    def test_unknown_tools_and_data_are_refused(self, capsys):
        assert command.main(["--dry-run", "--only", "restik"]) == 2
        with pytest.raises(SystemExit):
            command.main(["--dry-run", "--data", "colonel"])

        assert "restik: not one of" in capsys.readouterr().err

    def test_a_plan_names_every_command_and_makes_nothing(self, tmp_path, capsys):
        assert command.main(["--dry-run", "--work", str(tmp_path / "work")]) == 0

        told = capsys.readouterr().out
        assert "restic check --read-data" in told
        assert "kopia snapshot verify --verify-files-percent=100" in told
        assert "borg check --verify-data" in told
        assert list(tmp_path.iterdir()) == []

    def test_no_command_holds_a_secret(self, tmp_path):
        place = Place(tmp_path, tmp_path / "source", tmp_path / "source" / "file", "first")
        place.secret.write_text("geheim")
        for one in everybody():
            steps = [*one.prepare(place), *(one.doing(work, place) for work in report.WORKS)]
            assert "geheim" not in " ".join(map(str, steps))


class TestData:
    @pytest.mark.parametrize("name", FILLERS)
    def test_is_the_same_each_time(self, name, tmp_path):
        for number in "12":
            (tmp_path / number).mkdir()
            FILLERS[name](tmp_path / number, 3000)

        assert trees.difference(tmp_path / "1", tmp_path / "2", contents=True) is None
        assert trees.measured(tmp_path / "1").size > 2000

    def test_that_is_complete_is_made_once(self, tmp_path):
        calls = []
        for recipe in ("one", "one", "two"):
            made(tmp_path / "data", recipe, lambda top: calls.append(top.name))

        assert calls == ["data.partial", "data.partial"]

    def test_that_was_left_unfinished_is_made_anew(self, tmp_path):
        def broken(top):
            (top / "half").touch()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            made(tmp_path / "data", "one", broken)
        assert not (tmp_path / "data").exists()

        path = made(tmp_path / "data", "one", lambda top: (top / "whole").touch())
        assert [one.name for one in path.iterdir()] == ["whole"]

    def test_a_slice_is_about_as_large_as_asked(self, tmp_path):
        whole, part = tmp_path / "whole", tmp_path / "part"
        for number in range(100):
            path = whole / str(number % 7) / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(1000))
        part.mkdir()

        slice_of(whole, part, 25_000)

        assert trees.measured(part).size == 25_000

    def test_every_data_set_has_our_rows(self):
        assert all({"ours-zstd", "ours-xz"}.isdisjoint(kind.without) for kind in KINDS.values())


class TestTrees:
    def test_a_copy_differs_in_nothing(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "c").write_text("x")
        (tmp_path / "a" / "link").symlink_to("b")

        assert trees.difference(tmp_path / "a", tmp_path / "a", contents=True) is None
        assert trees.measured(tmp_path / "a").entries == 4

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda top: (top / "f").unlink(), "f is missing in what was restored"),
            (lambda top: (top / "f").write_text("longer"), "f was restored as something else"),
            (lambda top: (top / "f").write_text("two"), "f was restored with another content"),
            (lambda top: (top / "g").touch(), "g was restored and never saved"),
        ],
    )
    def test_what_is_not_as_it_was_is_named(self, change, told, tmp_path):
        for name in ("source", "restored"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "f").write_text("one")
        change(tmp_path / "restored")

        source, restored = tmp_path / "source", tmp_path / "restored"
        assert trees.difference(source, restored, contents=True) == told

    def test_nothing_is_not_a_restored_tree(self, tmp_path):
        assert trees.difference(tmp_path, tmp_path / "no", contents=False) == (
            "nothing was restored to no"
        )
