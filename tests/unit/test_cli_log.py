from __future__ import annotations

import base64
import json
import os
import stat
from datetime import datetime

import pytest
from cryptography.fernet import Fernet

from backup.cli.action_log import LOG_NAME, ActionLog
from tests.cli import done, load_all, run, take


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def state(private_home):
    """Return the state directory, which does not exist yet."""
    return private_home / "auto-backup-state"


def lines_of(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def forms(text):
    """Return a Fernet key, whole and by halves, in the forms in which it could be shown."""
    raw = base64.urlsafe_b64decode(text)
    found = {text.encode(), text.rstrip("=").encode(), repr(raw)[2:-1].encode(), raw}
    for part in (raw, raw[:16], raw[16:], text.encode()):
        found |= {part.hex().encode(), part.hex().upper().encode(), part.hex(" ").encode()}
        for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.b32encode):
            found.add(encode(part).rstrip(b"="))
    return found


def key_in(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


class TestWhatIsLogged:
    def test_a_backup_has_a_line_for_its_start_and_one_for_its_end(self, tree, store, state):
        path = take("--source", tree, "--store", store)

        start, end = lines_of(state / LOG_NAME)
        assert (start["action"], start["event"]) == ("backup", "start")
        assert (start["sources"], start["stores"]) == ([str(tree)], [str(store)])
        assert (end["action"], end["event"], end["status"]) == ("backup", "end", "done")
        assert (end["exit_status"], end["unreadable"]) == (0, 0)
        assert end["size"] == path.stat().st_size
        assert end["name"] == str(path.relative_to(store))
        assert end["seconds"] >= 0
        assert start["pid"] == end["pid"] == os.getpid()
        assert datetime.fromisoformat(start["time"]) <= datetime.fromisoformat(end["time"])

    def test_every_action_has_a_pair(self, tree, store, state, tmp_path):
        done("key", "new", "--key-file", tmp_path / "key")
        take("--source", tree, "--store", store)
        done("verify", "-s", store)
        done("restore", "latest", "--target", tmp_path / "out", "-s", store)
        done("decrypt", "latest", "-s", store)
        done("cat", "latest", next(path for path in tree.rglob("*") if path.is_file()), "-s", store)

        told = [(line["action"], line["event"]) for line in lines_of(state / LOG_NAME)]
        assert told == [
            (action, event)
            for action in ("key new", "backup", "verify", "restore", "decrypt", "cat")
            for event in ("start", "end")
        ]
        assert {line.get("status", "done") for line in lines_of(state / LOG_NAME)} == {"done"}

    def test_looking_leaves_no_line(self, tree, store, state, tmp_path):
        take("--source", tree, "--store", store)
        (state / LOG_NAME).unlink()

        for arguments in (
            ["snapshots"],
            ["ls", "latest"],
            ["key", "show"],
            ["key", "list"],
            ["restore", "latest", "--target", tmp_path / "out", "-n"],
            ["--now", "--source", tree, "-n"],
        ):
            done(*arguments, "-s", store)

        assert not (state / LOG_NAME).exists()

    def test_damage_is_an_end_of_its_own(self, tree, store, state, tmp_path):
        path = take("--source", tree, "--store", store)
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
        (state / LOG_NAME).unlink()

        run("verify", "-s", store)
        run("restore", "latest", "--target", tmp_path / "out", "-s", store)

        ends = lines_of(state / LOG_NAME)[1::2]
        assert [(end["status"], end["damaged"] > 0) for end in ends] == [("damaged", True)] * 2
        assert [end["exit_status"] for end in ends] == [13, 13]

    def test_a_failure_is_logged_with_its_reason(self, source, store, state):
        (source / "file").touch()
        take("--source", source, "--store", store)
        (source / "file").unlink()

        run("--now", "--source", source, "--store", store)

        end = lines_of(state / LOG_NAME)[-1]
        assert (end["status"], end["exit_status"]) == ("failed", 1)
        assert "is empty" in end["error"]

    def test_what_could_not_be_read_is_counted(self, open_dir, as_nobody):
        (open_dir / "tree").mkdir()
        (open_dir / "tree" / "closed").touch(0)
        options = [f"--{name}={open_dir / name}" for name in ("store", "key-file", "state-dir")]
        load_all()

        with as_nobody():
            done("key", "new", *options)
            run("--now", "--source", open_dir / "tree", *options)

        end = lines_of(open_dir / "state-dir" / LOG_NAME)[-1]
        assert (end["status"], end["exit_status"], end["unreadable"]) == ("incomplete", 3, 1)

    def test_names_of_any_kind_stay_on_their_line(self, tmp_path, store, state):
        source = tmp_path / os.fsdecode(b"two\nlines-\xff")
        source.mkdir()
        (source / "file").touch()

        take("--source", source, "--store", store)
        target = tmp_path / os.fsdecode(b"out-\xff")
        done("restore", "latest", "--target", target, "-s", store)

        lines = lines_of(state / LOG_NAME)
        assert lines[0]["sources"] == [f"{tmp_path}/two\nlines-\\xff"]
        assert lines[2]["target"] == f"{tmp_path}/out-\\xff"


class TestTheFile:
    def test_it_is_for_its_owner_only(self, tree, store, state):
        take("--source", tree, "--store", store)

        assert stat.S_IMODE((state / LOG_NAME).stat().st_mode) == 0o600
        assert stat.S_IMODE(state.stat().st_mode) == 0o700

    def test_another_one_may_be_named(self, tree, store, state, tmp_path):
        take("--source", tree, "--store", store, "--log-file", tmp_path / "my.log")

        assert len(lines_of(tmp_path / "my.log")) == 2
        assert not (state / LOG_NAME).exists()

    def test_a_device_in_its_place_keeps_its_mode(self, tree, store):
        mode = os.stat("/dev/null").st_mode  # noqa: PTH116

        take("--source", tree, "--store", store, "--log-file", "/dev/null")

        assert os.stat("/dev/null").st_mode == mode  # noqa: PTH116

    def test_it_is_rotated_at_five_mebibytes_and_five_are_kept(self, tmp_path):
        log = ActionLog(tmp_path / LOG_NAME)
        for number in range(40):
            log.start("test", number=number, padding="x" * 1024 * 1024)
        log.close()

        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == [
            LOG_NAME,
            *(f"{LOG_NAME}.{number}" for number in range(1, 6)),
        ]
        assert all(file.stat().st_size <= 5 * 1024 * 1024 for file in files)
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert lines_of(tmp_path / LOG_NAME)[-1]["number"] == 39

    def test_one_that_cannot_be_written_is_told_and_is_no_failure(self, tree, store, tmp_path):
        (tmp_path / "file").touch()

        result = done(
            "--now", "--source", tree, "-s", store, "-q", "--log-file", tmp_path / "file" / "log"
        )

        assert f"cannot write the log {tmp_path}/file/log" in result.err

    def test_looking_needs_no_state_directory(self, tree, store, tmp_path):
        take("--source", tree, "--store", store)
        (tmp_path / "file").touch()
        state = tmp_path / "file" / "state"

        for arguments in (["snapshots"], ["ls", "latest"], ["key", "list"]):
            assert run(*arguments, "-s", store, "--state-dir", state).err in {
                "",
                f"auto-backup: 1 snapshot in {store}\n",
            }
        verified = done("verify", "-s", store, "--state-dir", state)
        restored = done(
            "restore", "latest", "--target", tmp_path / "out", "-s", store, "--state-dir", state
        )

        for result in (verified, restored):
            assert "cannot write the log" in result.err

    def test_a_full_disk_behind_it_does_not_end_a_backup(self, tree, store):
        result = done("--now", "--source", tree, "-s", store, "--log-file", "/dev/full")

        assert result.lines[0].startswith("saved ")
        assert "cannot write the log /dev/full: No space left on device" in result.err


class TestSecrets:
    def test_no_command_shows_or_logs_the_key_in_any_form(self, tree, store, state, key):
        top = store.parent
        wrong_key = Fernet.generate_key().decode()
        wrong = key_in(top / "wrong", wrong_key)
        open_ = key_in(top / "open", key, mode=0o644)
        spoilt = key_in(top / "spoilt", key[:-1])
        # A job of its own: the snapshot with the wrong key becomes the newest of 'source'.
        take("--source", tree, "--store", store, "--job", "saved")
        damaged = take("--source", tree, "--store", store, "--job", "damaged")
        damaged.write_bytes(damaged.read_bytes()[:-5000])

        results = [
            run(*command, *options, "-s", store, "-v")
            for command in (
                ["--now", "--source", tree, "/nope"],
                ["--now", "--source", tree],
                ["snapshots"],
                ["ls", "saved", "-l"],
                ["ls", "damaged"],
                ["cat", "saved", tree / "docs" / "plan.txt"],
                ["decrypt", "saved"],
                ["restore", "saved", "--target", top / "out"],
                ["restore", "damaged", "--target", top / "out2"],
                ["verify"],
                ["key", "show"],
                ["key", "list"],
                ["key", "new"],
            )
            for options in (
                [],
                ["--json"],
                ["--key-file", wrong],
                ["--key-file", open_],
                ["--key-file", spoilt],
                ["--key-file", tree],
            )
        ]

        host_key = (state / "host-signing-key").read_text().strip()
        shown = b"".join(result.raw + result.err.encode() for result in results)
        logged = (state / LOG_NAME).read_bytes()
        stored = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
        assert {result.status for result in results} >= {0, 1, 12, 13, 16}
        assert b"auto-backup: error: " in shown
        for secret in (key, wrong_key, host_key):
            assert [form for form in forms(secret) if form in shown + logged + stored] == []
