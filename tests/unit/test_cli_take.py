from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.cli import done, load_all, run, take
from tests.lister import listing

TYPES = {"xz": "tar.xz", "zstd": "tar.zst", "gzip": "tar.gz", "bzip2": "tar.bz2", "none": "tar"}
EVIL = "evil\x1b[31mred\x07\nsecond line\r"


@pytest.fixture
def no_key(private_home, monkeypatch):
    """Name no key file; return where it is made by default."""
    monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
    return private_home / "config" / "auto-backup" / "key"


def enc_files(store):
    return sorted(store.rglob("*.enc"))


class TestTheFirstRun:
    def test_it_makes_the_key_for_its_owner_only(self, tree, store, no_key):
        done("--now", "--source", tree, "--store", store)

        assert stat.S_IMODE(no_key.stat().st_mode) == 0o600
        assert stat.S_IMODE(no_key.parent.stat().st_mode) == 0o700
        Fernet(no_key.read_bytes().strip())

    def test_it_tells_once_where_the_key_is_and_what_it_is_for(self, tree, store, no_key):
        first = done("--now", "--source", tree, "--store", store)
        second = done("--now", "--source", tree, "--store", store)

        assert f"a new key has been made: {no_key}" in first.err
        assert "keep a copy" in first.err
        assert "key" not in second.err + second.out

    @pytest.mark.parametrize("option", ["-q", "--json"])
    def test_who_wants_quiet_is_told_of_a_new_key_as_well(self, option, tree, store, no_key):
        result = done("--now", "--source", tree, "--store", store, option)

        assert "a new key has been made" in result.err
        assert "a new key has been made" not in result.out

    def test_it_makes_no_key_where_snapshots_need_another_one(self, tree, store, no_key):
        take("--source", tree, "--store", store)
        no_key.unlink()

        result = run("--now", "--source", tree, "--store", store)

        assert result.status == 12
        assert "holds snapshots that need one" in result.err
        assert "--key-file" in result.err
        assert not no_key.exists()
        assert len(enc_files(store)) == 1

    def test_snapshots_in_the_second_store_count_too(self, tree, store, tmp_path, no_key):
        take("--source", tree, "--store", store)
        no_key.unlink()

        result = run("--now", "--source", tree, "-s", tmp_path / "new", "-s", store)

        assert result.status == 12
        assert not no_key.exists()

    @pytest.mark.parametrize("how", ["option", "environment"])
    def test_it_makes_no_key_where_a_named_file_is_missing(
        self, how, tree, store, tmp_path, monkeypatch
    ):
        options = ["--key-file", tmp_path / "key"] if how == "option" else []
        monkeypatch.setenv("AUTO_BACKUP_KEY_FILE", str(tmp_path / "key"))

        result = run("--now", "--source", tree, "--store", store, *options)

        assert result.status == 12
        assert f"there is no key file at {tmp_path / 'key'}" in result.err
        assert not (tmp_path / "key").exists()
        assert not store.exists()

    def test_it_makes_no_key_when_the_source_is_missing(self, store, no_key):
        assert run("--now", "--source", "/no/such/source", "--store", store).status == 1
        assert not no_key.exists()

    def test_without_a_store_it_tells_where_snapshots_go(self, tree, private_home, no_key):
        result = done("--now", "--source", tree)

        place = private_home / "data" / "auto-backup" / "snapshots"
        assert f"no --store given: snapshots go to {place}" in result.err
        assert len(enc_files(place)) == 1


class TestWhatIsTold:
    def test_in_words(self, tree, store, key_file):
        result = done("--now", "--source", tree, "--store", store)

        (file,) = enc_files(store)
        first, snapshot, place, proven = result.lines
        assert first.startswith("saved ")
        assert " entries (" in first
        assert file.name.split("-")[2] in snapshot
        assert place == f"  file      {file}"
        assert "compared" in proven
        assert len(proven) <= 80
        assert result.err == ""

    def test_in_json(self, tree, store, key_file):
        report = done("--now", "--source", tree, "--store", store, "--json").json

        (file,) = enc_files(store)
        assert report["files"] == [str(file)]
        assert report["size"] == file.stat().st_size
        assert report["sha256"] in file.with_name(file.name + ".sha256").read_text()
        assert report["entries"] == len(listing(tree))
        assert report["sequence"] == 1
        assert (report["problems"], report["not_copied"]) == ([], [])
        assert report["proven"] == "read-back"

    def test_quiet_says_nothing(self, tree, store, key_file):
        result = done("--now", "--source", tree, "--store", store, "-q")

        assert (result.out, result.err) == ("", "")
        assert len(enc_files(store)) == 1

    def test_verbose_tells_what_was_left_out(self, tree, key_file):
        result = done("--now", "--source", tree, "--store", tree / "store", "-v")

        assert f"left out: {tree / 'store'}: own store" in result.err


class TestTheSource:
    def test_a_single_file(self, source, store, key_file):
        (source / "letter").write_text("dear")

        take("--source", source / "letter", "--store", store)

        assert done("ls", "latest", "-s", store).lines == [str(source / "letter")]

    def test_one_that_is_missing_is_told_with_a_hint(self, store, key_file):
        result = run("--now", "--source", "/no/such/source", "--store", store)

        assert result.status == 1
        assert "cannot back up /no/such/source: No such file or directory" in result.err
        assert "hint: check the spelling" in result.err
        assert not store.exists()

    def test_a_relative_one_starts_at_the_working_directory(
        self, tree, store, key_file, monkeypatch
    ):
        monkeypatch.chdir(tree.parent)

        take("--source", "source/docs", "--store", "store")

        assert done("ls", "latest", "-s", store).lines[0] == str(tree / "docs")

    def test_the_store_inside_it_is_left_out(self, tree, key_file):
        store = tree / "store"
        take("--source", tree, "--store", store)
        take("--source", tree, "--store", store)

        paths = done("ls", "latest", "-s", store).lines

        assert str(tree / "empty-file") in paths
        assert [path for path in paths if path.startswith(str(store))] == []

    @pytest.mark.parametrize("below", ["", "testhost"])
    def test_a_store_is_not_saved_into_itself(self, below, tree, store, key_file):
        take("--source", tree, "--store", store)

        result = run("--now", "--source", store / below, "--store", store)

        assert result.status == 2
        assert "is the store" in result.err
        assert len(enc_files(store)) == 1

    def test_two_of_one_name_are_two_jobs(self, tmp_path, store, key_file):
        for place in ("one", "two"):
            (tmp_path / place / "data").mkdir(parents=True)
            (tmp_path / place / "data" / place).touch()

        jobs = [
            take("--source", tmp_path / place / "data", "--store", store).parent.name
            for place in ("one", "two", "one", "two")
        ]

        assert jobs[0] == "data"
        assert jobs[1].startswith("data-")
        assert jobs[2:] == jobs[:2]

    def test_one_that_is_suddenly_empty_is_refused(self, source, store, key_file):
        (source / "file").touch()
        take("--source", source, "--store", store)
        (source / "file").unlink()

        result = run("--now", "--source", source, "--store", store)

        assert result.status == 1
        assert "is the disk mounted?" in result.err
        assert len(enc_files(store)) == 1

    def test_what_cannot_be_read_gives_status_3_and_the_rest_is_saved(self, open_dir, as_nobody):
        tree = open_dir / "tree"
        (tree / EVIL).mkdir(parents=True)
        (tree / "open").write_text("here")
        (tree / "closed").write_text("not here")
        (tree / "closed").chmod(0)
        (tree / EVIL).chmod(0)
        options = [f"--{name}={open_dir / name}" for name in ("store", "key-file", "state-dir")]
        load_all()

        with as_nobody():
            done("key", "new", *options)
            told = run("--now", "--source", tree, *options)
            counted = run("--now", "--source", tree, *options, "--json", "-q")
            paths = done("ls", "latest", *options).lines
        (tree / EVIL).chmod(0o700)

        assert told.status == counted.status == 3
        assert "2 paths were not saved, or not whole" in told.err
        assert f"{tree}/closed: Permission denied" in told.err
        assert EVIL not in told.err
        assert "\x1b" not in told.err
        assert r"evil\x1b[31mred\x07\nsecond line\r" in told.err
        assert len(counted.json["problems"]) == 2
        assert str(tree / "open") in paths


class TestCompression:
    @pytest.mark.parametrize("name", TYPES)
    def test_each_choice_gives_its_archive(self, name, tree, store, key_file, tmp_path):
        path = take("--source", tree, "--store", store, "--compression", name)

        archive = done("decrypt", "latest", "-s", store).raw
        listed = subprocess.run(
            ["tar", "-t", *([] if name == "none" else [f"--{name}"])],
            input=archive,
            capture_output=True,
            check=True,
        )

        assert path.name.endswith(f"-full.{TYPES[name]}.enc")
        assert len(listed.stdout.splitlines()) == len(listing(tree))

    def test_a_level_may_be_given(self, tree, store, key_file):
        take("--source", tree, "--store", store, "--compression", "zstd", "--level", "19")

        assert run("verify", "-s", store).status == 0

    def test_xz_is_what_is_taken_when_nothing_is_said(self, tree, store, key_file):
        assert take("--source", tree, "--store", store).name.endswith(".tar.xz.enc")


class TestDryRun:
    def test_it_changes_nothing(self, tree, store, private_home, no_key):
        before = [listing(place) for place in (tree, private_home)]

        result = done("--now", "--source", tree, "--store", store, "-n")

        assert result.lines[0].startswith(f"would save {len(listing(tree))} entries (")
        assert result.lines[-1] == "nothing has been changed"
        assert [listing(place) for place in (tree, private_home)] == before
        assert not store.exists()

    def test_it_tells_in_json_as_well(self, tree, store, no_key):
        plan = done("--now", "--source", tree, "--store", store, "-n", "--json").json

        assert plan["sources"] == [str(tree)]
        assert plan["stores"] == [str(store)]
        assert plan["entries"] == len(listing(tree))


class TestSeveralStores:
    def test_all_get_the_same_files(self, tree, tmp_path, key_file):
        stores = [tmp_path / name for name in ("one", "two", "three")]
        options = [word for store in stores for word in ("--store", store)]

        result = done("--now", "--source", tree, *options)

        first, *others = [
            {path.relative_to(store): path.read_bytes() for path in store.rglob("*.enc*")}
            for store in stores
        ]
        assert len(first) == 3
        assert others == [first, first]
        assert [line for line in result.lines if line.startswith("  file")] == [
            f"  file      {enc_files(store)[0]}" for store in stores
        ]

    def test_each_can_be_read_alone(self, tree, tmp_path, key_file):
        take("--source", tree, "--store", tmp_path / "one", "--store", tmp_path / "two")
        shutil.rmtree(tmp_path / "one")

        assert done("verify", "--store", tmp_path / "two").lines[0].startswith("holds ")

    def test_the_same_one_twice_is_one(self, tree, store, key_file):
        report = done("--now", "--source", tree, "-s", store, "-s", store.as_uri(), "--json").json

        assert len(report["files"]) == 1

    def test_one_that_refuses_does_not_keep_the_others_from_their_copy(
        self, tree, tmp_path, key_file
    ):
        (tmp_path / "file").touch()
        stores = [tmp_path / name for name in ("one", "file", "three")]
        options = [word for store in stores for word in ("--store", store)]

        told = run("--now", "--source", tree, *options)
        counted = run("--now", "--source", tree, *options, "--json")

        assert told.status == counted.status == 14
        assert f"there is no copy in {tmp_path / 'file'}" in told.err
        assert "saved " in told.out
        assert [one["store"] for one in counted.json["not_copied"]] == [str(tmp_path / "file")]
        assert len(counted.json["files"]) == 2
        assert len(enc_files(tmp_path / "three")) == 2

    def test_snapshots_and_keys_are_for_their_owner_only(self, tree, store, key_file):
        path = take("--source", tree, "--store", store)

        modes = {stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, store)}
        assert modes == {0o600, 0o700}
        assert Path(str(path) + ".keys").stat().st_mode & 0o077 == 0
