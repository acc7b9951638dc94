from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import ConfigError, SourceError
from backup.model import Entry, EntryType, path_key
from backup.sources.descriptors import DirectoryChain, FileOpener, NotRegularError
from backup.sources.reading import matches_entry, read_range, same_file
from backup.sources.roots import Root, prepare_roots
from backup.sources.tree import Skipped, TreeWalker, walk

PROJECT = Path(__file__).parents[2]


def member(path):
    """Return ``path`` in the form of ``Entry.path``."""
    return os.fsencode(path).lstrip(b"/")


def found(*roots, skip=()):
    """Return what a walk yields, by path; a directory that failed keeps its entry."""
    results = {}
    for item in walk([os.fsencode(root) for root in roots], skip=skip):
        results.setdefault(item.path, item)
    return results


def run_python(code, *arguments):
    """Run ``code`` in an interpreter of its own, for what would harm this one."""
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


class TestPreparingRoots:
    def test_roots_come_in_walking_order_without_the_leading_slash(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a-b").mkdir()
        (tmp_path / "file").touch()

        roots = prepare_roots(
            [tmp_path / "file", str(tmp_path / "a-b"), os.fsencode(tmp_path / "a")]
        )

        assert roots == [
            Root(member(tmp_path / "a"), is_directory=True),
            Root(member(tmp_path / "a-b"), is_directory=True),
            Root(member(tmp_path / "file"), is_directory=False),
        ]

    def test_the_root_directory_has_the_empty_path(self):
        assert prepare_roots(["/"]) == [Root(b"", is_directory=True)]

    def test_relative_roots_start_at_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        assert prepare_roots(["."]) == [Root(member(tmp_path), is_directory=True)]

    def test_a_link_as_root_stands_for_what_is_behind_it(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")

        assert prepare_roots([tmp_path / "link"]) == [
            Root(member(tmp_path / "real"), is_directory=True)
        ]

    def test_a_missing_root_is_named_in_the_error(self, tmp_path):
        with pytest.raises(SourceError, match=r"cannot back up .*/absent: No such file") as caught:
            prepare_roots([tmp_path / "absent"])

        assert caught.value.hint

    def test_a_root_of_another_kind_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(SourceError, match="neither a directory nor a regular file"):
            prepare_roots([tmp_path / "pipe"])

    def test_a_link_that_leads_to_itself_is_refused(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")

        with pytest.raises(SourceError, match="symbolic links"):
            prepare_roots([tmp_path / "loop"])

    def test_a_root_inside_another_is_refused_naming_both(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a-b").mkdir()

        with pytest.raises(ConfigError) as caught:
            prepare_roots([tmp_path / "a" / "b", tmp_path / "a-b", tmp_path / "a"])

        assert f"source {tmp_path}/a/b lies inside the source {tmp_path}/a" in caught.value.message

    def test_everything_lies_inside_the_root_directory(self, tmp_path):
        with pytest.raises(ConfigError, match="lies inside the source /"):
            prepare_roots([tmp_path, "/"])

    def test_one_directory_under_two_names_is_named_twice(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")

        with pytest.raises(ConfigError, match="real is named twice"):
            prepare_roots([tmp_path / "link", tmp_path / "real"])

    @pytest.mark.parametrize("paths", [[], [""], [b"a\0b"]])
    def test_what_is_not_a_path_is_refused(self, paths):
        with pytest.raises(ConfigError):
            prepare_roots(paths)


NAMES = st.binary(min_size=1, max_size=3).filter(
    lambda name: not set(name) & set(b"\0/") and name not in {b".", b".."}
)


class TestOrder:
    @given(paths=st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12))
    @settings(max_examples=60, deadline=None)
    def test_entries_come_in_the_order_of_path_key(self, paths):
        with tempfile.TemporaryDirectory() as top:
            for names in paths:
                os.makedirs(os.path.join(os.fsencode(top), *names), exist_ok=True)  # noqa: PTH103, PTH118

            walked = [item.path for item in walk([os.fsencode(top)])]

            expected = {member(directory) for directory, _, _ in os.walk(os.fsencode(top))}
            assert walked == sorted(expected, key=path_key)

    def test_files_and_directories_of_several_roots_are_in_one_order(self, tmp_path):
        for name in ("b/z", "a/b/c", "a-b", "a.d/x", "c/y"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

        paths = list(found(tmp_path / "c", tmp_path / "a", tmp_path / "a-b", tmp_path / "a.d"))

        expected = [b"a", b"a/b", b"a/b/c", b"a-b", b"a.d", b"a.d/x", b"c", b"c/y"]
        assert paths == [member(tmp_path) + b"/" + path for path in expected]

    def test_the_root_directory_comes_first_with_the_empty_path(self):
        items = walk([b"/"])

        first, second = next(items), next(items)

        assert (first.path, first.type) == (b"", EntryType.DIRECTORY)
        assert b"/" not in second.path


class TestEntries:
    def test_a_file_is_described_as_the_system_does(self, tmp_path):
        (tmp_path / "file").write_bytes(b"12345")
        (tmp_path / "file").chmod(0o4750)
        os.utime(tmp_path / "file", ns=(0, -1_500_000_001))

        entry = found(tmp_path)[member(tmp_path / "file")]

        status = (tmp_path / "file").lstat()
        assert (entry.type, entry.mode, entry.size, entry.links) == (EntryType.FILE, 0o4750, 5, 1)
        assert (entry.mtime_ns, entry.ctime_ns) == (-1_500_000_001, status.st_ctime_ns)
        assert (entry.uid, entry.gid, entry.inode) == (status.st_uid, status.st_gid, status.st_ino)
        assert (entry.user, entry.group) == (
            (tmp_path / "file").owner(),
            (tmp_path / "file").group(),
        )

    def test_a_single_file_can_be_a_root(self, tmp_path):
        (tmp_path / "file").write_bytes(b"1")
        (tmp_path / "other").touch()

        assert list(found(tmp_path / "file")) == [member(tmp_path / "file")]

    def test_a_link_is_described_and_not_followed(self, tmp_path):
        (tmp_path / "link").symlink_to("/etc")
        (tmp_path / "dangling").symlink_to(os.fsdecode(b"\xff" * 300))

        entries = found(tmp_path)

        link, dangling = entries[member(tmp_path / "link")], entries[member(tmp_path / "dangling")]
        assert (link.type, link.target, link.size) == (EntryType.SYMLINK, b"/etc", 0)
        assert dangling.target == b"\xff" * 300
        assert len(entries) == 3

    def test_pipes_and_devices_have_no_content(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")

        pipe = found(tmp_path)[member(tmp_path / "pipe")]
        null = next(item for item in walk([b"/dev"]) if item.path == b"dev/null")

        assert (pipe.type, pipe.size, pipe.device) == (EntryType.FIFO, 0, None)
        assert (null.type, null.size, null.device) == (EntryType.CHARACTER_DEVICE, 0, (1, 3))

    def test_a_socket_is_skipped_without_being_an_error(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes only
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")

            item = found(tmp_path)[member(tmp_path / "socket")]

        assert item == Skipped(member(tmp_path / "socket"), "socket", is_error=False)

    def test_names_of_one_file_share_inode_and_file_system(self, tmp_path):
        (tmp_path / "a").touch()
        (tmp_path / "b").hardlink_to(tmp_path / "a")

        entries = found(tmp_path)

        a, b = entries[member(tmp_path / "a")], entries[member(tmp_path / "b")]
        assert (a.inode, a.filesystem, a.links) == (b.inode, b.filesystem, 2)

    def test_the_number_of_links_of_a_directory_says_nothing(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)

        entry = found(tmp_path)[member(tmp_path / "a")]

        assert (entry.type, entry.size, entry.links) == (EntryType.DIRECTORY, 0, 1)

    @pytest.mark.parametrize("name", [b"line\nend", b"\xff\xfe", b"n" * 255, b" ", b"\\", b"-"])
    def test_any_name_is_walked_and_opened(self, tmp_path, name):
        directory = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(directory)  # noqa: PTH102 - pathlib knows no bytes
        Path(os.fsdecode(directory + b"/" + name)).write_bytes(name)

        entry = found(tmp_path)[member(directory + b"/" + name)]

        with FileOpener() as opener:
            descriptor = opener.open(entry)
            assert read_range(descriptor, 0, 1000) == name
            os.close(descriptor)

    @pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
    def test_owners_without_a_name_have_the_empty_name(self, tmp_path):
        (tmp_path / "file").touch()
        os.chown(tmp_path / "file", 3_000_000_000, 3_000_000_001)

        entry = found(tmp_path)[member(tmp_path / "file")]

        assert (entry.uid, entry.user) == (3_000_000_000, "")
        assert (entry.gid, entry.group) == (3_000_000_001, "")

    def test_file_systems_are_numbered_and_typed(self, tmp_path):
        walker = TreeWalker(prepare_roots([tmp_path, "/proc/version"]))

        entries = {item.path: item for item in walker}

        of_proc = entries[b"proc/version"].filesystem
        of_files = entries[member(tmp_path)].filesystem
        assert {of_proc, of_files} == {0, 1}
        assert walker.filesystems[of_proc].type == "proc"
        assert walker.filesystems[of_files].device == tmp_path.stat().st_dev


class TestWhatCannotBeRead:
    def test_the_tools_own_stores_are_left_out(self, tmp_path):
        (tmp_path / "store" / "in").mkdir(parents=True)
        (tmp_path / "z").touch()
        status = (tmp_path / "store").stat()

        items = found(tmp_path, skip=[(status.st_dev, status.st_ino)])

        store = member(tmp_path / "store")
        assert items[store][:3] == (store, "own store", False)
        assert list(items) == [member(tmp_path), store, member(tmp_path / "z")]

    def test_what_vanishes_after_it_was_listed_is_an_error(self, tmp_path):
        for name in "abc":
            (tmp_path / name).touch()
        items = walk([os.fsencode(tmp_path)])
        while next(items).path != member(tmp_path / "a"):
            pass

        (tmp_path / "b").unlink()

        gone, entry = items
        assert gone == Skipped(member(tmp_path / "b"), "vanished", is_error=True)
        assert entry.path == member(tmp_path / "c")

    def test_a_directory_that_vanishes_keeps_its_entry(self, tmp_path):
        (tmp_path / "a").mkdir()
        items = walk([os.fsencode(tmp_path)])
        while next(items).path != member(tmp_path / "a"):
            pass

        (tmp_path / "a").rmdir()

        assert list(items) == [Skipped(member(tmp_path / "a"), "vanished", is_error=True)]

    def test_a_root_that_vanishes_is_an_error_of_that_root(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "c").touch()
        walker = TreeWalker(prepare_roots([tmp_path / "a" / "b", tmp_path / "c"]))

        shutil.rmtree(tmp_path / "a")

        gone, entry = walker
        assert gone == Skipped(member(tmp_path / "a" / "b"), "vanished", is_error=True)
        assert entry.path == member(tmp_path / "c")

    def test_a_directory_that_may_not_be_read_has_an_entry_and_an_error(self):
        output = run_python(UNREADABLE)

        assert output.splitlines() == [
            "Entry closed",
            "Skipped closed Permission denied True",
            "Entry listed",
            "Skipped listed Permission denied True",
            "Entry z",
            "PermissionError",
            "foreign file opened",
            "SourceError",
        ]


UNREADABLE = """
import os, tempfile
from pathlib import Path
from backup.errors import SourceError
from backup.model import Entry
from backup.sources.descriptors import FileOpener
from backup.sources.tree import walk
if os.getuid() == 0:  # nothing is closed to root
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
with tempfile.TemporaryDirectory() as name:
    top = Path(name)
    (top / "closed" / "in").mkdir(parents=True)
    (top / "listed" / "in").mkdir(parents=True)
    (top / "z").touch(mode=0)
    (top / "closed").chmod(0)
    (top / "listed").chmod(0o444)
    root, *items = walk([os.fsencode(top)])
    for item in items:
        path, *rest = item[:3] if isinstance(item, tuple) else (item.path,)
        print(type(item).__name__, path.decode().rpartition("/")[2], *rest)
    with FileOpener() as opener:
        try:
            opener.open(items[-1])
        except OSError as error:
            print(type(error).__name__)
        os.close(opener.open(*walk([b"/etc/passwd"])))
        print("foreign file opened")
    try:
        walk([os.fsencode(top / "closed")])
    except SourceError as error:
        print(type(error).__name__)
    (top / "closed").chmod(0o700)
    (top / "listed").chmod(0o700)
"""


class TestSwappedNames:
    def test_a_link_in_a_directorys_place_does_not_lead_elsewhere(self, tmp_path):
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret").touch()
        (tmp_path / "root" / "a").mkdir(parents=True)
        (tmp_path / "root" / "b" / "own").mkdir(parents=True)
        items = walk([os.fsencode(tmp_path / "root")])
        while next(items).path != member(tmp_path / "root" / "b"):
            pass

        (tmp_path / "root" / "b").rename(tmp_path / "aside")
        (tmp_path / "root" / "b").symlink_to(tmp_path / "outside")

        # The directory that was described is the one that is listed.
        assert [item.path for item in items] == [member(tmp_path / "root" / "b" / "own")]

    def test_a_link_in_the_place_of_a_directory_to_come_back_to_is_an_error(self, tmp_path):
        levels = 60  # more than stay open, so that the walk has to come back by name
        deep = tmp_path.joinpath("root", *["d"] * levels)
        deep.mkdir(parents=True)
        (tmp_path / "root" / "z").touch()
        items = walk([os.fsencode(tmp_path / "root")])
        while next(items).path != member(deep):
            pass

        (tmp_path / "root").rename(tmp_path / "aside")
        (tmp_path / "root").symlink_to(tmp_path / "aside")

        left = [(item.path, item.reason) for item in items if isinstance(item, Skipped)]
        assert left == [(member(tmp_path / "root"), "replaced while it was being read")]

    def test_a_chain_refuses_a_link_on_the_way(self, tmp_path):
        (tmp_path / "real" / "in").mkdir(parents=True)
        (tmp_path / "link").symlink_to("real")

        with DirectoryChain() as chain:
            chain.open(member(tmp_path / "real" / "in"))
            with pytest.raises(NotADirectoryError):
                chain.open(member(tmp_path / "link" / "in"))
            again = chain.open(member(tmp_path / "real" / "in"))

            assert os.path.samestat(os.fstat(again), (tmp_path / "real" / "in").stat())

    def test_a_directory_that_was_replaced_meanwhile_is_an_error(self, tmp_path):
        levels = 100  # more than stay open
        deepest = tmp_path.joinpath("root", *["d"] * levels)
        deepest.mkdir(parents=True)
        for directory in (tmp_path / "root", deepest):
            (directory / "z").touch()
        items = walk([os.fsencode(tmp_path / "root")])
        while next(items).path != member(deepest):
            pass

        (tmp_path / "root").rename(tmp_path / "aside")
        (tmp_path / "root").mkdir()

        file, error = items
        assert file.path == member(deepest / "z")
        assert error.path == member(tmp_path / "root")
        assert (error.reason, error.is_error) == ("replaced while it was being read", True)


class TestDeepTrees:
    def test_depth_is_limited_neither_by_descriptors_nor_by_path_length(self, tmp_path):
        try:
            output = run_python(DEEP, str(tmp_path))
        finally:
            # Removing by path, as other clean-ups do, would fail here.
            subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)

        entries, longest, descriptors = map(int, output.split())
        assert entries == 2 * 1200 + 1
        assert longest > 4096
        assert descriptors < 120


DEEP = """
import os, resource, sys
from backup.model import path_key
from backup.sources.descriptors import FileOpener
from backup.sources.reading import matches_entry, read_range
from backup.sources.tree import walk
top = os.fsencode(sys.argv[1]) + b"/deep"
os.mkdir(top)
directory = os.open(top, os.O_RDONLY)
for level in range(1200):
    file = os.open(b"z", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
    os.write(file, b"%d" % level)
    os.close(file)
    os.mkdir(b"directory", dir_fd=directory)
    deeper = os.open(b"directory", os.O_RDONLY, dir_fd=directory)
    os.close(directory)
    directory = deeper
os.close(directory)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
descriptors = 0
entries = []
with FileOpener() as opener:
    for entry in walk([top]):
        entries.append(entry)
        if entry.type == "file":
            file = opener.open(entry)
            assert matches_entry(entry, os.fstat(file))
            level = entry.path.count(b"/directory")
            assert read_range(file, 0, 100) == b"%d" % level
            descriptors = max(descriptors, len(os.listdir("/proc/self/fd")))
            os.close(file)
paths = [entry.path for entry in entries]
assert paths == sorted(paths, key=path_key)
print(len(entries), max(map(len, paths)), descriptors)
"""


class TestOpeningFiles:
    def test_files_in_any_order_are_opened(self, tmp_path):
        names = ["a/b/c", "a/b/d", "a/e", "f/a/b", "g", "a/b/c", "f/a/b"]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        entries = found(tmp_path)

        with FileOpener() as opener:
            for name in names:
                descriptor = opener.open(entries[member(tmp_path / name)])
                assert read_range(descriptor, 0, 100) == name.encode()
                os.close(descriptor)

    def test_a_pipe_in_a_files_place_is_refused_without_waiting(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")

        with FileOpener() as opener, pytest.raises(NotRegularError):
            opener.open(Entry(path=member(tmp_path / "pipe"), type=EntryType.FILE))

    def test_a_link_in_a_files_place_is_refused(self, tmp_path):
        (tmp_path / "link").symlink_to("/etc/passwd")

        with FileOpener() as opener, pytest.raises(OSError, match="symbolic links"):
            opener.open(Entry(path=member(tmp_path / "link"), type=EntryType.FILE))

    def test_a_link_in_a_directorys_place_is_refused(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "file").touch()
        entry = found(tmp_path)[member(tmp_path / "a" / "file")]

        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").symlink_to("b")

        with FileOpener() as opener, pytest.raises(NotADirectoryError):
            opener.open(entry)

    def test_closing_leaves_no_descriptor_open(self, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "file").touch()
        before = os.listdir("/proc/self/fd")  # noqa: PTH208

        entry = found(tmp_path)[member(tmp_path / "a" / "b" / "file")]
        with FileOpener() as opener:
            os.close(opener.open(entry))
        opener.close()

        assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


class TestReading:
    def test_a_range_ends_at_the_end_of_the_file(self, tmp_path):
        (tmp_path / "file").write_bytes(b"0123456789")

        with (tmp_path / "file").open("rb") as file:
            ranges = [(0, 4), (4, 6), (4, 7), (10, 1), (99, 5), (3, 0)]
            read = [read_range(file.fileno(), *where) for where in ranges]

        assert read == [b"0123", b"456789", b"456789", b"", b"", b""]

    @pytest.mark.parametrize("change", ["append", "touch", "replace", "rewrite in secret"])
    def test_a_changed_file_is_no_longer_the_same(self, tmp_path, change):
        path = tmp_path / "file"
        path.write_bytes(b"old")
        os.utime(path, ns=(0, 5))
        before = path.stat()
        (entry,) = walk([os.fsencode(path)])

        CHANGES[change](path)

        assert same_file(before, before)
        assert matches_entry(entry, before)
        assert not same_file(before, path.stat())
        assert not matches_entry(entry, path.stat())


def append(path):
    with path.open("ab") as file:
        file.write(b"new")


def replace(path):
    path.with_name("new").write_bytes(b"new")
    path.with_name("new").replace(path)


def rewrite_in_secret(path):
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # a clock of coarse steps
        path.write_bytes(b"new")
        os.utime(path, ns=(0, 5))


CHANGES = {
    "append": append,
    "touch": lambda path: os.utime(path, ns=(0, 6)),
    "replace": replace,
    "rewrite in secret": rewrite_in_secret,
}
