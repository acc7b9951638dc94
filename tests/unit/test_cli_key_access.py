"""``key add``, ``key remove``, ``key passphrase``, as users run them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time

import pytest
from cryptography.fernet import Fernet

from backup.environment import config_path
from tests.cli import COMMAND, done, environment, run, take


@pytest.fixture
def snapshots(key_file, tree, store):
    """Return the files of two snapshots, sealed for the key file."""
    return [take("--source", tree, "--store", store) for _ in range(2)]


@pytest.fixture
def recovery(tmp_path):
    """Return an identity file; its public key lies beside it."""
    path = tmp_path / "recovery"
    done("key", "new", "--public", "--identity", path)
    return path


@pytest.fixture
def public(recovery):
    return recovery.with_name("recovery.pub")


def secret_in(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def rows(store, *options):
    return done("key", "list", "-s", store, "--json", *options).json


class TestAdd:
    def test_the_snapshots_there_are_and_those_to_come_open(self, snapshots, recovery, tree, store):
        told = done("key", "add", f"{recovery}.pub", "-s", store)
        take("--source", tree, "--store", store)

        (row,) = [row for row in rows(store, "--identity", recovery) if row["type"] == "hpke"]
        assert (row["snapshots"], row["opens_with"]) == (3, "identity")
        assert told.lines[0] == f"{store}: 2 of 2 snapshots opened to {row['id']}"
        assert str(config_path("recipients")) in told.lines[1]

    def test_with_snapshots_named_it_is_these_alone(self, snapshots, public, tree, store):
        which = done("snapshots", "-s", store, "--json").json[0]["id"]

        done("key", "add", public, which, "-s", store)
        take("--source", tree, "--store", store)

        assert {row["type"]: row["snapshots"] for row in rows(store)} == {"fernet": 3, "hpke": 1}
        assert not config_path("recipients").exists()

    def test_without_the_old_key_the_new_one_opens(self, snapshots, store, key_file, tmp_path):
        other = secret_in(tmp_path / "other", Fernet.generate_key().decode())
        told = done("key", "add", other, "-s", store)
        key_file.unlink()

        assert run("verify", "-s", store).status == 12
        done("verify", "-s", store, "--key-file", other)
        assert "new snapshots are not sealed for it" in told.out

    def test_the_copies_in_other_stores_too(self, key_file, public, tree, store, tmp_path):
        stores = ["-s", store, "-s", tmp_path / "second"]
        take("--source", tree, *stores)

        told = done("key", "add", public, *stores, "--json").json

        assert [one["store"] for one in told] == [str(store), str(tmp_path / "second")]
        assert len(rows(store)) == len(rows(tmp_path / "second")) == 2

    def test_it_may_be_tried_without_doing_it(self, snapshots, public, store):
        before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}

        told = done("key", "add", public, "-s", store, "-n")

        assert "2 of 2 snapshots would be opened to" in told.lines[0]
        assert told.lines[-1] == "nothing has been changed"
        assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before
        assert not config_path("recipients").exists()

    def test_done_again_it_changes_nothing(self, snapshots, public, store):
        done("key", "add", public, "-s", store)
        before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}

        told = done("key", "add", public, "-s", store)

        assert told.lines[1] == "  2 had it already"
        assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before

    def test_without_a_key_that_opens_them_it_is_refused(self, snapshots, public, store, key_file):
        secret_in(key_file, Fernet.generate_key().decode())

        result = run("key", "add", public, "-s", store)

        assert result.status == 12
        assert "sealed for other keys" in result.err

    def test_where_the_environment_says_for_whom_it_is_told_to_add_it_there(
        self, snapshots, public, store, monkeypatch
    ):
        monkeypatch.setenv("AUTO_BACKUP_RECIPIENTS", str(public))

        told = done("key", "add", public, "-s", store)

        assert "AUTO_BACKUP_RECIPIENTS: add it there" in told.lines[-1]
        assert not config_path("recipients").exists()

    def test_an_empty_store_is_no_error_as_new_snapshots_are_meant(self, key_file, public, store):
        store.mkdir()

        assert "sealed for it, too" in done("key", "add", public, "-s", store).out


class TestRemove:
    def test_what_was_added_goes_and_new_snapshots_do_not_have_it(
        self, snapshots, recovery, tree, store, key_file
    ):
        done("key", "add", f"{recovery}.pub", "-s", store)
        key_id = next(row["id"] for row in rows(store) if row["type"] == "hpke")

        told = done("key", "remove", key_id[:6], "-s", store)
        take("--source", tree, "--store", store)

        assert [row["type"] for row in rows(store)] == ["fernet"]
        assert "STILL OPENS" not in told.out
        assert "not sealed for it any more" in told.out
        key_file.unlink()
        states = done("snapshots", "-s", store, "--identity", recovery, "--json").json
        assert {one["state"] for one in states} == {"sealed for another key"}

    def test_that_it_does_not_end_what_the_file_itself_gives_is_told(
        self, snapshots, recovery, store, key_file
    ):
        done("key", "add", f"{recovery}.pub", "-s", store)
        key_id = next(row["id"] for row in rows(store) if row["type"] == "fernet")

        told = done("key", "remove", key_id, "-s", store, "--identity", recovery)

        assert "  it STILL OPENS 2: " in told.out
        assert f"still sealed for it: it is the key file {key_file}" in told.out
        listed = done("key", "list", "-s", store)
        assert "still open with it" in listed.err
        done("verify", "-s", store)

    def test_the_last_one_is_not_taken(self, snapshots, store):
        key_id = rows(store)[0]["id"]

        result = run("key", "remove", key_id, "-s", store)

        assert result.status == 12
        assert "none of the recipients that would remain" in result.err
        assert rows(store)[0]["snapshots"] == 2

    @pytest.mark.parametrize("wrong", ["0", "ffffffffffffffff", "abc", ""])
    def test_what_is_no_id_is_refused(self, snapshots, store, wrong):
        result = run("key", "remove", wrong or "''", "-s", store)

        assert result.status == 2
        assert rows(store)[0]["id"] in result.err


class TestPassphrase:
    def test_one_is_added_and_then_changed(self, snapshots, tree, store, tmp_path, key_file):
        first = secret_in(tmp_path / "first", "correct horse\n")
        second = secret_in(tmp_path / "second", "battery staple\n")

        done("key", "passphrase", "--new-passphrase-file", first, "-s", store)
        take("--source", tree, "--store", store, "--passphrase-file", first)
        before = [row for row in rows(store) if row["type"] == "passphrase"]
        key_file.rename(tmp_path / "away")
        done(
            *("key", "passphrase", "--new-passphrase-file", second, "-s", store),
            *("--passphrase-file", first),
        )

        assert [row["snapshots"] for row in before] == [3]  # of one recipient
        done("ls", "latest", "-s", store, "--passphrase-file", second)
        # The one that was taken with it has it in its header, for good; the others have not.
        assert run("ls", "source~1", "-s", store, "--passphrase-file", first).status == 12
        assert run("ls", "source", "-s", store, "--passphrase-file", first).status == 0

    def test_a_store_sealed_for_a_passphrase_alone(self, tree, store, tmp_path, monkeypatch):
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
        words = secret_in(tmp_path / "words", "correct horse\n")
        paths = [take("--source", tree, "-s", store, "--passphrase-file", words) for _ in "ab"]

        cores = [json.loads(path.read_bytes().split(b"\n")[1]) for path in paths]
        slots = [json.loads(path.read_bytes().split(b"\n")[2]) for path in paths]
        assert [core["seq"] for core in cores] == [1, 2]
        assert slots[0][0]["id"] == slots[1][0]["id"]
        assert slots[0][0]["wrapped"] != slots[1][0]["wrapped"]

    def test_the_same_once_more_is_refused(self, snapshots, store, tmp_path):
        words = secret_in(tmp_path / "words", "correct horse\n")

        result = run(
            *("key", "passphrase", "--new-passphrase-file", words, "-s", store),
            *("--passphrase-file", words),
        )

        assert result.status == 12
        assert "the new passphrase is the old one" in result.err

    def test_without_a_file_and_a_terminal_it_is_refused(self, snapshots, store):
        result = run("key", "passphrase", "-s", store)

        assert result.status == 12
        assert "nobody to ask" in result.err

    def test_a_person_is_asked_and_it_is_not_shown(self, snapshots, store, key_file):
        status, shown = typed(["key", "passphrase", "-s", store], ["correct horse"] * 2)
        key_file.unlink()
        read, seen = typed(["ls", "latest", "-s", store], ["correct horse"], without_key=True)

        assert (status, read) == (0, 0), shown + seen
        assert "new passphrase: " in shown
        assert "the same again: " in shown
        assert "correct horse" not in shown + seen
        assert "plan.txt" in seen

    def test_two_that_differ_change_nothing(self, snapshots, store):
        status, shown = typed(["key", "passphrase", "-s", store], ["correct horse", "corect horse"])

        assert status == 12
        assert "the two passphrases differ" in shown
        assert len(rows(store)) == 1


def typed(arguments, lines, *, without_key=False):
    """Run the command on a terminal on which ``lines`` are typed when it asks."""
    ours, theirs = pty.openpty()
    env = environment()
    if without_key:
        env.pop("AUTO_BACKUP_KEY_FILE")
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        for line in lines:
            shown = read_until(ours, shown, b": ", shown.count(b": ") + 1)
            time.sleep(0.05)  # getpass turns the echo off right after it asks
            os.write(ours, line.encode() + b"\n")
        shown = read_until(ours, shown, b"\0", 1)
        os.close(ours)
    return process.returncode, shown.decode()


def read_until(terminal, shown, what, times):
    while shown.count(what) < times:
        try:
            block = os.read(terminal, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not block:
            break
        shown += block
    return shown


def test_recover_py_takes_a_passphrase_in_every_form_of_unicode(tree, store, tmp_path, monkeypatch):
    monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
    words = secret_in(tmp_path / "words", "caf\u00e9 noir\n")
    snapshot = take("--source", tree, "-s", store, "--passphrase-file", words)
    secret_in(words, "cafe\u0301 noir\n")

    done("ls", "latest", "-s", store, "--passphrase-file", words)
    result = subprocess.run(
        [sys.executable, store / "recover.py", "check", snapshot],
        env=environment() | {"AUTO_BACKUP_PASSPHRASE_FILE": str(words)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
