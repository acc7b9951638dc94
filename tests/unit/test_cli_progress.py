"""Every long phase of a command tells how far it is, to a person and to a supervisor."""

from __future__ import annotations

import os
import re
import sys

import pytest

from backup.child_run import ChildRun
from backup.cli.progress import ProgressLine
from backup.manager.copying import copy_snapshot
from backup.manager.run import take_snapshot
from backup.reporting import Reporter
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage
from tests.checkout import ROOT
from tests.cli import COMMAND, done, run_on_terminal

SIZE = 90_000_000
CONFIG = """
version: 1
host: testhost
stores:
  disk: {{url: {top}/store}}
  disk2: {{url: {top}/second}}
defaults: {{compression: none, keep: {{last: 9}}}}
jobs:
  shop: {{sources: [{top}/source], stores: [disk, disk2]}}
"""


@pytest.fixture
def top(tmp_path, monkeypatch, key_file):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(os.urandom(SIZE))
    (tmp_path / "config.yaml").write_text(CONFIG.format(top=tmp_path))
    (tmp_path / "config.yaml").chmod(0o600)
    monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def supervised(*arguments):
    """Return what a command tells its supervisor."""
    told = []
    end = ChildRun([*COMMAND, *arguments], on_report=told.append).run()
    assert end.status == 0, end.err
    return told, end


class TestASupervisor:
    def test_hears_of_every_phase_of_a_backup(self, top):
        told, end = supervised("-q", "--now", "shop")

        phases = list(dict.fromkeys(one.what for one in told))
        assert phases == ["counting", "shop", "proving", "copying to disk2", "rotating"]
        last = {one.what: one for one in told}
        assert last["shop"].done == last["shop"].total == SIZE
        assert last["proving"].done == last["proving"].total == end.details["size"]
        assert last["copying to disk2"].done == end.details["size"]
        assert last["rotating"].done == end.details["size"]
        assert end.details["stores"] == "disk, disk2"

    def test_hears_of_verification(self, top):
        done("--now", "shop")
        size = done("snapshots", "-s", "disk", "--json").json[0]["size"]

        told, end = supervised("-q", "verify", "-s", "disk", "--level", "checksum")
        assert (told[-1].what, told[-1].done, told[-1].total) == ("verifying", size, size)
        assert end.details == {"snapshots": 1, "damaged": 0, "level": "checksum"}

    def test_workers_and_whoever_is_asked_do_not_hear_of_it(self, top):
        code = (
            "import os, sys; from backup.cli import main; status = main(sys.argv[1:]);"
            "print([one for one in os.environ if 'REPORT' in one]); sys.exit(status)"
        )
        end = ChildRun([sys.executable, "-c", code, "-q", "--now", "shop"]).run()

        assert (end.status, end.out) == (0, b"[]\n"), end.err
        assert end.details["size"] > SIZE


class TestAPerson:
    def test_sees_what_is_done_now(self, top):
        status, shown = run_on_terminal("--now", "shop")

        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert status == 0
        assert re.search(r"shop [━╸╺]+ [0-9.]+ MiB of 85\.8 MiB", text)
        assert re.search(r"proving [━╸╺]+", text)
        assert re.search(r"copying to disk2 [━╸╺]+ [0-9.]+ MiB of [0-9.]+ MiB", text)

    def test_sees_how_far_a_run_of_the_schedule_is_and_what_it_wrote(self, top):
        status, shown = run_on_terminal("schedule", "run", "shop")

        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        assert status == 0
        assert re.search(r"shop [━╸╺]+ [0-9.]+ [KM]?i?B of 85\.8 MiB", text)
        assert re.search(r"saved 2 entries .*", text)
        assert "━" not in shown.rpartition("proven ")[2].partition("\n")[0]

    def test_in_a_pipe_nobody_is_told_and_nothing_is_counted(self):
        with ProgressLine("reading", None, reporter=Reporter()) as line:
            line.set(1)
            line.at("proving", 2, 3)
            with line.hidden():
                assert not line.is_shown


class TestPrograms:
    def test_hear_how_much_of_what_was_written_has_been_proven(self, make_request, tree, tmp_path):
        told = []
        report = take_snapshot(
            make_request(tree), LocalStorage(tmp_path / "s"), on_progress=told.append
        )
        proven = [one for one in told if one.proven is not None]

        assert (proven[-1].proven, proven[-1].stored) == (report.size, report.size)
        assert {one.read for one in proven} == {report.counts.bytes}
        assert all(one.proven is None for one in told[: -len(proven)])

    def test_hear_how_much_has_been_copied_and_proven(self, make_request, tree, tmp_path):
        first, second = LocalStorage(tmp_path / "s"), MemoryStorage()
        report, told = take_snapshot(make_request(tree), first), []
        copy_snapshot(first, report.name, second, on_copied=lambda *at: told.append(at))

        assert told[0] == (report.size, 0)
        assert told[-1] == (report.size, report.size)
