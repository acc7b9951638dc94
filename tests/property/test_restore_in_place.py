"""What was saved comes back in its own place, whatever has become of that place since."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.manager import take_snapshot
from backup.restore.decision import Action
from backup.restore.manager import RestoreManager
from backup.restore.options import Overwrite
from backup.storage.memory import MemoryStorage
from tests.lister import listing
from tests.property.trees import SMALL_CAP, build, contents, modes, times, trees

POLICIES = st.sampled_from(["always", "if-changed"])


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def replace_by_file(path, data):
    remove(path)
    path.write_bytes(data)


def replace_by_directory(path, data):
    remove(path)
    path.mkdir()
    if len(data) % 2:
        (path / "inner").write_bytes(data)


def replace_by_link(path, data):
    remove(path)
    path.symlink_to(os.fsdecode(data[:50].replace(b"\0", b"/") or b"x"))


def replace_by_fifo(path, _data):
    remove(path)
    os.mkfifo(path)


def change_content_and_nothing_else(path, data):
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        with path.open("r+b") as file:
            file.write(data[: status.st_size])
        os.utime(path, ns=(0, status.st_mtime_ns))


def append(path, data):
    if stat.S_ISREG(path.lstat().st_mode):
        with path.open("r+b") as file:  # not "a": that may create, which sticky directories forbid
            file.seek(0, os.SEEK_END)
            file.write(data)


def add(path, data):
    if stat.S_ISDIR(path.lstat().st_mode):
        (path / "zz-new").write_bytes(data)


def give_away(path, _data):
    if os.geteuid() == 0:
        os.chown(path, 7, 9, follow_symlinks=False)


CHANGES = [
    replace_by_file, replace_by_directory, replace_by_link, replace_by_fifo, append, add,
    change_content_and_nothing_else, give_away, lambda path, _: remove(path),
]  # fmt: skip


@st.composite
def mischiefs(draw):
    """Return a function that changes a tree in some places, the same each time."""
    steps = draw(
        st.lists(
            st.tuples(
                st.integers(0, 30),
                st.one_of(
                    st.sampled_from(CHANGES),
                    modes.map(lambda mode: ("mode", mode)),
                    times.map(lambda time: ("time", time)),
                    st.integers(0, 30).map(lambda number: ("link", number)),
                    st.integers(0, 30).map(lambda number: ("move", number)),
                ),
                contents,
            ),
            max_size=6,
        )
    )
    other = draw(st.one_of(st.none(), trees))

    def change(top):
        if other is not None:
            extra = top / "zz-other"
            if not os.path.lexists(extra):
                build(other, extra)
        for number, what, data in steps:
            paths = [top / os.fsdecode(path) for path in sorted(listing(top)) if path]
            if paths:
                _change_one(paths, number, what, data)

    return change


def _change_one(paths, number, what, data):
    path = paths[number % len(paths)]
    if callable(what):
        what(path, data)
        return
    word, value = what
    if word == "mode" and not path.is_symlink():
        path.chmod(value | 0o700)
    elif word == "time":
        os.utime(path, ns=(0, value), follow_symlinks=False)
    elif word in {"link", "move"}:
        other = paths[value % len(paths)]
        if path.is_relative_to(other) or other.is_relative_to(path):
            return
        if word == "move":
            remove(other)
            path.rename(other)
        elif stat.S_ISREG(path.lstat().st_mode):
            remove(other)
            other.hardlink_to(path)


def differences(found, wanted):
    """Return (path, field, found, wanted) of all that differs."""
    names = [(path, "name", path in found, path in wanted) for path in found.keys() ^ wanted.keys()]
    return names + [
        (path, field, one, other)
        for path in sorted(found.keys() & wanted.keys())
        for field, one, other in zip(wanted[path]._fields, found[path], wanted[path], strict=True)
        if one != other
    ]


@contextmanager
def made(tree):
    with tempfile.TemporaryDirectory(prefix="auto-backup-trees-") as top:
        build(tree, Path(top, "source"))
        yield Path(top, "source")


@pytest.fixture(scope="module")
def saved(make_request):
    def save(source):
        storage = MemoryStorage()
        request = make_request(source, cap=SMALL_CAP)
        assert take_snapshot(request, storage).problems == ()
        return RestoreManager(storage, identities=request.identities)

    return save


@given(tree=trees, change=mischiefs(), policy=POLICIES)
def test_replacing_and_deleting_gives_the_tree_as_it_was(saved, tree, change, policy):
    with made(tree) as source:
        manager = saved(source)
        rows = listing(source)
        change(source)
        before = listing(source)

        plan = manager.plan_restore("latest", in_place=True, overwrite=policy, delete=True)
        assert listing(source) == before
        report = manager.restore("latest", in_place=True, overwrite=policy, delete=True)

        assert report.deleted == plan.tallies[Action.DELETE].count - sum(
            doomed.names - 1 for doomed in plan.cleared.values()
        )
        assert (report.problems, report.damaged) == ([], [])
        assert differences(listing(source), rows) == []


@given(tree=trees, change=mischiefs())
def test_what_did_not_change_is_not_written_again(saved, tree, change):
    with made(tree) as source:
        manager = saved(source)
        change(source)
        manager.restore("latest", in_place=True, overwrite="always", delete=True)
        inodes = {path: path.lstat().st_ino for path in source.rglob("*")}

        report = manager.restore("latest", in_place=True, overwrite="if-changed", delete=True)

        assert (report.entries, report.deleted, report.problems) == (0, 0, [])
        assert {path: path.lstat().st_ino for path in source.rglob("*")} == inodes


@given(tree=trees, change=mischiefs())
def test_never_adds_what_is_missing_and_touches_nothing_else(saved, tree, change):
    with made(tree) as source:
        manager = saved(source)
        rows = listing(source)
        change(source)
        before = listing(source)

        report = manager.restore("latest", in_place=True, overwrite=Overwrite.NEVER)

        after = listing(source)
        assert report.problems == []
        for path, row in before.items():
            same = {"linked_names": after[path].linked_names}
            if row.type == "d":
                same["mtime_ns"] = after[path].mtime_ns
            assert after[path] == row._replace(**same)
        for path in set(rows) - set(before):
            above = path
            while above not in before:
                above = above.rpartition(b"/")[0]
            if before[above].type == "d":
                assert after[path]._replace(linked_names=rows[path].linked_names) == rows[path]
            else:
                assert path not in after
