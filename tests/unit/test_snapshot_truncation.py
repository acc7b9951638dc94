"""A small snapshot, cut, flipped, shuffled and lengthened in every way, is refused each time."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations, permutations

import pytest

from backup.errors import (
    ForeignFrameError,
    FrameOutOfPlaceError,
    IntegrityError,
    SecretKeyError,
    TrailingBytesError,
    TruncatedError,
)
from backup.snapshot.reader import open_snapshot
from backup.snapshot.recipients import FernetKey, PassphraseIdentity
from backup.snapshot.source import BytesSource
from tests.vectors.forge import ARCHIVE, HPKE, KEY, PASSPHRASE, Forge, framed
from tests.vectors.reading import read_all

ARCHIVES = ["tar.xz", "tar.zst", "tar.gz", "tar.bz2", "tar"]
REFUSALS = (IntegrityError, SecretKeyError)


def small_snapshot(archive="tar.gz", files=3):
    forge = Forge(f"small {archive} {files}", archive=archive)
    for place in range(files):
        forge.add_file(f"docs/{place}", forge.random(40))
    forge.end_archive()
    forge.add_whole_index()
    forge.seal_end()
    return forge


def read_whole(data, *identities, keys_file=None):
    reader = open_snapshot(BytesSource(data), identities or (FernetKey(KEY),), keys_file=keys_file)
    return list(read_all(reader))


def refusal(data, *identities, keys_file=None):
    """Return the class of the error with which ``data`` is refused; any other error leaves."""
    try:
        read_whole(data, *identities, keys_file=keys_file)
    except REFUSALS as error:
        return type(error)
    return None


def shuffled(forge, order):
    """Return the file with the frames of ``order`` before its end, and a footer that fits."""
    tokens = b"".join(framed(forge.frames[place].token) for place in order)
    head = forge.header() + tokens
    return head + b"".join(map(framed, forge.end)) + forge.footer(len(head))


def report(what, refusals):
    counts = Counter(one.__name__ for one in refusals)
    print(f"{what}: {len(refusals)} refused, {dict(counts)}")  # noqa: T201


class TestASmallSnapshot:
    @pytest.mark.parametrize("archive", ARCHIVES)
    def test_opens_when_nothing_was_done_to_it(self, archive):
        forge = small_snapshot(archive)

        assert read_whole(forge.data()) == forge.contents

    @pytest.mark.parametrize("archive", ["tar.gz", "tar"])
    def test_is_refused_as_cut_off_at_every_length(self, archive):
        data = small_snapshot(archive).data()

        refusals = [refusal(data[:length]) for length in range(len(data))]

        report("cut", refusals)
        assert set(refusals) == {TruncatedError}

    @pytest.mark.parametrize("archive", ARCHIVES)
    def test_is_refused_with_a_bit_flipped_in_any_byte(self, archive):
        data = small_snapshot(archive).data()
        bits = random.Random(archive)

        refusals = []
        for place in range(len(data)):
            changed = bytearray(data)
            changed[place] ^= 1 << bits.randrange(8)
            refusals.append(refusal(bytes(changed)))

        report("flipped", refusals)
        assert None not in refusals

    def test_is_refused_with_any_bit_of_header_or_footer_flipped(self):
        forge = small_snapshot()
        data = forge.data()
        header = range(len(forge.header()))
        footer = range(len(data) - 24, len(data))

        refusals = []
        for place in [*header, *footer]:
            for bit in range(8):
                changed = bytearray(data)
                changed[place] ^= 1 << bit
                refusals.append(refusal(bytes(changed)))

        report("flipped in header and footer", refusals)
        assert None not in refusals

    def test_is_refused_with_any_byte_of_a_passphrase_slot_changed(self):
        forge = Forge("small with a passphrase")
        forge.slots = [forge.passphrase_slot()]
        forge.end_archive()
        data = forge.data()
        header = forge.header()
        digits = set(b"0123456789")  # costs of more than a second would not fail, only take long
        bits = random.Random(1)

        refusals = []
        for place in range(len(header)):
            if header[place] in digits and header[place - 1] in b":" + bytes(digits):
                continue
            changed = bytearray(data)
            changed[place] ^= 1 << bits.randrange(8)
            refusals.append(refusal(bytes(changed), PassphraseIdentity(PASSPHRASE)))

        report("flipped with a passphrase", refusals)
        assert None not in refusals

    def test_is_refused_with_any_byte_of_a_slot_for_a_public_key_changed(self):
        forge = Forge("small with a public key")
        forge.slots = [forge.hpke_slot()]
        forge.end_archive()
        data = forge.data()
        bits = random.Random(2)

        refusals = []
        for place in range(0, len(forge.header()), 5):
            changed = bytearray(data)
            changed[place] ^= 1 << bits.randrange(8)
            refusals.append(refusal(bytes(changed), HPKE))

        report("flipped with a public key", refusals)
        assert None not in refusals

    def test_opens_by_its_keys_file_with_a_bit_flipped_in_any_byte_of_the_header(self):
        forge = small_snapshot()
        data = forge.data()
        keys_file = forge.make_keys_file()

        for place in range(len(forge.header())):
            changed = bytearray(data)
            changed[place] ^= 1
            assert read_whole(bytes(changed), keys_file=keys_file) == forge.contents

    def test_opens_by_its_header_with_a_bit_flipped_in_any_byte_of_the_keys_file(self):
        forge = small_snapshot()
        data = forge.data()
        keys_file = forge.make_keys_file()

        for place in range(len(keys_file)):
            changed = bytearray(keys_file)
            changed[place] ^= 1
            assert read_whole(data, keys_file=bytes(changed)) == forge.contents

    @pytest.mark.parametrize("files", [1, 2])
    def test_is_refused_with_its_frames_in_any_other_order(self, files):
        forge = small_snapshot(files=files)
        places = range(len(forge.frames))
        assert len(places) == files + 3

        refusals = [
            refusal(shuffled(forge, order))
            for order in permutations(places)
            if order != tuple(places)
        ]

        report(f"{len(places)} frames in other orders", refusals)
        assert set(refusals) == {FrameOutOfPlaceError}

    def test_is_refused_with_any_frames_left_out(self):
        forge = small_snapshot()
        places = range(len(forge.frames))

        refusals = [
            refusal(shuffled(forge, kept))
            for count in range(len(places))
            for kept in combinations(places, count)
        ]

        report("frames left out", refusals)
        assert set(refusals) == {FrameOutOfPlaceError}

    def test_is_refused_with_any_frame_repeated_anywhere(self):
        forge = small_snapshot()
        places = list(range(len(forge.frames)))

        refusals = [
            refusal(shuffled(forge, [*places[:at], repeated, *places[at:]]))
            for repeated in places
            for at in range(len(places) + 1)
        ]
        refusals += [
            refusal(shuffled(forge, [*places[:at], repeated, *places[at + 1 :]]))
            for repeated in places
            for at in places
            if at != repeated
        ]

        report("frames repeated", refusals)
        assert set(refusals) == {FrameOutOfPlaceError}

    def test_is_refused_with_any_frame_of_another_snapshot(self):
        forge = small_snapshot()
        other = Forge("another small one", time=1_700_000_001).sample()
        places = range(len(forge.frames))

        refusals = []
        for place in places:
            frames = list(forge.frames)
            frames[place] = other.frames[place]
            data = forge.header() + b"".join(framed(one.token) for one in frames)
            refusals.append(
                refusal(data + b"".join(map(framed, forge.end)) + forge.footer(len(data)))
            )

        report("frames of another snapshot", refusals)
        assert set(refusals) == {ForeignFrameError}

    def test_is_refused_with_any_two_byte_strings_exchanged(self):
        data = small_snapshot().data()
        chance = random.Random(3)

        refusals = []
        for _ in range(500):
            one, other = sorted(chance.sample(range(len(data) - 8), 2))
            length = min(chance.randint(1, 64), other - one)
            parts = data[one : one + length], data[other : other + length]
            changed = bytearray(data)
            changed[other : other + length], changed[one : one + length] = parts
            if len(changed) != len(data) or bytes(changed) == data:
                continue
            refusals.append(refusal(bytes(changed)))

        report("exchanged", refusals)
        assert None not in refusals

    @pytest.mark.parametrize("length", [1, 2, 3, 4, 23, 24, 25, 48, 1000, 100_000])
    def test_is_refused_with_bytes_behind_its_end(self, length):
        data = small_snapshot().data()
        chance = random.Random(length)

        refusals = [
            refusal(data + tail)
            for tail in (
                bytes(length),
                b"\xff" * length,
                chance.randbytes(length),
                (data * 50)[-length:],
                data[:length],
            )
        ]

        assert set(refusals) == {TrailingBytesError}

    def test_is_refused_with_bytes_before_its_beginning(self):
        data = small_snapshot().data()

        refusals = [refusal(before + data) for before in (b"\0", b"\n", b"auto-", data[:23], data)]

        assert None not in refusals


class TestASnapshotOfSeveralEndFrames:
    def test_is_refused_as_cut_off_or_damaged_at_every_length(self):
        forge = Forge("several ends").sample()
        forge.seal_end(step=300)
        data = forge.data()

        refusals = [refusal(data[:length]) for length in range(forge.end_offset, len(data))]

        report("cut in several end frames", refusals)
        assert None not in refusals
        assert Counter(refusals)[TruncatedError] > len(refusals) - 10


class TestAFrame:
    def test_that_is_authentic_and_not_in_the_table_is_refused_anywhere(self):
        forge = small_snapshot()
        extra = framed(forge.frame(ARCHIVE, bytes(100), number=9).token)
        data = forge.data()
        borders = [forge.offset(place) for place in range(len(forge.frames))]

        refusals = [refusal(data[:at] + extra + data[at:]) for at in [*borders, forge.end_offset]]

        assert None not in refusals
