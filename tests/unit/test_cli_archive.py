"""``archive``: what it makes, what it is called, what it refuses, what others say of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from backup.plain.formats import Format, format_at
from tests.cli import done, run, run_on_terminal, start
from tests.needs import needs

IS_ROOT = os.geteuid() == 0
STAMP = r"-\d{8}T\d{6}Z"


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """Return a directory with some files, in what is then the current directory."""
    monkeypatch.chdir(tmp_path)
    top = tmp_path / "docs"
    (top / "sub").mkdir(parents=True)
    (top / "a.txt").write_text("hello\n" * 1000)
    (top / "ä").write_text("umlaut")
    (top / "sub" / "script").write_text("#!/bin/sh\n")
    (top / "sub" / "script").chmod(0o755)
    (top / "link").symlink_to("a.txt")
    (top / "empty").mkdir()
    return top


def archive(*arguments):
    """Make an archive; return its file."""
    return Path(done("archive", *arguments, "--json").json["files"][0])


def names_in(path):
    with path.open("rb") as file:
        if format_at(file) is Format.ZIP:
            return zipfile.ZipFile(path).namelist()
    listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
    return [name.rstrip("/") for name in listed.stdout.splitlines()]


def leftovers(directory):
    return [one.name for one in directory.iterdir() if "partial" in one.name]


class TestWhatIsMade:
    def test_a_zip_in_the_current_directory_with_the_source_and_the_time_in_its_name(self, docs):
        result = done("archive", "docs")

        (made,) = docs.parent.glob("*.zip")
        assert re.fullmatch(f"docs{STAMP}.zip", made.name)
        assert result.lines[0].startswith("archived 7 entries (3 files, 5.9 KiB) as ")
        assert result.lines[1:] == [
            f"  file      {made}",
            "  tested    read back from the medium, unpacked, every digest compared",
        ]
        assert sorted(names_in(made)) == [
            *("docs/", "docs/a.txt", "docs/empty/", "docs/link", "docs/sub/", "docs/sub/script"),
            "docs/ä",
        ]

    @pytest.mark.parametrize("form", list(Format))
    def test_each_format_by_its_word_and_by_the_name_of_the_file(self, docs, form):
        by_word = archive("docs", "--format", form, "--name", "by-word")
        by_name = archive("docs", "-o", f"by-name.{form}")

        assert by_word.name == f"by-word.{form}"
        for made in (by_word, by_name):
            with made.open("rb") as file:
                assert format_at(file) is form
            assert "docs/sub/script" in names_in(made)

    def test_it_is_for_its_owner_alone_whatever_the_umask_says(self, docs):
        before = os.umask(0)
        try:
            made = archive("docs")
        finally:
            os.umask(before)

        assert made.stat().st_mode & 0o777 == 0o600

    def test_modes_links_and_times_are_in_a_zip(self, docs):
        os.utime(docs / "a.txt", (0, 1_700_000_001))
        made = archive("docs")

        out = docs.parent / "out"
        subprocess.run(["unzip", "-q", made, "-d", out], check=True)
        assert (out / "docs" / "sub" / "script").stat().st_mode & 0o777 == 0o755
        assert (out / "docs" / "link").readlink() == Path("a.txt")
        assert (out / "docs" / "a.txt").stat().st_mtime == 1_700_000_001
        assert (out / "docs" / "empty").is_dir()

    def test_several_sources_are_named_from_what_they_have_in_common(self, docs, tmp_path):
        for who in ("ann", "bob"):
            (tmp_path / who / "notes").mkdir(parents=True)
            (tmp_path / who / "notes" / "n.txt").write_text(who)
        made = archive("ann/notes", "bob/notes", "-o", "two.tar")

        assert names_in(made) == ["ann/notes", "ann/notes/n.txt", "bob/notes", "bob/notes/n.txt"]

    def test_a_single_file(self, docs):
        assert names_in(archive("docs/a.txt")) == ["a.txt"]

    def test_an_empty_directory(self, docs):
        made = archive("docs/empty")

        assert names_in(made) == ["empty/"]

    def test_a_link_that_is_named_means_what_is_behind_it(self, docs, tmp_path):
        (tmp_path / "current").symlink_to("docs/sub")

        made = archive("current")
        assert re.fullmatch(f"sub{STAMP}.zip", made.name)
        assert names_in(made) == ["sub/", "sub/script"]

    def test_what_is_excluded_is_left_out_and_counted(self, docs):
        told = done("archive", "docs", "--exclude", "*.txt", "-o", "x.tar", "--json").json

        assert "docs/a.txt" not in names_in(docs.parent / "x.tar")
        assert list(told["left_out"].values()) == [1]

    def test_pipes_and_sockets_have_no_place_in_a_zip_and_are_told(self, docs):
        os.mkfifo(docs / "pipe")

        told = done("archive", "docs", "--json").json
        assert told["left_out"] == {"a named pipe, for which zip has no place": 1}
        assert "docs/pipe" in names_in(archive("docs", "-o", "with-pipe.tar"))

    def test_a_name_that_is_not_utf_8_is_escaped_in_a_zip_and_told(self, docs):
        (docs / os.fsdecode(b"caf\xe9")).write_text("coffee")

        result = done("archive", "docs", "-o", "x.zip")
        assert r"docs/caf\xe9" in names_in(docs.parent / "x.zip")
        assert "1 name is not UTF-8, and escaped in a zip:" in result.err

    def test_of_two_names_that_become_one_the_second_is_not_saved_which_is_told(self, docs):
        (docs / os.fsdecode(b"caf\xe9")).write_text("coffee")
        (docs / r"caf\xe9").write_text("a backslash")

        result = run("archive", "docs", "-o", "x.zip")
        assert result.status == 3
        assert "its name, escaped, is that of another one" in result.err

    def test_very_long_names_fit(self, docs):
        (docs / ("n" * 255)).write_text("long")

        made = archive(docs / ("n" * 255))
        assert names_in(made) == ["n" * 255]
        assert len(made.name) < 255

    def test_times_that_dos_does_not_know(self, docs):
        for name, seconds in {"1901": -(2**31), "1979": 283_996_800, "2200": 7_258_118_400}.items():
            (docs / name).touch()
            os.utime(docs / name, (seconds, seconds))
        made = archive("docs")

        years = {one.filename: one.date_time[0] for one in zipfile.ZipFile(made).infolist()}
        assert years["docs/1901"] == years["docs/1979"] == 1980
        assert years["docs/2200"] == 2107
        out = docs.parent / "out"
        subprocess.run(["unzip", "-q", made, "-d", out], check=True)
        assert (out / "docs" / "1979").stat().st_mtime == 283_996_800

    def test_a_large_file_of_several_pieces(self, docs):
        content = os.urandom(9 << 20) + bytes(20 << 20)
        (docs / "large").write_bytes(content)

        made = archive("docs")
        with zipfile.ZipFile(made) as opened:
            assert opened.read("docs/large") == content


class TestOwnOutput:
    @pytest.mark.parametrize("form", ["zip", "tar.gz"])
    def test_an_archive_is_not_in_itself(self, docs, form):
        first = archive(docs, "-o", docs / f"self.{form}")
        again = archive(docs, "-o", docs / f"self.{form}", "--yes")

        assert first == again
        assert not [name for name in names_in(again) if "self" in name]
        assert leftovers(docs) == []

    def test_nor_is_an_encrypted_one(self, docs, key_file):
        made = archive(docs, "-o", docs / "self.tar.gz.enc", "--encrypt")
        again = archive(docs, "-o", docs / "self.tar.gz.enc", "--encrypt", "--yes")

        assert made == again
        assert "self" not in done("ls", again).out

    def test_a_store_in_the_source_is_left_out(self, docs):
        for name in ("one", "two"):
            told = done("archive", docs, "-s", docs / "store", "--name", name, "--json").json

        assert "docs/store/one.zip" not in names_in(Path(told["files"][0]))

    def test_a_source_is_not_replaced_by_an_archive_of_itself(self, docs):
        (docs / "x.zip").write_text("precious")

        result = run("archive", docs / "x.zip", "-o", docs / "x.zip", "--yes")
        assert result.status == 2
        assert "is where the archive would go" in result.err
        assert (docs / "x.zip").read_text() == "precious"


class TestNames:
    def test_a_name_in_place_of_source_and_time(self, docs):
        assert archive("docs", "--name", "friday").name == "friday.zip"
        assert archive("docs", "--name", "friday.tar.gz").name == "friday.tar.gz"

    def test_a_directory_to_write_to(self, docs, tmp_path):
        (tmp_path / "out").mkdir()

        assert archive("docs", "-o", "out").parent == tmp_path / "out"
        assert archive("docs", "-o", "out/", "--name", "x") == tmp_path / "out" / "x.zip"

    def test_into_a_store_and_beside_it_into_a_file(self, docs, store):
        only = done("archive", "docs", "-s", store, "--name", "x", "--json").json["files"]
        both = done("archive", "docs", "-s", store, "-o", "y.zip", "--json").json["files"]

        assert only == [str(store / "x.zip")]
        assert both == [str(docs.parent / "y.zip"), str(store / "y.zip")]
        assert (store / "y.zip").read_bytes() == (docs.parent / "y.zip").read_bytes()

    def test_a_format_that_is_not_known_becomes_a_zip_which_is_told(self, docs):
        by_word = done("archive", "docs", "--format", "rar", "--name", "x")
        by_name = done("archive", "docs", "-o", "x.rar")

        for result, name in ((by_word, "x.zip"), (by_name, "x.rar")):
            assert "unsupported format rar: made a zip\n" in result.err
            assert zipfile.is_zipfile(docs.parent / name)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--format", "zip", "-o", "x.tar.gz"], "x.tar.gz is the name of a tar.gz"),
            (["--format", "rar", "-o", "x.tar.gz"], "x.tar.gz is the name of a tar.gz"),
            (["--name", "a/b"], "cannot be the name of an archive"),
            (["--name", ""], "cannot be the name of an archive"),
            (["--name", ".."], "cannot be the name of an archive"),
            (["--name", "x", "-o", "y.zip"], "leave one of them out"),
            (["-o", "-"], "has to be a file"),
            (["-o", "nowhere/x.zip"], "there is no directory"),
            (["-o", "x.zip.enc"], "add --encrypt"),
            (["--exclude", "["], "["),
            (["-s", "store", "--name", "a b"], "cannot be the name of a stored file"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, docs, options, message):
        result = run("archive", "docs", *options)

        assert result.status == 2
        assert message in result.err
        assert list(docs.parent.iterdir()) == [docs]

    def test_a_current_directory_that_has_been_removed(self, docs, tmp_path, monkeypatch):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()

        end = run("archive", docs)

        assert end.status == 2
        assert "the current directory does not exist any more" in end.err

    def test_a_source_that_does_not_exist(self, docs):
        result = run("archive", "dosc")

        assert result.status == 1
        assert "dosc: No such file or directory" in result.err


class TestWhatExists:
    def test_nobody_to_ask_leaves_it_alone(self, docs, tmp_path):
        (tmp_path / "x.zip").write_text("precious")

        result = run("archive", "docs", "-o", "x.zip")
        assert result.status == 2
        assert "this would replace" in result.err
        assert "add --yes" in result.err
        assert (tmp_path / "x.zip").read_text() == "precious"

    def test_with_yes_it_is_replaced(self, docs, tmp_path):
        (tmp_path / "x.zip").write_text("old")

        done("archive", "docs", "-o", "x.zip", "--yes")
        assert zipfile.is_zipfile(tmp_path / "x.zip")

    @pytest.mark.parametrize(("typed", "status"), [(b"n\n", 1), (b"y\n", 0)])
    def test_a_person_is_asked(self, docs, tmp_path, typed, status):
        (tmp_path / "x.zip").write_text("old")

        found, screen = run_on_terminal("archive", "docs", "-o", "x.zip", typed=typed)
        assert found == status, screen
        assert "replace" in screen
        assert zipfile.is_zipfile(tmp_path / "x.zip") is (status == 0)

    def test_a_directory_or_a_device_is_never_replaced(self, docs, tmp_path):
        os.mkfifo(tmp_path / "x.zip")

        result = run("archive", "docs", "-o", "x.zip", "--yes")
        assert result.status == 2
        assert "no regular file" in result.err


class TestEncrypted:
    def test_it_is_a_snapshot_that_all_commands_know(self, docs, tmp_path, key_file):
        made = archive("docs", "--encrypt")
        done("restore", made, "--target", tmp_path / "out")

        assert re.fullmatch(rf"docs{STAMP}\.tar\.xz\.enc", made.name)
        assert (tmp_path / "out" / str(docs)[1:] / "ä").read_text() == "umlaut"
        assert done("verify", made).status == 0
        assert made.stat().st_mode & 0o777 == 0o600

    def test_a_zip_is_not_to_be_had_and_that_is_told(self, docs, key_file):
        result = done("archive", "docs", "--encrypt", "-o", "x.zip")

        assert "an encrypted archive holds no zip: made a tar.xz" in result.err
        assert (docs.parent / "x.tar.xz.enc").exists()

    def test_a_new_key_is_made_and_told(self, docs, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_KEY_FILE", "")

        result = done("archive", "docs", "--encrypt", "--format", "tar.zst", "--name", "x")
        assert "a new key has been made" in result.err
        assert "ä" in done("ls", docs.parent / "x.tar.zst.enc").out

    def test_without_the_option_no_key_is_needed_or_made(self, docs, private_home):
        done("archive", "docs")

        assert not (private_home / "auto-backup-key").exists()

    def test_in_a_store_it_is_not_listed_as_a_snapshot_of_a_job(self, docs, store, key_file):
        made = archive("docs", "--encrypt", "-s", store)

        assert made.parent == store
        assert done("snapshots", "-s", store, "--json").json == []


class TestTelling:
    def test_a_plan_changes_nothing(self, docs):
        result = done("archive", "docs", "-n", "--exclude", "*.txt")

        assert result.lines[0] == "would save 6 entries (2 files, 16 B)"
        assert "nothing has been changed" in result.out
        assert list(docs.parent.iterdir()) == [docs]

    def test_a_plan_says_what_would_be_replaced(self, docs, tmp_path):
        (tmp_path / "x.zip").touch()

        assert "this would replace" in done("archive", "docs", "-o", "x.zip", "-n").err

    def test_in_json(self, docs):
        told = done("archive", "docs", "-o", "x.tar.gz", "--json").json

        assert told["files"] == [str(docs.parent / "x.tar.gz")]
        assert (told["format"], told["encrypted"], told["snapshot"]) == ("tar.gz", False, None)
        assert told["size"] == (docs.parent / "x.tar.gz").stat().st_size
        assert (told["entries"], told["source_files"], told["problems"]) == (7, 3, [])

    def test_quiet_says_nothing(self, docs):
        result = done("archive", "docs", "-q")

        assert (result.out, result.err) == ("", "")

    def test_the_log_has_its_start_and_its_end(self, docs, private_home):
        done("archive", "docs", "-o", "x.zip")

        lines = (private_home / "auto-backup-state" / "backup.log").read_text().splitlines()
        start, end = map(json.loads, lines)
        assert (start["action"], start["event"]) == ("archive", "start")
        assert start["files"] == [str(docs.parent / "x.zip")]
        assert (end["event"], end["status"], end["exit_status"]) == ("end", "done", 0)

    def test_a_large_file_that_changes_is_told_once(self, docs):
        (docs / "big").write_bytes(b"x" * 100_000_000)
        with start("archive", docs, "-o", "big.zip", "--json") as process:
            until = time.monotonic() + 30
            while not any(Path().glob(".big.zip.*")) and time.monotonic() < until:
                time.sleep(0.005)
            with (docs / "big").open("ab") as file:
                file.write(b"more")
            out = process.communicate(timeout=60)[0]

        told = [one["reason"] for one in json.loads(out)["problems"]]
        assert (process.returncode, told) == (3, ["changed while it was read"])

    @pytest.mark.skipif(not IS_ROOT, reason="needs a second user")
    def test_what_cannot_be_read_is_told_and_the_rest_is_there(self, docs, open_dir, as_nobody):
        target = open_dir / "x"
        shutil.copytree(docs, target / "docs", symlinks=True)
        (target / "docs" / "secret").write_text("for root")
        (target / "docs" / "secret").chmod(0o600)
        (target / "state").mkdir()
        for one in (target, target / "state"):
            one.chmod(0o777)
        with as_nobody():
            result = run(
                *("archive", target / "docs", "-o", target / "x.zip"),
                *("--state-dir", target / "state"),
            )

        assert result.status == 3
        assert "1 path was not saved, or not whole:" in result.err
        assert "secret: Permission denied" in result.err
        assert "docs/a.txt" in names_in(target / "x.zip")
        assert "docs/secret" not in names_in(target / "x.zip")

    def test_progress_is_drawn_on_a_terminal(self, docs):
        (docs / "large").write_bytes(os.urandom(3 << 20))

        status, screen = run_on_terminal("archive", "docs", "-o", "x.zip")
        assert status == 0
        assert "finishing" in screen


class TestWhatOthersSay:
    @pytest.mark.parametrize(
        "command",
        [["unzip", "-tqq"], ["zipinfo", "-h"], ["bsdtar", "-tf"], ["7z", "t"], ["zip", "-T"]],
    )
    def test_of_a_zip(self, tree, tmp_path, command):
        if command[0] == "7z" and not shutil.which("7z"):
            pytest.skip("7z is not installed")
        needs(shutil.which(command[0]), f"{command[0]} is not installed")
        (tree / "closed").chmod(0o600)
        done("archive", tree, "-o", tmp_path / "x.zip")

        result = subprocess.run([*command, tmp_path / "x.zip"], capture_output=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert b"warning" not in result.stderr.lower()

    @pytest.mark.parametrize("form", [one for one in Format if one is not Format.ZIP])
    @pytest.mark.parametrize("command", ["tar", "bsdtar"])
    def test_of_a_tar(self, tree, tmp_path, command, form):
        needs(shutil.which(command), f"{command} is not installed")
        (tree / "closed").chmod(0o600)
        done("archive", tree, "-o", tmp_path / f"x.{form}")

        listed = [command, "-tf", tmp_path / f"x.{form}"]
        result = subprocess.run(listed, capture_output=True, check=False)
        # GNU tar does not know what says that names are bytes, and takes them as bytes.
        remarks = {line for line in result.stderr.splitlines() if b"hdrcharset" not in line}
        assert (result.returncode, remarks) == (0, set())
        assert len(result.stdout.splitlines()) == len(list(tree.rglob("*"))) + 1

    def test_a_zip_is_read_from_a_pipe_too(self, docs):
        (docs / "large").write_bytes(os.urandom(9 << 20))
        made = archive("docs")

        with made.open("rb") as file:
            command = ["bsdtar", "-xOf", "-", "docs/large"]
            found = subprocess.run(command, stdin=file, capture_output=True, check=True).stdout
        assert found == (docs / "large").read_bytes()

    def test_local_time_stands_in_a_zip_as_everybody_has_it(self, docs, monkeypatch):
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        try:
            os.utime(docs / "a.txt", (0, 1_700_000_000))
            made = archive("docs")
        finally:
            monkeypatch.undo()
            time.tzset()

        found = zipfile.ZipFile(made).getinfo("docs/a.txt")
        assert found.date_time == (2023, 11, 15, 7, 13, 20)
