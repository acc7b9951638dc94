"""Entries, segments, pages, chunk lists and ends: what is written is what is read."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup.errors import IntegrityError, LimitError, MalformedError
from backup.model import Chunk, Entry, EntryType, Extent, path_key
from backup.snapshot.chunk_list import (
    cut_chunk_list,
    decode_chunks,
    digest_of_chunks,
    encode_chunks,
)
from backup.snapshot.end import decode_end, encode_end
from backup.snapshot.entry_line import (
    EntryLine,
    check_path,
    decode_entry,
    encode_entry,
    from_text,
    to_text,
)
from backup.snapshot.frame import FrameRow, Section
from backup.snapshot.index import (
    IdTable,
    Reference,
    cut_pages,
    cut_segments,
    decode_page,
    decode_segment,
    encode_page,
    encode_segment,
)
from backup.snapshot.token import digest_of
from tests.property.strategies import (
    CHUNKS,
    DIGESTS,
    IDS,
    JSON,
    PATHS,
    U32,
    altered,
    end_records,
    entries,
    references,
    sorted_entries,
)

ROOM = 2**20
ROWS = st.builds(
    FrameRow,
    st.sampled_from([Section.ARCHIVE, Section.INDEX, Section.CHUNKS]),
    st.integers(0, 2**64 - 1),
    U32,
    U32,
    DIGESTS,
)
LONG_LISTS = settings(max_examples=15)


def encoded(entry):
    table = IdTable()
    return encode_entry(entry, table.ordinal), table


def many_entries(count):
    """Return entries of many names, in order, with some metadata."""
    digest = bytes(32)
    return [
        Entry(path=b"d/%06d" % n, type=EntryType.FILE, digest=digest, mtime_ns=n)
        for n in range(count)
    ]


class TestAnEntry:
    @given(entry=entries())
    @example(Entry(path=b"", type=EntryType.DIRECTORY))
    @example(Entry(path=b"\xff", type=EntryType.SYMLINK, target=b"\xfe"))
    def test_comes_back_as_it_was(self, entry):
        line, table = encoded(entry)

        assert decode_entry(line, table.ids()) == entry

    @given(entry=entries())
    def test_is_one_line_of_json(self, entry):
        line, _ = encoded(entry)

        assert b"\n" not in line
        assert json.loads(line)["t"] == entry.type

    @given(entry=entries())
    def test_tells_its_path_in_one_way(self, entry):
        """ "`p` as text when it is UTF-8, else `pb`, its bytes in base64; exactly one of them"."""
        value = json.loads(encoded(entry)[0])

        assert ("p" in value) != ("pb" in value)
        assert ("pb" in value) == (to_text(entry.path)[0] is None)

    @given(entry=entries(), extra=st.dictionaries(st.text(min_size=6, max_size=9), JSON))
    def test_may_have_fields_that_nobody_knows(self, entry, extra):
        """ "Readers MUST ignore fields that they do not know"."""
        line, table = encoded(entry)
        known = {field.encode_name for field in msgspec.structs.fields(EntryLine)}
        extra = {name: value for name, value in extra.items() if name not in known}

        longer = json.dumps(extra | json.loads(line)).encode()

        assert decode_entry(longer, table.ids()) == entry

    @settings(max_examples=300)
    @given(entry=entries(), data=st.data())
    def test_that_was_altered_is_an_entry_or_malformed(self, entry, data):
        line, table = encoded(entry)

        try:
            found = decode_entry(data.draw(altered(line)), table.ids())
        except MalformedError:
            return

        check_path(found.path, found.type)
        assert 0 <= found.mode <= 0o7777
        assert found.type in {"file", "stream"} or not (found.extents or found.chunk_lists)

    @given(line=st.one_of(st.binary(max_size=100), JSON.map(lambda one: json.dumps(one).encode())))
    def test_of_anything_is_malformed(self, line):
        with pytest.raises(MalformedError):
            decode_entry(line, ())

    def test_of_nested_lists_is_malformed(self):
        deep = b'{"t":"fifo","p":"a","future":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

        with pytest.raises(MalformedError):
            decode_entry(deep, ())

    @given(kind=st.sampled_from(list(EntryType)), path=st.binary(max_size=30))
    def test_has_a_path_that_stays_below_its_root(self, kind, path):
        names = path.split(b"/")
        good = (
            all(names)
            and b"\0" not in path
            and not {b".", b".."} & set(names)
            and max(map(len, names)) <= 255
        ) or (path == b"" and kind is EntryType.DIRECTORY)

        if good:
            check_path(path, kind)
        else:
            with pytest.raises(MalformedError):
                check_path(path, kind)

    @given(raw=st.binary(max_size=40))
    def test_has_one_text_for_each_name(self, raw):
        assert from_text(*to_text(raw)) == raw


class TestASegment:
    @settings(max_examples=50)
    @given(listed=sorted_entries())
    def test_comes_back_as_it_was(self, listed):
        assert decode_segment(encode_segment(listed)) == listed

    @settings(max_examples=50)
    @given(listed=sorted_entries(), data=st.data())
    def test_is_refused_when_its_entries_are_in_another_order(self, listed, data):
        shuffled = data.draw(st.permutations(listed))

        if shuffled != listed:
            with pytest.raises(MalformedError):
                decode_segment(encode_segment(shuffled))

    @settings(max_examples=50)
    @given(listed=sorted_entries(), place=st.integers(0))
    def test_is_refused_when_a_path_comes_twice(self, listed, place):
        place %= len(listed)
        twice = [*listed[: place + 1], *listed[place:]]

        with pytest.raises(MalformedError):
            decode_segment(encode_segment(twice))

    @given(listed=sorted_entries(max_size=4), data=st.data())
    def test_that_was_changed_anywhere_gives_no_foreign_error(self, listed, data):
        changed = bytearray(encode_segment(listed))
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))

        try:
            decode_segment(bytes(changed))
        except MalformedError:
            return

    @given(data=st.binary(max_size=200))
    def test_of_anything_is_malformed(self, data):
        for decode in (decode_segment, decode_page, decode_chunks):
            with pytest.raises(MalformedError):
                decode(data)

    @given(paths=st.lists(PATHS, min_size=2, max_size=10, unique=True))
    def test_has_what_is_in_a_directory_right_behind_it(self, paths):
        """ "Entries are sorted by their paths' bytes with `/` replaced by NUL"."""
        paths = [*paths, paths[0] + b"/x", paths[0] + b"-x"]
        ordered = sorted(set(paths), key=path_key)
        below = [path for path in ordered if path.startswith(paths[0] + b"/")]

        start = ordered.index(paths[0])

        assert ordered[start + 1 : start + 1 + len(below)] == below


class TestCuttingAnIndex:
    @settings(max_examples=50)
    @given(listed=sorted_entries(), most=st.integers(1, 20_000))
    def test_keeps_all_entries_in_order_and_no_segment_too_large(self, listed, most):
        parts = list(cut_segments(listed, most_bytes=most))

        assert [entry for part in parts for entry in part] == listed
        assert all(len(part) == 1 or len(encode_segment(part)) <= most + 200 for part in parts)

    @LONG_LISTS
    @given(count=st.integers(1, 5000), place=st.integers(0))
    def test_is_not_changed_by_metadata_but_in_one_segment(self, count, place):
        """ "borders never depend on metadata, so that segments stay what they were"."""
        listed = many_entries(count)
        place %= count
        changed = list(listed)
        changed[place] = msgspec.structs.replace(listed[place], mtime_ns=-1, mode=0o600)

        before = [encode_segment(part) for part in cut_segments(listed, most_bytes=ROOM)]
        after = [encode_segment(part) for part in cut_segments(changed, most_bytes=ROOM)]

        assert len(before) == len(after)
        assert sum(one != other for one, other in zip(before, after, strict=True)) == 1

    @LONG_LISTS
    @given(count=st.integers(2, 5000), place=st.integers(0))
    def test_is_changed_by_an_entry_more_in_two_segments_at_most(self, count, place):
        listed = many_entries(count)
        added = Entry(path=b"d/%06d+" % (place % count), type=EntryType.FIFO)
        longer = sorted([*listed, added], key=lambda entry: path_key(entry.path))

        before = {encode_segment(part) for part in cut_segments(listed, most_bytes=ROOM)}
        after = {encode_segment(part) for part in cut_segments(longer, most_bytes=ROOM)}

        assert len(after - before) <= 2

    def test_makes_segments_of_about_512_entries_and_none_above_2048(self):
        sizes = [len(part) for part in cut_segments(many_entries(60_000), most_bytes=2**23)]

        assert max(sizes) <= 2048
        assert 300 < 60_000 / len(sizes) < 800

    def test_makes_pages_of_about_256_segments(self):
        listed = [Reference(bytes(16), n, bytes(32), 1, b"d/%06d" % n) for n in range(20_000)]

        sizes = [len(page) for page in cut_pages(listed, most_bytes=2**23)]

        assert max(sizes) <= 1024
        assert sum(sizes) == 20_000
        assert 150 < 20_000 / len(sizes) < 450

    @LONG_LISTS
    @given(count=st.integers(1, 3000), place=st.integers(0))
    def test_changes_one_page_for_one_segment(self, count, place):
        listed = [Reference(bytes(16), n, bytes(32), 1, b"d/%06d" % n) for n in range(count)]
        changed = list(listed)
        changed[place % count] = listed[place % count]._replace(digest=b"\1" * 32)

        before = [encode_page(page) for page in cut_pages(listed, most_bytes=ROOM)]
        after = [encode_page(page) for page in cut_pages(changed, most_bytes=ROOM)]

        assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


class TestAPage:
    @given(listed=st.lists(references(), max_size=5))
    def test_comes_back_as_it_was(self, listed):
        assert decode_page(encode_page(listed)) == listed

    def test_names_no_more_snapshots_than_an_ordinal_can(self):
        table = IdTable(*(n.to_bytes(16, "big") for n in range(2**16)))

        with pytest.raises(LimitError):
            table.ordinal(b"\xff" * 16)


class TestAChunkList:
    @given(listed=st.lists(CHUNKS, max_size=10))
    def test_comes_back_as_it_was(self, listed):
        assert decode_chunks(encode_chunks(listed)) == listed

    @given(listed=st.lists(CHUNKS, min_size=1, max_size=4), data=st.data())
    def test_that_was_changed_anywhere_gives_no_foreign_error(self, listed, data):
        changed = bytearray(encode_chunks(listed))
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))

        try:
            decode_chunks(bytes(changed))
        except MalformedError:
            return

    @given(listed=st.lists(CHUNKS, min_size=1, max_size=4), cut=st.integers(1, 45))
    def test_is_refused_when_it_is_cut_within_a_row(self, listed, cut):
        with pytest.raises(MalformedError):
            decode_chunks(encode_chunks(listed)[:-cut])

    @LONG_LISTS
    @given(count=st.integers(1, 9000), place=st.integers(0))
    def test_is_changed_by_one_chunk_in_two_segments_at_most(self, count, place):
        listed = [Chunk(digest_of(b"%d" % n), Extent(bytes(16), n, 0, 1)) for n in range(count)]
        changed = list(listed)
        changed[place % count] = Chunk(digest_of(b"new"), Extent(b"\1" * 16, 0, 0, 1))

        before = {encode_chunks(part) for part in cut_chunk_list(listed, most_bytes=2**23)}
        parts = list(cut_chunk_list(changed, most_bytes=2**23))

        assert [chunk for part in parts for chunk in part] == changed
        assert len({encode_chunks(part) for part in parts} - before) <= 3

    @given(listed=st.lists(CHUNKS, min_size=1, max_size=60), most=st.integers(128, 4000))
    def test_is_cut_before_it_outgrows_a_frame(self, listed, most):
        parts = list(cut_chunk_list(listed, most_bytes=most))

        assert [chunk for part in parts for chunk in part] == listed
        assert all(len(encode_chunks(part)) <= most for part in parts)

    @given(digests=st.lists(DIGESTS))
    def test_has_the_digest_of_its_digests(self, digests):
        assert digest_of_chunks(digests) == digest_of(b"".join(digests))


class TestAnEnd:
    @settings(max_examples=100)
    @given(
        own_id=IDS, rows=st.lists(ROWS, max_size=6), block=st.binary(max_size=100), data=st.data()
    )
    def test_comes_back_as_it_was(self, own_id, rows, block, data):
        record = data.draw(end_records(own_id))

        body = encode_end(own_id, record, rows)

        assert decode_end(own_id, body + block) == (record, rows, body, block)

    @settings(max_examples=200)
    @given(own_id=IDS, rows=st.lists(ROWS, max_size=3), data=st.data())
    def test_that_was_altered_gives_no_foreign_error(self, own_id, rows, data):
        body = encode_end(own_id, data.draw(end_records(own_id)), rows)
        line, _, table = body.partition(b"\n")

        try:
            decode_end(own_id, data.draw(altered(line)) + b"\n" + table)
        except IntegrityError:
            return

    @given(own_id=IDS, data=st.binary(max_size=200))
    def test_of_anything_is_malformed(self, own_id, data):
        with pytest.raises(MalformedError):
            decode_end(own_id, data)

    @given(own_id=IDS, data=st.data())
    def test_names_every_snapshot_that_its_pages_lie_in(self, own_id, data):
        record = data.draw(end_records(own_id))
        page = data.draw(references())
        known = {own_id, *(one.id for one in record.referred)}

        if page.snapshot not in known:
            with pytest.raises(MalformedError):
                encode_end(own_id, msgspec.structs.replace(record, pages=(page,)), [])
