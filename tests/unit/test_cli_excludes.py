from __future__ import annotations

import os
import re
import socket

import pytest

from backup.cli.excluding import collect_excludes, remarks
from backup.sources.roots import prepare_roots
from tests.cli import done, run, run_on_terminal
from tests.unit.test_excludes import make


@pytest.fixture
def tree(source):
    """Return a directory with something for every rule to leave out."""
    make(source, "build/keep", "docs/text", "marked/.nobackup", "marked/a", "tagged/a", "a.log")
    make(source, "keep.log")
    (source / "tagged" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55")
    (source / "large").write_bytes(bytes(5000))
    return source


@pytest.fixture
def options(tree, tmp_path):
    """Return every option that leaves something out."""
    file = tmp_path / "excludes"
    file.write_text("# made by a test\nbuild/\n")
    return [
        *("--exclude", "*.log", "--exclude", "!keep.log", "--exclude", "!keep"),
        *("--exclude-file", file, "--exclude-if-present", ".nobackup", "--exclude-caches"),
        *("--exclude-larger-than", "4K", "--one-file-system"),
    ]


def saved(tree, store):
    lines = done("ls", "latest", "-s", store).lines
    return [line.removeprefix(f"{tree}/") for line in lines][1:]


class TestBackup:
    def test_each_option_leaves_out_what_it_says(self, tree, store, options, key_file):
        result = done("--now", "--source", tree, "--store", store, *options)

        assert saved(tree, store) == [
            *("docs", "docs/text", "keep.log", "marked", "marked/.nobackup"),
            *("tagged", "tagged/CACHEDIR.TAG"),
        ]
        assert "  left out  5 paths; -v tells which" in result.lines

    def test_verbose_tells_each_path_with_its_reason(self, tree, store, options, key_file):
        result = done("--now", "--source", tree, "--store", store, "-v", *options)

        told = [line for line in result.err.splitlines() if "left out:" in line]
        assert [line.partition(f"{tree}/")[2] for line in told] == [
            "a.log: excluded by *.log",
            "build: excluded by build/",
            "large: larger than 4,096 bytes",
            "marked: contents: it holds .nobackup",
            "tagged: contents: its CACHEDIR.TAG says that it is a cache",
        ]
        assert "  left out  5 paths" in result.lines

    def test_json_has_counts_and_paths(self, tree, store, options, key_file):
        report = done("--now", "--source", tree, "--store", store, "--json", *options).json

        assert report["left_out"]["excluded by *.log"] == 1
        assert sum(report["left_out"].values()) == len(report["skipped"]) == 5
        assert report["skipped"][0] == {"path": f"{tree}/a.log", "reason": "excluded by *.log"}

    def test_what_was_left_out_is_no_reason_to_fail(self, tree, store, key_file):
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()  # noqa: PTH109 - a socket's path may have 107 bytes only
            os.chdir(tree)
            listener.bind("socket")
            os.chdir(here)
            result = done("--now", "--source", tree, "--store", store, "--exclude", "build")

        assert "  left out  2 paths; -v tells which" in result.lines

    def test_patterns_of_options_come_after_those_of_files(self, tree, store, tmp_path, key_file):
        (tmp_path / "excludes").write_text("*.log\n*/\n")
        file = ["--exclude-file", tmp_path / "excludes"]

        done("--now", "--source", tree, "-s", store, "--exclude", "!a.log", *file)

        assert saved(tree, store) == ["a.log", "large"]

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            (("--exclude", "a["), 'the pattern "a[" (--exclude) is not complete'),
            (("--exclude-file", "/no/such"), "cannot read the exclude file /no/such: No such file"),
            (("--exclude-larger-than", "3 apples"), "'3 apples' is not a size"),
            (("--exclude-if-present", "a/b"), "'a/b' is not the name of a file in a directory"),
            (("--tag", "two words"), "'two words' cannot be the name of a tag"),
        ],
    )
    def test_what_cannot_be_used_is_refused_before_anything(
        self, said, told, tree, store, key_file
    ):
        result = run("--now", "--source", tree, "--store", store, *said)

        assert result.status == 2
        assert told in result.err
        assert "hint: " in result.err or "No such file" in result.err
        assert not store.exists()

    def test_the_line_of_a_file_is_named(self, tree, store, tmp_path, key_file):
        file = tmp_path / "excludes"
        file.write_bytes(b"*.log\n\n\xff\n")

        result = run("--now", "--source", tree, "--store", store, "--exclude-file", file)

        assert result.status == 2
        assert f'the pattern "\\xff" ({file}:3) is not UTF-8' in result.err

    def test_the_time_left_is_that_of_what_is_saved(self, tree, store, key_file):
        (tree / "huge").write_bytes(bytes(64 << 20))

        _, told = run_on_terminal(
            "--now",
            "--source",
            tree,
            "--store",
            store,
            "--exclude",
            "huge",
            "--compression",
            "none",
        )

        assert re.search(r"([0-9.]+ KiB) of \1  finishing", told)


class TestDryRun:
    def test_it_counts_what_would_be_saved_and_tells_the_reasons(self, tree, store, options):
        result = done("--now", "--source", tree, "--store", store, "-n", *options)

        assert result.lines == [
            "would save 8 entries (4 files, 55 B)",
            f"  from      {tree}",
            f"  to        {store}",
            "  left out  5 paths; -v tells which",
            "          1  excluded by *.log",
            "          1  excluded by build/",
            "          1  larger than 4,096 bytes",
            "          1  contents: it holds .nobackup",
            "          1  contents: its CACHEDIR.TAG says that it is a cache",
            "nothing has been changed",
        ]
        assert not store.exists()

    def test_it_saves_as_much_as_it_said(self, tree, store, options, key_file):
        first = done("--now", "--source", tree, "--store", store, "-n", "--json", *options).json
        second = done("--now", "--source", tree, "--store", store, "--json", *options).json

        assert first["bytes"] == second["source_bytes"]
        for name in ("entries", "source_files", "left_out", "skipped", "problems"):
            assert first[name] == second[name]

    def test_verbose_tells_each_path(self, tree, store, options):
        result = done("--now", "--source", tree, "--store", store, "-n", "-v", *options)

        assert f"left out: {tree}/build: excluded by build/" in result.err

    def test_a_store_within_the_source_is_left_out(self, tree, key_file):
        done("--now", "--source", tree, "--store", tree / "store")

        result = done("--now", "--source", tree, "--store", tree / "store", "-n", "-v")

        assert f"left out: {tree}/store: own store" in result.err

    def test_reasons_beyond_the_most_frequent_are_summed_up(self, tree, store):
        many = [option for name in "abcdefgh" for option in ("--exclude", name)]
        make(tree, *"abcdefgh", "docs/a")

        result = done("--now", "--source", tree, "--store", store, "-n", *many)

        assert result.lines[4] == "          4  excluded by a"
        assert result.lines[-2] == "          3  for other reasons"

    def test_what_cannot_be_read_is_told(self, open_dir, as_nobody, store, private_home):
        make(open_dir, "closed/a", "z")
        (open_dir / "closed").chmod(0)
        run("--version")

        with as_nobody():
            result = done("--now", "--source", open_dir, "--store", open_dir / "store", "-n")

        assert "1 path was found that cannot be read:" in result.err
        assert f"{open_dir}/closed: Permission denied" in result.err


class TestRemarks:
    def told(self, pattern, *roots):
        excludes = collect_excludes(
            exclude=[pattern],
            exclude_file=None,
            if_present=None,
            caches=False,
            larger_than=None,
            one_file_system=False,
        )
        return list(remarks(excludes, prepare_roots(roots)))

    def test_a_pattern_that_fits_a_source_does_not_leave_it_out(self, tree):
        assert self.told("source", tree) == [
            f'{tree} is a source, which --exclude "source" does not leave out'
        ]

    def test_a_pattern_with_the_path_of_its_source_is_told_what_to_write(self, tree):
        assert self.told(f"{tree}/docs/", tree) == [
            f'--exclude "{tree}/docs/" begins at the source {tree}, not at /; write /docs'
        ]
        assert self.told(f"{tree}", tree) == [
            f'--exclude "{tree}" begins at the source {tree}, not at /; which is never left out'
        ]

    def test_what_works_as_it_is_meant_is_no_remark(self, tree):
        assert self.told("/docs", tree) == []
        assert self.told("/etc/passwd", "/") == []
        assert self.told(f"{tree}-2/x", tree) == []

    def test_backup_and_why_tell_them(self, tree, store):
        for call in (["--now", "-n"], ["why", tree]):
            result = done(*call, "--source", tree, "-s", store, "--exclude", "source")

            assert "does not leave out" in result.err


class TestWhy:
    def test_each_path_has_a_line_with_the_rule_and_its_origin(
        self, tree, store, options, tmp_path
    ):
        names = [
            *("docs/text", "a.log", "keep.log", "build", "build/keep", "large", "marked"),
            *("marked/a", "marked/.nobackup", "tagged/a", "absent"),
        ]

        result = done("why", *(tree / name for name in names), "--source", tree, *options)

        where = f'{tmp_path}/excludes:2 "build/"'
        tag = "its CACHEDIR.TAG says that it is a cache"
        late = '--exclude "!keep" comes too late, as nothing in that directory is looked at'
        assert [line.removeprefix(f"{tree}/") for line in result.lines] == [
            "docs/text: saved",
            'a.log: not saved: excluded by --exclude "*.log"',
            'keep.log: saved, as --exclude "!keep.log" says',
            f"build: not saved: excluded by {where}",
            f"build/keep: not saved: in {tree}/build: excluded by {where}; {late}",
            "large: not saved: larger than 4,096 bytes",
            "marked: saved, but not what is in it: it holds .nobackup",
            f"marked/a: not saved: in {tree}/marked: it holds .nobackup",
            "marked/.nobackup: saved",
            f"tagged/a: not saved: in {tree}/tagged: {tag}",
            "absent: not saved: does not exist",
        ]

    def test_json_has_an_object_for_each(self, tree, options):
        keep, log = done(
            "why", tree / "build/keep", tree / "keep.log", "--source", tree, "--json", *options
        ).json

        assert (keep["saved"], keep["rule"], keep["at"]) == (False, "pattern", f"{tree}/build")
        assert keep["pattern"]["text"] == "build/"
        assert keep["pattern"]["origin"].endswith("excludes:2")
        assert keep["revived_by"] == {"text": "!keep", "origin": "--exclude"}
        assert (log["saved"], log["reason"], log["pattern"]) == (True, None, None)

    @pytest.mark.parametrize(
        ("path", "told"),
        [
            ("/proc/1", "not saved: in /proc: made by the kernel (proc)"),
            ("/proc", "saved, but not what is in it: made by the kernel (proc)"),
            ("/", "saved"),
        ],
    )
    def test_of_the_whole_machine(self, path, told):
        assert done("why", path, "--source", "/").lines == [f"{path}: {told}"]

    def test_what_lies_elsewhere_or_in_a_store(self, tree, key_file):
        store = tree / "store"
        done("--now", "--source", tree, "--store", store)

        result = done("why", "/etc/passwd", store / "x", "--source", tree, "--store", store)

        assert result.lines == [
            "/etc/passwd: not saved: not below any source",
            f"{store}/x: not saved: in {store}: own store",
        ]

    def test_a_socket(self, tree, monkeypatch):
        monkeypatch.chdir(tree)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")

            assert done("why", "socket", "--source", ".").lines == [
                f"{tree}/socket: not saved: socket"
            ]

    def test_what_may_not_be_listed(self, open_dir, as_nobody):
        make(open_dir, "closed/a")
        (open_dir / "closed").chmod(0)

        with as_nobody():
            paths = [open_dir / "closed", open_dir / "closed/a"]
            result = done("why", *paths, "--source", open_dir, "--store", open_dir / "store")

        assert result.lines == [
            f"{open_dir}/closed: saved, but not what is in it: Permission denied",
            f"{open_dir}/closed/a: not saved: in {open_dir}/closed: Permission denied",
        ]

    def test_a_path_is_found_as_it_is_written(self, tree, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "way").symlink_to(tree)
        (tree / "link").symlink_to("/etc/passwd")
        names = ["way/docs", "way", "way/link", "source/docs/../a.log", "source/docs/"]

        result = done("why", *names, "--source", "way")

        assert result.lines == [
            f"{tree / name}: saved" for name in ("docs", "", "link", "a.log", "docs")
        ]

    @pytest.mark.parametrize("call", [["why"], ["why", "/etc"], ["why", "--source", "/etc", "/x"]])
    def test_a_call_without_path_or_source_is_told_how(self, call):
        result = run(*call)

        assert result.status == 2
        assert "auto-backup why PATH... --source PATH..." in result.err


class TestTags:
    def test_they_are_shown_where_a_snapshot_has_some(self, tree, store, key_file):
        done("--now", "--source", tree, "--store", store)
        without = done("snapshots", "--store", store).lines
        done("--now", "--source", tree, "-s", store, *("--tag", "weekly", "--tag", "x.1"))

        header, first, second = done("snapshots", "--store", store).lines
        rows = done("snapshots", "--store", store, "--json").json

        assert "tags" not in without[0]
        assert "tags" in header
        assert "weekly, x.1" in second
        assert "weekly" not in first
        assert [row["tags"] for row in rows] == [[], ["weekly", "x.1"]]
