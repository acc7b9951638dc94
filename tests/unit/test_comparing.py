from __future__ import annotations

import os
import random
import shutil
from functools import partial
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.comparing import (
    Kind,
    Summary,
    by_content,
    compare,
    entries_apart,
    with_moves,
)
from backup.errors import SourceError
from backup.locating import locate
from backup.manager import take_snapshot
from backup.matching import Verdict, compare_stored, file_has_content, whole_content
from backup.model import ArchiveType, Entry, EntryType, ExcludeRules, path_key
from backup.present import PresentSource
from backup.snapshot.selection import select_entries
from backup.storage.memory import MemoryStorage
from tests.lister import listing

SMALL_CAP = 32 * 1024
MOMENT = 1_700_000_000_000_000_000


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def take(storage, make_request):
    """Return a function that takes a snapshot of sources and opens it."""

    def taken(*sources, **fields):
        request = make_request(*sources, **fields)
        return locate(storage, take_snapshot(request, storage).name).open(request.identities)

    return taken


def changes_between(old, new, paths=()):
    compared = partial(same, old, new)
    return list(with_moves(compare(*entries_apart(old, new, paths), compared), by_content))


def same(old, new, one, other):
    return compare_stored(old, one, new, other)


def told(changes, top):
    """Return what changed as (kind, path below ``top``)."""
    cut = len(os.fsencode(top))
    return [(str(one.kind), (b"/" + one.entry.path)[cut + 1 :].decode()) for one in changes]


def by_digest(old, new):
    return Verdict.SAME if old.digest == new.digest else Verdict.DIFFERENT


paths = st.lists(st.sampled_from([b"a", b"b", b"a-b", b"\xff"]), min_size=1, max_size=3).map(
    b"/".join
)
entries = st.builds(
    lambda kind, mode, mtime, digest: {
        "type": kind,
        "mode": mode,
        "mtime_ns": mtime,
        "digest": digest,
    },
    st.sampled_from([EntryType.FILE, EntryType.DIRECTORY]),
    st.sampled_from([0o600, 0o644]),
    st.integers(0, 2),
    st.sampled_from([b"1" * 32, b"2" * 32]),
)
lists = st.dictionaries(paths, entries)


def listed(described):
    made = [Entry(path=path, **fields) for path, fields in described.items()]
    return sorted(made, key=lambda one: path_key(one.path))


class TestTwoLists:
    @given(old=lists, new=lists)
    def test_the_merge_finds_what_looking_up_every_path_finds(self, old, new):
        found = {one.entry.path: one for one in compare(listed(old), listed(new), by_digest)}

        for path in old.keys() | new.keys():
            before, after = old.get(path), new.get(path)
            if before is None or after is None:
                expected = Kind.ADDED if before is None else Kind.REMOVED
            elif before["type"] != after["type"]:
                expected = Kind.TYPE
            elif before["type"] is EntryType.FILE and before["digest"] != after["digest"]:
                expected = Kind.CONTENT
            elif (before["mode"], before["mtime_ns"]) != (after["mode"], after["mtime_ns"]):
                expected = Kind.METADATA
            else:
                expected = None
            assert (found[path].kind if path in found else None) == expected
        assert found.keys() <= old.keys() | new.keys()

    @given(old=lists, new=lists)
    def test_it_comes_in_order_and_tells_both_sides(self, old, new):
        changes = list(compare(listed(old), listed(new), by_digest))

        keys = [path_key(one.entry.path) for one in changes]
        assert keys == sorted(keys)
        for one in changes:
            assert (one.old is not None) == (one.entry.path in old)
            assert (one.new is not None) == (one.entry.path in new)

    @pytest.mark.parametrize(
        ("fields", "kind", "told"),
        [
            ({"mode": 0o7}, Kind.METADATA, ("mode",)),
            ({"user": "ann"}, Kind.METADATA, ("owner",)),
            ({"gid": 7}, Kind.METADATA, ("group",)),
            ({"xattrs": ((b"user.a", b"1"),)}, Kind.METADATA, ("xattrs",)),
            ({"target": b"there"}, Kind.CONTENT, ("target",)),
            ({"device": (1, 2)}, Kind.CONTENT, ("device",)),
        ],
    )
    def test_each_field_is_told_by_its_name(self, fields, kind, told):
        old = Entry(path=b"a", type=EntryType.SYMLINK)

        (change,) = compare([old], [replace(old, **fields)], by_digest)

        assert (change.kind, change.fields) == (kind, told)

    def test_numbers_that_only_the_system_knows_do_not_count(self):
        old = Entry(path=b"a", type=EntryType.FIFO)
        new = replace(old, inode=7, ctime_ns=8, filesystem=1, links=2)

        assert list(compare([old], [new], by_digest)) == []


class TestMoves:
    def file(self, path, content, **fields):
        digest = sha256(content).digest()
        return Entry(path=path, type=EntryType.FILE, size=len(content), digest=digest, **fields)

    def moved(self, old, new, **options):
        return list(with_moves(compare(old, new, by_digest), by_content, **options))

    def test_what_went_and_came_again_with_one_content_has_moved(self):
        changes = self.moved(
            [self.file(b"a", b"1"), self.file(b"b", b"2")],
            [self.file(b"c", b"1", mode=0o600), self.file(b"d", b"3")],
        )

        assert [(one.kind, one.entry.path) for one in changes] == [
            (Kind.REMOVED, b"b"),
            (Kind.MOVED, b"c"),
            (Kind.ADDED, b"d"),
        ]
        assert changes[1].old.path == b"a"
        assert changes[1].fields == ("mode",)

    def test_each_is_taken_once_in_order(self):
        changes = self.moved(
            [self.file(b"a", b"1"), self.file(b"b", b"1")],
            [self.file(name, b"1") for name in (b"x", b"y", b"z")],
        )

        assert [(one.kind, one.old and one.old.path) for one in changes] == [
            (Kind.MOVED, b"a"),
            (Kind.MOVED, b"b"),
            (Kind.ADDED, None),
        ]

    def test_empty_files_do_not_move(self):
        changes = self.moved([self.file(b"a", b"")], [self.file(b"b", b"")])

        assert [one.kind for one in changes] == [Kind.REMOVED, Kind.ADDED]

    @pytest.mark.parametrize(("most", "kinds"), [(2, ["moved"]), (1, ["removed", "added"])])
    def test_beyond_a_bound_none_are_looked_for(self, most, kinds):
        changes = self.moved([self.file(b"a", b"1")], [self.file(b"b", b"1")], most_held=most)

        assert [str(one.kind) for one in changes] == kinds

    def test_the_summary_counts_bytes(self):
        summary = Summary()
        old = [self.file(b"a", b"12345"), self.file(b"b", b"1"), self.file(b"m", b"moves")]
        new = [self.file(b"b", b"22"), self.file(b"n", b"moves"), self.file(b"o", b"123")]
        for change in self.moved(old, new):
            summary.count(change)

        assert dict(summary.kinds) == {
            Kind.REMOVED: 1,
            Kind.CONTENT: 1,
            Kind.MOVED: 1,
            Kind.ADDED: 1,
        }
        assert (summary.added, summary.removed) == (5, 6)


def grow(top, chance):
    """Make a random tree."""
    for number in range(chance.randrange(3, 25)):
        place = top.joinpath(*[chance.choice("abc") for _ in range(chance.randrange(3))])
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"f{number}"
        path.write_bytes(chance.randbytes(chance.choice([0, 5, 300, 3 * SMALL_CAP])))
        os.utime(path, ns=(0, MOMENT + chance.randrange(3)))
        if chance.random() < 0.2:
            (place / f"l{number}").symlink_to(chance.choice(["x", "y"]))


def change(top, chance):
    """Change a tree at random."""
    for path in sorted(top.rglob("*")):
        draw = chance.random()
        if not os.path.lexists(path) or draw > 0.5:
            continue
        if path.is_symlink():
            path.unlink()
            path.symlink_to(chance.choice(["x", "y"]))
        elif path.is_dir() and draw < 0.05:
            shutil.rmtree(path)
            path.write_text("a file now")
        elif path.is_dir():
            path.chmod(chance.choice([0o700, 0o755]))
        elif draw < 0.15:
            path.unlink()
        elif draw < 0.25:
            path.chmod(chance.choice([0o600, 0o644]))
        else:
            data = bytearray(path.read_bytes() + b"x" * chance.randrange(2))
            data[len(data) // 2 : len(data) // 2 + 1] = chance.randbytes(1) if data else b""
            path.write_bytes(data)
            os.utime(path, ns=(0, MOMENT + chance.randrange(3)))
    grow(top / "new", chance) if chance.random() < 0.5 else None


def expected_between(before, after):
    """Return the kinds of changes by path, by an account of both trees that is not ours."""
    found = {}
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            found[path] = "added" if old is None else "removed"
        elif old.type != new.type:
            found[path] = "type"
        elif (old.sha256, old.target) != (new.sha256, new.target):
            found[path] = "content"
        elif (old.mode, old.uid, old.gid, old.mtime_ns) != (
            new.mode,
            new.uid,
            new.gid,
            new.mtime_ns,
        ):
            found[path] = "metadata"
    return found


class TestRealTrees:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.integers(0, 10**6))
    def test_two_snapshots_differ_as_their_trees_did(self, seed, tmp_path_factory, make_request):
        chance, top = random.Random(seed), tmp_path_factory.mktemp("tree")
        storage = MemoryStorage()

        def taken():
            cap = chance.choice([SMALL_CAP, SMALL_CAP * 2])
            archive = chance.choice([ArchiveType.TAR, ArchiveType.TAR_GZ, ArchiveType.TAR_BZ2])
            request = make_request(top, cap=cap, archive=archive)
            name = take_snapshot(request, storage).name
            return locate(storage, name).open(request.identities)

        grow(top, chance)
        before, first = listing(top), taken()
        change(top, chance)
        after, second = listing(top), taken()

        changes = compare(*entries_apart(first, second, ()), partial(same, first, second))

        cut = len(os.fsencode(top))
        found = {(b"/" + one.entry.path)[cut + 1 :]: str(one.kind) for one in changes}
        assert found == expected_between(before, after)

    def test_a_snapshot_does_not_differ_from_itself(self, tree, take):
        reader = take(tree)

        assert changes_between(reader, reader) == []
        assert [list(one) for one in entries_apart(reader, reader, ())] == [[], []]

    def test_paths_choose(self, source, take):
        for name in ("a", "a-b", "c"):
            (source / name).mkdir()
            (source / name / "file").write_text("1")
        old = take(source)
        for name in ("a", "a-b", "c"):
            (source / name / "file").write_text("22")
        new = take(source)
        wanted = [os.fsencode(source / "a")[1:], os.fsencode(source / "c" / "file")[1:]]

        assert told(changes_between(old, new, wanted), source) == [
            ("content", "a/file"),
            ("content", "c/file"),
        ]


class TestContents:
    def entry(self, reader, path):
        wanted = os.fsencode(path)[1:]
        return next(one for one in select_entries(reader, [wanted]) if one.path == wanted)

    @pytest.mark.parametrize("change", [None, 0, 150_000, 299_999])
    def test_large_files_that_were_cut_differently_are_read(self, source, take, change):
        data = bytearray(os.urandom(300_000))
        (source / "file").write_bytes(data)
        old = take(source, cap=SMALL_CAP)
        if change is not None:
            data[change] ^= 1
            (source / "file").write_bytes(data)
        new = take(source, cap=3 * SMALL_CAP)
        whole = take(source)
        one, two, three = (self.entry(each, source / "file") for each in (old, new, whole))
        expected = Verdict.SAME if change is None else Verdict.DIFFERENT

        assert len({one.digest, two.digest, three.digest}) == 3
        assert compare_stored(old, one, new, two) is expected
        assert compare_stored(old, one, whole, three) is expected
        assert compare_stored(new, two, whole, three) is Verdict.SAME

    def test_what_could_not_be_read_when_it_was_saved_is_not_compared(self, source, take):
        (source / "file").write_text("content")
        reader = take(source)
        entry = self.entry(reader, source / "file")
        lost = replace(entry, digest=b"", extents=(), error="Permission denied")

        assert compare_stored(reader, entry, reader, lost) is Verdict.UNKNOWN
        assert compare_stored(reader, entry, reader, replace(lost, size=3)) is Verdict.DIFFERENT

    def test_holes_count_as_zeros(self, source, take):
        (source / "data").write_bytes(b"abcdef")
        (source / "plain").write_bytes(b"\0\0abc\0\0\0def\0")
        (source / "other").write_bytes(b"\0\0abc\0\0\1def\0")
        reader = take(source)
        plain, other = (self.entry(reader, source / name) for name in ("plain", "other"))
        sparse = replace(self.entry(reader, source / "data"), size=12, data=((2, 3), (8, 3)))

        assert b"".join(whole_content(reader, sparse)) == b"\0\0abc\0\0\0def\0"
        assert compare_stored(reader, sparse, reader, plain) is Verdict.SAME
        assert compare_stored(reader, sparse, reader, other) is Verdict.DIFFERENT
        for content, expected in (("plain", True), ("other", False)):
            data = (source / content).read_bytes()
            found = file_has_content(
                reader, sparse, lambda at, length, data=data: data[at : at + length]
            )
            assert found is expected

    @pytest.mark.parametrize("size", [0, 10, 300_000])
    @pytest.mark.parametrize("cap", [SMALL_CAP, None])
    def test_a_file_is_compared_with_what_was_saved_of_it(self, source, take, size, cap):
        data = bytearray(os.urandom(size))
        (source / "file").write_bytes(data)
        reader = take(source, **({"cap": cap} if cap else {}))
        entry = self.entry(reader, source / "file")

        def is_same():
            return file_has_content(reader, entry, lambda at, length: bytes(data[at : at + length]))

        assert is_same()
        for place in {0, size // 2, size - 1} if size else ():
            data[place] ^= 1
            assert not is_same()
            data[place] ^= 1


class TestTheSourceAsItIs:
    def test_nothing_stays_open(self, source, saved):
        (source / "one").write_text("eno")
        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - descriptors are no paths

        self.differences(saved, with_content=True)

        assert os.listdir("/proc/self/fd") == before  # noqa: PTH208

    @pytest.fixture
    def saved(self, source, take):
        """Return a snapshot of files that were quiet for long when they were saved."""
        for name in ("one", "two", "three"):
            (source / name).write_text(name)
        return take(source)

    def differences(self, reader, paths=(), **options):
        entries = [replace(one, racy=False) for one in select_entries(reader, paths)]
        with PresentSource(reader, paths, **options) as present:
            found = list(compare(entries, present.entries(), present.compare))
        return [one for one in found if not one.is_only_times_of_directory]

    def test_nothing_changed(self, saved):
        assert self.differences(saved) == []

    def test_each_kind_of_change(self, source, saved):
        (source / "four").write_text("new")
        (source / "one").unlink()
        (source / "two").write_text("longer than it was")
        (source / "three").chmod(0o600)

        assert told(self.differences(saved), source) == [
            ("added", "four"),
            ("removed", "one"),
            ("metadata", "three"),
            ("content", "two"),
        ]

    def test_the_same_size_at_another_time_may_be_anything_unless_it_is_read(self, source, saved):
        (source / "one").write_text("eno")
        (source / "two").touch()

        assert told(self.differences(saved), source) == [("maybe", "one"), ("maybe", "two")]
        assert told(self.differences(saved, with_content=True), source) == [
            ("content", "one"),
            ("metadata", "two"),
        ]

    def test_a_file_that_hides_its_change_by_its_time_is_found_when_it_is_read(self, source, saved):
        status = (source / "one").stat()
        (source / "one").write_text("eno")
        os.utime(source / "one", ns=(status.st_atime_ns, status.st_mtime_ns))

        assert told(self.differences(saved), source) == [("maybe", "one")]
        assert told(self.differences(saved, with_content=True), source) == [("content", "one")]

    def test_one_that_changed_while_it_was_saved_is_read(self, source, saved):
        entry = next(one for one in saved.entries() if one.path.endswith(b"/one"))
        wrong = replace(entry, racy=True, digest=bytes(32))

        with PresentSource(saved, ()) as present:
            assert present.compare(replace(entry, racy=True), entry) is Verdict.SAME
            assert present.compare(wrong, entry) is Verdict.DIFFERENT

    def test_what_cannot_be_listed_is_not_said_to_be_gone(self, open_dir, as_nobody, make_request):
        top = open_dir / "top"
        (top / "closed").mkdir(parents=True)
        (top / "closed" / "file").touch()
        storage = MemoryStorage()
        request = make_request(top)
        reader = locate(storage, take_snapshot(request, storage).name).open(request.identities)
        (top / "closed").chmod(0o000)
        os.chown(top, 0, 0)
        with as_nobody(), PresentSource(reader, ()) as present:
            found = list(compare(reader.entries(), present.entries(), present.compare))

        gone = [one.entry.path for one in found if one.kind is Kind.REMOVED]
        assert [present.is_unread(path) for path in gone] == [True]
        assert [one.reason for one in present.unread] == ["Permission denied"]

    def test_a_source_that_is_gone_is_an_error(self, source, saved):
        shutil.rmtree(source)

        with pytest.raises(SourceError, match="No such file"):
            PresentSource(saved, ())

    def test_a_source_that_became_a_link_is_not_followed(self, source, saved, tmp_path):
        source.rename(tmp_path / "elsewhere")
        source.symlink_to("elsewhere")

        with pytest.raises(SourceError, match="symbolic link"):
            PresentSource(saved, ())

    def test_what_the_snapshot_left_out_by_its_rules_is_not_new(self, source, take):
        (source / "a.log").write_text("left out")
        (source / "kept").write_text("small")
        reader = take(source, rules=ExcludeRules(exclude=("*.log",), larger_than=1000))
        (source / "b.log").write_text("left out, too")
        (source / "kept").write_text("x" * 2000)

        with PresentSource(reader, ()) as present:
            there = {entry.path.rpartition(b"/")[2] for entry in present.entries()}

            assert not {b"a.log", b"b.log"} & there
            # It grew beyond the limit: that is no reason to call it gone.
            assert [one.reason for one in present.unread] == ["larger than 1,000 bytes"]
