"""The restore that cannot write elsewhere, because the kernel keeps it from it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from backup.locating import locate_path
from backup.restore.landlock import landlock_version
from backup.restore.manager import run_restore
from backup.restore.options import NO_OPTIONS, Overwrite, RestoreOptions
from backup.restore.paths import entry_path
from backup.restore.plan import plan_restore
from backup.snapshot.recipients import FernetKey
from tests.cli import done, run_process, take
from tests.lister import listing
from tests.unit.test_tree_writer import in_child

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


def contents(directory):
    rows = listing(directory) if directory.exists() else {}
    return {path: (row.type, row.sha256, row.target) for path, row in rows.items()}


def test_in_place_only_what_is_restored_into_can_be_written(tree, store):
    take("--source", tree, "--store", store)
    rows = listing(tree)
    (tree / "docs" / "plan.txt").write_text("spoilt")

    result = run_process(
        *("restore", "latest", "--in-place", "-s", store, "--json"),
        *("--overwrite", "if-changed", "--yes"),
    )

    assert json.loads(result.out)["confined"] is True
    assert listing(tree) == rows


@pytest.mark.parametrize("how", ["a target", "in place", "a part", "a file", "a missing directory"])
def test_from_the_first_entry_on_nothing_else_can_be_written(tree, store, key, tmp_path, how):
    located = locate_path(take("--source", tree, "--store", store))
    reader = located.open([FernetKey.parse(key)])
    parts = {"a part": [tree / "docs"], "a file": [tree / "docs" / "plan.txt"]}
    wanted = [entry_path(path) for path in parts.get(how, [])]
    in_place = RestoreOptions(in_place=True, overwrite=Overwrite.ALWAYS)
    if how == "a missing directory":
        shutil.rmtree(tree)
    before = contents(tree)
    plan = plan_restore(
        reader,
        located,
        tmp_path / "out" if how == "a target" else Path("/"),
        wanted,
        NO_OPTIONS if how == "a target" else in_place,
    )
    elsewhere = [tmp_path / "elsewhere"]
    if how in parts:
        elsewhere.append(tree / "elsewhere")
    refused = []

    def try_to_leave(_report, _path):
        for path in elsewhere:
            try:
                path.touch()
            except PermissionError:
                refused.append(True)

    def restore():
        report = run_restore(reader, plan, confined=True, on_restored=try_to_leave)
        tried = len(elsewhere) * (report.entries + report.kept)
        return report.confined and not report.problems and len(refused) == tried > 0

    assert in_child(restore) is True
    assert not any(path.exists() for path in elsewhere)
    assert tree.is_dir()
    assert contents(tree) == before or how == "a missing directory"
