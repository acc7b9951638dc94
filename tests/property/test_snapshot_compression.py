"""Pieces: what goes in comes out, with other tools too, and never more than was asked for."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import shutil
import subprocess

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import IntegrityError, InvalidArgumentError, LimitError, MalformedError
from backup.model import ArchiveType
from backup.snapshot import compression
from backup.snapshot.compression import (
    DEFAULT_LEVELS,
    LEVELS,
    check_level,
    compress,
    decompress,
    decompress_up_to,
    holds,
    metadata_archive,
    store_xz,
)
from backup.snapshot.frame import PLACE_BYTES, piece_capacity
from tests.property.strategies import ARCHIVES, CAPS, COMPRESSED, pieces

LIBRARIES = {
    ArchiveType.TAR_XZ: lzma.decompress,
    ArchiveType.TAR_ZST: zstd.decompress,
    ArchiveType.TAR_GZ: gzip.decompress,
    ArchiveType.TAR_BZ2: bz2.decompress,
    ArchiveType.TAR: bytes,
}
SIZES = [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000]
needs_xz = pytest.mark.skipif(shutil.which("xz") is None, reason="there is no xz here")


class TestAPiece:
    """ "A *piece* is one complete compressed stream"."""

    @settings(max_examples=60)
    @given(archive=ARCHIVES, plain=pieces(), data=st.data())
    def test_holds_what_went_in(self, archive, plain, data):
        levels = LEVELS[archive]
        level = data.draw(st.integers(levels.start, min(levels.stop - 1, 9)))

        piece = compress(archive, level, plain)

        assert decompress(archive, piece, plain_length=len(plain)) == plain
        assert LIBRARIES[archive](piece) == plain

    @settings(max_examples=40)
    @given(archive=ARCHIVES, plains=st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    def test_may_be_joined_with_others_to_what_any_tool_reads(self, archive, plains):
        level = DEFAULT_LEVELS[archive]

        joined = b"".join(compress(archive, level, plain) for plain in plains)

        assert LIBRARIES[archive](joined) == b"".join(plains)

    @settings(max_examples=100)
    @given(archive=ARCHIVES, plain=pieces(), less=st.integers(1, 1000))
    def test_never_gives_more_than_was_asked_for(self, archive, plain, less):
        """ "a reader MUST bound decompression by it"."""
        piece = compress(archive, DEFAULT_LEVELS[archive], plain)

        if plain:
            with pytest.raises(LimitError):
                decompress_up_to(archive, piece, limit=max(len(plain) - less, 0))
        with pytest.raises(MalformedError):
            decompress(archive, piece, plain_length=len(plain) + less)
        assert decompress_up_to(archive, piece, limit=len(plain) + less) == plain

    @settings(max_examples=100)
    @given(archive=COMPRESSED, plain=pieces(), cut=st.integers(0))
    def test_is_refused_when_it_is_cut(self, archive, plain, cut):
        piece = compress(archive, DEFAULT_LEVELS[archive], plain)

        with pytest.raises(MalformedError):
            decompress(archive, piece[: cut % len(piece)], plain_length=len(plain))

    @settings(max_examples=60)
    @given(archive=COMPRESSED, plain=pieces(), tail=st.binary(min_size=1, max_size=20))
    def test_is_refused_with_bytes_behind_its_stream(self, archive, plain, tail):
        piece = compress(archive, DEFAULT_LEVELS[archive], plain)

        with pytest.raises(MalformedError):
            decompress(archive, piece + tail, plain_length=len(plain))

    @settings(max_examples=40)
    @given(archive=COMPRESSED, one=st.binary(max_size=99), other=st.binary(max_size=99))
    def test_is_refused_with_a_second_stream(self, archive, one, other):
        level = DEFAULT_LEVELS[archive]
        piece = compress(archive, level, one) + compress(archive, level, other)

        for length in (len(one), len(one + other)):
            with pytest.raises(MalformedError):
                decompress(archive, piece, plain_length=length)

    @settings(max_examples=200)
    @given(archive=ARCHIVES, piece=st.binary(max_size=200), length=st.integers(0, 300))
    def test_of_anything_gives_no_foreign_error(self, archive, piece, length):
        try:
            plain = decompress(archive, piece, plain_length=length)
        except IntegrityError:
            return

        assert len(plain) == length

    @settings(max_examples=300)
    @given(archive=COMPRESSED, plain=st.binary(min_size=1, max_size=200), place=st.integers(0))
    def test_with_a_flipped_bit_gives_no_foreign_error(self, archive, plain, place):
        piece = bytearray(compress(archive, DEFAULT_LEVELS[archive], plain))
        piece[place // 8 % len(piece)] ^= 1 << place % 8

        try:
            assert len(decompress(archive, bytes(piece), plain_length=len(plain))) == len(plain)
        except IntegrityError:
            return

    @pytest.mark.parametrize("archive", list(ArchiveType))
    def test_comes_out_of_views_as_well(self, archive):
        piece = compress(archive, DEFAULT_LEVELS[archive], memoryview(b"hello" * 100))

        assert decompress(archive, memoryview(piece), plain_length=500) == b"hello" * 100

    @settings(max_examples=15)
    @given(
        archive=ARCHIVES,
        cap=st.one_of(st.integers(4096, 200_000), st.sampled_from([4096, 8192, 400_000])),
        chance=st.randoms(use_true_random=False),
    )
    def test_that_does_not_compress_still_fits_a_frame(self, archive, cap, chance):
        """ "so that a piece which does not compress still fits"."""
        plain = chance.randbytes(piece_capacity(archive, cap))

        piece = compress(archive, LEVELS[archive].start, plain)

        assert len(piece) + PLACE_BYTES <= cap

    @given(archive=ARCHIVES, cap=CAPS)
    def test_has_a_capacity_below_the_cap(self, archive, cap):
        assert 0 < piece_capacity(archive, cap) < cap


def comes_back(archive, piece, plain):
    """Return whether ``piece`` decompresses to ``plain``."""
    try:
        return decompress(archive, piece, plain_length=len(plain)) == plain
    except IntegrityError:
        return False


class TestProvingAPiece:
    """ "each frame is decompressed and compared before it is sealed"."""

    @settings(max_examples=60)
    @given(archive=ARCHIVES, plain=pieces(), place=st.integers(0), tail=st.binary(max_size=20))
    def test_only_what_went_in_is_what_it_holds(self, archive, plain, place, tail):
        piece = compress(archive, DEFAULT_LEVELS[archive], plain)
        changed = bytearray(plain)
        if plain:
            changed[place % len(plain)] ^= 1 << place % 8

        assert holds(archive, piece, plain)
        assert holds(archive, memoryview(piece), bytearray(plain))
        assert holds(archive, piece, memoryview(plain))
        assert holds(archive, piece, bytes(changed)) == (not plain)
        assert holds(archive, piece, plain + tail) == (not tail)
        assert holds(archive, piece, plain[: place % (len(plain) + 1)]) == (
            place % (len(plain) + 1) == len(plain)
        )

    @settings(max_examples=200)
    @given(
        archive=ARCHIVES,
        plain=pieces(),
        cut=st.integers(0),
        tail=st.one_of(st.just(b""), st.binary(max_size=20)),
        place=st.one_of(st.none(), st.integers(0)),
    )
    def test_that_is_damaged_holds_nothing_but_what_comes_back(
        self, archive, plain, cut, tail, place
    ):
        piece = bytearray(compress(archive, DEFAULT_LEVELS[archive], plain))
        if place is not None and piece:
            piece[place // 8 % len(piece)] ^= 1 << place % 8
        damaged = bytes(piece[: cut % (len(piece) + 1)] if cut % 3 else piece) + tail

        assert not holds(archive, damaged, plain) or comes_back(archive, damaged, plain)

    @settings(max_examples=40)
    @given(archive=COMPRESSED, one=st.binary(max_size=99), other=st.binary(max_size=99))
    def test_in_two_streams_is_refused(self, archive, one, other):
        level = DEFAULT_LEVELS[archive]
        piece = compress(archive, level, one) + compress(archive, level, other)

        assert not holds(archive, piece, one)
        assert not holds(archive, piece, one + other)

    @settings(max_examples=200)
    @given(archive=ARCHIVES, piece=st.binary(max_size=200), plain=st.binary(max_size=200))
    def test_of_anything_gives_no_foreign_error(self, archive, piece, plain):
        assert not holds(archive, piece, plain) or comes_back(archive, piece, plain)

    @pytest.mark.parametrize("archive", list(ArchiveType))
    def test_of_many_steps_is_proven_to_its_last_byte(self, archive):
        plain = random.Random(1).randbytes(300_000)
        piece = compress(archive, DEFAULT_LEVELS[archive], plain)
        step = compression._STEP

        assert holds(archive, piece, plain)
        for at in (step - 1, step, len(piece) - 1):
            assert not holds(archive, piece[:at], plain)
        assert not holds(archive, piece + bytes(step), plain)
        assert not holds(archive, piece, plain[:-1] + bytes([plain[-1] ^ 1]))


class TestAStoredStream:
    """ "For xz such a piece SHOULD be stored as LZMA2 chunks without compression, with CRC32"."""

    @settings(max_examples=40)
    @given(plain=pieces())
    def test_is_an_xz_stream(self, plain):
        stored = store_xz(plain)

        assert lzma.decompress(stored, format=lzma.FORMAT_XZ) == plain
        assert decompress(ArchiveType.TAR_XZ, stored, plain_length=len(plain)) == plain
        assert len(stored) <= len(plain) + 3 * (len(plain) // 65_536 + 1) + 80

    @needs_xz
    @pytest.mark.parametrize("size", SIZES)
    def test_passes_the_tests_of_xz(self, size, tmp_path):
        plain = (bytes(range(256)) * (size // 256 + 1))[:size]
        path = tmp_path / "stored.xz"
        path.write_bytes(store_xz(plain))

        subprocess.run(["xz", "--test", path], check=True)
        listed = subprocess.run(
            ["xz", "--robot", "--list", path], check=True, capture_output=True, text=True
        )
        opened = subprocess.run(["xz", "--decompress", "--stdout", path], check=True, stdout=-1)

        assert opened.stdout == plain
        assert "\tCRC32\t" in listed.stdout

    @needs_xz
    def test_may_be_joined_with_compressed_ones(self, tmp_path):
        path = tmp_path / "joined.xz"
        path.write_bytes(store_xz(b"one ") + lzma.compress(b"two ") + store_xz(b"three"))

        opened = subprocess.run(["xz", "--decompress", "--stdout", path], check=True, stdout=-1)

        assert opened.stdout == b"one two three"

    def test_is_what_incompressible_pieces_become(self):
        chance = random.Random(1).randbytes(100_000)

        assert compress(ArchiveType.TAR_XZ, 6, chance) == store_xz(chance)
        assert compress(ArchiveType.TAR_XZ, 6, bytes(100_000)) != store_xz(bytes(100_000))


class TestLevels:
    @given(archive=ARCHIVES, level=st.integers(-5, 30))
    def test_outside_those_of_a_type_are_refused(self, archive, level):
        if level in LEVELS[archive]:
            assert check_level(archive, level) == level
        else:
            with pytest.raises(InvalidArgumentError):
                check_level(archive, level)

    @given(archive=ARCHIVES)
    def test_have_a_default_that_is_one(self, archive):
        assert check_level(archive, None) in LEVELS[archive]

    def test_of_an_index_are_those_of_gzip_in_a_plain_tar(self):
        assert metadata_archive(ArchiveType.TAR) is ArchiveType.TAR_GZ
        assert metadata_archive(ArchiveType.TAR_XZ) is ArchiveType.TAR_XZ
