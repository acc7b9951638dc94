from __future__ import annotations

import json
import os
import shutil
import stat
from datetime import datetime

import pytest
from cryptography.fernet import Fernet

from tests.cli import done, load_all, run, run_on_terminal, run_process, start, take
from tests.lister import listing

EVIL = "evil\x1b[31mred\x07\nsecond line\r"


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


@pytest.fixture
def snapshot(tree, store):
    """Return the file of a snapshot of the sample tree."""
    return take("--source", tree, "--store", store)


def damage(path, at=3):
    content = bytearray(path.read_bytes())
    content[at : at + 8] = b"\0" * 8
    path.write_bytes(content)


class TestSnapshots:
    def test_a_line_for_each(self, tree, store, snapshot):
        take("--source", tree, "--store", store, "--compression", "zstd")

        head, first, second = done("snapshots", "-s", store).lines

        assert " ".join(head.split()) == "id time host job kind archive entries size proven state"
        assert first.split()[0][:4] == snapshot.name.split("-")[2]
        assert first.endswith("  ok")
        assert "tar.zst" in second

    def test_a_narrow_terminal_gets_whole_lines(self, tree, store):
        job = "Documents-and-more"
        take("--source", tree, "--store", store, "--job", job, "--tag", "monthly")

        narrow = run_on_terminal("snapshots", "-s", store)[1]
        wide = run_on_terminal("snapshots", "-s", store, columns=160)[1]

        assert any(job in one and "checksum now" in one for one in narrow.splitlines())
        assert "entries" not in narrow
        assert "entries" in wide
        assert "monthly" in wide

    def test_what_lacks_some_of_its_source_is_told(self, open_dir, as_nobody):
        (open_dir / "tree").mkdir()
        (open_dir / "tree" / "closed").touch(0)
        options = [f"--{name}={open_dir / name}" for name in ("store", "key-file", "state-dir")]
        load_all()

        with as_nobody():
            done("key", "new", *options)
            run("--now", "--source", open_dir / "tree", *options)
            told = done("snapshots", *options)

        assert told.lines[1].endswith("  ok, 1 error")

    def test_in_json(self, tree, store, snapshot):
        (one,) = done("snapshots", "-s", store, "--json").json

        assert (one["host"], one["job"], one["kind"]) == ("testhost", "source", "full")
        assert (one["sequence"], one["archive"], one["state"]) == (1, "tar.xz", "ok")
        assert one["entries"] == len(listing(tree))
        assert one["size"] == snapshot.stat().st_size
        assert one["sources"] == [str(tree)]
        assert one["name"] == str(snapshot.relative_to(store))
        assert datetime.fromisoformat(one["time"]).tzinfo is not None

    def test_host_and_job_choose(self, tree, store, snapshot):
        take("--source", tree, "--store", store, "--job", "other")
        take("--source", tree, "--store", store, "--host", "elsewhere")

        def count(*options):
            return len(done("snapshots", "-s", store, "--json", *options).json)

        assert count() == 3
        assert count("--job", "source") == 2
        assert count("--host", "testhost") == 2
        assert count("--host", "testhost", "--job", "source") == 1

    def test_an_empty_store_has_none_which_is_no_error(self, tmp_path):
        result = done("snapshots", "-s", tmp_path)

        assert (result.out, result.err) == (
            "",
            f"auto-backup: there is no snapshot in {tmp_path}\n",
        )
        assert done("snapshots", "-s", tmp_path, "--json").json == []

    def test_none_of_a_job_is_told_as_that(self, store, snapshot):
        assert "no snapshot of job nope in" in done("snapshots", "-s", store, "--job", "nope").err

    def test_a_store_that_is_not_there_is_told_as_that(self, tmp_path):
        assert "there is no such directory" in done("snapshots", "-s", tmp_path / "nope").err

    def test_without_the_key_they_are_sealed(self, store, snapshot, key_file):
        key_file.unlink()

        result = done("snapshots", "-s", store)

        assert result.lines[1].endswith("  sealed")
        assert f"not opened: there is no key file at {key_file}" in result.err

    def test_a_key_that_others_can_read_is_told_as_that(self, store, snapshot, key_file):
        key_file.chmod(0o644)

        result = done("snapshots", "-s", store)

        assert result.lines[1].endswith("  sealed")
        assert "can be read by others" in result.err

    def test_with_another_key_they_are_sealed_for_another(self, store, snapshot, key_file):
        key_file.write_bytes(Fernet.generate_key())

        result = done("snapshots", "-s", store)

        assert result.lines[1].endswith("  sealed for another key")

    def test_a_damaged_one_is_told_between_the_others(self, tree, store, snapshot):
        take("--source", tree, "--store", store)
        damage(snapshot)
        snapshot.with_name(snapshot.name + ".keys").unlink()

        states = [one["state"] for one in done("snapshots", "-s", store, "--json").json]

        assert sorted(state.partition(":")[0] for state in states) == ["damaged", "ok"]

    def test_one_that_is_cut_is_damaged(self, store, snapshot):
        os.truncate(snapshot, snapshot.stat().st_size - 1)

        (one,) = done("snapshots", "-s", store, "--json").json

        assert one["state"].startswith("damaged: ")


class TestLs:
    def test_every_path_on_a_line(self, tree, store, snapshot):
        lines = done("ls", "latest", "-s", store).lines

        assert len(lines) == len(listing(tree))
        assert lines[0] == str(tree)
        assert f"{tree}/docs/deep/er/random" in lines

    def test_names_cannot_act_upon_a_terminal(self, source, store):
        (source / EVIL).write_text("x")
        (source / "link").symlink_to(EVIL)
        (source / os.fsdecode(b"latin-\xe9")).touch()
        take("--source", source, "--store", store)

        for options in ([], ["-l"], ["--json"]):
            result = done("ls", "latest", "-s", store, *options)

            assert len(result.lines) == 4
            assert all(one.isprintable() for one in result.out.replace("\n", ""))
        assert (
            f"{source}/evil\\x1b[31mred\\x07\\nsecond line\\r"
            in done("ls", "latest", "-s", store).lines
        )
        assert f"{source}/latin-\\xe9" in done("ls", "latest", "-s", store).lines

    def test_paths_choose_and_bring_what_is_below(self, tree, store, snapshot):
        lines = done("ls", "latest", tree / "docs", f"{tree}/old", "-s", store).lines

        assert lines[0] == f"{tree}/docs"
        assert lines[-1] == f"{tree}/old"
        assert len(lines) == 1 + len(listing(tree / "docs"))

    def test_a_directory_above_the_sources_will_do(self, tree, store, snapshot):
        everything = done("ls", "latest", "-s", store).out

        assert done("ls", "latest", tree.parent, "-s", store).out == everything
        assert done("ls", "latest", "/", "-s", store).out == everything

    def test_a_path_that_is_not_there_is_an_error_behind_those_that_are(
        self, tree, store, snapshot
    ):
        result = run("ls", "latest", tree / "old", "/nope", "-s", store)

        assert result.status == 16
        assert result.lines == [f"{tree}/old"]
        assert "does not hold /nope" in result.err
        assert "hint: paths are told whole" in result.err

    def test_a_long_line_tells_what_ls_tells(self, tree, store, snapshot):
        lines = done("ls", "latest", "-l", "-s", store).lines

        (script,) = [line for line in lines if line.endswith("/script")]
        (link,) = [line for line in lines if line.endswith("/link -> docs/plan.txt")]
        (pipe,) = [line for line in lines if line.endswith("/pipe")]
        assert script.startswith("-rwsr-xr-x ")
        assert f" {(tree / 'script').stat().st_size} " in script
        assert link.startswith("lrwxrwxrwx ")
        assert pipe.startswith("prw-r----- ")
        assert lines == done("ls", "latest", "--long", "-s", store).lines

    def test_in_json_each_line_is_an_object(self, tree, store, snapshot):
        entries = [json.loads(line) for line in done("ls", "latest", "--json", "-s", store).lines]

        by_path = {entry["path"]: entry for entry in entries}
        rows = listing(tree)
        plan = by_path[f"{tree}/docs/plan.txt"]
        assert len(entries) == len(rows)
        assert (plan["type"], plan["size"]) == ("file", rows[b"docs/plan.txt"].size)
        assert plan["sha256"] == rows[b"docs/plan.txt"].sha256
        assert plan["mtime_ns"] == rows[b"docs/plan.txt"].mtime_ns
        assert by_path[f"{tree}/script"]["mode"] == "4755"
        assert by_path[f"{tree}/link"]["target"] == "docs/plan.txt"

    def test_a_reader_who_has_seen_enough_ends_it_quietly(self, source, store):
        for number in range(3000):
            (source / f"{number:080}").touch()
        take("--source", source, "--store", store)

        with start("ls", "latest", "-s", store) as process:
            first = process.stdout.readline()
            process.stdout.close()
            err = process.stderr.read()

        assert first.decode() == f"{source}\n"
        assert (process.returncode, err) == (0, b"")


class TestWhichSnapshot:
    @pytest.fixture
    def jobs(self, tree, store):
        """Take a snapshot for each of two jobs of two hosts."""
        return {
            (host, job): take("--source", tree, "-s", store, "--host", host, "--job", job)
            for host in ("testhost", "elsewhere")
            for job in ("docs", "photos")
        }

    def taken_as(self, report):
        return report["name"].split("/")[0], report["name"].split("/")[1]

    def verified(self, *arguments):
        return self.taken_as(done("verify", *arguments, "--json").json[0])

    def test_latest_among_several_jobs_is_refused_with_their_names(self, store, jobs):
        result = run("ls", "latest", "-s", store)

        assert result.status == 10
        assert "testhost/docs" in result.err
        assert "elsewhere/photos" in result.err

    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            (["docs"], ("testhost", "docs")),
            (["elsewhere/docs"], ("elsewhere", "docs")),
            (["docs", "--host", "elsewhere"], ("elsewhere", "docs")),
            (["latest", "--job", "photos"], ("testhost", "photos")),
            (["latest", "--job", "photos", "--host", "elsewhere"], ("elsewhere", "photos")),
        ],
    )
    def test_host_and_job_choose_it(self, arguments, meant, store, jobs):
        assert self.verified(*arguments, "-s", store) == meant

    def test_the_file_of_a_snapshot_needs_no_store(self, jobs, tmp_path):
        path = jobs["elsewhere", "photos"]
        shutil.copy(path, tmp_path / "alone.enc")

        listed = done("ls", path).out

        assert done("ls", tmp_path / "alone.enc").out == listed

    @pytest.mark.parametrize(
        "arguments",
        [
            ["nope"],
            ["docs", "--host", "nowhere"],
            ["docs", "--job", "photos"],
            ["latest", "--job", "nope"],
            ["latest", "--host", "testhost"],
            ["docs~1"],
            ["docs@1999"],
            ["./no-such-file.enc"],
        ],
    )
    def test_what_is_not_there_or_not_clear_gives_status_10(self, arguments, store, jobs):
        for command in ("ls", "verify", "decrypt"):
            result = run(command, *arguments, "-s", store)

            assert result.status == 10
            assert result.out == ""
            assert "error: " in result.err


class TestCat:
    def test_the_bytes_of_a_file(self, tree, store, snapshot):
        path = tree / "docs" / "deep" / "er" / "random"

        result = done("cat", "latest", path, "-s", store)

        assert result.raw == path.read_bytes()
        assert result.err == ""

    def test_a_large_one(self, source, store):
        (source / "large").write_bytes(os.urandom(20 * 1024 * 1024))
        take("--source", source, "--store", store)

        result = run_process("cat", "latest", source / "large", "-s", store)

        assert result.raw == (source / "large").read_bytes()

    @pytest.mark.parametrize(
        ("name", "refusal"),
        [
            ("docs", (2, "is not a file, but a directory")),
            ("link", (2, "is not a file, but a symbolic link")),
            ("pipe", (2, "is not a file, but a FIFO")),
            ("nope", (16, "does not hold")),
        ],
    )
    def test_what_is_no_file_is_refused(self, name, refusal, snapshot, tree, store):
        result = run("cat", "latest", tree / name, "-s", store)

        assert (result.status, result.out) == (refusal[0], "")
        assert refusal[1] in result.err

    def test_a_file_without_its_content_is_refused_with_the_reason(self, open_dir, as_nobody):
        tree = open_dir / "tree"
        tree.mkdir()
        (tree / "closed").write_text("secret")
        (tree / "closed").chmod(stat.S_IWUSR)
        options = [f"--{name}={open_dir / name}" for name in ("store", "key-file", "state-dir")]
        load_all()
        with as_nobody():
            done("key", "new", *options)
            run("--now", "--source", tree, *options)

            result = run("cat", "latest", tree / "closed", *options)

        assert result.status == 16
        assert result.out == ""
        assert "Permission denied" in result.err
