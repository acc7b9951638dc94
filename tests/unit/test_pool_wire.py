"""Frame jobs and reports cross from process to process as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import DecodeError, ValidationError

from backup.manager.frame_wire import (
    FrameReport,
    RangeOutcome,
    decode_job,
    decode_report,
    encode_job,
    encode_report,
)
from backup.manager.plan import FrameJob, Member, Range
from backup.model import Chunk, EntryType, Extent
from backup.pool.messages import ENDED, JOB, RESULT, WORKER
from tests.property.strategies import entries

IDS = st.binary(min_size=16, max_size=16)
DIGESTS = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 2**63 - 1)
EXTENTS = st.builds(Extent, IDS, NUMBERS, NUMBERS, NUMBERS)
CHUNKS = st.builds(Chunk, DIGESTS, EXTENTS)
FILES = entries().filter(lambda entry: entry.type is EntryType.FILE)
RANGES = st.builds(Range, FILES, NUMBERS, st.lists(st.integers(1, 2**40), min_size=1).map(tuple))
MEMBERS = st.builds(Member, entries(), st.none() | st.binary(min_size=1, max_size=300))
JOBS = st.builds(
    FrameJob,
    NUMBERS,
    st.lists(MEMBERS, min_size=1, max_size=8).map(tuple) | RANGES.map(lambda one: (one,)),
)
OUTCOMES = st.builds(
    RangeOutcome, st.lists(CHUNKS).map(tuple), st.booleans(), st.booleans(), st.text()
)
REPORTS = st.builds(
    FrameReport,
    plain=NUMBERS,
    lines=st.lists(st.binary()),
    cuts=st.lists(NUMBERS),
    content=st.binary().map(bytearray),
    entries=st.lists(st.tuples(NUMBERS, entries())),
    files=NUMBERS,
    size=NUMBERS,
    problems=st.lists(st.tuples(st.binary(), st.text())),
    range=st.none() | OUTCOMES,
)


@given(JOBS)
def test_a_job_is_the_same_on_the_other_side(job):
    assert decode_job(memoryview(encode_job(job))) == job


@given(REPORTS)
def test_a_report_is_the_same_on_the_other_side(report):
    assert decode_report(memoryview(encode_report(report))) == report


@given(JOBS, st.data())
def test_what_was_cut_is_no_job(job, data):
    whole = encode_job(job)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]

    with pytest.raises((DecodeError, ValidationError)):
        decode_job(memoryview(cut))


@pytest.mark.parametrize("packet", [JOB, RESULT, ENDED, WORKER])
def test_packets_are_small_enough_to_be_sent_whole(packet):
    assert packet.size <= 32
