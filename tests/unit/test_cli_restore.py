"""``restore`` where something exists: plans, questions, policies, in place."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from backup.locating import locate_path
from backup.snapshot.frame import Section
from backup.snapshot.recipients import FernetKey
from tests.cli import done, run, run_on_terminal, take
from tests.lister import listing

IN_PLACE = ("restore", "latest", "--in-place")


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def changed(tree, store, monkeypatch):
    """Save the sample tree, then change, add and delete something."""
    monkeypatch.setenv("AUTO_BACKUP_STORE", str(store))
    take("--source", tree)
    rows = listing(tree)
    (tree / "docs" / "plan.txt").write_text("spoilt")
    (tree / "old").unlink()
    (tree / "new").mkdir()
    (tree / "new" / "file").write_text("new")
    (tree / "script").chmod(0o600)
    return rows


def answered(word, *arguments):
    return run_on_terminal(*IN_PLACE, *arguments, columns=200, typed=word.encode() + b"\n")


class TestConsent:
    def test_without_a_terminal_nothing_is_replaced_unless_yes_is_said(self, tree, changed):
        before = listing(tree)

        result = run(*IN_PLACE, "--overwrite", "if-changed", "--delete")

        assert result.status == 2
        assert "this would replace 1" in result.err
        assert "delete 2" in result.err
        assert "look at the plan with --dry-run, then add --yes" in result.err
        assert listing(tree) == before

    @pytest.mark.parametrize("how", ["--yes", "1", "true", "Yes"])
    def test_yes_may_be_said_beforehand(self, tree, changed, monkeypatch, how):
        arguments = ["--yes"] if how == "--yes" else []
        if not arguments:
            monkeypatch.setenv("AUTO_BACKUP_YES", how)

        result = done(*IN_PLACE, "--overwrite=if-changed", "--delete", *arguments)

        assert listing(tree) == changed
        assert "1 replaced what was there" in result.out
        assert "2 names deleted" in result.out
        assert f"{tree}/docs/plan.txt: its size differs" in result.err
        assert f"{tree}/new: the snapshot does not have it" in result.err

    def test_a_variable_that_says_neither_is_refused(self, changed, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_YES", "perhaps")

        result = run(*IN_PLACE, "--overwrite", "never")

        assert result.status == 2
        assert "neither yes nor no" in result.err

    def test_a_variable_that_says_no_is_no(self, changed, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_YES", "0")

        assert run(*IN_PLACE, "--overwrite", "always").status == 2

    def test_on_a_terminal_the_plan_is_shown_and_a_question_asked(self, tree, changed):
        status, shown = answered("y", "--overwrite", "if-changed", "--delete")

        assert status == 0, shown
        assert "would go through 21 entries" in shown
        assert f"{tree}/docs/plan.txt: its size differs" in shown
        assert "and delete 2? [y/N]" in shown
        assert listing(tree) == changed

    @pytest.mark.parametrize("word", ["n", "", "no"])
    def test_no_changes_nothing(self, tree, changed, word):
        before = listing(tree)

        status, shown = answered(word, "--overwrite", "always")

        assert status == 16
        assert "you said no" in shown
        assert "nothing has been changed" in shown
        assert listing(tree) == before

    def test_what_only_adds_needs_no_consent(self, tree, changed):
        result = done(*IN_PLACE, "--overwrite", "never")

        assert (tree / "old").exists()
        assert (tree / "docs" / "plan.txt").read_text() == "spoilt"
        assert result.lines[0].startswith("restored 1 entry (1 file, ")
        assert result.lines[1] == "  to where it was"
        assert "20 others kept as they are" in result.lines[2]

    def test_quiet_with_yes_says_nothing(self, tree, changed):
        result = done(*IN_PLACE, "--overwrite", "always", "--yes", "-q")

        assert (result.out, result.err) == ("", "")
        assert (tree / "new").exists()


class TestPlans:
    def test_a_dry_run_tells_each_class_and_changes_nothing(self, tree, changed):
        before = listing(tree)

        told = done(*IN_PLACE, "--overwrite", "if-changed", "--delete", "-n")

        words = [line.split()[0] for line in told.lines if line.startswith("  ") and line[2] != " "]
        assert words[:2] == ["from", "to"]
        assert {"created", "replaced", "mended", "deleted"} <= set(words)
        assert told.lines[-1] == "nothing has been changed"
        assert listing(tree) == before

    def test_json_tells_every_step(self, tree, changed):
        plan = done(*IN_PLACE, "--overwrite", "if-changed", "--delete", "-n", "--json").json

        actions = {step["path"]: step["action"] for step in plan["steps"]}
        assert actions[f"{tree}/docs/plan.txt"] == "replace"
        assert actions[f"{tree}/old"] == "create"
        assert actions[f"{tree}/new"] == "delete"
        assert actions[f"{tree}/script"] in {"mend", "compare"}  # it was changed just now
        assert len(plan["steps"]) == plan["entries"] + 1
        assert plan["needs_consent"] is True
        assert plan["actions"]["delete"] == {"count": 2, "bytes": 3}
        assert plan["actions"]["create"]["count"] == 1

    def test_v_tells_every_step_in_words(self, tree, changed):
        told = done(*IN_PLACE, "--overwrite", "if-changed", "-n", "-v")

        assert f"created     {tree}/old  " in told.lines
        assert f"replaced    {tree}/docs/plan.txt  its size differs" in told.lines

    def test_a_restore_that_would_refuse_says_how_it_would_not(self, tree, changed):
        result = run(*IN_PLACE)

        assert result.status == 16
        assert f"{tree}/another-name" in result.err
        assert "--overwrite always, if-changed, if-newer or never" in result.err


class TestReports:
    def test_json_tells_what_was_done(self, tree, changed):
        report = done(*IN_PLACE, "--overwrite", "if-changed", "--delete", "--yes", "--json").json

        assert (report["replaced"], report["deleted"], report["problems"]) == (1, 2, [])
        assert report["entries"] + report["kept"] == 21
        assert report["target"] == "/"

    def test_one_lost_file_comes_back_and_its_directory_stays_as_it_is(self, tree, changed):
        (tree / "docs" / "plan.txt").unlink()
        (tree / "docs").chmod(0o700)

        done(*IN_PLACE, tree / "docs" / "plan.txt")

        assert (tree / "docs" / "plan.txt").read_text().startswith("one two three")
        assert (tree / "docs").stat().st_mode & 0o777 == 0o700
        assert not (tree / "old").exists()

    def test_strip_takes_leading_components_off(self, tree, changed, tmp_path):
        out = tmp_path / "out"

        done("restore", "latest", tree / "docs", "--target", out, "--strip", len(tree.parts) - 1)

        assert sorted(os.listdir(out)) == ["docs"]  # noqa: PTH208 - names

    def test_parts_of_a_damaged_index_are_told_and_all_others_restored(
        self, source, store, tmp_path, key
    ):
        for number in range(4000):
            (source / f"{number:05}").write_text(str(number))
        path = take("--source", source, "--store", store, "--compression", "none")
        rows = locate_path(path).open([FernetKey.parse(key)]).rows
        index = [row for row in rows if row.section is Section.INDEX]
        assert len(index) > 4
        with path.open("r+b") as file:
            file.seek(index[1].offset + 100)
            file.write(b"\0" * 50)
        out = tmp_path / "out"

        planned = run("restore", "latest", "--target", out, "-s", store, "-n")
        told = run("restore", "latest", "--target", out, "-s", store, "--json")
        words = run("restore", "latest", "--target", f"{out}2", "-s", store)

        names = {path.name for path in (out / str(source).lstrip("/")).iterdir()}
        lost = [int(name) for name in {f"{n:05}" for n in range(4000)} - names]
        assert (planned.status, told.status, words.status) == (0, 13, 13)
        [message] = told.json["damaged"]
        assert f"is damaged: {len(lost):,} entries are lost" in message
        assert f"from {source}/{min(lost):05} up to {source}/{max(lost) + 1:05}" in message
        assert "damaged: the part of the index from" in planned.err
        assert "'auto-backup decrypt SNAPSHOT | tar x'" in words.err
        assert 4000 - len(lost) + 1 == told.json["entries"]

        here = run(
            "restore", "latest", source / f"{lost[0]:05}", "--target", f"{out}3", "-s", store
        )
        assert here.status == 13
        assert "cannot be looked up" in here.err
        delete = run("restore", "latest", "--in-place", "--delete", "-s", store)
        assert delete.status == 16
        assert "--delete is refused" in delete.err


class TestCalls:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--in-place", "--target", "x"], "two places"),
            ([], "or say --in-place"),
            (["--in-place", "--strip", "1"], "does not go with --in-place"),
            (["--target", "x", "--overwrite", "sometimes"], "if-newer"),
            (["--target", "x", "--strip", "-1"], "strip"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, changed, arguments, words):
        result = run("restore", "latest", *arguments)

        assert result.status == 2
        assert words in result.err

    def test_the_log_tells_what_was_replaced_and_deleted(self, changed, private_home):
        done(*IN_PLACE, "--overwrite", "if-changed", "--delete", "--yes")

        log = next(private_home.rglob("backup.log")).read_text().splitlines()
        last = json.loads(log[-1])
        assert (last["action"], last["replaced"], last["deleted"]) == ("restore", 1, 2)

    def test_key_state_and_store_in_the_source_stay_as_they_are(
        self, source, private_home, key_file, monkeypatch
    ):
        home = source / "home"
        (home / "state").mkdir(parents=True)
        shutil.copy(key_file, home / "key")
        (home / "key").chmod(0o600)
        for name, place in (("STORE", "store"), ("KEY_FILE", "key"), ("STATE_DIR", "state")):
            monkeypatch.setenv(f"AUTO_BACKUP_{name}", str(home / place))
        take("--source", source)
        (home / "key").write_text((home / "key").read_text() + "\n")

        done(*IN_PLACE, "--overwrite", "always", "--delete", "--yes")

        assert (home / "key").read_text().endswith("\n\n")
        assert list((home / "store").rglob("*.enc"))
        assert (home / "state" / "backup.log").exists()
