"""A container has a new host name each time: what runs by a configuration needs one that stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backup.cli import configured
from backup.environment import in_container, is_container
from tests.cli import done, run

REFUSED = "a container gets a new name each time: say host: in the configuration"


@pytest.fixture(autouse=True)
def container(monkeypatch, key_file):
    """Let this be a container of which nobody says the name."""
    monkeypatch.setattr(configured, "in_container", lambda: True)
    monkeypatch.delenv("AUTO_BACKUP_HOST")


@pytest.fixture
def configure(tmp_path, source):
    def write(**said):
        path = tmp_path / "config.json"
        job = {"sources": [str(source)], "stores": [str(tmp_path / "store")], "keep": {"last": 1}}
        path.write_text(json.dumps({"version": 1, "jobs": {"job": job}} | said, indent=1))
        return path

    return write


WAYS = [("--now",), ("--now", "job"), ("schedule", "run", "job"), ("schedule", "run", "--due")]


@pytest.mark.parametrize("words", WAYS)
def test_a_configured_job_is_refused(configure, tmp_path, words):
    result = run(*words, "--config", configure())

    assert result.status == 2
    assert REFUSED in result.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("words", WAYS)
def test_not_where_the_configuration_says_it(configure, words):
    assert run(*words, "--config", configure(host="web1")).status == 0


def test_not_where_an_option_or_a_variable_says_it(configure, monkeypatch):
    done("--now", "--config", configure(), "--host", "web1")
    monkeypatch.setenv("AUTO_BACKUP_HOST", "web1")
    done("--now", "--config", configure())


def test_not_outside_of_a_container(configure, monkeypatch):
    monkeypatch.setattr(configured, "in_container", lambda: False)

    done("--now", "--config", configure())


def test_what_a_call_names_itself_is_taken(source, store):
    done("--now", "--source", source, "--store", store)


def test_validate_tells_it_with_a_line(configure):
    path = configure()
    result = run("config", "validate", path)

    assert result.status == 2
    assert f"{path}:2: host: {REFUSED}" in result.err
    (problem,) = run("config", "validate", path, "--json").json["problems"]
    assert (problem["line"], problem["key"]) == (2, "host")


def test_the_example_for_containers_says_it():
    text = (Path(__file__).parents[2] / "configs" / "container.yaml").read_text()

    assert "\nhost: " in text


@pytest.mark.parametrize(
    ("said", "mark", "expected"),
    [(None, None, False), ("", None, False), ("podman", None, True), (None, ".dockerenv", True)],
)
def test_it_is_told_by_a_variable_or_a_file(tmp_path, monkeypatch, said, mark, expected):
    if mark:
        (tmp_path / mark).touch()
    if said is None:
        monkeypatch.delenv("container", raising=False)
    else:
        monkeypatch.setenv("container", said)

    assert in_container(tmp_path) is expected
    assert is_container(said, [tmp_path / (mark or "nothing")]) is expected


def test_podman_has_its_own_file(tmp_path, monkeypatch):
    monkeypatch.delenv("container", raising=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".containerenv").touch()

    assert in_container(tmp_path)
