"""Frames, headers and keys files: round trips, padding, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import (
    ForeignFrameError,
    FrameError,
    FrameOutOfPlaceError,
    HeaderError,
    IntegrityError,
    MalformedError,
)
from backup.snapshot.end import FOOTER_BYTES, decode_footer, encode_footer
from backup.snapshot.frame import PLACE_BYTES, FrameKeys, Section, padded_length
from backup.snapshot.header import (
    HEADER_CAP,
    Slot,
    check_header,
    encode_header,
    encode_keys_file,
    parse_core,
    parse_header,
    parse_keys_file,
)
from backup.snapshot.recipients import FernetKey, make_slots, open_header
from backup.snapshot.signing import HostKey, check_signature
from backup.snapshot.token import open_token, token_tag
from tests.property.strategies import CAPS, DIGESTS, MESSAGES, U32, altered, cores

SECTIONS = st.sampled_from([Section.ARCHIVE, Section.INDEX, Section.CHUNKS, Section.END])
SECRETS = DIGESTS
LENGTHS = st.one_of(st.integers(1, 70_000), st.integers(1, 2**26))


def padme(length):
    """Return Padmé's step as the document writes it: 2^(E - S)."""
    exponent = math.floor(math.log2(length))
    significant = math.floor(math.log2(exponent)) + 1 if exponent else 1
    return 2 ** max(exponent - significant, 0)


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


class TestPadding:
    """ "a multiple of the larger of 4,096 bytes and Padmé's step (2^(E - S) …)"."""

    @given(length=LENGTHS, cap=CAPS)
    def test_never_shortens_and_never_goes_beyond_the_cap(self, length, cap):
        padded = padded_length(length, cap)

        assert padded >= length
        assert padded <= max(cap, length)

    @given(length=LENGTHS)
    def test_is_to_the_next_multiple_of_the_step(self, length):
        step = max(4096, padme(length))

        padded = padded_length(length, 2**40)

        assert padded % step == 0
        assert padded - length < step

    @given(length=LENGTHS, cap=CAPS)
    def test_of_what_is_padded_adds_nothing(self, length, cap):
        padded = padded_length(length, cap)

        assert padded_length(padded, cap) == padded

    @given(length=LENGTHS, more=st.integers(0, 10_000), cap=CAPS)
    def test_keeps_the_order_of_lengths(self, length, more, cap):
        assert padded_length(length, cap) <= padded_length(length + more, cap)

    @given(length=st.integers(131_072, 2**26))
    def test_adds_at_most_a_32nd_above_128_kib(self, length):
        assert padded_length(length, 2**40) - length <= length / 31

    def test_leaves_few_lengths(self):
        lengths = {padded_length(length, 2**26) for length in range(1, 2**23, 1009)}

        assert len(lengths) < 250


class TestAFrame:
    @settings(max_examples=60)
    @given(core=cores(), key=SECRETS, section=SECTIONS, number=U32, piece=MESSAGES)
    def test_comes_back_as_it_was(self, core, key, section, number, piece):
        keys = FrameKeys(core, key)

        frame = keys.seal(section, number, piece, 7)

        opened = keys.open(section, number, frame.token, tag=token_tag(frame.token))
        assert (opened, frame.section, frame.number, frame.plain) == (piece, section, number, 7)
        assert len(frame.token) <= keys.longest_token()

    @settings(max_examples=40)
    @given(core=cores(cap=4096), key=SECRETS, length=st.integers(0, 4096 - PLACE_BYTES))
    def test_has_the_length_of_its_padding(self, core, key, length):
        keys = FrameKeys(core, key)

        token = keys.seal(Section.ARCHIVE, 0, bytes(length), 0).token

        assert len(token) == keys.longest_token()

    @given(core=cores(cap=4096), key=SECRETS, more=st.integers(1, 100))
    def test_beyond_the_cap_is_not_made(self, core, key, more):
        piece = bytes(4096 - PLACE_BYTES + more)

        with pytest.raises(MalformedError):
            FrameKeys(core, key).seal(Section.ARCHIVE, 0, piece, 0)

    @settings(max_examples=60)
    @given(core=cores(cap=4096), key=SECRETS, piece=MESSAGES, bit=st.integers(0))
    def test_with_a_flipped_bit_is_refused(self, core, key, piece, bit):
        keys = FrameKeys(core, key)
        token = keys.seal(Section.INDEX, 3, piece, 0).token

        with pytest.raises((FrameError, ForeignFrameError)):
            keys.open(Section.INDEX, 3, flipped(token, bit))
        with pytest.raises((FrameError, ForeignFrameError)):
            keys.open(Section.INDEX, 3, flipped(token, bit), tag=token_tag(token))

    @settings(max_examples=60)
    @given(
        core=cores(cap=4096),
        key=SECRETS,
        places=st.tuples(SECTIONS, U32),
        other=st.tuples(SECTIONS, U32),
    )
    def test_opens_in_its_own_place_alone(self, core, key, places, other):
        keys = FrameKeys(core, key)
        token = keys.seal(*places, b"piece", 5).token

        if places == other:
            assert keys.open(*other, token) == b"piece"
        else:
            with pytest.raises(FrameOutOfPlaceError):
                keys.open(*other, token)

    @settings(max_examples=40)
    @given(one=cores(cap=4096), other=cores(cap=4096), key=SECRETS)
    def test_opens_in_its_own_snapshot_alone(self, one, other, key):
        token = FrameKeys(one, key).seal(Section.ARCHIVE, 0, b"piece", 5).token

        if one.digest != other.digest:
            with pytest.raises((FrameError, ForeignFrameError)):
                FrameKeys(other, key).open(Section.ARCHIVE, 0, token)

    @settings(max_examples=20)
    @given(core=cores(cap=4096), key=SECRETS)
    def test_of_another_writing_of_its_place_is_refused(self, core, key):
        keys = FrameKeys(core, key)
        one, other = (keys.seal(Section.ARCHIVE, 0, b"piece", 5).token for _ in range(2))

        with pytest.raises(ForeignFrameError):
            keys.open(Section.ARCHIVE, 0, one, tag=token_tag(other))

    @settings(max_examples=20)
    @given(core=cores(cap=8192), key=SECRETS, piece=MESSAGES)
    def test_has_zeros_behind_its_piece(self, core, key, piece):
        keys = FrameKeys(core, key)
        token = keys.seal(Section.ARCHIVE, 0, piece, 0).token

        message = bytes(open_token(keys._key, token))

        assert message[PLACE_BYTES:] == piece.ljust(4096 - PLACE_BYTES, b"\0")

    @given(core=cores(), token=st.binary(max_size=200))
    def test_of_anything_gives_no_foreign_error(self, core, token):
        with pytest.raises((FrameError, ForeignFrameError)):
            FrameKeys(core, bytes(32)).open(Section.ARCHIVE, 0, token)


class TestAHeader:
    @settings(max_examples=60)
    @given(
        core=cores(), key=DIGESTS, secrets=st.lists(SECRETS, min_size=1, max_size=4, unique=True)
    )
    def test_opens_for_each_of_its_keys_and_comes_back_as_it_was(self, core, key, secrets):
        slots = make_slots([FernetKey(secret) for secret in secrets], key, core)

        data = encode_header(core, slots, key)
        header = parse_header(data + b"what follows")

        assert (header.core, header.slots, header.length) == (core, slots, len(data))
        assert all(open_header(header, [FernetKey(secret)]) == key for secret in secrets)
        assert len(data) <= HEADER_CAP

    @settings(max_examples=30)
    @given(core=cores(), key=DIGESTS, secret=SECRETS, generation=st.integers(0, 10**18))
    def test_comes_back_from_a_keys_file(self, core, key, secret, generation):
        slots = make_slots([FernetKey(secret)], key, core)

        header = parse_keys_file(encode_keys_file(core, slots, key, generation))

        assert header.generation == generation
        assert open_header(header, [FernetKey(secret)]) == key

    @given(core=cores(), key=DIGESTS, other=DIGESTS)
    def test_has_a_mac_of_its_data_key(self, core, key, other):
        slot = Slot(type="x", id="0" * 16, wrapped="")
        header = parse_header(encode_header(core, (slot,), key))

        check_header(header, key)
        if key != other:
            with pytest.raises(HeaderError):
                check_header(header, other)

    @given(core=cores(), data=st.data())
    def test_has_a_core_line_that_is_never_written_anew(self, core, data):
        assert parse_core(core.line) == core
        try:
            altered_line = data.draw(altered(core.line))
            assert parse_core(altered_line).line == altered_line
        except IntegrityError:
            return

    @given(data=st.binary(max_size=300))
    def test_of_anything_gives_no_foreign_error(self, data):
        for prefix in (b"", b"auto-backup snapshot 1\n", b"auto-backup snapshot "):
            with pytest.raises(IntegrityError):
                parse_header(prefix + data)
        for prefix in (b"", b"auto-backup keys 1\n"):
            with pytest.raises(IntegrityError):
                parse_keys_file(prefix + data)

    @given(core=cores(), number=st.integers(0, 40))
    def test_has_1_to_32_slots(self, core, number):
        slots = (Slot(type="x", id="0" * 16, wrapped=""),) * number

        if 1 <= number <= 32:
            assert len(parse_header(encode_header(core, slots, bytes(32))).slots) == number
        else:
            with pytest.raises(MalformedError):
                encode_header(core, slots, bytes(32))


class TestAFooter:
    @given(offset=st.integers(0, 2**64 - 1))
    def test_comes_back_as_it_was(self, offset):
        footer = encode_footer(offset)

        assert len(footer) == FOOTER_BYTES
        assert decode_footer(footer) == offset


class TestASignature:
    @settings(max_examples=30)
    @given(core=cores(), body=MESSAGES, secret=SECRETS, bit=st.integers(0))
    def test_fits_what_was_signed_and_nothing_else(self, core, body, secret, bit):
        host = HostKey(secret)

        block = host.sign(core, body)

        assert check_signature(core, body, block, [host.public]) == host.public
        for changed, changed_block in (
            (body + b"\0", block),
            (body, flipped(block, bit)),
            (body, block[:-1]),
            (body, b""),
        ):
            with pytest.raises(IntegrityError):
                check_signature(core, changed, changed_block, None)
