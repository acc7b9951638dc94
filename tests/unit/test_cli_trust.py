"""Whose snapshots are accepted."""

from __future__ import annotations

import pytest

from backup.environment import config_path
from tests.cli import done, run, take


@pytest.fixture
def stranger(tmp_path):
    """Return options of another host that has the same key."""
    return ["--state-dir", tmp_path / "stranger", "--host", "stranger"]


@pytest.fixture
def both(key_file, tree, store, stranger):
    """Return the snapshots of this host and of another one."""
    return [
        take("--source", tree, "-s", store),
        take("--source", tree, "-s", store, *stranger),
    ]


def signer_of(*options):
    return done("key", "show", "--json", *options).json["signer"]


def fingerprint_of(*options):
    line = next(one for one in done("key", "show", *options).lines if one.startswith("signs as"))
    return line.split()[2]


def states(store):
    return {one["host"]: one["state"] for one in done("snapshots", "-s", store, "--json").json}


def test_without_a_list_every_host_is_accepted(both, store):
    assert set(states(store).values()) == {"ok"}
    done("verify", "-s", store)


@pytest.mark.parametrize("how", ["public key", "fingerprint", "snapshot"])
def test_with_a_list_a_host_is_accepted_that_is_on_it(how, both, store, stranger):
    who = {
        "public key": [signer_of(*stranger)],
        "fingerprint": [fingerprint_of(*stranger)],
        "snapshot": ["--from", "stranger/source"],
    }[how]

    told = done("key", "trust", *who, "-s", store, "--name", "the other")

    assert told.lines[0] == f"trusted: {fingerprint_of(*stranger)}  the other"
    assert f"{signer_of(*stranger)} the other\n" == config_path("trusted-signers").read_text()
    assert set(states(store).values()) == {"ok"}
    assert f"trusts    {fingerprint_of(*stranger)}  the other" in done("key", "show").lines


def test_others_are_refused_by_all_that_reads(both, store, tmp_path):
    done("key", "trust", "ab" * 32)

    reading = (
        ["ls", "stranger/source"],
        ["cat", "stranger/source", "x"],
        ["decrypt", "stranger/source"],
        ["restore", "stranger/source", "--target", tmp_path / "out"],
        ["verify", "stranger/source"],
    )
    for arguments in reading:
        result = run(*arguments, "-s", store)
        assert result.status == 13, arguments
        assert "which is not a trusted host" in result.err
        assert arguments[0] == "verify" or "key trust --from" in result.err
    assert states(store) == {"stranger": "signed by an unknown host", "testhost": "ok"}
    assert not (tmp_path / "out").exists()


def test_this_host_itself_is_always_trusted(both, store):
    done("key", "trust", "ab" * 32)

    done("ls", "testhost/source", "-s", store)
    done("verify", "testhost/source", "-s", store)


def test_an_empty_list_trusts_this_host_alone(both, store):
    config_path("x").parent.mkdir(parents=True, exist_ok=True)
    config_path("trusted-signers").touch(0o600)

    assert states(store) == {"stranger": "signed by an unknown host", "testhost": "ok"}


def test_the_list_may_lie_elsewhere(both, store, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTO_BACKUP_SIGNERS", str(tmp_path / "signers"))
    missing = run("ls", "stranger/source", "-s", store)
    done("key", "trust", "ab" * 32)

    assert missing.status == 2
    assert run("ls", "stranger/source", "-s", store).status == 13
    assert not config_path("trusted-signers").exists()


def test_it_may_be_tried_without_doing_it(both, store):
    told = done("key", "trust", "--from", "stranger/source", "-s", store, "-n")

    assert told.lines[0].startswith("would trust: ")
    assert not config_path("trusted-signers").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 2, "say whom to trust"),
        (["ab" * 32, "--from", "latest"], 2, "say whom to trust"),
        (["web1"], 2, "neither a fingerprint nor the public key"),
        (["ab" * 16], 10, "is signed by"),
    ],
)
def test_who_cannot_be_meant_is_refused(arguments, status, told, both, store):
    result = run("key", "trust", *arguments, "-s", store)

    assert result.status == status
    assert told in result.err
    assert not config_path("trusted-signers").exists()


def test_a_list_that_others_can_change_is_refused(both, store):
    done("key", "trust", "ab" * 32)
    config_path("trusted-signers").chmod(0o666)

    assert run("ls", "latest", "-s", store).status == 2
