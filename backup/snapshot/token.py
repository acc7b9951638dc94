"""Fernet tokens in binary: the bytes that the base64 text of a token encodes.

The Fernet specification (https://github.com/fernet/spec) defines a token as the base64url text of
``0x80 | time u64 | IV 16 | AES-128-CBC ciphertext, PKCS #7 padded | HMAC-SHA-256 32``. In binary
it is a quarter smaller, cannot be written in several ways, and is made without holding the
interpreter's lock. Tests hold this codec to ``cryptography.fernet.Fernet`` in both directions.
"""

from __future__ import annotations

import hmac
import os
import struct
from hashlib import sha256
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

VERSION = 0x80
TAG_BYTES = 32
_BLOCK = 16
_PREFIX = struct.Struct(">BQ16s")
OVERHEAD = _PREFIX.size + TAG_BYTES
"""Bytes of a token beside its ciphertext."""


class TokenKey(NamedTuple):
    """The two halves of a Fernet key: 16 bytes that sign, 16 bytes that encrypt."""

    signing: bytes
    encryption: bytes

    @classmethod
    def from_bytes(cls, key: bytes) -> TokenKey:
        """Split the 32 bytes that a Fernet key's text encodes."""
        return cls(key[:16], key[16:])

    def __repr__(self) -> str:
        return "TokenKey(…)"


class TokenDamagedError(Exception):
    """The token does not open with this key; a Fernet token cannot say why."""


def token_length(message_length: int) -> int:
    """Return the length in bytes of a token that holds ``message_length`` bytes."""
    return OVERHEAD + (message_length // _BLOCK + 1) * _BLOCK


def token_room(message_length: int) -> int:
    """Return how many bytes it takes to make a token that holds ``message_length`` bytes."""
    return token_length(message_length) + _BLOCK  # update_into asks for one spare block


def seal_token(
    key: TokenKey,
    time: int,
    *parts: bytes | memoryview,
    iv: bytes | None = None,
    into: bytearray | None = None,
) -> memoryview:
    """Return the token that holds ``parts`` put together.

    Args:
        key: The key to seal with.
        time: Seconds since 1970, in clear in the token.
        parts: The message, in pieces, so that no caller has to join them.
        iv: The initialisation vector; 16 random bytes where none is given. Never give one twice.
        into: Where to put it: ``token_room`` bytes at least, so that what seals one token after
            another need not take new memory for each.
    """
    length = sum(len(part) for part in parts)
    iv = iv or os.urandom(16)
    encryptor = Cipher(AES(key.encryption), CBC(iv)).encryptor()
    token = bytearray(token_room(length)) if into is None else into
    _PREFIX.pack_into(token, 0, VERSION, time, iv)
    view = memoryview(token)
    at = _PREFIX.size
    for part in parts:
        at += encryptor.update_into(part, view[at:])
    fill = _BLOCK - length % _BLOCK
    at += encryptor.update_into(bytes([fill]) * fill, view[at:])
    encryptor.finalize()
    tag = hmac.digest(key.signing, view[:at], "sha256")
    view[at : at + TAG_BYTES] = tag
    return view[: at + TAG_BYTES]


def open_token(key: TokenKey, token: bytes | bytearray | memoryview) -> memoryview:
    """Return the message of ``token``.

    Raises:
        TokenDamagedError: The token was not sealed with this key, or has been changed since.
    """
    view = memoryview(token)
    ciphertext = len(view) - OVERHEAD
    if ciphertext < _BLOCK or ciphertext % _BLOCK or view[0] != VERSION:
        raise TokenDamagedError
    expected = hmac.digest(key.signing, view[:-TAG_BYTES], "sha256")
    if not hmac.compare_digest(expected, view[-TAG_BYTES:]):
        raise TokenDamagedError
    decryptor = Cipher(AES(key.encryption), CBC(bytes(view[9:25]))).decryptor()
    plain = bytearray(ciphertext + _BLOCK)
    length = decryptor.update_into(view[_PREFIX.size : -TAG_BYTES], plain)
    decryptor.finalize()
    fill = plain[length - 1]
    if not 1 <= fill <= _BLOCK or plain[length - fill : length] != bytes([fill]) * fill:
        raise TokenDamagedError
    return memoryview(plain)[: length - fill]


def token_time(token: bytes | bytearray | memoryview) -> int:
    """Return the time that ``token`` carries in clear; nothing has been authenticated."""
    return int.from_bytes(memoryview(token)[1:9], "big")


def token_tag(token: bytes | bytearray | memoryview) -> bytes:
    """Return the authentication tag of ``token``."""
    return bytes(memoryview(token)[-TAG_BYTES:])


def digest_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return the SHA-256 of ``data``."""
    return sha256(data).digest()
