"""Tab: which lines a line can become."""

from __future__ import annotations

import os
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.cli.completing import complete_directory, complete_paths, last_word, shown_names

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in {".", ".."} and len(name.encode()) < 200)


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("docs", "my photos", ".hidden"):
        (tmp_path / name).mkdir()
    for name in ("docs/letter", "docs/it's", 'docs/say "hi"', "my photos/cat", "notes"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestPaths:
    @pytest.mark.parametrize(
        ("line", "lines"),
        [
            ("d", ["docs/"]),
            ("n", ["notes "]),
            ("", ["docs/", "my\\ photos/", "notes "]),
            (".", [".hidden/"]),
            ("my", ["my\\ photos/"]),
            ("my\\ photos/", ["my\\ photos/cat "]),
            ("'my", ["'my photos/"]),
            ("'my photos/c", ["'my photos/cat' "]),
            ('"my photos/', ['"my photos/cat" ']),
            ("docs/i", ["docs/it\\'s "]),
            ("'docs/i", ["'docs/it'\\''s' "]),
            ('"docs/s', ['"docs/say \\"hi\\"" ']),
            ("docs notes my", ["docs notes my\\ photos/"]),
            ("docs/nothing", []),
            ("nowhere/", []),
            ("notes/", []),
        ],
    )
    def test_it_completes_the_last_word_as_a_shell_does(self, here, line, lines):
        assert complete_paths(line) == lines

    def test_a_home_is_completed_and_stays_a_tilde(self, here, private_home):
        (private_home / "letters").mkdir()

        assert complete_paths("~") == ["~/"]
        assert complete_paths("~/le") == ["~/letters/"]

    def test_a_directory_that_is_asked_for_is_no_file(self, here):
        assert complete_directory("") == ["docs/", "my\\ photos/"]

    @given(name=NAMES, quote=st.sampled_from(["", "'", '"']))
    def test_what_is_completed_means_what_is_there(self, tmp_path_factory, name, quote):
        top = tmp_path_factory.mktemp("any")
        (top / name).touch()

        (line,) = complete_paths(f"/first {quote}{top}/{'.' if name.startswith('.') else ''}")

        assert shlex.split(line) == ["/first", f"{top}/{name}"]


class TestWords:
    @given(words=st.lists(NAMES, min_size=1))
    def test_the_last_word_is_what_the_shell_would_read(self, words):
        line = shlex.join(words)

        assert last_word(line).text == shlex.split(line)[-1]


class TestShowing:
    def test_names_stand_in_columns(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "30")

        assert shown_names(["x/one", "x/two/", "x/\x1b[2Jthree "]) == (
            "one           two/\n\\x1b[2Jthree\n"
        )

    def test_of_many_some_are_shown(self):
        shown = shown_names([f"d/{number}" for number in range(1000)])

        assert shown.endswith("\nand 940 more\n")
        assert len(shown.splitlines()) < 20

    def test_names_that_are_not_utf_8_are_escaped(self):
        assert shown_names(["d/" + os.fsdecode(b"\xff")]) == "\\xff\n"
