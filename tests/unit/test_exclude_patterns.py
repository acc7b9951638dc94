from __future__ import annotations

import warnings

import pytest

from backup.errors import ConfigError
from backup.model import ExcludeRules
from backup.sources.patterns import Patterns, SaidPattern, read_patterns
from backup.sources.rules import Excluder, parse_size

GIB = 2**30


def decision(said, path, *, is_directory=False):
    """Return the pattern that decides about ``path``, or ``None``."""
    patterns = Patterns([SaidPattern(one, "test") for one in said])
    raw = path if isinstance(path, bytes) else path.encode()
    number = patterns.decide(raw.rpartition(b"/")[2], raw, is_directory=is_directory)
    return None if number is None else said[number]


class TestWhatFits:
    @pytest.mark.parametrize(
        ("pattern", "fits", "fits_not"),
        [
            ("*.log", ["a.log", "x/y/a.log", ".log"], ["a.log.1", "a.logs", "log", "a.log\n"]),
            ("core", ["core", "x/core"], ["core2", "score", "core\n"]),
            ("tmp*", ["tmp", "x/tmp1", "tmp\n"], ["atmp"]),
            ("/build", ["build"], ["x/build"]),
            ("docs/*.pdf", ["docs/a.pdf"], ["docs/x/a.pdf", "x/docs/a.pdf", "a.pdf"]),
            ("**/a/b", ["a/b", "x/a/b", "x/y/a/b"], ["a/x/b", "b"]),
            ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["x/a/b", "a", "b"]),
            ("a/**", ["a/b", "a/b/c"], ["a", "x/a/b"]),
            ("**", ["a", "a/b"], []),
            ("*.py[co]", ["a.pyc", "x/a.pyo"], ["a.py", "a.pyx"]),
            ("[!0-9]", ["a", "x/b"], ["1", "ab"]),
            ("x/a[!b]c", ["x/adc"], ["x/a/c", "x/abc"]),
            ("?", ["a", "ä", b"\xff", "\n"], ["ab", ""]),
            ("caf?", ["café", b"caf\xe9"], ["caf"]),
            ("[ä-ü]", ["ö"], ["o", "é/x"]),
            (r"\#a", ["#a"], ["a", r"\#a"]),
            (r"\!a", ["!a"], ["a"]),
            (r"a\ ", ["a "], ["a"]),
            ("a b  ", ["a b"], ["a b  "]),
            ("a /*", ["a /x"], ["a/x"]),
            ("[[a]", ["[", "a"], ["[["]),
        ],
    )
    def test_as_in_a_gitignore_file(self, pattern, fits, fits_not):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert [path for path in fits if decision([pattern], path) is None] == []
            assert [path for path in fits_not if decision([pattern], path)] == []

    def test_a_slash_at_the_end_means_directories(self):
        assert decision(["cache/"], "x/cache", is_directory=True) == "cache/"
        assert decision(["cache/"], "x/cache") is None

    def test_the_last_one_that_fits_decides(self):
        said = ["*.log", "!keep.log", "/keep.log", "other"]

        assert decision(said, "a.log") == "*.log"
        assert decision(said, "x/keep.log") == "!keep.log"
        assert decision(said, "keep.log") == "/keep.log"

    def test_many_patterns_are_as_exact_as_one(self):
        said = [f"*.{number}" for number in range(500)] + [f"n{number}" for number in range(500)]

        assert decision(said, "x/y.77") == "*.77"
        assert decision(said, "x/n499") == "n499"
        assert decision(said, "x/n499.500") is None


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("pattern", "why", "hint"),
        [
            ("", "is empty", "'*.log'"),
            ("   ", "is empty", "'*.log'"),
            ("/", "is empty", "'*.log'"),
            ("!", "is empty", "'*.log'"),
            ("#note", "is a comment", r"write it as \#note"),
            ("a[b", "is not complete", "has no ']'"),
            ("[z-a]", "is not complete", "upwards"),
            ("a\\", "is not complete", "escapes nothing"),
            ("[[:alpha:]]", "is not understood", "between brackets"),
            (r"[\]]", "is not understood", "between brackets"),
            ("caf\udce9", "is not UTF-8", "'?'"),
        ],
    )
    def test_a_pattern_is_named_with_its_origin_and_a_way_out(self, pattern, why, hint):
        with pytest.raises(ConfigError) as caught:
            Excluder(ExcludeRules(exclude=("*.o", pattern)), ["--exclude", "/etc/x:12"])

        assert caught.value.message == f'the pattern "{pattern}" (/etc/x:12) {why}'
        assert hint in caught.value.hint

    def test_a_program_is_told_which_one_it_was(self):
        with pytest.raises(ConfigError, match=r'"a\[" \(pattern 2\)'):
            Excluder(ExcludeRules(exclude=("*.o", "a[")))

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0", "\udcff"])
    def test_a_marker_that_is_no_name(self, name):
        with pytest.raises(ConfigError, match="is not the name of a file in a directory"):
            Excluder(ExcludeRules(if_present=(name,)))


class TestFilesOfPatterns:
    def test_each_line_is_a_pattern_but_for_comments_and_empty_ones(self, tmp_path):
        file = tmp_path / "excludes"
        file.write_bytes(b"\xef\xbb\xbf*.log\r\n\n# a comment\n  \n\\#a\n!keep.log")

        assert read_patterns(file) == [
            SaidPattern("*.log", f"{file}:1"),
            SaidPattern(r"\#a", f"{file}:5"),
            SaidPattern("!keep.log", f"{file}:6"),
        ]

    def test_one_that_cannot_be_read_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match=r"cannot read the exclude file .*absent: No such"):
            read_patterns(tmp_path / "absent")


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1", 1),
            ("100b", 100),
            ("500K", 500 * 1024),
            ("100M", 100 * 2**20),
            ("100MB", 100 * 10**6),
            ("1.5GiB", 3 * GIB // 2),
            (" 2 tib ", 2048 * GIB),
            ("0.1k", 102),
        ],
    )
    def test_units_count_in_1024_but_for_those_with_a_plain_b(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "M", "-1", "1X", "1 MBit", "1e3", "0", "9999999P", "²"])
    def test_what_is_none_is_refused_with_examples(self, text):
        with pytest.raises(ConfigError, match="is not a size") as caught:
            parse_size(text)

        assert caught.value.hint
