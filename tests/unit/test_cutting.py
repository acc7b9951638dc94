from __future__ import annotations

import builtins
import hashlib
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.archive.cutting import average_chunk, chunk_lengths
from backup.errors import BackupError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
LONGEST = 4 * MIB


def reader(data):
    return lambda offset, length: data[offset : offset + length]


def cut(data, longest=LONGEST):
    return list(chunk_lengths(reader(data), len(data), longest))


def digests(data, longest=LONGEST):
    at, found = 0, []
    for length in cut(data, longest):
        found.append(hashlib.sha256(data[at : at + length]).digest())
        at += length
    return found


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


class TestLengths:
    @pytest.mark.parametrize(
        "size", [0, 1, 1000, 64 * KIB, 256 * KIB, MIB, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1,
                 33 * MIB + 7],
    )  # fmt: skip
    @pytest.mark.parametrize("content", ["noise", "zeros"])
    def test_they_add_up_and_keep_to_the_limits(self, size, content):
        data = noise(size) if content == "noise" else bytes(size)

        lengths = cut(data)

        assert sum(lengths) == size
        assert all(0 < length <= MIB for length in lengths)
        assert all(length >= 64 * KIB for length in lengths[:-1])

    def test_the_average_is_about_a_quarter_of_a_mebibyte(self):
        lengths = cut(noise(64 * MIB))

        assert 64 * MIB / len(lengths) == pytest.approx(256 * KIB, rel=0.35)

    def test_huge_files_are_cut_more_coarsely(self):
        assert average_chunk(64 * GIB - 1) == 256 * KIB
        assert average_chunk(64 * GIB) == MIB

    def test_an_empty_file_has_no_chunks(self):
        assert cut(b"") == []

    @given(
        size=st.integers(0, 300_000),
        longest=st.integers(1100, 90_000),
        seed=st.integers(0, 5),
    )
    def test_no_chunk_is_longer_than_it_may_be(self, size, longest, seed):
        lengths = cut(noise(size, seed), longest)

        assert sum(lengths) == size
        assert all(0 < length <= longest for length in lengths)

    def test_only_a_window_of_the_file_is_read_at_a_time(self):
        data, asked = noise(40 * MIB), []

        def read(offset, length):
            asked.append((offset, length))
            return data[offset : offset + length]

        assert sum(chunk_lengths(read, len(data), LONGEST)) == len(data)
        assert max(length for _, length in asked) <= 8 * MIB
        assert len(asked) <= 6
        assert all(offset + length <= len(data) for offset, length in asked)


class TestContentDecides:
    def test_the_same_bytes_are_always_cut_the_same(self):
        data = noise(20 * MIB)

        assert cut(data) == cut(bytes(data))

    def test_windows_leave_no_trace(self):
        data = noise(20 * MIB)

        whole = digests(data)
        shifted = digests(noise(300 * KIB, seed=9) + data)

        assert len(set(whole) - set(shifted)) <= 3

    @pytest.mark.parametrize("at", [0, 5 * MIB, 17 * MIB, 24 * MIB])
    @pytest.mark.parametrize("amount", [1, 700, 100_000])
    def test_an_insertion_changes_few_chunks(self, at, amount):
        data = noise(24 * MIB)

        before = digests(data)
        after = digests(data[:at] + noise(amount, seed=7) + data[at:])

        assert len(set(before) - set(after)) <= 4
        assert len(set(after) - set(before)) <= 6

    def test_a_removal_and_a_change_in_place_change_few_chunks(self):
        data = noise(24 * MIB)
        changed = bytearray(data)
        changed[10 * MIB : 10 * MIB + 50] = bytes(50)

        before = set(digests(data))

        assert len(before - set(digests(data[: 9 * MIB] + data[9 * MIB + 4321 :]))) <= 4
        assert len(before - set(digests(bytes(changed)))) <= 4


class TestFilesThatBecameShorter:
    @pytest.mark.parametrize("left", [0, 1, 100_000, 16 * MIB, 17 * MIB])
    def test_what_is_missing_is_cut_as_if_it_were_there(self, left):
        data = noise(left)

        lengths = list(chunk_lengths(reader(data), 20 * MIB, LONGEST))

        assert sum(lengths) == 20 * MIB
        assert all(0 < length <= MIB for length in lengths)

    def test_an_error_of_the_reader_goes_through(self):
        def read(_, __):
            raise OSError(5, "Input/output error")

        with pytest.raises(OSError, match="Input/output error"):
            list(chunk_lengths(read, 100, LONGEST))


def test_without_the_compiled_cutter_nothing_is_cut_slowly_in_silence(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name.startswith("pyfastcdc"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.delitem(sys.modules, "pyfastcdc", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(BackupError, match="compiled part") as caught:
        cut(noise(100_000))

    assert "--only-binary" in caught.value.hint
