"""The restore that cannot write elsewhere, because the kernel keeps it from it."""

from __future__ import annotations

import json
import os
import time

import pytest

from backup.locating import locate_path
from backup.restore.landlock import landlock_version
from backup.restore.manager import run_restore
from backup.restore.plan import plan_restore
from backup.snapshot.recipients import FernetKey
from tests.cli import done, run_process, take
from tests.lister import listing

if landlock_version() < 2:
    pytest.skip("the kernel has no Landlock that fits", allow_module_level=True)


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


def test_the_command_restores_in_it_and_its_log_goes_on(tree, store, private_home, tmp_path):
    take("--source", tree, "--store", store)
    target = tmp_path / "out"

    result = run_process("restore", "latest", "--target", target, "-s", store, "--json")

    assert json.loads(result.out)["confined"] is True
    assert listing(target / str(tree).lstrip("/")) == listing(tree)
    log = next(private_home.rglob("backup.log")).read_text().splitlines()
    assert json.loads(log[-1])["status"] == "done"


def test_a_reader_of_its_output_may_go_away(tree, store, tmp_path):
    take("--source", tree, "--store", store)
    read, write = os.pipe()
    os.close(read)

    result = run_process(
        "restore", "latest", "--target", tmp_path / "out", "-s", store, stdout=write
    )
    os.close(write)

    assert "Traceback" not in result.err
    assert result.status == 0


def test_within_another_program_nothing_is_given_up(tree, store, tmp_path):
    take("--source", tree, "--store", store)

    told = done("restore", "latest", "--target", tmp_path / "out", "-s", store, "--json").out
    (tmp_path / "still possible").touch()

    assert json.loads(told)["confined"] is False


def test_from_the_first_entry_on_nothing_else_can_be_written(tree, store, key, tmp_path):
    located = locate_path(take("--source", tree, "--store", store))
    reader = located.open([FernetKey.parse(key)])
    plan = plan_restore(reader, located, tmp_path / "out", [])
    refused = []

    def try_to_leave(_report, _path):
        try:
            (tmp_path / "elsewhere").touch()
        except PermissionError:
            refused.append(True)

    child = os.fork()
    if child == 0:
        report = run_restore(reader, plan, confined=True, on_restored=try_to_leave)
        os._exit(0 if report.confined and len(refused) == report.entries > 0 else 1)
    deadline = time.monotonic() + 60
    ended, status = 0, 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)

    assert (ended, os.waitstatus_to_exitcode(status)) == (child, 0)
    assert not (tmp_path / "elsewhere").exists()
