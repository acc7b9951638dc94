"""The second reader, on real snapshots and out of a real store."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lister import listing

from backup.manager import BackupManager
from backup.manager.recovery_files import recovery_files
from backup.snapshot.compression import COMPRESSIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "source"
    (top / "deep" / "er").mkdir(parents=True)
    (top / "letter.txt").write_text("Dear Ann\n")
    (top / "deep" / "large").write_bytes(os.urandom(9_000_000))
    (top / "deep" / "empty").touch()
    (top / "deep" / "er" / os.fsdecode(b"caf\xe9\n")).write_bytes(b"x" * 70_000)
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o750)
    (top / "second").hardlink_to(top / "letter.txt")
    (top / "way").symlink_to("deep/er")
    (top / "nowhere").symlink_to("/does/not/exist")
    for number, path in enumerate(sorted(top.rglob("*"))):
        stamp = 1_600_000_000_123_456_789 + number
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
    (top / "deep").chmod(0o700)
    return top


def recover(store, *arguments):
    call = [sys.executable, "-I", store / "recover.py", *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_copy_in_a_store_gets_everything_back(tmp_path, tree, key, compression):
    store = tmp_path / "store"
    snapshot = BackupManager(tree, store, key, compression=compression).create_snapshot()
    (tmp_path / "key").write_text(key)

    result = recover(store, "extract", snapshot, tmp_path / "back", "--key", tmp_path / "key")

    assert result.returncode == 0, result.stderr
    assert listing(tmp_path / "back" / str(tree).lstrip("/")) == listing(tree)


def test_the_copy_in_a_store_checks_a_snapshot(tmp_path, tree, key):
    store = tmp_path / "store"
    snapshot = Path(BackupManager(tree, store, key).create_snapshot())
    (tmp_path / "key").write_text(key)

    whole = recover(store, "check", snapshot, "--key", tmp_path / "key")
    raw = bytearray(snapshot.read_bytes())
    raw[len(raw) // 2] ^= 1
    snapshot.write_bytes(raw)
    damaged = recover(store, "check", snapshot, "--key", tmp_path / "key")

    assert whole.returncode == 0, whole.stderr
    assert damaged.returncode == 13
    assert "FrameError" in damaged.stderr


def test_a_store_gets_the_files_with_its_first_snapshot_and_gets_them_again(tmp_path, tree, key):
    store = tmp_path / "store"
    manager = BackupManager(tree, store, key)
    manager.create_snapshot()
    (store / "recover.py").write_text("print('not what it was')")

    manager.create_snapshot()

    for name, content in recovery_files().items():
        assert (store / name).read_bytes() == content


def test_the_documents_tell_the_digest_that_a_copy_must_have():
    text = (ROOT / "docs" / "RECOVERY.md").read_text()

    told = re.search(r"([0-9a-f]{64})  recover\.py", text)

    assert told is not None
    assert told[1] == hashlib.sha256((ROOT / "backup" / "recover.py").read_bytes()).hexdigest()


class TestThePage:
    """The program in docs/RECOVERY.md, as it stands there."""

    @pytest.fixture
    def page(self, tmp_path):
        text = (ROOT / "docs" / "RECOVERY.md").read_text()
        path = tmp_path / "page.py"
        path.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
        return path

    def run(self, page, snapshot, tmp_path, key):
        (tmp_path / "key").write_text(key)
        call = [sys.executable, "-I", page, snapshot, tmp_path / "key"]
        return subprocess.run(call, capture_output=True, check=False)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_it_writes_an_archive_that_tar_extracts(self, tmp_path, tree, key, page, compression):
        flag = {
            "xz": "-J",
            "zstd": "--zstd",
            "gzip": "-z",
            "bzip2": "-j",
            "none": "--no-same-owner",
        }
        manager = BackupManager(tree, tmp_path / "store", key, compression=compression)
        snapshot = manager.create_snapshot()
        back = tmp_path / "back"
        back.mkdir()

        result = self.run(page, snapshot, tmp_path, key)
        tar = ["tar", "-x", flag[compression], "-p", "-C", back]
        subprocess.run(tar, input=result.stdout, check=True)

        assert result.returncode == 0, result.stderr
        assert listing(back / str(tree).lstrip("/")) == listing(tree)

    def test_it_refuses_what_was_cut_or_changed(self, tmp_path, tree, key, page):
        snapshot = Path(BackupManager(tree, tmp_path / "store", key).create_snapshot())
        raw = snapshot.read_bytes()
        changed = bytearray(raw)
        changed[len(raw) // 3] ^= 1

        for wrong in (raw[: len(raw) // 2], raw[:100], bytes(changed), raw[:300] + raw[301:]):
            snapshot.write_bytes(wrong)
            assert self.run(page, snapshot, tmp_path, key).returncode != 0
