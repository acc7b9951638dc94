"""What patterns leave out, compared with git; and what ``why`` says, compared with the walk."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.errors import ConfigError
from backup.model import Entry, ExcludeRules
from backup.sources.explaining import explain
from backup.sources.patterns import Patterns, SaidPattern
from backup.sources.roots import patterns_of_sources, prepare_roots
from backup.sources.rules import CACHE_SIGNATURE
from backup.sources.tree import TreeWalker
from tests.needs import needs

TAG = CACHE_SIGNATURE.decode()
NAMES = [
    "a",
    "b",
    "ab",
    "a.log",
    "b.log",
    "c c",
    "*",
    "#a",
    "!a",
    "\\",
    "A",
    "[",
    "-",
    "a\nb",
    "a\n",
]
PIECES = ["a", "b", "ab", ".log", "*", "?", "[ab]", "[!a]", "[^b]", "[a-b]", "c c", r"\*", r"\\"]
# No '**' beside other characters: git takes 'a**/b' for a plain star, as it documents, or for many
# directories, depending on what stands in front of it.

trees = st.recursive(
    st.none(),
    lambda below: st.dictionaries(st.sampled_from(NAMES), below, min_size=1, max_size=4),
    max_leaves=14,
).filter(lambda tree: tree is not None)
segments = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3)
    .map("".join)
    .filter(lambda segment: "**" not in segment),
    st.sampled_from(["**", "*", "a", "b", r"\#a", r"\!a", "!a", r"c\ c"]),
)
patterns = st.builds(
    lambda negated, top, parts, end: f"{negated}{top}{'/'.join(parts)}{end}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(segments, min_size=1, max_size=3),
    st.sampled_from(["", "", "/", " ", "/  "]),
)


def is_understood(pattern):
    try:
        Patterns([SaidPattern(pattern, "here")])
    except ConfigError:
        return False
    return True


def grow(tree, top, contents="text"):
    top.mkdir()
    for name, below in tree.items():
        if below is None:
            (top / name).write_text(contents)
        else:
            grow(below, top / name, contents)


def paths_below(top):
    """Return every path below ``top``, by means of the standard library alone."""
    return {
        os.fsencode(os.path.relpath(Path(directory, name), top))
        for directory, directories, files in os.walk(top)
        for name in [*directories, *files]
    }


def saved_below(top, rules):
    walker = TreeWalker(prepare_roots([top]), rules=rules)
    prefix = os.fsencode(top).lstrip(b"/") + b"/"
    return {one.path.removeprefix(prefix) for one in walker if isinstance(one, Entry)} - {
        prefix[:-1]
    }


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    """Return a function that tells which paths below a directory git ignores."""
    needs(shutil.which("git"), "git is not installed")
    place = tmp_path_factory.mktemp("git")
    outside = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "init", "-q", "--bare", place / "repository"], check=True, env=outside)

    def ignored(top, patterns):
        (place / "excludes").write_text("".join(f"{one}\n" for one in patterns))
        command = ["git", f"--git-dir={place / 'repository'}", f"--work-tree={top}"]
        command += ["-c", f"core.excludesFile={place / 'excludes'}"]
        command += ["check-ignore", "--no-index", "-z", "--stdin"]
        asked = b"".join(b"./" + path + b"\0" for path in paths_below(top))
        done = subprocess.run(
            command, cwd=top, input=asked, capture_output=True, env=outside, check=False
        )
        assert done.returncode in {0, 1}, done.stderr
        return {path.removeprefix(b"./") for path in done.stdout.split(b"\0") if path}

    return ignored


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Return a function that makes a tree in a place of its own."""
    place = tmp_path_factory.mktemp("trees")

    def make(tree, contents="text"):
        top = place / "top"
        shutil.rmtree(top, ignore_errors=True)
        grow(tree, top, contents)
        return top

    return make


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Return a directory in which files and directories of each name stand at each level."""
    files = dict.fromkeys(["a.log", "b.log", "*", "#a", "!a", "\\", "A", "[", "a\n", "ba"])
    tree = dict.fromkeys(["a", "b", "ab", "c c"])
    for _ in range(3):
        tree = files | dict.fromkeys(["a", "b", "ab", "c c"], tree)
    top = tmp_path_factory.mktemp("dense") / "top"
    grow(tree, top)
    return top


@given(said=st.lists(patterns.filter(is_understood), min_size=1, max_size=4))
def test_patterns_leave_out_what_git_ignores(git, dense, said):
    saved = saved_below(dense, ExcludeRules(exclude=tuple(said)))

    assert saved == paths_below(dense) - git(dense, said)


rules = st.builds(
    ExcludeRules,
    exclude=st.lists(patterns.filter(is_understood), max_size=4).map(tuple),
    if_present=st.lists(st.sampled_from(["a", "ab", "#a"]), max_size=1).map(tuple),
    caches=st.booleans(),
    larger_than=st.sampled_from([0, 0, 0, len(TAG) - 1]),
)


own_patterns = st.lists(patterns.filter(is_understood), max_size=2)


@given(tree=trees, rules=rules, own=own_patterns)
def test_patterns_of_a_source_leave_out_what_they_do_at_the_end_of_those_of_all(
    fresh, tree, rules, own
):
    top = fresh(tree)
    joined = replace(rules, exclude=(*rules.exclude, *own))
    apart = replace(rules, of_source=patterns_of_sources([(top, own)]))

    assert saved_below(top, apart) == saved_below(top, joined)


@given(tree=trees, rules=rules, own=own_patterns)
def test_why_says_saved_of_exactly_what_is_saved(fresh, tree, rules, own):
    top = fresh({"CACHEDIR.TAG": None, "d": {**tree, "CACHEDIR.TAG": None}, **tree}, TAG)
    roots = prepare_roots([top])
    rules = replace(rules, of_source=patterns_of_sources([(top, own)]))
    walker = TreeWalker(roots, rules=rules)
    saved = saved_below(top, rules)

    for path in paths_below(top):
        verdict = explain(walker, roots, roots[0].path + b"/" + path)
        assert verdict.is_saved == (path in saved), (path, verdict)
        assert verdict.is_saved or verdict.rule is not None
