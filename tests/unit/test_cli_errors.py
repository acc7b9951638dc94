from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

import pytest

from backup.cli.action_log import LOG_NAME
from backup.cli.output import safe_text
from backup.storage import _BACKENDS
from backup.storage.memory import MemoryStorage
from tests.cli import done, environment, load_all, run, run_process, start, take

CANARY = "the-secret-canary"


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Return a directory that takes seconds to save."""
    path = tmp_path_factory.mktemp("big")
    for number in range(40):
        (path / f"{number:02}").write_bytes(os.urandom(8_000_000))
    return path


class BrokenStorage(MemoryStorage):
    """A storage with a fault: what it raises is none of our errors."""

    @classmethod
    def from_url(cls, _):
        return cls()

    def list_files(self, prefix=""):
        raise ZeroDivisionError(CANARY)


class LateFaultStorage(MemoryStorage):
    """A storage whose fault shows when a snapshot is being stored."""

    @classmethod
    def from_url(cls, _):
        return cls()

    def create(self, name, *, replace=False):
        raise ZeroDivisionError(CANARY)


class TestStatuses:
    def test_the_store_refuses_14(self, tree, tmp_path):
        (tmp_path / "file").touch()

        for command in (
            ["snapshots"],
            ["ls", "latest"],
            ["verify"],
            ["key", "list"],
            ["--now", "--source", tree],
        ):
            result = run(*command, "-s", tmp_path / "file")

            assert result.status == 14
            assert f"cannot list {tmp_path}/file: Not a directory" in result.err
            assert "hint: " in result.err

    def test_a_store_that_cannot_be_written_14(self, open_dir, as_nobody):
        (open_dir / "tree").mkdir()
        (open_dir / "tree" / "file").touch()
        (open_dir / "store").mkdir(mode=0o555)
        options = [f"--{name}={open_dir / name}" for name in ("store", "key-file", "state-dir")]
        load_all()

        with as_nobody():
            done("key", "new", *options)
            result = run("--now", "--source", open_dir / "tree", *options)

        assert result.status == 14
        assert "Permission denied" in result.err
        assert "hint: check who owns that directory" in result.err
        log = (open_dir / "state-dir" / LOG_NAME).read_text().splitlines()
        assert json.loads(log[-1])["exit_status"] == 14

    def test_a_state_directory_that_cannot_be_one(self, tree, store, tmp_path):
        (tmp_path / "file").touch()

        result = run(
            "--now", "--source", tree, "-s", store, "--state-dir", tmp_path / "file" / "state"
        )

        assert result.status == 12
        assert result.err.startswith("auto-backup: error: cannot read ")


class TestFaults:
    def test_a_foreign_error_gives_its_place_and_no_traceback(self, monkeypatch):
        monkeypatch.setitem(_BACKENDS, "broken", (__name__, "BrokenStorage"))

        result = run("snapshots", "-s", "broken://x")

        assert result.status == 1
        assert "this is a fault of auto-backup: ZeroDivisionError at " in result.err
        assert "hint: please report it" in result.err
        assert CANARY not in result.err
        assert "Traceback" not in result.err

    def test_it_is_logged_without_what_it_says(self, tree, monkeypatch, private_home):
        monkeypatch.setitem(_BACKENDS, "broken", (__name__, "LateFaultStorage"))

        result = run("--now", "--source", tree, "-s", "broken://x")

        log = (private_home / "auto-backup-state" / LOG_NAME).read_text()
        end = json.loads(log.splitlines()[-1])
        assert result.status == 1
        assert (end["event"], end["status"], end["exit_status"]) == ("end", "failed", 1)
        assert end["error"].startswith("ZeroDivisionError at ")
        assert CANARY not in result.err + log

    @pytest.mark.parametrize(
        "broken",
        [
            {"HOME": "/no/such/home", "XDG_DATA_HOME": "/proc/nope", "AUTO_BACKUP_STORE": ""},
            {"AUTO_BACKUP_STATE_DIR": "/dev/null/state"},
            {"AUTO_BACKUP_KEY_FILE": "/dev/null/key"},
            {"AUTO_BACKUP_STORE": "/dev/null"},
            {"AUTO_BACKUP_STORE": "\udcff"},
            {"TMPDIR": "/no/such/place", "TZ": "No/Such_Zone", "LC_ALL": "xx_YY.nope"},
            {"TERM": "no-such-terminal", "COLUMNS": "x", "LINES": "-1"},
            {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        ],
    )
    def test_a_broken_environment_gives_no_traceback(self, broken, tree, tmp_path):
        env = environment() | broken

        for command in (["--now", "--source", tree], ["snapshots"], ["key", "show"], ["verify"]):
            result = run_process(*command, env=env, cwd=tmp_path)

            assert "Traceback" not in result.err
            assert "fault" not in result.err
            assert result.status in {0, 10, 12, 14}

    def test_closed_streams_do_no_harm(self, tree, store):
        command = ("/bin/sh", "-c", 'exec "$0" -m backup "$@" >&- 2>&-')
        program = environment()["PYTHONPATH"]

        with start(
            *("--now", "--source", tree, "-s", store),
            command=(*command, sys.executable),
            env=environment() | {"PYTHONPATH": program},
        ) as process:
            out, err = process.communicate()

        assert (process.returncode, out, err) == (0, b"", b"")
        assert done("verify", "-s", store).status == 0

    def test_it_can_be_called_from_a_thread(self, tree, store):
        statuses = []
        thread = threading.Thread(
            target=lambda: statuses.append(run("--now", "--source", tree, "-s", store).status)
        )

        thread.start()
        thread.join()

        assert statuses == [0]


class TestInterruptions:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_backup_ends_with_130_and_leaves_nothing(self, number, big, store, private_home):
        with start("--now", "--source", big, "-s", store) as process:
            wait_for(lambda: any(store.rglob("*.partial")))
            process.send_signal(number)
            out, err = process.communicate(timeout=30)

        log = (private_home / "auto-backup-state" / LOG_NAME).read_text().splitlines()
        end = json.loads(log[-1])
        assert process.returncode == 130
        assert out == b""
        assert err.decode() == (
            "auto-backup: interrupted; no unfinished snapshot is left in the store\n"
        )
        assert [path for path in store.rglob("*") if path.is_file()] == []
        assert done("snapshots", "-s", store, "--json").json == []
        assert (end["status"], end["exit_status"]) == ("interrupted", 130)

    def test_a_restore_ends_with_130_and_whole_files_only(self, big, store, tmp_path):
        take("--source", big, "-s", store, "--compression", "none")
        target = tmp_path / "out"

        with start("restore", "latest", "-s", store, "--target", target) as process:
            wait_for(lambda: any(path.is_file() for path in target.rglob("[0-9][0-9]")))
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=30)[1]

        restored = {path.name: path for path in target.rglob("*") if path.is_file()}
        assert process.returncode == 130
        assert b"each file that has been restored is whole" in err
        assert 0 < len(restored) < 40
        for name, path in restored.items():
            assert path.read_bytes() == (big / name).read_bytes()

    def test_sigterm_means_to_this_process_what_it_meant_before(self, tree, store):
        before = signal.getsignal(signal.SIGTERM)

        take("--source", tree, "-s", store)

        assert signal.getsignal(signal.SIGTERM) is before


class TestSafeText:
    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("plain", "plain"),
            ("grün 雪", "grün 雪"),
            ("\x1b[2J", r"\x1b[2J"),
            ("a\nb\tc\r", r"a\nb\tc\r"),
            ("\x9b31m", r"\x9b31m"),
            ("right\u202eleft", r"right\u202eleft"),
            (os.fsdecode(b"latin-\xe9"), r"latin-\xe9"),
            ("half \ud83d", r"half \ud83d"),
        ],
    )
    def test_what_a_terminal_would_act_upon_is_escaped(self, given, shown):
        assert safe_text(given) == shown


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)
