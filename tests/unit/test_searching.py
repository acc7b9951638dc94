from __future__ import annotations

import os
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import IntegrityError
from backup.listing import list_snapshots
from backup.locating import locate
from backup.manager import take_snapshot
from backup.model import Entry, EntryType
from backup.searching import Glob, Search, Searched, like_file, literal_top, wanted_for
from backup.snapshot.frame import Section
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage


@pytest.fixture
def storage(store):
    return LocalStorage(store)


@pytest.fixture
def take(storage, source, make_request, clock):
    def taken(job="job", **fields):
        name = take_snapshot(make_request(source, job=job, clock=clock, **fields), storage).name
        clock.advance(hours=1)
        return name

    return taken


@pytest.fixture
def search(storage, make_request):
    def searched(*globs, test=None, **options):
        opened = [
            Searched(one, locate(storage, one.name).open(make_request().identities))
            for one in list_snapshots(storage)
        ]
        return Search(opened, wanted_for(globs, **options), test)

    return searched


class TestPatterns:
    @pytest.mark.parametrize(
        ("glob", "path", "fits"),
        [
            ("a.txt", b"home/ann/a.txt", True),
            ("a.txt", b"home/ann/ba.txt", False),
            ("*.txt", b"home/ann/a.txt", True),
            ("a?t", b"home/a/t", False),
            ("*", b"", True),
            ("ann", b"home/ann/a.txt", False),
            ("ann/*.txt", b"home/ann/a.txt", True),
            ("nn/*.txt", b"home/ann/a.txt", False),
            ("/home/*.txt", b"home/ann/a.txt", True),
            ("/ann/a.txt", b"home/ann/a.txt", False),
            ("/home/ann/", b"home/ann", True),
            ("[ab].txt", b"b.txt", True),
            ("[!ab].txt", b"b.txt", False),
            ("*\udcff*", b"x\xffy", True),
            ("A.TXT", b"home/a.txt", False),
            ("a\nb", b"a\nb", True),
            ("/", b"", True),
        ],
    )
    def test_names_ends_of_paths_and_whole_paths(self, glob, path, fits):
        assert Glob(glob).fits(path) is fits

    def test_case_may_be_ignored(self):
        assert Glob("A.TXT", ignore_case=True).fits(b"home/a.txt")
        assert Glob("/HOME/*", ignore_case=True).fits(b"home/a.txt")

    @given(
        glob=st.text("ab*?[]/", min_size=1, max_size=8).map(lambda text: "/" + text),
        path=st.text("ab/", max_size=8),
    )
    def test_what_fits_begins_with_the_literal_directory(self, glob, path):
        raw = path.strip("/").encode()
        top = literal_top(glob)
        if Glob(glob).fits(raw) and re.search("//", glob) is None:
            assert not top or raw == top or raw.startswith(top + b"/")


class TestVersions:
    def test_what_changed_when_and_since_when_it_is_gone(self, source, take, search):
        path = source / "letter"
        (source / "another").touch()
        path.write_text("one")
        os.utime(path, ns=(0, 1))
        first, second = take(), take()
        path.write_text("two, longer")
        os.utime(path, ns=(0, 1))
        third = take()
        path.unlink()
        fourth = take()
        path.write_text("again")
        fifth = take()

        (found,) = search("letter")

        def names(version):
            return [one.name for one in version.snapshots]

        one, two, three = found.versions
        assert found.path == os.fsencode(path)[1:]
        assert (names(one), one.changed, one.gone_in) == ([first, second], (), None)
        assert (names(two), two.changed) == ([third], ("content",))
        assert two.gone_in.name == fourth
        assert (names(three), three.changed, three.gone_in) == ([fifth], (), None)
        assert three.entry.size == 5

    def test_jobs_are_apart(self, source, take, search):
        (source / "letter").write_text("one")
        names = [take("a"), take("b"), take("a")]

        (found,) = search("letter")

        assert [[s.name for s in one.snapshots] for one in found.versions] == [
            [names[0], names[2]],
            [names[1]],
        ]
        assert all(one.changed == () and one.gone_in is None for one in found.versions)

    def test_paths_come_in_order_each_once(self, tree, storage, search, make_request, clock):
        for _ in range(3):
            take_snapshot(make_request(tree, clock=clock), storage)
            clock.advance(hours=1)

        found = [one.path for one in search("*")]

        reader = search("*")._searched[0].reader
        assert found == [entry.path for entry in reader.entries()]

    @given(
        held=st.lists(
            st.lists(st.sampled_from(["", "1", "22", "2x"]), min_size=3, max_size=3),
            min_size=1,
            max_size=4,
        )
    )
    def test_runs_add_up_to_what_each_snapshot_holds(self, held):
        """Compare with an account by snapshot; ``held`` is the content of a path in each."""
        for contents in held:
            search = Search([], wanted_for(["*"]))
            search._searched = [
                Searched(_Named(f"{number}"), None) for number in range(len(contents))
            ]
            entries = {
                place: Entry(
                    path=b"p", type=EntryType.FILE, size=len(text), digest=text.encode() * 16
                )
                for place, text in enumerate(contents)
                if text
            }
            versions = list(search._versions(entries))
            told = [(s.name, one.entry.digest) for one in versions for s in one.snapshots]
            assert told == [(str(place), entry.digest) for place, entry in entries.items()]
            for one in versions:
                last = int(one.snapshots[-1].name)
                is_gone = last + 1 < len(contents) and not contents[last + 1]
                assert (one.gone_in is not None) == is_gone
                before = int(one.snapshots[0].name) - 1
                assert bool(one.changed) == (before >= 0 and contents[before] != "")


class _Named:
    """A snapshot of one job, known by its name."""

    host = job = "x"

    def __init__(self, name):
        self.name = name


class TestFilters:
    def paths(self, found):
        return [os.path.basename(one.path).decode() for one in found]  # noqa: PTH119 - bytes

    def test_by_size_and_time(self, source, take, search):
        for name, size, time in (("a", 10, 5), ("b", 11, 6), ("c", 12, 4)):
            (source / name).write_bytes(b"x" * size)
            os.utime(source / name, ns=(0, time))
        os.utime(source, ns=(0, 3))
        take()

        assert self.paths(search(larger_than=10)) == ["b", "c"]
        assert self.paths(search(newer_than=4)) == ["a", "b"]
        assert self.paths(search("[ac]", larger_than=10)) == ["c"]

    def test_by_digest_of_files_that_have_one(self, source, take, search):
        (source / "small").write_text("content")
        (source / "large").write_bytes(bytes(100_000))
        take(cap=32 * 1024)
        found = search(digest=sha256(b"content").digest())
        assert self.paths(found) == ["small"]
        assert found.without_plain_digest == 1
        assert self.paths(search(digest=sha256(bytes(100_000)).digest())) == []

    @pytest.mark.parametrize("size", [0, 7, 100_000])
    def test_by_content_whichever_way_it_was_cut(self, source, take, search, size):
        data = os.urandom(size)
        (source / "wanted").write_bytes(data)
        (source / "other").write_bytes(bytes(size + 1))
        (source / "same size").write_bytes(bytes(one ^ 1 for one in data) + b"x" * (size == 0))
        take(cap=32 * 1024)
        take(cap=64 * 1024)
        take()
        test = like_file(size, lambda at, length: data[at : at + length])

        (found,) = search(test=test)

        assert self.paths([found]) == ["wanted"]
        assert sum(len(one.snapshots) for one in found.versions) == 3


class TestWhatIsRead:
    def test_only_the_index_and_of_that_what_can_hold_it(self, source, make_request, clock):
        class Counting(MemoryStorage):
            reads = 0

            def read_range(self, name, offset, length):
                self.reads += 1
                return super().read_range(name, offset, length)

        storage = Counting(clock=clock)
        for name in ("aa", "bb", "cc"):
            (source / name).mkdir()
            for number in range(1500):
                (source / name / f"file {number}").touch()
        request = make_request(source, archive="tar.gz", clock=clock)
        reader = locate(storage, take_snapshot(request, storage).name).open(request.identities)
        opened = []
        reader.on_frame = opened.append
        (stored,) = list_snapshots(storage)

        assert len(list(Search([Searched(stored, reader)], wanted_for([f"{source}/bb/*7"])))) == 150
        narrow = len(opened)
        assert len(list(Search([Searched(stored, reader)], wanted_for(["*7"])))) == 450

        assert {reader.rows[number].section for number in opened} == {Section.INDEX}
        assert 0 < narrow < len(set(opened))

    def test_a_damaged_index_is_told_and_the_others_are_searched(self, source, take, search, store):
        (source / "letter").write_text("content")
        names = [take(), take(), take()]
        reader = search("letter")._searched[1].reader
        index = next(row for row in reader.rows if row.section is Section.INDEX)
        with (store / names[1]).open("r+b") as file:
            file.seek(index.offset + 50)
            file.write(b"\0" * 9)

        looking = search("letter")
        (found,) = looking

        held = [s.name for one in found.versions for s in one.snapshots]
        assert held == [names[0], names[2]]
        assert [one.gone_in for one in found.versions] == [None, None]
        ((stored, error),) = looking.problems
        assert stored.name == names[1]
        assert isinstance(error, IntegrityError)
