"""No secret is ever shown, logged, or visible to who lists processes."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from backup.keys import load_identity_file, load_or_create_host_key
from tests.cli import done, run, start

WORDS = "canary of the passphrase 7f3a"


class Secrets:
    """Files with secrets, and all forms in which these could be shown."""

    def __init__(self, top):
        self.top = top
        self.key = self._file("key", Fernet.generate_key().decode())
        self.other = self._file("other", Fernet.generate_key().decode())
        self.words = self._file("words", WORDS)
        self.more = self._file("more", WORDS[::-1])
        self.pair = top / "pair"
        done("key", "new", "--public", "--identity", self.pair)

    def _file(self, name, text):
        path = self.top / name
        path.write_text(text + "\n")
        path.chmod(0o600)
        return path

    def forms(self, state):
        raw = [base64.urlsafe_b64decode(path.read_text()) for path in (self.key, self.other)]
        identity = load_identity_file(self.pair)
        host = load_or_create_host_key(state).secret
        found = {WORDS.encode(), WORDS[::-1].encode(), identity.text().encode()}
        for secret in (*raw, identity.secret[:32], identity.secret[64:], host):
            found |= {secret, secret.hex().encode(), repr(secret)[2:-1].encode()}
            found |= {base64.b64encode(secret)[:40], base64.urlsafe_b64encode(secret)[:40]}
        return found


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
    (tmp_path / "secrets").mkdir()
    return Secrets(tmp_path / "secrets")


def test_no_command_tells_or_logs_one(secrets, tree, store, private_home, tmp_path):
    key, pair = ["--key-file", secrets.key], ["--identity", secrets.pair]
    words, at = ["--passphrase-file", secrets.words], ["-s", store]
    public = f"{secrets.pair}.pub"
    calls = [
        [*key, *words, "--now", "--source", tree, "--recipient", public, *at],
        [*key, *words, "--now", "--source", tree, "--recipient", public, *at, "--json", "-v"],
        [*key, "snapshots", *at, "--json"],
        [*words, "ls", "latest", *at],
        [*pair, "verify", *at],
        [*key, *pair, *words, "key", "list", *at],
        [*key, *pair, *words, "key", "show", "--json"],
        [*key, "key", "add", secrets.other, *at],
        [*key, *words, "key", "passphrase", "--new-passphrase-file", secrets.more, *at],
        [*key, "key", "remove", "0000", *at],
        [*key, "key", "trust", "--from", "latest", *at],
        [*key, "key", "export", "--paper", tmp_path / "page.html", *at],
        # What goes wrong must not tell it, either.
        ["--key-file", secrets.words, "snapshots", *at],
        ["--key-file", secrets.pair, "ls", "latest", *at],
        ["--identity", secrets.key, "ls", "latest", *at],
        ["--identity", secrets.words, "key", "show"],
        ["--key-file", secrets.other, "--now", "--source", tree, *at, "--recipient", secrets.key],
        [*key, "key", "add", secrets.words, *at],
        ["--identity", load_identity_file(secrets.pair).text(), "key", "show"],
    ]

    told = b""
    for call in calls:
        result = run(*call)
        told += result.raw + result.err.encode()
    state = private_home / "auto-backup-state"
    for path in [*state.rglob("*.log"), *state.rglob("*.json")]:
        told += path.read_bytes()

    assert [form for form in secrets.forms(state) if form in told] == []
    assert (state / "backup.log").stat().st_size > 1000


def test_no_process_shows_one_in_its_arguments(secrets, tree, store, private_home):
    options = ["--key-file", secrets.key, "--passphrase-file", secrets.words, "-s", store]
    process = start("--now", "--source", tree, *options, "--recipient", f"{secrets.pair}.pub")
    seen = b""
    with process:
        while process.poll() is None:
            for path in Path("/proc").glob("[0-9]*/stat"):
                seen += children_arguments(path, process.pid)

    assert process.returncode == 0
    assert b"--passphrase-file" in seen
    state = private_home / "auto-backup-state"
    assert [form for form in secrets.forms(state) if form in seen] == []


def children_arguments(stat, parent):
    """Return the command line of a process and of its children."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
        if parent in {int(stat.parent.name), int(fields[1])}:
            return stat.with_name("cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        pass
    return b""


def test_what_was_typed_in_the_wrong_place_is_not_repeated(secrets, store):
    secret = load_identity_file(secrets.pair).text()

    for call in (
        ["--identity", secret, "snapshots"],
        ["key", "add", secret],
        ["--now", "--source", os.fspath(store.parent), "--recipient", secret],
    ):
        result = run(*call, "-s", store)

        assert secret[30:60] not in result.err + result.out
    assert "make a new one" in result.err
