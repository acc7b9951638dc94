from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backup.archive.tar import member_header, padding
from backup.errors import SourceError
from backup.manager.plan import FrameJob, Member, Range, plan_jobs, size_bound
from backup.model import Entry, EntryType, path_key

CAPACITY = 28_672
TYPES = [EntryType.FILE] * 5 + [EntryType.DIRECTORY, EntryType.SYMLINK, EntryType.FIFO]


def file(path, size=0, **fields):
    return Entry(path=path, type=EntryType.FILE, size=size, **fields)


def cut_evenly(entry):
    """Cut into pieces of 10,000 bytes."""
    for at in range(0, entry.stored_size, 10_000):
        yield min(10_000, entry.stored_size - at)


def refuse(entry):
    raise SourceError("Permission denied")
    yield


def breaking_after(count):
    def cut(entry):
        for number, length in enumerate(cut_evenly(entry)):
            if number == count:
                raise SourceError("Input/output error")
            yield length

    return cut


def plan(entries, cut=cut_evenly, capacity=CAPACITY):
    return list(plan_jobs(entries, capacity=capacity, cut=cut))


def plain_bytes(job):
    """Return how many bytes the frame of ``job`` really takes."""
    size = 0
    for item in job.items:
        if isinstance(item, Range):
            size += len(member_header(item.entry)) if item.offset == 0 else 0
            size += sum(item.lengths)
            size += padding(item.entry.stored_size) if item.is_last else 0
        elif not item.entry.error:
            size += len(member_header(item.entry, hardlink_to=item.hardlink_to))
            if item.hardlink_to is None and item.entry.type is EntryType.FILE:
                size += item.entry.stored_size + padding(item.entry.stored_size)
    return size


attributes = st.lists(
    st.tuples(st.just(b"user.a"), st.integers(0, 300).map(bytes)), max_size=3
).map(tuple)


def _with_holes(size, count):
    """Return the map of a file of ``size`` bytes with ``count`` holes of 10 bytes."""
    step = size // (count + 1)
    return tuple((at * step + 10, step - 10) for at in range(count))


@st.composite
def trees(draw):
    """Return entries in walking order, some of them names of one file."""
    names = st.binary(min_size=1, max_size=60).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
    )
    paths = draw(st.lists(names, unique=True, max_size=25))
    entries = []
    for path in sorted(paths, key=path_key):
        kind = draw(st.sampled_from(TYPES))
        sizes = st.one_of(
            st.integers(0, 3000),
            st.integers(CAPACITY - 3000, CAPACITY + 600),
            st.integers(0, 5 * CAPACITY),
        )
        inode = draw(st.integers(1, 6))
        same = kind is EntryType.FILE and draw(st.booleans())
        twins = [one for one in entries if same and one.inode == inode]
        size = (twins[0].size if twins else draw(sizes)) if kind is EntryType.FILE else 0
        holes = draw(st.integers(0, 10)) if size > 1000 and not same else 0
        entries.append(
            Entry(
                path=path,
                type=kind,
                size=size,
                data=_with_holes(size, holes) if holes else None,
                xattrs=draw(attributes),
                links=2 if same else 1,
                inode=inode,
                mtime_ns=draw(st.sampled_from([0, 5, -1])) if not twins else twins[0].mtime_ns,
                target=b"t" * draw(st.integers(0, 300)) if kind is EntryType.SYMLINK else b"",
                user=draw(st.sampled_from(["", "root", "ü" * 40])),
            )
        )
    return entries


cuts = st.one_of(st.sampled_from([cut_evenly, refuse]), st.integers(0, 4).map(breaking_after))


class TestAnyPlan:
    @given(entries=trees(), cut=cuts)
    def test_has_every_entry_exactly_once_and_in_its_order(self, entries, cut):
        jobs = plan(entries, cut)

        firsts = [
            item.entry.path
            for job in jobs
            for item in job.items
            if isinstance(item, Member) or item.offset == 0
        ]
        assert firsts == [entry.path for entry in entries]

    @given(entries=trees(), cut=cuts)
    def test_numbers_its_jobs_from_zero_on_and_has_no_empty_one(self, entries, cut):
        jobs = plan(entries, cut)

        assert [job.number for job in jobs] == list(range(len(jobs)))
        assert all(job.items for job in jobs)

    @given(entries=trees(), cut=cuts)
    def test_has_no_job_above_the_capacity(self, entries, cut):
        for job in plan(entries, cut):
            assert plain_bytes(job) <= CAPACITY
            assert len(job.items) == 1 or sum(map(size_bound, job.items)) <= CAPACITY

    @given(entries=trees(), cut=cuts)
    def test_covers_large_files_from_end_to_end_without_gap(self, entries, cut):
        ranges = {}
        for job in plan(entries, cut):
            for item in job.items:
                if isinstance(item, Range):
                    assert len(job.items) == 1
                    ranges.setdefault(item.entry.path, []).append(item)

        for parts in ranges.values():
            assert parts[0].offset == 0
            assert all(one.stop == other.offset for one, other in pairwise(parts))
            assert parts[-1].stop == parts[-1].entry.stored_size
            assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
            assert all(length > 0 for part in parts for length in part.lengths)

    @given(entries=trees())
    def test_names_one_file_twice_only_where_it_is_the_same_one(self, entries):
        by_path = {entry.path: entry for entry in entries}
        for job in plan(entries):
            for item in job.items:
                if isinstance(item, Member) and item.hardlink_to is not None:
                    first = by_path[item.hardlink_to]
                    assert path_key(first.path) < path_key(item.entry.path)
                    assert (first.inode, first.size, first.mtime_ns, first.links) == (
                        item.entry.inode, item.entry.size, item.entry.mtime_ns, 2,
                    )  # fmt: skip


class TestPlanning:
    def test_nothing_gives_no_job(self):
        assert plan([]) == []

    def test_it_is_lazy(self):
        taken = []

        def entries():
            for number in range(100):
                taken.append(number)
                yield file(b"%03d" % number, 5000)

        jobs = plan_jobs(entries(), capacity=CAPACITY, cut=cut_evenly)
        next(jobs)

        assert len(taken) < 10

    def test_small_files_share_a_frame_until_it_is_full(self):
        jobs = plan([file(b"%d" % number, 4000) for number in range(8)])

        assert [len(job.items) for job in jobs] == [4, 4]

    def test_a_file_at_the_border_is_whole_and_one_byte_more_is_cut(self):
        whole = CAPACITY - size_bound(Member(file(b"x")))

        (job,) = plan([file(b"x", whole // 512 * 512)])
        jobs = plan([file(b"x", whole // 512 * 512 + 1)])

        assert isinstance(job.items[0], Member)
        assert all(isinstance(job.items[0], Range) for job in jobs)

    def test_a_large_file_stands_between_the_frames_of_the_others(self):
        entries = [file(b"a", 10), file(b"b", 60_000), file(b"c", 10)]

        jobs = plan(entries)

        assert [[item.entry.path for item in job.items] for job in jobs] == [
            [b"a"], [b"b"], [b"b"], [b"b"], [b"c"],
        ]  # fmt: skip

    def test_a_large_file_that_cannot_be_opened_becomes_an_entry_that_says_so(self):
        large = file(b"large", 100_000)

        (job,) = plan([large], refuse)

        (item,) = job.items
        assert isinstance(item, Member)
        assert item.entry.error == "Permission denied"

    def test_one_that_breaks_off_is_planned_to_its_end(self):
        jobs = plan([file(b"large", 100_000)], breaking_after(5))

        assert isinstance(jobs[0].items[0], Range)
        assert sum(sum(job.items[0].lengths) for job in jobs) == 100_000

    def test_the_padding_behind_the_last_chunk_has_its_place(self):
        lengths = [14_338, 14_336, 14_335]
        large = file(b"large", sum(lengths))

        jobs = plan([large], lambda _: iter(lengths))

        assert padding(large.size) == 511
        assert all(plain_bytes(job) <= CAPACITY for job in jobs)

    def test_another_name_of_a_large_file_is_small(self):
        large = file(b"a", 100_000, links=2, inode=5)

        jobs = plan([large, file(b"b", 100_000, links=2, inode=5)])

        last = jobs[-1].items[0]
        assert isinstance(last, Member)
        assert last.hardlink_to == b"a"

    def test_inodes_of_different_file_systems_are_different(self):
        one = file(b"a", links=2, inode=5, filesystem=0)
        other = file(b"b", links=2, inode=5, filesystem=1)

        (job,) = plan([one, other])

        assert job == FrameJob(0, (Member(one), Member(other)))

    def test_an_inode_that_has_another_content_by_now_stands_alone(self):
        entries = [
            file(b"a", 10, links=2, inode=5, mtime_ns=1),
            file(b"b", 10, links=2, inode=5, mtime_ns=2),
            file(b"c", 10, links=2, inode=5, mtime_ns=1),
        ]

        (job,) = plan(entries)

        assert [item.hardlink_to for item in job.items] == [None, None, b"a"]
        assert [item.entry.links for item in job.items] == [2, 1, 2]
