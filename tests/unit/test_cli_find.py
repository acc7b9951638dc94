from __future__ import annotations

import hashlib
import json
import os

import pytest
from cryptography.fernet import Fernet

from tests.cli import done, run, take


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def history(source, store):
    """Take three snapshots: a letter that changes, one that is there at first only."""
    (source / "sub").mkdir()
    (source / "letter.txt").write_text("dear reader")
    (source / "sub" / "Gone.TXT").write_text("for a while")
    for change in (
        lambda: None,
        (source / "sub" / "Gone.TXT").unlink,
        lambda: (source / "letter.txt").write_text("dear reader, again"),
    ):
        change()
        take("--source", source, "-s", store)
    return [one["id"] for one in done("snapshots", "-s", store, "--json").json]


def find(*arguments):
    return [json.loads(line) for line in done("find", *arguments, "--json").lines]


class TestFinding:
    def test_for_people(self, source, store, history):
        result = done("find", "*.txt", "-s", store)

        path, first, second = result.lines
        assert path == f"{source}/letter.txt"
        assert first.startswith(f"  {history[0][:8]} 20")
        assert f"testhost/source  and 1 more to {history[1][:8]}  11 B  modified 20" in first
        assert second.startswith(f"  {history[2][:8]} ")
        assert second.endswith("  changed: content, mtime")
        assert result.err == "auto-backup: 1 path found\n"

    def test_what_is_gone_is_told_with_the_snapshot_that_does_not_have_it(self, store, history):
        _, line = done("find", "Gone*", "-s", store, "-q").lines

        assert line.endswith(f"  not in {history[1][:8]} any more")

    def test_in_json_a_line_for_each_path(self, source, store, history):
        gone, letter = find("*.txt", "-i", "-s", store)[::-1]

        assert (letter["path"], gone["path"]) == (
            f"{source}/letter.txt",
            f"{source}/sub/Gone.TXT",
        )
        assert [one["snapshots"] for one in letter["versions"]] == [history[:2], history[2:]]
        assert letter["versions"][1]["changed"] == ["content", "mtime"]
        (only,) = gone["versions"]
        assert (only["snapshots"], only["gone_in"]) == (history[:1], history[1])
        digest = hashlib.sha256(b"for a while").hexdigest()
        assert (only["entry"]["size"], only["entry"]["sha256"]) == (11, digest)

    def test_some_snapshots_may_be_named(self, store, history):
        def held(*options):
            (found,) = find("letter.txt", "-s", store, *options)
            return [one["snapshots"] for one in found["versions"]]

        assert held("--snapshot", "latest") == [history[2:]]
        assert held("--newest") == [history[2:]]
        assert held("--snapshot", "source~1", "--snapshot", history[0]) == [history[:2]]
        assert held("--snapshot", history[0], "--snapshot", "source~1") == [history[:2]]

    def test_host_and_job_choose(self, source, store, history):
        take("--source", source, "-s", store, "--job", "other")

        (found,) = find("letter.txt", "-s", store, "--job", "other")
        assert [one["job"] for one in found["versions"]] == ["other"]
        assert run("find", "x", "-s", store, "--job", "nope").status == 10

    def test_by_size_time_and_content(self, source, store, history, tmp_path):
        (tmp_path / "copy").write_text("for a while")
        digest = hashlib.sha256(b"for a while").hexdigest()

        def names(*options):
            return [os.path.basename(one["path"]) for one in find(*options, "-s", store)]  # noqa: PTH119

        assert names("--larger-than", "11") == ["letter.txt"]
        assert names("--larger-than", "1K") == []
        assert names("--newer-than", "2001-01-01", "*.txt") == ["letter.txt"]
        assert names("--newer-than", "2999-01-01T12:00") == []
        assert names("--sha256", digest.upper()) == ["Gone.TXT"]
        assert names("--like", tmp_path / "copy") == ["Gone.TXT"]
        assert names("--like", tmp_path / "copy", "letter*") == []

    def test_patterns_from_here_and_from_home(self, source, store, history, monkeypatch):
        monkeypatch.chdir(source / "sub")
        monkeypatch.setenv("HOME", str(source))

        assert find("../letter.*", "-s", store) == find("~/letter.txt", "-s", store)
        assert len(find("./Gone.TXT", "-s", store)) == 1

    def test_nothing_found_is_no_error(self, store, history):
        result = done("find", "nope", "-s", store)

        assert (result.out, result.err) == ("", "auto-backup: nothing found\n")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ([], "nothing to look for"),
            (["--larger-than", "many"], "'many' is not a size"),
            (["--newer-than", "soon"], "'soon' is not a time"),
            (["--sha256", "12ab"], "'12ab' is not a SHA-256"),
            (["--like", "/nowhere/at/all"], "cannot read /nowhere/at/all: No such file"),
            (["--like", "/"], "is not a regular file"),
            (["x", "--newest", "--snapshot", "latest"], "do not go together"),
        ],
    )
    def test_with_a_reason(self, store, history, arguments, told):
        result = run("find", *arguments, "-s", store)

        assert result.status == 2
        assert told in result.err

    def test_without_a_key(self, store, history, key_file):
        key_file.write_bytes(Fernet.generate_key())

        assert run("find", "x", "-s", store).status == 12

    def test_a_damaged_snapshot_is_told_with_status_13(self, source, store, history):
        path = next((store / "testhost" / "source").glob(f"*-{history[1][:4]}-*.enc"))
        path.write_bytes(path.read_bytes()[:-9])

        result = run("find", "letter.txt", "-s", store)

        assert result.status == 13
        assert len(result.lines) == 3
        assert f"not searched, or not to its end: testhost/source/{path.name}" in result.err
