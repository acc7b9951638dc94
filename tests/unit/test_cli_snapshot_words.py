"""Every way to say which snapshot is meant, through every command that takes one."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.cli import done, run, take

FORMS = [
    "an id",
    "the beginning of an id",
    "a job",
    "a host and a job",
    "the one before",
    "a day",
    "latest",
    "a name in the store",
    "a file's name",
    "a path",
    "a URL",
]


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def taken(source, store):
    """Return two snapshots of one job, old and new, as ``snapshots --json`` tells them."""
    (source / "letter").write_text("old")
    take("--source", source, "-s", store, "--job", "docs")
    (source / "letter").write_text("newer")
    take("--source", source, "-s", store, "--job", "docs")
    return done("snapshots", "-s", store, "--json").json


def word_for(form, store, taken):
    """Return a word of that form for the newer snapshot, or, where it cannot be, the older one."""
    old, new = taken
    return {
        "an id": (new["id"], new),
        "the beginning of an id": (new["id"][:9], new),
        "a job": ("docs", new),
        "a host and a job": ("testhost/docs", new),
        "the one before": ("docs~1", old),
        "a day": (f"docs@{time.strftime('%Y-%m-%d')}", new),
        "latest": ("latest", new),
        "a name in the store": (new["name"], new),
        "a file's name": (os.path.basename(old["name"]), old),  # noqa: PTH119 - a name, no path
        "a path": (str(store / new["name"]), new),
        "a URL": ((store / old["name"]).as_uri(), old),
    }[form]


@pytest.mark.parametrize("form", FORMS)
def test_each_command_takes_each_form(form, source, store, taken, tmp_path):
    word, meant = word_for(form, store, taken)
    content = "old" if meant is taken[0] else "newer"
    in_store = ["-s", store, "--json"]

    entries = [json.loads(line) for line in done("ls", word, *in_store).lines]
    assert entries[-1]["size"] == len(content)
    assert done("cat", word, source / "letter", "-s", store).out == content
    (found,) = [
        json.loads(line) for line in done("find", "letter", "--snapshot", word, *in_store).lines
    ]
    assert found["versions"][0]["snapshots"] == [meant["id"]]
    *changes, _ = [json.loads(line) for line in done("diff", "docs~1", word, *in_store).lines]
    assert bool(changes) == (meant is taken[1])
    assert json.loads(done("diff", word, word, *in_store).out)["summary"]["content"] == 0
    assert done("diff", word, "--source", *in_store).lines
    assert done("stats", word, *in_store).json["id"] == meant["id"]
    plan = done("restore", word, "--target", tmp_path / "out", "-n", *in_store).json
    assert plan["snapshot"].endswith(meant["name"])
    assert done("decrypt", word, "-s", store).raw[:6] == b"\xfd7zXZ\0"
    (proof,) = done("verify", word, *in_store).json
    assert proof["name"].endswith(meant["name"])
    done("restore", word, "--target", tmp_path / "out", "-s", store)
    assert (tmp_path / "out" / str(source)[1:] / "letter").read_text() == content


class TestURLs:
    def test_of_a_file_outside_of_any_store(self, taken, store, tmp_path):
        copy = tmp_path / "copy of it.enc"
        copy.write_bytes((store / taken[0]["name"]).read_bytes())

        assert done("ls", copy.as_uri()).out == done("ls", "docs~1", "-s", store).out

    def test_host_and_job_do_not_matter_for_them(self, taken, store):
        url = (store / taken[0]["name"]).as_uri()

        assert done("ls", url, "--job", "other").out == done("ls", url).out

    @pytest.mark.parametrize(
        ("url", "status"),
        [
            ("file:///nowhere/x.enc", 10),
            ("file:///nowhere/h/docs/docs-20261120T163205Z-7f3a-full.tar.xz.enc", 10),
            ("nope://x/h/docs/docs-20261120T163205Z-7f3a-full.tar.xz.enc", 2),
            ("nope://x.enc", 10),
        ],
    )
    def test_what_is_not_there_or_cannot_be_is_told(self, url, status, store):
        result = run("ls", url, "-s", store)

        assert result.status == status
        assert "error: " in result.err
