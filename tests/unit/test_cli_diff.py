from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cli import done, run, take


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def changed(source, store):
    """Take a snapshot before and one after every kind of change."""
    (source / "sub").mkdir()
    for name in ("a", "b", "c", "d", "e"):
        (source / "sub" / name).write_text(f"this is {name}")
    (source / "link").symlink_to("a")
    take("--source", source, "-s", store)
    change(source)
    take("--source", source, "-s", store)


def change(source):
    (source / "sub" / "a").unlink()
    (source / "sub" / "b").write_text("this is b, changed")
    (source / "sub" / "c").chmod(0o600)
    (source / "sub" / "d").rename(source / "moved")
    (source / "sub" / "e").unlink()
    (source / "sub" / "e").mkdir()
    (source / "new").write_text("something new")
    (source / "link").unlink()
    (source / "link").symlink_to("b")


EXPECTED = [
    ("content", "link"),
    ("moved", "moved"),
    ("added", "new"),
    ("removed", "sub/a"),
    ("content", "sub/b"),
    ("metadata", "sub/c"),
    ("type", "sub/e"),
]


def kinds(lines, source):
    found = [json.loads(line) for line in lines]
    return [
        (one["change"], os.path.relpath(one["path"], source))
        for one in found
        if "change" in one and not (one["change"] == "metadata" and one["fields"] == ["mtime"])
    ]


class TestTwoSnapshots:
    def test_every_kind_of_change(self, source, store, changed):
        lines = done("diff", "source~1", "source", "-s", store, "--json").lines

        assert kinds(lines, source) == EXPECTED
        summary = json.loads(lines[-1])["summary"]
        assert summary["added_bytes"] == 13 + 18
        assert summary["removed_bytes"] == 9 + 9 + 9
        assert summary["content"] == 2
        moved = next(one for one in map(json.loads, lines) if one.get("change") == "moved")
        assert moved["from"] == f"{source}/sub/d"

    def test_for_people(self, source, store, changed):
        result = done("diff", "source~1", "source", "-s", store)

        words = [line.replace(str(source), "S").split(maxsplit=2) for line in result.lines]
        assert ["added", "S/new", "(13 B)"] in words
        assert ["removed", "S/sub/a", "(9 B)"] in words
        assert ["moved", "S/moved", f"(from {source}/sub/d)".replace(str(source), "S")] in words
        assert ["metadata", "S/sub/c", "(mode 0644 -> 0600)"] in words
        assert ["type", "S/sub/e", "(file -> dir)"] in words
        assert len(words) == 7
        assert (
            "1 added, 1 removed, 1 moved, 1 of another type, 2 with another content" in result.err
        )
        assert "besides, the times of 2 directories changed" in result.err
        verbose = done("diff", "source~1", "source", "-s", store, "-v").lines
        assert len(verbose) == 9

    def test_the_other_way_round(self, source, store, changed):
        lines = done("diff", "source", "source~1", "-s", store, "--json").lines

        assert ("added", "sub/a") in kinds(lines, source)
        assert ("removed", "new") in kinds(lines, source)

    def test_paths_choose(self, source, store, changed):
        lines = done("diff", "source~1", "latest", source / "new", "-s", store).lines

        assert [line.split()[:2] for line in lines] == [["added", f"{source}/new"]]
        result = run("diff", "source~1", "latest", "/nope", "-s", store)
        assert result.status == 16
        assert "neither snapshot holds /nope" in result.err

    def test_nothing_changed_is_told(self, source, store, changed):
        result = done("diff", "latest", "latest", "-s", store)

        assert (result.out, result.err) == ("", "auto-backup: nothing changed\n")
        assert done("diff", "latest", "latest", "-s", store, "-q").err == ""

    def test_one_alone_is_refused_with_what_to_do(self, store, changed):
        result = run("diff", "latest", "-s", store)

        assert result.status == 2
        assert "--source for what is there now" in result.err
        assert run("diff", "latest", "latest", "--content", "-s", store).status == 2


class TestTheSource:
    def test_every_kind_of_change_since_then(self, source, store, changed):
        lines = done("diff", "source~1", "--source", "-s", store, "--json").lines

        assert kinds(lines, source) == EXPECTED

    def test_paths_choose(self, source, store, changed):
        for arguments in (["--source", source / "new"], [source / "new", "--source"]):
            lines = done("diff", "source~1", *arguments, "-s", store).lines

            assert [line.split()[:2] for line in lines] == [["added", f"{source}/new"]]

    def test_it_agrees_with_diff_about_a_restored_tree(self, source, store, changed, tmp_path):
        done("restore", "source~1", "--target", tmp_path / "out", "-s", store)
        before = tmp_path / "out" / str(source)[1:]
        told = subprocess.run(
            ["diff", "-rq", "--no-dereference", before, source],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip

        lines = done("diff", "source~1", "--source", "--content", "-s", store).lines

        differing = [line.split()[1] for line in lines if line.startswith("content")]
        assert all(path.replace(str(source), str(before)) in told for path in differing)
        assert told.count("differ") == len(differing)
        assert told.count("Only in") == 4  # the moved one is two of them
        assert len(told.splitlines()) == 4 + 2 + 1

    def test_stores_in_it_are_left_out(self, source):
        (source / "file").touch()
        take("--source", source, "-s", source / "store")

        result = done("diff", "latest", "--source", "-s", source / "store", "-v")

        assert (result.out, result.err) == ("", "auto-backup: nothing changed\n")

    def test_what_may_have_changed_is_told_with_what_to_do(self, source, store):
        (source / "file").write_text("one")
        take("--source", source, "-s", store)
        (source / "file").write_text("two")

        result = done("diff", "latest", "--source", "-s", store)

        assert result.lines == [f"maybe     {source}/file  (mtime)"]
        assert "--content reads and compares it" in result.err
        read = done("diff", "latest", "--source", "--content", "-s", store)
        assert read.lines == [f"content   {source}/file"]
