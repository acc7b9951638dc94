"""``auto-backup`` alone on a terminal: what it asks, what it does then, what it leaves."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from backup.config.reading import load_configuration
from tests.checkout import ROOT
from tests.cli import COMMAND, done
from tests.conversation import CTRL_C, CTRL_D, talk
from tests.needs import needs

WHAT, WHERE, FORMAT, NAME = "what to save", "where to", "format", "name"
ENCRYPT, GO_ON, JOB = "encrypt it", "go on", "name of its job"
SAVE, SAVE_SNAPSHOT = "save it as a job", "save a job that takes a snapshot"
JOB_NAME, WHEN = "name of the job", "when"
NO_JOB = (SAVE_SNAPSHOT, "")


@pytest.fixture
def here(tmp_path):
    """Return the directory in which the command is called, with something to save."""
    here = tmp_path / "here"
    (here / "docs").mkdir(parents=True)
    (here / "docs" / "letter.txt").write_text("dear reader")
    (here / "my photos").mkdir()
    (here / "my photos" / "cat.jpg").write_bytes(b"cat")
    return here


@pytest.fixture
def config(tmp_path):
    """Return where the configuration is looked for; there is none yet."""
    return tmp_path / "configured" / "config.yaml"


@pytest.fixture
def no_key(monkeypatch, private_home):
    """Let nobody name a key; return where one would be made."""
    monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
    return private_home / "config" / "auto-backup" / "key"


@pytest.fixture
def ask(here, config):
    """Return a function that answers the questions."""

    def asked(*steps, options=()):
        return talk(steps, "--config", config, *options, cwd=here)

    return asked


class Screen:
    """The command on the terminal that tmux is."""

    def __init__(self, socket: Path, call: str, home: Path) -> None:
        self._tmux = ("tmux", "-S", os.fspath(socket), "-f", os.devnull)
        size = ("-x", "80", "-y", "30", "-c", os.fspath(home))
        self.run("new-session", "-d", *size, f"env HOME={home} {call}; sleep 60")

    def run(self, *words: str) -> str:
        command = [*self._tmux, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def wait_for(self, text: str) -> str:
        """Return what is shown as soon as ``text`` is."""
        for _ in range(300):
            shown = self.run("capture-pane", "-p")
            if text in shown:
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{text!r} is not in:\n{shown}")

    def keys(self, *keys: str) -> None:
        """Type, a little slower than the command answers."""
        self.wait_for("what to save")
        for key in keys:
            time.sleep(0.3)
            self.run("send-keys", key)


@pytest.fixture
def screen(tmp_path, here, config):
    needs(shutil.which("tmux"), "tmux is not installed")
    call = shlex.join([*COMMAND, "--config", os.fspath(config)])
    shown = Screen(tmp_path / "tmux", f"PYTHONPATH={ROOT} {call}", here)
    yield shown
    shown.run("kill-server")


@pytest.fixture
def closed(tmp_path):
    """Return a directory to which nothing can be written, not even by root."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() != 0:
        yield closed
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", os.fspath(closed)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a read-only file system: {done.stderr.strip()}")
    yield closed
    subprocess.run(["umount", "-l", os.fspath(closed)], check=True)


def everything_in(*tops):
    return sorted(path for top in tops for path in Path(top).rglob("*"))


class TestArchives:
    def test_enter_makes_a_zip_here_named_by_source_and_time(self, ask, here, config, no_key):
        talked = ask(
            (WHAT, "docs"),
            (WHERE, ""),
            (FORMAT, ""),
            (NAME, ""),
            (ENCRYPT, ""),
            (GO_ON, ""),
            NO_JOB,
        )

        (path,) = here.glob("docs-20*.zip")
        assert talked.status == 0, talked.shown
        assert zipfile.ZipFile(path).read("docs/letter.txt") == b"dear reader"
        assert f"[{path.stem}]" in talked.shown
        assert not config.parent.exists()
        assert not no_key.exists()

    def test_what_will_be_done_is_shown_before(self, ask, here):
        talked = ask((WHAT, "docs 'my photos'"), (WHERE, ""), (FORMAT, "zip"), (NAME, "mine"),
                     (ENCRYPT, "no"), (GO_ON, "no"))  # fmt: skip

        plan = talked.shown.partition("to be done:")[2].splitlines()
        assert [line.rstrip() for line in plan[1:6]] == [
            f"  save      {here}/docs",
            f"            {here}/my photos",
            "            4 entries (2 files, 14 B)",
            f"  to        {here}/mine.zip",
            "  format    zip, not encrypted",
        ]
        assert talked.status == 1
        assert "you said no" in talked.shown
        assert not (here / "mine.zip").exists()

    @pytest.mark.parametrize("said", ["2", "tar.gz", "TGZ"])
    def test_a_format_is_said_by_number_or_name(self, ask, tmp_path, said):
        talked = ask((WHAT, "docs"), (WHERE, tmp_path / "new" / "place"), (FORMAT, said),
                     (NAME, "my docs"), (ENCRYPT, ""), (GO_ON, "y"), NO_JOB)  # fmt: skip

        assert talked.status == 0, talked.shown
        assert "in a directory that is made now" in talked.shown
        with tarfile.open(tmp_path / "new" / "place" / "my docs.tar.gz") as file:
            assert "docs/letter.txt" in file.getnames()

    def test_an_encrypted_one_gets_a_key_which_is_told(self, ask, here, no_key):
        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, "zip"), (NAME, "secret"),
                     (ENCRYPT, "yes"), (GO_ON, ""), NO_JOB)  # fmt: skip

        assert talked.status == 0, talked.shown
        assert f"  key       {no_key}, which is made now" in talked.lines
        assert "  format    tar.xz, encrypted and signed" in talked.lines
        assert "keep a copy of" in talked.shown
        made = here / "secret.tar.xz.enc"
        shown = done("--key-file", no_key, "cat", made, here / "docs" / "letter.txt").out
        assert shown == "dear reader"

    def test_a_name_that_is_taken_is_asked_for_again_or_replaced(self, ask, here):
        (here / "one.zip").write_text("one")
        (here / "two.zip").write_text("two")

        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, "zip"), (NAME, "one"), (ENCRYPT, ""),
                     ("replace it", ""), (NAME, "two.zip"), ("replace it", "y"), (GO_ON, ""),
                     NO_JOB)  # fmt: skip

        assert talked.status == 0, talked.shown
        assert (here / "one.zip").read_text() == "one"
        assert zipfile.is_zipfile(here / "two.zip")

    def test_a_store_that_an_option_names_is_not_asked_for(self, ask, store):
        talked = ask((WHAT, "docs"), (FORMAT, "zip"), (NAME, ""), (ENCRYPT, ""), (GO_ON, ""),
                     NO_JOB, options=("--store", store))  # fmt: skip

        assert talked.status == 0, talked.shown
        assert len(list(store.glob("docs-*.zip"))) == 1

    def test_where_there_is_no_room_it_tells_and_goes_on_only_if_told_to(self, ask, here):
        (here / "docs" / "large").touch()
        os.truncate(here / "docs" / "large", shutil.disk_usage(here).free + 2**40)

        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, ""), (NAME, ""), (ENCRYPT, ""),
                     (GO_ON, ""))  # fmt: skip

        assert talked.status == 1
        assert "are free there: it may not fit" in talked.shown
        assert list(here.glob("*.zip")) == []

    def test_a_dry_run_ends_with_the_plan(self, ask, here):
        before = everything_in(here)

        talked = ask(
            (WHAT, "docs"), (WHERE, ""), (FORMAT, ""), (NAME, ""), (ENCRYPT, ""), options=("-n",)
        )

        assert (talked.status, talked.lines[-2]) == (0, "nothing has been changed")
        assert everything_in(here) == before

    def test_what_fails_leaves_no_directory(self, ask, tmp_path, here):
        """The key is refused only when it is needed: others may read the signing key."""
        state = tmp_path / "state"
        state.write_text("a file in place of the state directory")

        talked = ask((WHAT, "docs"), (WHERE, tmp_path / "new" / "place"), (FORMAT, "tar.xz"),
                     (NAME, ""), (ENCRYPT, "y"), (GO_ON, ""),
                     options=("--state-dir", state, "--key-file", _key(tmp_path)))  # fmt: skip

        assert talked.status not in {0, 130}
        assert "auto-backup: error: " in talked.shown
        assert not (tmp_path / "new").exists()


def _key(tmp_path):
    done("--key-file", tmp_path / "a-key", "key", "new")
    return tmp_path / "a-key"


class TestWrongAnswers:
    def test_bytes_that_are_no_text_are_only_a_path_that_is_not_there(self, ask):
        talked = ask((WHAT, b"\xff\xfe\n"), (WHAT, CTRL_C))

        assert talked.status == 130
        assert "cannot back up" in talked.shown

    def test_where_nothing_can_be_written_here_another_directory_is_asked_for(
        self, here, config, tmp_path, closed
    ):
        steps = [
            (WHAT, here / "docs"),
            (WHERE, ""),
            (FORMAT, "zip"),
            ("which directory", ""),
            ("which directory", tmp_path),
            (NAME, "a"),
            (ENCRYPT, ""),
            (GO_ON, ""),
            NO_JOB,
        ]

        talked = talk(steps, "--config", config, cwd=closed)

        assert talked.status == 0, talked.shown
        assert f"you may not write to {closed}" in talked.shown
        assert zipfile.is_zipfile(tmp_path / "a.zip")

    def test_each_is_asked_again_with_the_reason_and_those_before_stay(self, ask, here, tmp_path):
        wrong = {
            WHAT: {
                "nowhere": "cannot back up",
                "": "nothing is named",
                "'docs": "a quote is opened and not closed",
                "docs docs": "is named twice",
            },
            WHERE: {"/dev/null/x": "/dev/null is not a directory", "docs 'a b'": "one is needed"},
            FORMAT: {"9": "there is no format '9'", "rar": "there is no format 'rar'"},
            NAME: {"a/b": "cannot be the name", "a.tar.xz": "would be taken for something else"},
            ENCRYPT: {"perhaps": "'perhaps' is neither yes nor no"},
            GO_ON: {"well": "'well' is neither yes nor no"},
        }
        right = {
            WHAT: "docs",
            WHERE: tmp_path,
            FORMAT: "zip",
            NAME: "mine",
            ENCRYPT: "n",
            GO_ON: "",
        }
        steps = [(name, line) for name, last in right.items() for line in (*wrong[name], last)]

        talked = ask(*steps, NO_JOB)

        assert talked.status == 0, talked.shown
        told = [one for reasons in wrong.values() for one in reasons.values()]
        assert [one for one in told if one not in talked.shown] == []
        assert zipfile.is_zipfile(tmp_path / "mine.zip")

    def test_after_five_in_a_row_it_gives_up(self, ask, here):
        before = everything_in(here)

        talked = ask((WHAT, "docs"), *[(WHERE, "/dev/null/x")] * 5)

        assert talked.status == 2
        assert "5 answers in a row could not be used" in talked.shown
        assert everything_in(here) == before

    def test_a_key_that_is_missing_is_told_where_it_would_be_needed(self, ask, tmp_path, here):
        key = tmp_path / "no-such-key"

        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, "snapshot"), (FORMAT, "zip"),
                     (NAME, "a"), (ENCRYPT, "y"), (ENCRYPT, "n"), (GO_ON, ""), NO_JOB,
                     options=("--key-file", key))  # fmt: skip

        assert talked.status == 0, talked.shown
        assert sum(f"no key file at {key}" in line for line in talked.lines) == 2
        assert (here / "a.zip").exists()

    def test_a_path_with_spaces_needs_no_quotes(self, ask, here):
        talked = ask((WHAT, "my photos"), (WHERE, "my photos"), (FORMAT, ""), (NAME, "a"),
                     (ENCRYPT, ""), (GO_ON, ""), NO_JOB)  # fmt: skip

        assert talked.status == 0, talked.shown
        assert zipfile.is_zipfile(here / "my photos" / "a.zip")


QUESTIONS = {
    WHAT: "docs", WHERE: "", FORMAT: "zip", NAME: "mine", ENCRYPT: "yes", GO_ON: "",
}  # fmt: skip


class TestLeaving:
    @pytest.mark.parametrize(
        ("question", "key"),
        [*((one, CTRL_C) for one in QUESTIONS), (WHAT, CTRL_D), (GO_ON, CTRL_D)],
    )
    def test_it_leaves_nothing(self, ask, here, private_home, config, no_key, question, key):  # noqa: PLR0917 - fixtures
        before = everything_in(here, private_home, config.parent)
        steps = list(QUESTIONS.items())[: list(QUESTIONS).index(question)]

        talked = ask(*steps, (question, key))

        assert talked.status == 130
        assert "auto-backup: interrupted; nothing has been changed" in talked.lines[-2:]
        assert "Traceback" not in talked.shown
        assert everything_in(here, private_home, config.parent) == before

    @pytest.mark.parametrize("question", [SAVE, JOB_NAME, WHEN])
    def test_at_the_end_it_saves_no_job(self, ask, store, key_file, config, question):
        steps = [(SAVE, "y"), (JOB_NAME, ""), (WHEN, "")]
        names = [name for name, _ in steps]

        talked = ask((WHAT, "docs"), (WHERE, store), (FORMAT, "snapshot"), (JOB, ""), (GO_ON, ""),
                     *steps[: names.index(question)], (question, CTRL_C))  # fmt: skip

        assert talked.status == 130
        assert "auto-backup: interrupted; no job has been saved" in talked.lines
        assert not config.parent.exists()
        assert len(list(store.rglob("*.enc"))) == 1


class TestSnapshots:
    def test_one_goes_to_its_store_with_a_new_key(self, ask, here, private_home, no_key, config):
        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, "6"), (JOB, ""), (GO_ON, ""), (SAVE, ""))

        store = private_home / "data" / "auto-backup" / "snapshots"
        assert talked.status == 0, talked.shown
        assert f"  to        {store}" in talked.lines
        assert len(list(store.glob("testhost/docs/*.enc"))) == 1
        assert f"  key       {no_key}, which is made now" in talked.lines
        assert done("--key-file", no_key, "verify", "-s", store).status == 0
        assert not config.parent.exists()

    def test_it_is_saved_as_a_job_that_runs(self, ask, store, key_file, config):
        talked = ask((WHAT, "docs 'my photos'"), (WHERE, store), (FORMAT, "snapshot"),
                     (JOB, "mine"), (GO_ON, ""), (SAVE, "yes"), (JOB_NAME, "two words"),
                     (JOB_NAME, ""), (WHEN, "sometimes"), (WHEN, "at 02:30"))  # fmt: skip

        assert talked.status == 0, talked.shown
        assert f"the job mine has been written: {config}" in talked.lines
        assert f"      url: {store}" in talked.lines
        assert f"  auto-backup --now mine --config {config}" in talked.lines
        assert load_configuration(config).configuration.job("mine").schedule is not None
        done("--config", config, "--now", "mine")
        assert len(list(store.glob("testhost/mine/*.enc"))) == 2

    def test_beside_a_configuration_it_is_a_file_of_its_own(self, ask, store, key_file, config):
        first = store.with_name("first")
        done("config", "init", "--config", config, "--source", "/etc/hostname", "-s", first)
        before = config.read_text()

        talked = ask((WHAT, "docs"), (WHERE, store), (FORMAT, ""), (JOB, ""), (GO_ON, ""),
                     (SAVE, "y"), (JOB_NAME, "hostname"), (JOB_NAME, "docs"),
                     (WHEN, ""))  # fmt: skip

        assert talked.status == 0, talked.shown
        assert "there is a job 'hostname' already" in talked.shown
        assert config.read_text() == before
        made = config.parent / "conf.d" / "docs.yaml"
        assert f"the job docs has been written: {made}" in talked.lines
        configuration = load_configuration(config).configuration
        assert configuration.stores_of("docs") == ("disk-2",)
        assert configuration.stores["disk-2"].url == str(store)
        assert configuration.job("docs").schedule == configuration.defaults.schedule
        done("--config", config, "--now", "docs")

    def test_what_only_options_say_stays_in_the_call_that_is_told(
        self, ask, store, key_file, config, tmp_path
    ):
        done("config", "init", "--config", config, "--source", "/etc/hostname", "-s", store)
        state = tmp_path / "state"

        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, ""), (JOB, ""), (GO_ON, ""),
                     (SAVE, "y"), (JOB_NAME, ""), (WHEN, ""),
                     options=("--state-dir", state, "--host", "other"))  # fmt: skip

        call = f"  auto-backup --now docs --config {config} --state-dir {state} --host other"
        assert call in talked.shown.replace("\r\n", "\n").splitlines()
        assert len(list(store.glob("other/docs/*.enc"))) == 1
        done(*call.split()[1:])
        assert len(list(store.glob("other/docs/*.enc"))) == 2

    def test_the_stores_of_a_configuration_are_the_usual_place(self, ask, store, key_file, config):
        done("config", "init", "--config", config, "--source", "/etc/hostname", "-s", store)

        talked = ask((WHAT, "docs"), (WHERE, "disk"), (FORMAT, ""), (JOB, ""), (GO_ON, ""),
                     (SAVE, "y"), (JOB_NAME, ""), (WHEN, ""))  # fmt: skip

        assert talked.status == 0, talked.shown
        assert "stores of the configuration: disk" in talked.lines
        assert load_configuration(config).configuration.stores_of("docs") == ("disk",)

    def test_a_store_that_holds_the_source_is_asked_for_again(self, ask, here, store, key_file):
        talked = ask((WHAT, "docs"), (WHERE, "."), (FORMAT, "snapshot"), ("which store", store),
                     (JOB, ""), (GO_ON, ""), (SAVE, ""))  # fmt: skip

        assert talked.status == 0, talked.shown
        assert len(list(store.rglob("*.enc"))) == 1

    def test_after_an_archive_a_job_is_offered_that_takes_snapshots(self, ask, key_file, config):
        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, ""), (NAME, ""), (ENCRYPT, ""),
                     (GO_ON, ""), (SAVE_SNAPSHOT, "y"), (JOB_NAME, ""), (WHEN, ""))  # fmt: skip

        assert talked.status == 0, talked.shown
        assert "Jobs take snapshots, not archives" in talked.shown
        done("--config", config, "--now", "docs")


class TestTab:
    def test_it_completes_paths_in_quotes_and_without(self, ask, here):
        talked = ask((WHAT, b"do\tlet\t 'my\tca\t\n"), (WHERE, b"my\t\n"), (FORMAT, ""),
                     (NAME, "a"), (ENCRYPT, ""), (GO_ON, ""), NO_JOB)  # fmt: skip

        assert talked.status == 0, talked.shown
        with zipfile.ZipFile(here / "my photos" / "a.zip") as file:
            assert sorted(name for name in file.namelist() if name[-1] != "/") == [
                "docs/letter.txt",
                "my photos/cat.jpg",
            ]

    def test_twice_it_shows_what_there_is(self, ask, here):
        (here / "downloads").mkdir()

        talked = ask((WHAT, b"do\t\tcs\n"), (WHERE, CTRL_C))

        assert "docs/       downloads/" in talked.lines
        assert talked.lines[-3].startswith("where to")

    def test_on_the_screen_of_a_real_terminal_it_fits(self, screen, here):
        (here / "downloads").mkdir()
        screen.keys("~/do", "Tab", "Tab", "cs", "Tab", "Enter", "Enter", "Enter", "C-c")

        shown = screen.wait_for("interrupted; nothing has been changed")

        assert "what to save (spaces between paths): ~/docs/" in shown
        assert "format (a number or a name) [zip]:" in shown
        assert "docs/       downloads/" in shown

    def test_a_name_that_is_not_utf_8_is_completed_and_saved(self, ask, here):
        name = os.fsdecode(b"caf\xe9")
        (here / name).write_text("black")

        talked = ask((WHAT, b"ca\t\n"), (WHERE, ""), (FORMAT, "tar.gz"), (NAME, "a"), (ENCRYPT, ""),
                     (GO_ON, ""), NO_JOB)  # fmt: skip

        assert talked.status == 0, talked.shown
        assert f"  save      {here}/caf\\xe9" in talked.lines
        with tarfile.open(here / "a.tar.gz") as file:
            assert file.getnames() == [name]

    def test_elsewhere_it_does_nothing(self, ask):
        talked = ask((WHAT, "docs"), (WHERE, ""), (FORMAT, b"\tzip\t\n"), (NAME, CTRL_C))

        assert "[zip]: zip" in talked.shown.replace("\a", "")


class TestNobodyToAsk:
    @pytest.mark.parametrize("option", ["--json", "-q", "--yes"])
    def test_who_asks_for_no_questions_gets_help(self, ask, option):
        talked = ask(options=(option,))

        assert talked.status == 2
        assert (
            talked.lines[0] == "auto-backup: encrypted snapshots that are proven to be restorable"
        )

    def test_a_configuration_that_cannot_be_used_is_told_at_once(self, ask, config):
        config.parent.mkdir()
        config.write_text("version: 9\n")

        talked = ask((WHAT, "docs"))

        assert talked.status == 2
        assert os.fspath(config) in talked.shown
