"""The parts of the daemon that decide, tell and remember, each by itself."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.config.dotenv import NAME, read_dotenv
from backup.config.reading import load_configuration
from backup.daemon.detaching import Surroundings, reason_against_detaching
from backup.daemon.frozen import FrozenCopies
from backup.daemon.logs import _JournalLines, _Lines, is_journal, log_to_file
from backup.daemon.notify import Notifier
from backup.daemon.pid_file import PidFile, find_holder, is_held
from backup.daemon.status import Situation, status_text
from backup.daemon.upgrade import Upgrade, UpgradeWatch, program_on_disk
from backup.environment import Default, known_defaults, set_defaults, settle
from backup.errors import ConfigError, LockedError
from backup.run_state import RUNS_NAME, JobRuns, RunState
from backup.running import Task, Turn
from tests.checkout import ROOT
from tests.conftest import NOBODY
from tests.daemons import Listener
from tests.processes import wait_until

NOW = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def turn(name, begins=None, *, failures=0, paused=None):
    known = JobRuns(job=name, first_seen=NOW, failures=failures, paused_since=paused)
    return Turn(Task(name=name, begin=None), known, moment=begins, begins=begins)


def text(**fields):
    return status_text(Situation(**fields), NOW, BERLIN)


class TestStatus:
    def test_what_is_wrong_comes_first(self):
        line = text(
            stalled={"db": timedelta(minutes=31, seconds=5)},
            problem="refused",
            running=["db", "www"],
            turns=[turn("mail", failures=2), turn("shop", NOW + timedelta(hours=2))],
        )
        assert line == (
            "stalled: db has not moved a byte for 31 minutes; refused; failed: mail;"
            " running: www; next: shop at 19:00"
        )

    def test_the_longest_stall_is_told_first_and_not_all_are_named(self):
        line = text(stalled={name: timedelta(minutes=n) for n, name in enumerate("abcde", 2)})
        assert line.startswith("stalled: e has not moved a byte for 6 minutes, d ")
        assert line.endswith(" and 2 more")

    @pytest.mark.parametrize(
        ("later", "when"),
        [
            (timedelta(0), "now"),
            (timedelta(hours=1), "at 18:00"),
            (timedelta(hours=9), "at Sat 02:00"),
            (timedelta(days=30), "at 2026-12-20 17:00"),
        ],
    )
    def test_when_the_next_one_is(self, later, when):
        assert text(turns=[turn("shop", NOW + later)]) == f"next: shop {when}"

    def test_what_runs_is_not_next(self):
        turns = [turn("shop", NOW), turn("mail", NOW + timedelta(hours=1))]
        assert text(running=["shop"], turns=turns) == "running: shop; next: mail at 18:00"

    def test_a_pause(self):
        assert text(turns=[turn("shop", NOW, paused=NOW)]) == "all is paused"
        turns = [turn("shop", NOW, paused=NOW), turn("mail", NOW)]
        assert text(turns=turns) == "next: mail now"

    def test_nothing(self):
        assert text() == ""


class TestDetaching:
    @pytest.mark.parametrize(
        "found",
        [
            Surroundings(pid=7, parent=1),
            Surroundings(pid=7, parent=6, exec_pid="6"),  # a shell of a unit, such as a login's
            Surroundings(pid=7, parent=6, in_container=True),  # a shell in a container
            Surroundings(pid=7, parent=0, in_container=True),  # that came from outside
        ],
    )
    def test_where_it_may(self, found):
        assert reason_against_detaching(found) is None

    @pytest.mark.parametrize(
        ("found", "word"),
        [
            (Surroundings(pid=7, parent=1, exec_pid="7"), "systemd"),
            (Surroundings(pid=7, parent=6, is_notified=True), "systemd"),
            (Surroundings(pid=1, parent=0, in_container=True), "container"),
            (Surroundings(pid=7, parent=1, in_container=True), "container"),
        ],
    )
    def test_where_it_would_be_lost(self, found, word):
        assert word in reason_against_detaching(found)


class TestNotifier:
    @pytest.fixture(params=["path", "abstract"])
    def listener(self, request, tmp_path):
        path = str(tmp_path / "socket") if request.param == "path" else f"@abt-{tmp_path}"
        found = Listener(path)
        yield found
        found.close()

    def test_what_is_sent(self, listener):
        notifier = Notifier({"NOTIFY_SOCKET": listener.address}, 77)
        notifier.ready()
        notifier.status("a\nb")
        notifier.status("a b")
        notifier.beat()
        notifier.stopping()
        assert listener.read() == ["READY=1", "MAINPID=77", "STATUS=a b", "STOPPING=1"]

    def test_beats_are_a_third_of_what_is_asked_for_apart(self, listener, monkeypatch):
        variables = {
            "NOTIFY_SOCKET": listener.address,
            "WATCHDOG_USEC": "30000000",
            "WATCHDOG_PID": "77",
        }
        notifier = Notifier(variables, 77)
        for now in (100.0, 109.9, 110.0, 119.0):
            monkeypatch.setattr("time.monotonic", lambda now=now: now)
            notifier.beat()
        assert listener.read() == ["WATCHDOG=1"] * 2

    @pytest.mark.parametrize("usec", ["", "0", "-1", "x"])
    def test_nonsense_is_no_watchdog(self, listener, usec):
        notifier = Notifier({"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": usec}, 77)
        notifier.beat()
        assert listener.read() == []

    @pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "/" + "x" * 200])
    def test_nobody_there(self, address):
        Notifier({"NOTIFY_SOCKET": address}, 77).ready()


HOLDING = """
import os, signal, sys
sys.path.insert(0, {root!r})
from backup.daemon.signals import Signals
signals = Signals(lambda: None)
if len(sys.argv) == 1:
    os.kill(os.getpid(), signal.SIGUSR1)
    assert not signals.hold()
    signals.release()
    assert signals.wait(5) == [signal.SIGUSR1]
    assert signals.hold()
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, __file__, 'again'])
print(*sorted(one.name for one in signals.wait(5)), signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


class TestSignals:
    def test_what_comes_while_the_program_changes_is_heard_by_the_new_one(self, tmp_path):
        script = tmp_path / "script.py"
        script.write_text(HOLDING.format(root=str(ROOT)))
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
        assert done.stdout == "SIGHUP SIGTERM set()\n", done.stderr


class TestLog:
    def record(self, level, text):
        return logging.LogRecord("backup", level, "", 0, text, None, None)

    def test_the_journal_gets_the_priority_of_each_line(self):
        lines = _JournalLines()
        assert lines.format(self.record(logging.ERROR, "one\ntwo")) == "<3>one\n<3>two"
        assert lines.format(self.record(logging.WARNING, "w")) == "<4>w"
        assert lines.format(self.record(logging.INFO, "i")) == "<6>i"
        assert lines.format(self.record(logging.DEBUG, "d")) == "<7>d"

    def test_others_get_the_time(self):
        line = _Lines().format(self.record(logging.WARNING, "w"))
        assert line[4] == "-"
        assert line.endswith(" warning: w")

    def test_which_file_the_journal_reads(self, tmp_path):
        with (tmp_path / "file").open("w") as file:
            status = os.fstat(file.fileno())
            assert is_journal(f"{status.st_dev}:{status.st_ino}", file.fileno())
            assert not is_journal(f"{status.st_dev}:{status.st_ino + 1}", file.fileno())
            assert not is_journal("", file.fileno())

    def test_a_file_is_private_and_rotated(self, tmp_path, monkeypatch):
        monkeypatch.setattr("backup.daemon.logs._MOST_BYTES", 1000)
        handler = log_to_file(tmp_path / "state" / "daemon.log")
        try:
            for number in range(200):
                logging.getLogger("backup.x").info("line %d", number)
        finally:
            logging.getLogger("backup").removeHandler(handler)
            handler.close()
        files = sorted((tmp_path / "state").iterdir())
        assert [one.name for one in files] == [
            "daemon.log",
            *(f"daemon.log.{n}" for n in range(1, 6)),
        ]
        assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
        assert files[0].read_text().endswith("line 199\n")


BECOMING = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from backup.daemon.pid_file import PidFile
file = PidFile(Path({path!r}))
file.take()
file.__enter__()
if len(sys.argv) == 1:
    os.set_inheritable(file.fileno(), True)
    os.execv(sys.executable, [sys.executable, __file__, 'again'])
assert not os.get_inheritable(file.fileno())
print(os.getpid(), flush=True)
sys.stdin.read()
"""


class TestPidFile:
    def test_one_process_has_it(self, tmp_path):
        path = tmp_path / "state" / "daemon.pid"
        first = PidFile(path)
        first.take()
        with first:
            assert path.read_text() == f"{os.getpid()}\n"
            assert is_held(path)
            code = (
                f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
                "from backup.daemon.pid_file import PidFile; from pathlib import Path\n"
                f"PidFile(Path({str(path)!r})).take()"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=False
            )
            assert f"the daemon runs already (process {os.getpid()})" in done.stderr
        assert not is_held(path)
        assert find_holder(path) is None

    def test_the_number_of_one_that_is_gone_means_nobody(self, tmp_path):
        path = tmp_path / "daemon.pid"
        path.write_text(f"{os.getpid()}\n")
        assert find_holder(path) is None

    def test_the_program_that_a_process_becomes_has_it_still(self, tmp_path):
        path = tmp_path / "daemon.pid"
        script = tmp_path / "script.py"
        script.write_text(BECOMING.format(root=str(ROOT), path=str(path)))
        with subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == f"{process.pid}\n"
            holder = find_holder(path)
            assert holder.pid == process.pid
            holder.signal(signal.SIGKILL)
            assert holder.wait(5)
            holder.close()
        assert find_holder(path) is None

    def test_another_open_file_of_this_process_is_another_holder(self, tmp_path):
        first, second = PidFile(tmp_path / "pid"), PidFile(tmp_path / "pid")
        first.take()
        with pytest.raises(LockedError):
            second.take()
        first.close()


@pytest.fixture(scope="module")
def loaded_once(tmp_path_factory):
    top = tmp_path_factory.mktemp("frozen")
    (top / "config.yaml").write_text("version: 1\njobs: {shop: {sources: [/etc]}}\n")
    return load_configuration(top / "config.yaml"), top / "state"


class TestFrozenCopies:
    @pytest.fixture
    def loaded(self, tmp_path):
        (tmp_path / "conf").mkdir()
        path = tmp_path / "conf" / "config.yaml"
        path.write_text("version: 1\njobs: {shop: {sources: [/etc], schedule: every 1 hour}}\n")
        return load_configuration(path)

    def test_files_that_are_being_changed_are_no_configuration(self, loaded, tmp_path):
        loaded.path.write_text(loaded.path.read_text().replace("shop", "mail"))
        copies = FrozenCopies(tmp_path / "state")
        with pytest.raises(ConfigError, match="are being changed"):
            copies.make(loaded, {})
        assert list((tmp_path / "state" / "configuration-in-use").iterdir()) == []

    def test_what_another_user_has_left_is_not_in_the_way(self, loaded, tmp_path):
        folder = tmp_path / "state" / "configuration-in-use"
        (folder / "1").mkdir(parents=True)
        copy = FrozenCopies(tmp_path / "state").make(loaded, {})
        assert copy.directory == folder / "2"

    def test_a_link_in_their_place_leads_nobody_elsewhere(self, loaded, tmp_path):
        (tmp_path / "state").mkdir()
        (tmp_path / "elsewhere").mkdir()
        folder = tmp_path / "state" / "configuration-in-use"
        folder.symlink_to(tmp_path / "elsewhere")
        copies = FrozenCopies(tmp_path / "state")
        with pytest.raises(ConfigError, match="it is a link"):
            copies.make(loaded, {})
        copies.clear()
        copies.make(loaded, {})
        assert not folder.is_symlink()
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_a_copy_stays_as_long_as_a_run_reads_it(self, loaded, tmp_path):
        class Working:
            gone = False

            def is_gone(self):
                return self.gone

        copies = FrozenCopies(tmp_path / "state")
        old, new = copies.make(loaded, {}), copies.make(loaded, {})
        work = Working()
        assert old.reading(Task(name="shop", begin=lambda *_: work)).begin(None, None) is work
        copies.keep_only(new)
        assert old.directory.exists()
        work.gone = True
        copies.keep_only(new)
        assert not old.directory.exists()
        assert new.directory.exists()

    @given(value=st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])))
    def test_variables_come_back_as_they_were(self, loaded_once, value):
        loaded, state = loaded_once
        copy = FrozenCopies(state).make(loaded, {"STORE": Default(value, "here")})
        assert read_dotenv(copy.directory / NAME).values["STORE"].value == value
        copy.delete()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_belongs_to_the_owner_of_the_state(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    (tmp_path / "config.yaml").write_text("version: 1\njobs: {shop: {sources: [/etc]}}\n")
    pid_file = PidFile(state / "daemon.pid")
    pid_file.take()
    handler = log_to_file(state / "daemon.log")
    logging.getLogger("backup").removeHandler(handler)
    copy = FrozenCopies(state).make(load_configuration(tmp_path / "config.yaml"), {})

    assert {one.name: one.stat().st_uid for one in state.iterdir()} == {
        "daemon.pid": NOBODY,
        "daemon.log": NOBODY,
        "configuration-in-use": NOBODY,
    }
    assert copy.config.stat().st_uid == 0  # root's runs believe no other one
    handler.close()
    pid_file.close()


class TestSettling:
    def test_relative_paths_are_meant_from_where_they_were_said(self, monkeypatch, tmp_path):
        (tmp_path / "mine.pub").touch()
        monkeypatch.setenv("AUTO_BACKUP_KEY_FILE", "keys/one")
        monkeypatch.setenv("AUTO_BACKUP_HOST", "web1")
        monkeypatch.setenv("AUTO_BACKUP_RECIPIENTS", "mine.pub:age1other:/etc/third.pub")
        set_defaults(
            {
                "STORE": Default("./store", ".env:1"),
                "IDENTITY": Default("~/identity", ".env:2"),
            }
        )
        try:
            settle(tmp_path)
            assert os.environ["AUTO_BACKUP_KEY_FILE"] == f"{tmp_path}/keys/one"
            assert os.environ["AUTO_BACKUP_HOST"] == "web1"
            assert os.environ["AUTO_BACKUP_RECIPIENTS"] == (
                f"{tmp_path}/mine.pub:age1other:/etc/third.pub"
            )
            assert known_defaults()["STORE"] == (f"{tmp_path}/store", ".env:1")
            assert known_defaults()["IDENTITY"].value == "~/identity"
        finally:
            set_defaults({})

    @pytest.mark.parametrize("store", ["disk", "s3://bucket/way", "/mnt/disk", ""])
    def test_names_and_urls_stay(self, monkeypatch, tmp_path, store):
        monkeypatch.setenv("AUTO_BACKUP_STORE", store)
        settle(tmp_path)
        assert os.environ["AUTO_BACKUP_STORE"] == store


class TestUpgrade:
    @pytest.fixture
    def disk(self):
        return {"program": "old", "now": 0.0, "idle": True, "objection": None, "taken": []}

    @pytest.fixture
    def upgrade(self, disk):
        watch = UpgradeWatch(lambda: disk["program"], every=30, stable=5, now=lambda: disk["now"])
        return Upgrade(
            watch,
            objection=lambda: disk["objection"],
            is_idle=lambda: disk["idle"],
            take_over=lambda: disk["taken"].append(disk["program"]),
        )

    def beats(self, upgrade, disk, seconds):
        for _ in range(seconds):
            disk["now"] += 1
            upgrade.beat()
            assert wait_until(lambda: upgrade._asking is None or not upgrade._asking.is_alive())

    def test_nothing_happens_without_another_program(self, upgrade, disk):
        self.beats(upgrade, disk, 100)
        assert disk["taken"] == []

    def test_it_is_noticed_within_half_a_minute_and_when_it_is_complete(self, upgrade, disk):
        disk["program"] = "half"
        self.beats(upgrade, disk, 31)
        disk["program"] = None
        self.beats(upgrade, disk, 10)
        disk["program"] = "new"
        self.beats(upgrade, disk, 5)
        assert not upgrade.is_waited_for
        self.beats(upgrade, disk, 3)
        assert disk["taken"][:1] == ["new"]

    def test_runs_are_waited_for(self, upgrade, disk):
        disk |= {"program": "new", "idle": False}
        self.beats(upgrade, disk, 60)
        assert upgrade.is_waited_for
        assert disk["taken"] == []
        disk["idle"] = True
        self.beats(upgrade, disk, 1)
        assert disk["taken"] == ["new"]

    def test_one_that_cannot_take_over_is_asked_once(self, upgrade, disk):
        disk |= {"program": "new", "objection": "unknown key"}
        self.beats(upgrade, disk, 40)
        assert "cannot take over" in upgrade.problem
        disk["objection"] = None
        self.beats(upgrade, disk, 100)
        assert disk["taken"] == []
        disk["program"] = "newer"
        self.beats(upgrade, disk, 40)
        assert disk["taken"][:1] == ["newer"]

    def test_one_that_is_changed_again_is_asked_again(self, upgrade, disk):
        disk |= {"program": "new", "idle": False}
        self.beats(upgrade, disk, 60)
        disk |= {"program": "newer", "idle": True}
        self.beats(upgrade, disk, 2)
        assert not upgrade.is_waited_for
        assert disk["taken"] == []
        self.beats(upgrade, disk, 10)
        assert disk["taken"][:1] == ["newer"]

    def test_a_program_is_told_by_its_file(self, tmp_path):
        path = tmp_path / "_version.py"
        assert program_on_disk(path) is None
        path.write_text("one")
        first = program_on_disk(path)
        assert program_on_disk(path) == first
        path.with_name("new").write_text("one")
        path.with_name("new").replace(path)
        assert program_on_disk(path) not in {None, first}

    def test_a_record_that_a_newer_version_has_changed(self, tmp_path):
        path = tmp_path / RUNS_NAME
        state = RunState(path)
        assert not state.is_newer()
        state.see(["shop"])
        assert not state.is_newer()
        change = (
            "import sqlite3, sys\nsqlite3.connect(sys.argv[1]).execute('PRAGMA user_version=9')"
        )
        subprocess.run([sys.executable, "-c", change, path], check=True)
        assert state.is_newer()
