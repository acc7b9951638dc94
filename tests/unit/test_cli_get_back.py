from __future__ import annotations

import io
import os
import subprocess
import tarfile

import pytest
from cryptography.fernet import Fernet

from backup.locating import locate_path
from backup.snapshot.frame import Section
from backup.snapshot.recipients import FernetKey
from tests.cli import done, load_all, run, run_on_terminal, run_process, start, take
from tests.lister import listing
from tests.needs import needs

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def snapshot(tree, store):
    """Return the file of a snapshot of the sample tree."""
    return take("--source", tree, "--store", store)


@pytest.fixture
def target(tmp_path):
    """Return the path of a directory that does not exist yet."""
    return tmp_path / "out"


@pytest.fixture
def two_frames(source, store, key):
    """Return a snapshot of two large files, the frame of the second one damaged."""
    for name in ("first", "second"):
        (source / name).write_bytes(os.urandom(8 * 1024 * 1024 - 100_000))
    path = take("--source", source, "--store", store, "--compression", "none")
    rows = locate_path(path).open([FernetKey.parse(key)]).rows
    frames = [row for row in rows if row.section is Section.ARCHIVE and row.length > 10**6]
    with path.open("r+b") as file:
        file.seek(frames[1].offset + 1000)
        file.write(b"\0" * 50)
    return path


def below(target, path):
    return target / str(path).lstrip("/")


class TestRestore:
    def test_everything_comes_back_as_it_was(self, tree, store, snapshot, target):
        result = done("restore", "latest", "--target", target, "-s", store)

        assert listing(below(target, tree)) == listing(tree)
        assert result.lines[0].startswith(f"restored {len(listing(tree))} entries (")
        assert result.lines[1] == f"  to {target}"
        assert result.err == ""

    def test_some_paths_come_back_without_the_others(self, tree, store, snapshot, target):
        done("restore", "latest", tree / "docs", tree / "old", "-s", store, f"--target={target}")

        restored = below(target, tree)
        assert sorted(path.name for path in restored.iterdir()) == ["docs", "old"]
        assert listing(restored / "docs" / "deep") == listing(tree / "docs" / "deep")

    def test_it_tells_in_json(self, tree, store, snapshot, target):
        report = done("restore", "latest", "--target", target, "-s", store, "--json").json

        assert report["entries"] == len(listing(tree))
        assert report["target"] == str(target)
        assert (report["damaged"], report["problems"]) == ([], [])

    def test_quiet_says_nothing(self, store, snapshot, target):
        result = done("restore", "latest", "--target", target, "-s", store, "-q")

        assert (result.out, result.err) == ("", "")

    def test_what_exists_is_not_overwritten(self, tree, store, snapshot, target):
        occupied = below(target, tree) / "old"
        occupied.parent.mkdir(parents=True)
        occupied.write_text("mine")
        before = listing(target)

        result = run("restore", "latest", "--target", target, "-s", store)

        assert result.status == 16
        assert f"already has {tree}/old" in result.err
        assert "nothing has been changed" in result.err
        assert listing(target) == before

    def test_the_plan_changes_nothing_and_tells_what_is_in_the_way(
        self, tree, store, snapshot, target
    ):
        occupied = below(target, tree) / "line\nbreak"
        occupied.parent.mkdir(parents=True)
        occupied.touch()
        before = listing(target)

        told = done("restore", "latest", "--target", target, "-s", store, "-n")
        plan = done("restore", "latest", "--target", target, "-s", store, "-n", "--json").json

        assert told.lines[-3:] == [
            "  in the way  1 (19 B): so restore would refuse, and change nothing",
            f"    {tree}/line\\nbreak: it exists",
            "nothing has been changed",
        ]
        assert plan["conflicts"] == [f"{tree}/line\nbreak"]
        assert plan["entries"] == len(listing(tree))
        assert listing(target) == before

    def test_a_plan_for_an_empty_place_has_nothing_in_the_way(self, store, snapshot, target):
        result = done("restore", "latest", "--target", target, "-s", store, "-n")

        assert result.lines[0].startswith("would restore ")
        assert result.lines[-1] == "nothing has been changed"
        assert len(result.lines) == 4
        assert not target.exists()

    def test_a_tilde_in_the_target_is_the_home(self, store, snapshot, private_home):
        done("restore", "latest", "--target=~/back", "-s", store)

        assert (private_home / "back").is_dir()

    @pytest.mark.parametrize(
        ("arguments", "status"),
        [
            (["latest", "/nope"], 16),
            (["latest", "../x"], 16),
            (["nope"], 10),
            (["latest", "--key-file", "/no/such/key"], 12),
        ],
    )
    def test_what_cannot_be_done_changes_nothing(self, arguments, status, store, snapshot, target):
        result = run("restore", "--target", target, "-s", store, *arguments)

        assert result.status == status
        assert "error: " in result.err
        assert not target.exists()

    def test_a_target_that_is_a_file_is_refused(self, store, snapshot, target):
        target.touch()

        result = run("restore", "latest", "--target", target, "-s", store)

        assert result.status == 16
        assert "cannot restore to" in result.err

    def test_another_key_is_refused_with_status_12(self, store, snapshot, target, tmp_path):
        other = tmp_path / "other-key"
        other.write_bytes(Fernet.generate_key())
        other.chmod(0o600)

        for command in (["restore", "--target", target], ["ls"], ["decrypt"], ["verify"]):
            result = run(*command, "latest", "-s", store, "--key-file", other)

            assert result.status == 12
            assert result.out == ""
        assert not target.exists()

    def test_of_a_damaged_snapshot_all_that_is_whole_comes_back(
        self, source, store, two_frames, target
    ):
        told = run("restore", "latest", "--target", target, "-s", store)
        counted = run("restore", "latest", "--target", f"{target}2", "-s", store, "--json")

        restored = below(target, source)
        assert told.status == counted.status == 13
        assert "1 not restored, because stored bytes are damaged" in told.err
        assert "second" in told.err or "frame" in told.err
        assert [path.name for path in restored.iterdir()] == ["first"]
        assert (restored / "first").read_bytes() == (source / "first").read_bytes()
        assert len(counted.json["damaged"]) == 1

    def test_a_snapshot_whose_header_is_damaged_opens_with_its_keys_file(
        self, tree, store, snapshot, target
    ):
        with snapshot.open("r+b") as file:
            file.write(b"\0" * 60)

        done("restore", snapshot, "--target", target, "-s", store)

        assert listing(below(target, tree)) == listing(tree)

    @as_root
    def test_what_could_not_be_set_is_told_with_status_3(self, open_dir, as_nobody, key):
        tree = open_dir / "tree"
        tree.mkdir()
        (tree / "of-root").write_text("x")
        options = [f"--{name}={open_dir / name}" for name in ("store", "key-file", "state-dir")]
        load_all()
        with as_nobody():
            done("key", "new", *options)
            take("--source", tree, *options)

            told = run("restore", "latest", "--target", open_dir / "out", *options)

        assert told.status == 3
        assert "not as they were" in told.err
        assert f"{tree}/of-root: " in told.err


class TestDecrypt:
    @pytest.mark.parametrize(
        ("compression", "letter"), [("xz", "J"), ("gzip", "z"), ("bzip2", "j"), ("none", "")]
    )
    def test_tar_takes_what_it_writes(self, compression, letter, tree, store, target):
        take("--source", tree, "--store", store, "--compression", compression)
        target.mkdir()

        with start("decrypt", "latest", "-s", store) as decrypt:
            command = ["tar", f"-xp{letter}", "--numeric-owner", "-C", str(target)]
            untar = subprocess.run(command, stdin=decrypt.stdout, capture_output=True, check=False)

        assert (decrypt.returncode, untar.returncode) == (0, 0), untar.stderr
        assert {path: row.sha256 for path, row in listing(below(target, tree)).items()} == {
            path: row.sha256 for path, row in listing(tree).items()
        }

    def test_it_is_the_same_in_this_process(self, tree, store, snapshot):
        archive = done("decrypt", "latest", "-s", store).raw

        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as tar:
            names = {os.fsencode("/" + name) for name in tar.getnames()}
        expected = {os.fsencode(tree) + (b"/" + path if path else b"") for path in listing(tree)}
        assert names == expected

    def test_it_gets_out_what_a_damaged_index_keeps_restore_from(
        self, tree, store, snapshot, target, key
    ):
        rows = locate_path(snapshot).open([FernetKey.parse(key)]).rows
        index = next(row for row in rows if row.section is Section.INDEX)
        with snapshot.open("r+b") as file:
            file.seek(index.offset + 100)
            file.write(b"\0" * 50)
        target.mkdir()

        refused = run("restore", "latest", "--target", target, "-s", store)
        archive = done("decrypt", "latest", "-s", store).raw
        untar = ["tar", "-xpJ", "--numeric-owner", "-C", str(target)]
        subprocess.run(untar, input=archive, check=True)

        assert refused.status == 13
        assert "'auto-backup decrypt SNAPSHOT | tar x'" in refused.err
        assert listing(below(target, tree)).keys() == listing(tree).keys()

    def test_a_terminal_is_refused(self, store, snapshot):
        status, shown = run_on_terminal("decrypt", "latest", "-s", store)

        assert status == 2
        assert "the archive is not for a terminal" in shown
        assert "| tar x" in shown

    def test_a_reader_who_has_seen_enough_ends_it_quietly(self, source, store):
        (source / "large").write_bytes(os.urandom(4 * 1024 * 1024))
        take("--source", source, "--store", store)

        with start("decrypt", "latest", "-s", store) as process:
            process.stdout.read(10)
            process.stdout.close()
            err = process.stderr.read()

        assert (process.returncode, err) == (0, b"")

    def test_damage_ends_it_with_status_13(self, store, two_frames):
        result = run("decrypt", "latest", "-s", store)

        assert result.status == 13
        assert "error: " in result.err

    def test_a_full_disk_behind_it_is_told(self, store, snapshot):
        needs(os.path.exists("/dev/full"), "there is no /dev/full")  # noqa: PTH110

        with open("/dev/full", "wb") as full:  # noqa: PTH123
            result = run_process("decrypt", "latest", "-s", store, stdout=full)

        assert result.status == 1
        assert result.err == (
            "auto-backup: error: cannot write to standard output: No space left on device\n"
        )
