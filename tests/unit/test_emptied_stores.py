"""Stores that are not mounted: nothing is written below their mount points, and it is told."""

from __future__ import annotations

import shutil

import pytest

from backup import BackupManager
from backup.catalog import CATALOG_NAME, Catalog
from backup.errors import StorageError
from backup.manager.emptied import refuse_emptied
from backup.storage.local import LocalStorage
from tests.cli import done, run
from tests.conftest import HOST

CONFIG = """
version: 1
host: testhost
stores:
  disk: {{url: {top}/disk}}
  usb: {{url: {top}/usb}}
jobs:
  papers: {{sources: [{top}/source], stores: [disk, usb], keep: {{last: 9}}, compression: none}}
  mail: {{sources: [{top}/source], stores: [usb], compression: none}}
"""


@pytest.fixture
def top(tmp_path, source, key_file, monkeypatch):
    (source / "file").write_text("content")
    (tmp_path / "config.yaml").write_text(CONFIG.format(top=tmp_path))
    (tmp_path / "config.yaml").chmod(0o600)
    monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
    done("--now")
    return tmp_path


@pytest.fixture
def unmount(top):
    """Return a function that takes a store away, as what is not mounted, and one that mounts it."""

    def unmount(name, *, keep_directory=False):
        (top / name).rename(top / f"{name}.away")
        if keep_directory:
            (top / name).mkdir()

    return unmount


def mount(top, name):
    shutil.rmtree(top / name, ignore_errors=True)
    (top / f"{name}.away").rename(top / name)


def saved(path):
    return sorted(path.rglob("*.enc"))


class TestOneStore:
    @pytest.mark.parametrize("keep_directory", [True, False])
    def test_nothing_is_written_below_its_mount_point(self, top, unmount, keep_directory):
        unmount("usb", keep_directory=keep_directory)

        result = run("--now", "mail")

        assert result.status == 14
        assert f"the store {top / 'usb'} is empty or missing, although 1 snapshot" in result.err
        assert "of testhost/mail was there on 20" in result.err
        assert "is it mounted?" in result.err
        assert "catalog rebuild" in result.err
        assert (top / "usb").exists() == keep_directory
        assert not keep_directory or not any((top / "usb").iterdir())

    def test_a_dry_run_says_so_too(self, top, unmount):
        unmount("usb")

        assert run("--now", "mail", "-n").status == 14

    def test_the_chain_goes_on_once_it_is_mounted(self, top, unmount):
        unmount("usb", keep_directory=True)
        assert run("--now", "mail").status == 14
        mount(top, "usb")

        assert done("--json", "--now", "mail").json[0]["sequence"] == 2

    def test_a_job_without_a_name_is_refused_by_all_of_the_host(self, top, unmount, source):
        unmount("usb")

        result = run("--now", "--source", source, "--store", top / "usb")

        assert result.status == 14
        assert "2 snapshots of testhost were there" in result.err
        assert not (top / "usb").exists()

    def test_no_key_is_made_meanwhile(self, top, unmount, key_file):
        unmount("disk")
        unmount("usb")
        key_file.unlink()

        assert run("--now").status == 14
        assert not key_file.exists()

    def test_another_disk_in_its_place_is_noticed(self, top, unmount, source):
        unmount("usb")
        done("--now", "--source", source, "--store", top / "usb", "--host", "other")

        result = run("--now", "mail")

        assert result.status == 14
        assert "has none of them, although 1 snapshot of testhost/mail" in result.err

    def test_disks_that_take_turns_are_no_matter(self, top, unmount):
        unmount("usb")
        done("catalog", "rebuild")
        done("--now", "mail")
        shutil.move(top / "usb", top / "other")
        mount(top, "usb")

        done("--now", "mail")


class TestSaidToBeMeant:
    @pytest.mark.parametrize("words", [("--store", "usb"), ()])
    def test_a_new_beginning_is_one(self, top, unmount, words):
        unmount("usb")

        assert "forgot" in done("catalog", "rebuild", *words).out
        assert done("--json", "--now", "mail").json[0]["sequence"] == 1

    def test_a_host_that_only_writes_can_say_it(self, top, key_file, source, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_KEY_FILE", "")
        recovery = top / "recovery"
        done("key", "new", "--public", "--identity", recovery)
        key_file.unlink()
        words = ("--source", source, "--store", top / "mine", "--job", "j")
        words += ("--recipient", top / "recovery.pub")
        done("--now", *words)
        shutil.rmtree(top / "mine")
        assert run("--now", *words).status == 14
        assert not (top / "mine").exists()

        done("catalog", "rebuild", "--store", top / "mine")

        done("--now", *words)

    def test_what_was_deleted_by_this_tool_needs_no_word(self, top):
        storage = LocalStorage(top / "usb")
        catalog = Catalog(top / "state" / CATALOG_NAME)
        for name in (one.name for one in list(storage.list_files())):
            catalog.forget(storage.url, name)

        refuse_emptied(catalog, storage, HOST, "mail")


class TestSeveralStores:
    @pytest.mark.parametrize(("gone", "other"), [("disk", "usb"), ("usb", "disk")])
    def test_the_other_one_gets_its_snapshot(self, top, unmount, gone, other):
        unmount(gone)
        before = len(saved(top / other))

        result = run("--json", "--now", "papers")

        assert result.status == 14
        assert f"there is no copy in {top / gone}" in result.err
        assert len(saved(top / other)) == before + 1
        assert not (top / gone).exists()
        [told] = result.json
        assert [one["store"] for one in told["not_copied"]] == [str(top / gone)]
        assert [one["store"] for one in told["rotated"]] == [LocalStorage(top / other).url]

    @pytest.mark.parametrize("gone", ["disk", "usb"])
    def test_both_get_theirs_again_once_it_is_back(self, top, unmount, gone):
        unmount(gone)
        assert run("--now", "papers").status == 14
        mount(top, gone)

        done("--now", "papers")
        done("--now", "papers")

        done("verify", "--level", "content", "--store", "disk")
        done("verify", "--level", "content", "--store", "usb")

    def test_without_any_of_them_each_is_told(self, top, unmount):
        unmount("disk")
        unmount("usb")

        result = run("--now", "papers")

        assert result.status == 14
        assert result.err.count("is it mounted?") == 2
        assert not (top / "disk").exists()
        assert not (top / "usb").exists()

    def test_other_jobs_are_run(self, top, unmount, source):
        unmount("disk")

        result = run("--json", "--now")

        assert result.status == 14
        assert [one["exit_status"] for one in result.json] == [14, 0]


class TestForPrograms:
    def test_a_manager_refuses_it_too(self, source, store, key):
        (source / "file").touch()
        manager = BackupManager(source, store, key)
        manager.create_snapshot()
        shutil.rmtree(store)

        with pytest.raises(StorageError, match="is it mounted"):
            manager.create_snapshot()

        assert not store.exists()

    def test_where_nothing_is_known_nothing_is_refused(self, source, store, key, private_home):
        (source / "file").touch()
        manager = BackupManager(source, store, key)
        manager.create_snapshot()
        shutil.rmtree(store)
        (private_home / "auto-backup-state" / CATALOG_NAME).write_bytes(b"damaged" * 1000)

        manager.create_snapshot()
