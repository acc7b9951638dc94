"""Patterns that count for one source alone: in a walk, in a snapshot, in what compares with it."""

from __future__ import annotations

import os

import pytest

from backup.cli.excluding import Excludes, remarks
from backup.errors import ConfigError, MalformedError, RestoreError
from backup.locating import locate
from backup.manager import take_snapshot
from backup.model import NO_RULES, Entry, ExcludeRules, SnapshotKind, SourcePatterns
from backup.present import PresentSource
from backup.restore import RestoreManager
from backup.snapshot.end import Counts, EndRecord, decode_end, encode_end
from backup.sources.explaining import explain
from backup.sources.patterns import SaidPattern
from backup.sources.roots import patterns_of_sources, prepare_roots
from backup.sources.rules import Excluder
from backup.sources.tree import TreeWalker
from backup.storage import open_storage
from tests.unit.test_excludes import make


@pytest.fixture
def two(tmp_path):
    """Return two sources with the same names in them."""
    for name in ("etc", "shop"):
        make(tmp_path / name, "cache/x", "a.log", "keep.log", "text")
    return tmp_path / "etc", tmp_path / "shop"


def rules_for(*said, **rules):
    return ExcludeRules(of_source=patterns_of_sources(said), **rules)


def saved(sources, rules):
    top = os.fsencode(sources[0].parent).lstrip(b"/") + b"/"
    found = TreeWalker(prepare_roots(sources), rules=rules)
    names = [os.fsdecode(one.path.removeprefix(top)) for one in found if isinstance(one, Entry)]
    return [name for name in names if "/" in name]


class TestWalk:
    def test_patterns_of_a_source_count_for_it_alone(self, two):
        rules = rules_for((two[1], ["cache/", "*.log"]))

        assert saved(two, rules) == [
            *("etc/a.log", "etc/cache", "etc/cache/x", "etc/keep.log", "etc/text"),
            "shop/text",
        ]

    def test_they_come_after_those_of_all_sources_and_decide(self, two):
        rules = rules_for((two[1], ["!keep.log", "text"]), exclude=("*.log",))

        assert saved(two, rules) == [
            *("etc/cache", "etc/cache/x", "etc/text"),
            *("shop/cache", "shop/cache/x", "shop/keep.log"),
        ]

    def test_each_source_may_have_its_own(self, two):
        rules = rules_for((two[0], ["/cache"]), (two[1], ["*.log"]))

        assert saved(two, rules) == [
            *("etc/a.log", "etc/keep.log", "etc/text"),
            *("shop/cache", "shop/cache/x", "shop/text"),
        ]

    def test_all_other_rules_count_as_before(self, two):
        make(two[1], "cache/.nobackup")

        rules = rules_for((two[1], ["*.log"]), if_present=(".nobackup",))

        assert saved(two[1:], rules) == ["shop/cache", "shop/cache/.nobackup", "shop/text"]

    def test_the_root_directory_may_have_its_own(self):
        assert patterns_of_sources([("/", ["tmp/"])]) == ((b"", ("tmp/",)),)

    def test_a_source_may_be_named_by_a_link_or_relative(self, two, tmp_path, monkeypatch):
        (tmp_path / "link").symlink_to("shop")
        monkeypatch.chdir(tmp_path)
        expected = saved(two[1:], rules_for((two[1], ["cache"])))

        for name in ("link", "shop", "./shop/", str(two[1])):
            assert saved(two[1:], rules_for((name, ["cache"]))) == expected

    def test_a_source_with_a_name_that_is_not_utf_8_has_its_own(self, tmp_path):
        odd = tmp_path / os.fsdecode(b"caf\xe9")
        make(odd, "a", "b")

        assert saved([odd], rules_for((odd, ["a"]))) == [os.fsdecode(b"caf\xe9/b")]

    def test_a_source_without_patterns_has_no_rules(self, two):
        assert patterns_of_sources([(two[0], []), (two[1], ["a"])]) == (
            SourcePatterns(os.fsencode(two[1]).lstrip(b"/"), ("a",)),
        )


class TestRefusals:
    def test_patterns_for_what_is_not_a_source(self, two, store, make_request):
        rules = rules_for((two[1], ["cache"]))

        with pytest.raises(ConfigError, match=r"patterns for .*/shop, which is not a source"):
            take_snapshot(make_request(two[0], rules=rules), open_storage(store))

        assert not store.exists()

    def test_a_source_inside_another_keeps_its_patterns_nowhere(self, two, tmp_path):
        """Which of two sources a path belongs to would depend on the reader: it is refused."""
        with pytest.raises(ConfigError, match="lies inside the source") as caught:
            prepare_roots([two[1], tmp_path])

        assert caught.value.hint == (
            f"leave out {two[1]}, and give its patterns, if it has some, to {tmp_path},"
            " beginning with /shop/"
        )

    def test_patterns_that_are_told_twice(self, two, tmp_path):
        (tmp_path / "link").symlink_to("shop")

        with pytest.raises(ConfigError, match="told twice"):
            Excluder(rules_for((two[1], ["a"]), (tmp_path / "link", ["b"])))

    def test_one_that_cannot_be_used_is_named_with_its_source(self, two):
        with pytest.raises(ConfigError) as caught:
            Excluder(rules_for((two[0], ["b"]), (two[1], ["a", "a["]), exclude=("*.o",)))

        assert f'the pattern "a[" (pattern 2 of {two[1]})' in caught.value.message

    def test_one_that_cannot_be_used_is_named_with_its_origin(self, two):
        rules = rules_for((two[0], ["b"]), (two[1], ["a["]), exclude=("*.o",))

        with pytest.raises(ConfigError, match=r'"a\[" \(file:3\)'):
            Excluder(rules, ["file:1", "file:2", "file:3"])

    @pytest.mark.parametrize("path", ["", b"a\0b"])
    def test_what_is_no_path(self, path):
        with pytest.raises(ConfigError, match="not a path"):
            patterns_of_sources([(path, ["a"])])


class TestWhy:
    def verdict(self, two, path, rules, origins=()):
        roots = prepare_roots(two)
        walker = TreeWalker(roots, rules=rules, origins=origins)
        return explain(walker, roots, os.fsencode(path).lstrip(b"/"))

    def test_the_pattern_is_told_with_its_origin(self, two):
        rules = rules_for((two[0], ["a.log"]), (two[1], ["*.log"]), exclude=("*.o",))
        origins = ["--exclude", "x.yaml:8", "x.yaml:9"]

        for place, pattern in ((0, ("a.log", "x.yaml:8")), (1, ("*.log", "x.yaml:9"))):
            verdict = self.verdict(two, two[place] / "a.log", rules, origins)
            assert not verdict.is_saved
            assert verdict.rule.pattern == SaidPattern(*pattern)
        assert self.verdict(two, two[0] / "keep.log", rules, origins).is_saved

    def test_a_negated_one_is_told_where_it_brings_back_and_where_it_comes_too_late(self, two):
        rules = rules_for((two[1], ["!keep.log", "!x"]), exclude=("*.log", "cache"))

        kept = self.verdict(two, two[1] / "keep.log", rules)
        late = self.verdict(two, two[1] / "cache" / "x", rules)

        assert (kept.is_saved, kept.revived_by.text) == (True, "!keep.log")
        assert (late.is_saved, late.revived_by.text) == (False, "!x")
        assert late.revived_by.origin == f"pattern 2 of {two[1]}"
        assert not self.verdict(two, two[0] / "keep.log", rules).is_saved

    def test_what_may_be_meant_otherwise_is_told_of_the_source_that_it_is_said_of(self, two):
        rules = rules_for((two[1], ["shop", f"{two[1]}/cache", "etc"]))
        excludes = Excludes(rules, ("c:1", "c:2", "c:3"))

        assert list(remarks(excludes, prepare_roots(two))) == [
            f'{two[1]} is a source, which c:1 "shop" does not leave out',
            f'c:2 "{two[1]}/cache" begins at the source {two[1]}, not at /; write /cache',
        ]


class TestSnapshot:
    @pytest.fixture
    def rules(self, two):
        return rules_for((two[1], ["*.log", "!keep.log"]), exclude=("cache/",))

    @pytest.fixture
    def taken(self, two, rules, store, make_request):
        request = make_request(*two, rules=rules)
        return request, take_snapshot(request, open_storage(store))

    def test_they_are_kept_in_it(self, taken, rules, store):
        request, report = taken

        record = locate(open_storage(store), report.name).open(request.identities).record

        assert record.rules == rules
        assert dict(report.left_out.counts) == {"excluded by cache/": 2, "excluded by *.log": 1}

    def test_a_comparison_with_the_source_leaves_out_the_same(self, taken, two, store):
        request, report = taken
        reader = locate(open_storage(store), report.name).open(request.identities)
        for top in two:
            make(top, "b.log")

        with PresentSource(reader, ()) as present:
            there = {os.fsdecode(b"/" + one.path) for one in present.entries()}

        assert f"{two[0]}/b.log" in there
        assert f"{two[1]}/b.log" not in there

    def test_a_restore_deletes_nothing(self, two, store, key, make_request):
        rules = rules_for((two[1], ["*.log"]))
        take_snapshot(make_request(*two, rules=rules), open_storage(store))

        with pytest.raises(RestoreError, match="taken with rules"):
            RestoreManager(store, key).restore("latest", in_place=True, delete=True)

        assert (two[1] / "a.log").exists()


class TestRecord:
    def record(self, **fields):
        return EndRecord(
            job="j",
            host="h",
            kind=SnapshotKind.FULL,
            sources=(b"etc", b"srv/\xff"),
            counts=Counts(),
            **fields,
        )

    def test_it_is_read_as_it_was_written(self):
        own = (SourcePatterns(b"etc", ("*.o",)), SourcePatterns(b"srv/\xff", ("a", "!b")))
        for rules in (
            NO_RULES,
            ExcludeRules(of_source=own),
            ExcludeRules(exclude=("x",), caches=True, larger_than=7, of_source=own[1:]),
        ):
            read = decode_end(bytes(16), encode_end(bytes(16), self.record(rules=rules), []))[0]

            assert read.rules == rules

    def test_they_stand_beside_their_source_and_one_without_has_no_field_more(self):
        plain = encode_end(bytes(16), self.record(), [])
        own = ExcludeRules(of_source=(SourcePatterns(b"etc", ("*.o",)),))
        told = encode_end(bytes(16), self.record(rules=own), [])

        assert b'"sources":[{"p":"etc"},{"pb":"c3J2L/8="}]' in plain
        assert b"rules" not in plain
        assert b'"sources":[{"p":"etc","exclude":["*.o"]},{"pb":"c3J2L/8="}]' in told

    def test_patterns_of_another_source_are_not_written(self):
        rules = ExcludeRules(of_source=(SourcePatterns(b"srv", ("a",)),))

        with pytest.raises(MalformedError, match="does not name"):
            encode_end(bytes(16), self.record(rules=rules), [])

    @pytest.mark.parametrize("patterns", [b'"a"', b"[1]", b"[[]]", b"null", b'{"a":1}'])
    def test_malformed_ones_are_refused(self, patterns):
        good = encode_end(bytes(16), self.record(), [])
        bad = good.replace(b'{"p":"etc"}', b'{"p":"etc","exclude":' + patterns + b"}")

        with pytest.raises(MalformedError):
            decode_end(bytes(16), bad)
