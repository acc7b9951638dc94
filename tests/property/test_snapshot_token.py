"""The binary codec against ``cryptography.fernet.Fernet``, in both directions."""

from __future__ import annotations

import base64
import hmac

import pytest
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st

from backup.snapshot.token import (
    OVERHEAD,
    TokenDamagedError,
    TokenKey,
    open_token,
    seal_token,
    token_length,
    token_tag,
    token_time,
)
from tests.property.strategies import KEYS, MESSAGES, TIMES

# From https://github.com/fernet/spec, generate.json and verify.json.
SPEC_KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
SPEC_TOKEN = (
    "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU"
    "4IwqDA=="
)
SPEC_TIME = 499_162_800
SPEC_IV = bytes(range(16))
IVS = st.binary(min_size=16, max_size=16)


def fernet(key):
    return Fernet(base64.urlsafe_b64encode(key.signing + key.encryption))


def text(token):
    return base64.urlsafe_b64encode(token)


def spec_key():
    return TokenKey.from_bytes(base64.urlsafe_b64decode(SPEC_KEY))


def signed(key, content):
    """Return a token of ``content`` with a tag that fits."""
    return content + hmac.digest(key.signing, content, "sha256")


def encrypted(key, iv, blocks):
    """Return blocks in CBC, with no padding but their own."""
    encryptor = Cipher(AES(key.encryption), CBC(iv)).encryptor()
    return encryptor.update(blocks) + encryptor.finalize()


class TestATokenInBinary:
    """ "a Fernet token in binary: the bytes that its base64url text encodes"."""

    @given(key=KEYS, time=TIMES, message=MESSAGES)
    def test_opens_with_fernet(self, key, time, message):
        token = seal_token(key, time, message)

        assert fernet(key).decrypt(text(token)) == message
        assert fernet(key).extract_timestamp(text(token)) == time == token_time(token)

    @given(key=KEYS, time=st.integers(0, 2**62), message=MESSAGES)
    def test_of_fernet_opens_here(self, key, time, message):
        token = base64.urlsafe_b64decode(fernet(key).encrypt_at_time(message, time))

        assert open_token(key, token) == message
        assert token_time(token) == time
        assert token_length(len(message)) == len(token)

    @given(key=KEYS, time=TIMES, message=MESSAGES, iv=IVS)
    def test_has_the_bytes_of_fernet(self, key, time, message, iv):
        theirs = fernet(key)._encrypt_from_parts(message, time, iv)

        assert text(seal_token(key, time, message, iv=iv)) == theirs

    @given(key=KEYS, time=TIMES, parts=st.lists(MESSAGES, max_size=5), iv=IVS)
    def test_does_not_depend_on_how_the_message_comes_in_parts(self, key, time, parts, iv):
        views = [memoryview(part) for part in parts]

        assert seal_token(key, time, *views, iv=iv) == seal_token(key, time, b"".join(parts), iv=iv)

    @given(key=KEYS, time=TIMES, message=MESSAGES)
    def test_ends_in_its_tag_and_has_the_length_that_is_told(self, key, time, message):
        token = seal_token(key, time, message)

        assert len(token) == token_length(len(message))
        assert token_tag(token) == hmac.digest(key.signing, token[:-32], "sha256")

    @given(key=KEYS, message=MESSAGES)
    def test_is_another_each_time(self, key, message):
        assert seal_token(key, 0, message) != seal_token(key, 0, message)

    def test_is_that_of_the_specification(self):
        token = seal_token(spec_key(), SPEC_TIME, b"hello", iv=SPEC_IV)

        assert text(token).decode() == SPEC_TOKEN
        assert open_token(spec_key(), base64.urlsafe_b64decode(SPEC_TOKEN)) == b"hello"

    def test_opens_from_bytes_and_views_alike(self):
        token = seal_token(spec_key(), 1, b"hello")

        assert open_token(spec_key(), bytes(token)) == open_token(spec_key(), memoryview(token))


class TestATokenThatIsRefused:
    @given(key=KEYS, other=KEYS, message=MESSAGES)
    def test_is_that_of_another_key(self, key, other, message):
        token = seal_token(key, 0, message)

        if key.signing != other.signing:
            with pytest.raises(TokenDamagedError):
                open_token(other, token)

    @given(key=KEYS, message=st.binary(max_size=60), bit=st.integers(0))
    def test_is_one_with_a_flipped_bit(self, key, message, bit):
        token = seal_token(key, 1_700_000_000, message)
        token[bit // 8 % len(token)] ^= 1 << bit % 8

        with pytest.raises(TokenDamagedError):
            open_token(key, token)

    def test_is_one_with_any_flipped_bit(self):
        token = seal_token(spec_key(), SPEC_TIME, b"hello", iv=SPEC_IV)

        for bit in range(8 * len(token)):
            changed = bytearray(token)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(TokenDamagedError):
                open_token(spec_key(), changed)

    @given(key=KEYS, message=st.binary(max_size=60), length=st.integers(0))
    def test_is_one_that_was_cut(self, key, message, length):
        token = seal_token(key, 0, message)

        with pytest.raises(TokenDamagedError):
            open_token(key, token[: length % len(token)])

    @given(key=KEYS, message=st.binary(max_size=60), tail=st.binary(min_size=1, max_size=40))
    def test_is_one_with_bytes_behind(self, key, message, tail):
        with pytest.raises(TokenDamagedError):
            open_token(key, bytes(seal_token(key, 0, message)) + tail)

    @given(key=KEYS, message=MESSAGES)
    def test_is_text(self, key, message):
        """ "A reader MUST NOT accept text"."""
        with pytest.raises(TokenDamagedError):
            open_token(key, text(seal_token(key, 0, message)))

    @given(key=KEYS, version=st.integers(0, 255).filter(lambda version: version != 0x80))
    def test_is_of_another_version_though_its_tag_fits(self, key, version):
        token = seal_token(key, 0, b"hello")
        token[0] = version

        changed = signed(key, bytes(token[:-32]))

        with pytest.raises(TokenDamagedError):
            open_token(key, changed)
        with pytest.raises(InvalidToken):
            fernet(key).decrypt(text(changed))

    @given(key=KEYS, length=st.integers(0, 40))
    def test_has_no_whole_blocks_though_its_tag_fits(self, key, length):
        if length % 16 == 0 and length:
            return
        content = b"\x80" + bytes(8) + bytes(16) + bytes(length)

        with pytest.raises(TokenDamagedError):
            open_token(key, signed(key, content))

    @given(key=KEYS, iv=IVS, blocks=st.binary(min_size=32, max_size=32))
    def test_and_one_that_is_not_are_the_same_as_with_fernet_for_any_padding(self, key, iv, blocks):
        """The padding of the specification's invalid.json, and all others."""
        token = signed(key, b"\x80" + bytes(8) + iv + encrypted(key, iv, blocks))

        assert outcome(open_token, key, token) == outcome(decrypt, key, token)

    @given(key=KEYS, iv=IVS, fill=st.integers(0, 255), count=st.integers(0, 16))
    def test_has_a_padding_that_is_not_one(self, key, iv, fill, count):
        blocks = (bytes(32) + bytes([fill]) * count)[-32:]
        token = signed(key, b"\x80" + bytes(8) + iv + encrypted(key, iv, blocks))

        assert outcome(open_token, key, token) == outcome(decrypt, key, token)

    @pytest.mark.parametrize("length", [0, 1, 8, 9, 24, 25, 56, 57, 72])
    def test_is_too_short(self, length):
        """The specification's invalid.json: "too short"."""
        with pytest.raises(TokenDamagedError):
            open_token(spec_key(), (b"\x80" + bytes(100))[:length])

    def test_has_another_iv(self):
        """The specification's invalid.json: "incorrect IV (causes padding error)"."""
        token = bytearray(seal_token(spec_key(), SPEC_TIME, b"hello", iv=SPEC_IV))
        token[24] ^= 0x80

        with pytest.raises(TokenDamagedError):
            open_token(spec_key(), signed(spec_key(), bytes(token[:-32])))


def decrypt(key, token):
    return fernet(key).decrypt(text(token))


def outcome(function, key, token):
    try:
        return bytes(function(key, token))
    except (TokenDamagedError, InvalidToken):
        return None


class TestAKey:
    def test_does_not_show_itself(self):
        assert "115" not in repr(spec_key())
        assert repr(spec_key()) == "TokenKey(…)"

    def test_signs_with_its_first_half(self):
        key = TokenKey.from_bytes(bytes(range(32)))

        assert key.signing == bytes(range(16))
        assert key.encryption == bytes(range(16, 32))
        assert OVERHEAD == 57
