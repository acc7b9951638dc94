from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.errors import ConfigError, SourceError
from backup.locating import locate
from backup.manager import BackupManager, take_snapshot
from backup.manager.omissions import MOST_REMEMBERED, Omissions
from backup.manager.request import Problem
from backup.model import Entry, ExcludeRules
from backup.snapshot.end import EndRecord
from backup.sources.roots import prepare_roots
from backup.sources.rules import CACHE_SIGNATURE
from backup.sources.tree import Skipped, TreeWalker
from backup.storage import open_storage


def make(top, *paths):
    for path in paths:
        if path.endswith("/"):
            (top / path).mkdir(parents=True)
        else:
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text("text")


def walked(top, **rules):
    """Return the paths below ``top`` that are saved, and the reasons for all others."""
    root = os.fsencode(top).lstrip(b"/")
    saved, left_out = [], {}
    for one in TreeWalker(prepare_roots([top]), rules=ExcludeRules(**rules)):
        path = os.fsdecode(one.path.removeprefix(root).lstrip(b"/"))
        if isinstance(one, Entry):
            saved.append(path)
        else:
            assert not one.is_error
            assert one.reason == one.rule.reason
            left_out[path] = one.reason
    return saved[1:], left_out


def first(top, rules):
    return next(iter(TreeWalker(prepare_roots([top]), rules=ExcludeRules(**rules))))


class TestPatterns:
    def test_an_excluded_directory_is_told_once_and_not_looked_into(self, open_dir, as_nobody):
        make(open_dir, "build/a", "build/b/c", "z")
        (open_dir / "build").chmod(0)

        with as_nobody():
            assert walked(open_dir, exclude=("build/",)) == (
                ["z"],
                {"build": "excluded by build/"},
            )

    def test_what_lies_below_an_excluded_directory_cannot_be_brought_back(self, source):
        make(source, "build/keep", "other/keep", "other/b")

        assert walked(source, exclude=("build", "b", "!keep")) == (
            ["other", "other/keep"],
            {"build": "excluded by build", "other/b": "excluded by b"},
        )

    def test_patterns_begin_at_each_source(self, tmp_path):
        make(tmp_path, "one/a", "one/x/a", "two/a")
        roots = prepare_roots([tmp_path / "one", tmp_path / "two"])

        items = list(TreeWalker(roots, rules=ExcludeRules(exclude=("/a",))))

        left_out = [item.path for item in items if isinstance(item, Skipped)]
        top = os.fsencode(tmp_path).lstrip(b"/")
        assert left_out == [top + b"/one/a", top + b"/two/a"]
        assert top + b"/one/x/a" in [item.path for item in items]

    def test_a_source_is_never_left_out(self, source):
        make(source, "source/a", "file")
        rules = {"exclude": ("source", "*.x"), "if_present": ("file",), "larger_than": 1}

        assert walked(source, **rules)[0] == []
        assert isinstance(first(source, rules), Entry)
        assert isinstance(first(source / "file", rules), Entry)

    def test_names_that_are_not_utf_8_are_matched(self, source):
        for name in (b"caf\xe9.log", b"\xff", b"a\nb.log"):
            Path(os.fsdecode(os.fsencode(source) + b"/" + name)).touch()

        saved, left_out = walked(source, exclude=("*.log",))

        assert saved == [os.fsdecode(b"\xff")]
        assert len(left_out) == 2

    @pytest.mark.parametrize("pattern", ["*.log", "b.log/"])
    def test_one_that_vanishes_is_no_error(self, source, pattern):
        make(source, "a", "b.log", "c")
        items = iter(TreeWalker(prepare_roots([source]), rules=ExcludeRules(exclude=(pattern,))))
        next(items)
        next(items)
        (source / "b.log").unlink()
        (source / "c").unlink()

        left_out, gone = items

        assert (left_out.reason, left_out.is_error) == (f"excluded by {pattern}", False)
        assert (gone.reason, gone.is_error) == ("vanished", True)


class TestMarkers:
    def test_a_directory_with_a_marker_keeps_only_that(self, source):
        make(source, "a/.nobackup", "a/b/c", "a/z", "b/c")

        assert walked(source, if_present=(".nobackup",)) == (
            ["a", "a/.nobackup", "b", "b/c"],
            {"a": "contents: it holds .nobackup"},
        )

    def test_a_marker_may_be_a_directory_which_goes_with_the_rest(self, source):
        make(source, "a/.git/config", "a/z")

        assert walked(source, if_present=(".git",))[0] == ["a"]

    def test_a_cache_keeps_only_its_tag(self, source):
        make(source, "a/b/c", "a/z")
        (source / "a" / "CACHEDIR.TAG").write_bytes(CACHE_SIGNATURE + b"\n# made by a test\n")

        saved, left_out = walked(source, caches=True)

        assert saved == ["a", "a/CACHEDIR.TAG"]
        assert left_out == {"a": "contents: its CACHEDIR.TAG says that it is a cache"}
        assert len(walked(source)[0]) == 5

    @pytest.mark.parametrize("kind", ["other text", "cut", "directory", "link", "pipe"])
    def test_what_is_not_a_true_tag_leaves_nothing_out(self, kind, source, tmp_path):
        make(source, "a/z")
        tag = source / "a" / "CACHEDIR.TAG"
        (tmp_path / "elsewhere").write_bytes(CACHE_SIGNATURE)
        {
            "other text": lambda: tag.write_bytes(b"x" + CACHE_SIGNATURE),
            "cut": lambda: tag.write_bytes(CACHE_SIGNATURE[:-1]),
            "directory": tag.mkdir,
            "link": lambda: tag.symlink_to(tmp_path / "elsewhere"),
            "pipe": lambda: os.mkfifo(tag),
        }[kind]()

        assert walked(source, caches=True) == (["a", "a/CACHEDIR.TAG", "a/z"], {})

    def test_a_tag_that_may_not_be_read_leaves_nothing_out(self, open_dir, as_nobody):
        make(open_dir, "a/z")
        (open_dir / "a" / "CACHEDIR.TAG").write_bytes(CACHE_SIGNATURE)
        (open_dir / "a" / "CACHEDIR.TAG").chmod(0)

        with as_nobody():
            assert walked(open_dir, caches=True)[0] == ["a", "a/CACHEDIR.TAG", "a/z"]


class TestSizes:
    def test_files_above_the_limit_are_left_out(self, source):
        make(source, "four", "dir/")
        (source / "five").write_text("12345")
        (source / "link").symlink_to("x" * 100)

        assert walked(source, larger_than=4) == (
            ["dir", "four", "link"],
            {"five": "larger than 4 bytes"},
        )


class TestReports:
    def test_the_rules_and_tags_are_kept_in_the_snapshot(self, source, store, make_request):
        make(source, "a.log", "b")
        rules = ExcludeRules(exclude=("*.log",), caches=True)
        storage = open_storage(store)
        request = make_request(source, rules=rules, tags=("weekly", "x.1"))

        report = take_snapshot(request, storage)

        record = locate(storage, report.name).open(request.identities).record
        assert isinstance(record, EndRecord)
        assert (record.rules, record.tags) == (rules, ("weekly", "x.1"))
        assert record.counts.entries == 2
        assert report.left_out.counts == (("excluded by *.log", 1),)
        assert [problem.path for problem in report.skipped] == [
            os.fsencode(source / "a.log").lstrip(b"/")
        ]

    def test_a_manager_takes_rules(self, source, store, key):
        make(source, "a.log", "b")
        manager = BackupManager(source, store, key, rules=ExcludeRules(exclude=("*.log",)))

        manager.create_snapshot()

        assert manager.last_report.counts.files == 1
        assert manager.last_report.left_out.total == 1

    def test_a_manager_refuses_rules_that_cannot_be_used_at_once(self, source, store, key):
        with pytest.raises(ConfigError, match=r'"a\["'):
            BackupManager(source, store, key, rules=ExcludeRules(exclude=("a[",)))

    def test_bad_rules_or_tags_leave_the_store_alone(self, source, store, make_request):
        for fields in ({"rules": ExcludeRules(exclude=("a[",))}, {"tags": ("two words",)}):
            with pytest.raises(ConfigError):
                take_snapshot(make_request(source, **fields), open_storage(store))

        assert not store.exists()

    def test_rules_that_leave_out_all_where_there_was_something_are_refused(
        self, source, store, key
    ):
        make(source, "a", "b")
        BackupManager(source, store, key).create_snapshot()
        manager = BackupManager(source, store, key, rules=ExcludeRules(exclude=("*",)))

        with pytest.raises(SourceError, match=r"all that is in .* is left out") as caught:
            manager.create_snapshot()

        assert "auto-backup why" in caught.value.hint
        assert len(list(store.rglob("*.enc"))) == 1

    def test_many_paths_need_no_objects_each(self):
        omissions = Omissions()

        for number in range(200_000):
            omissions.append(Problem(b"%d" % number, f"reason {number % 3}"))

        summary = omissions.summary()
        assert summary.total == 200_000
        assert len(summary.told) == MOST_REMEMBERED
        assert summary.counts[0] == ("reason 0", 66_667)
