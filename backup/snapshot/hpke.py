"""Public keys: a host that holds one writes snapshots that it cannot read.

HPKE (RFC 9180) in base mode with the hybrid KEM of ML-KEM-768 and X25519, HKDF-SHA-256 and
AES-256-GCM, as ``cryptography.hazmat.primitives.hpke`` has it. Its keys have no serialisation of
their own, so their text forms are defined here and in docs/FORMAT.md.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backup.errors import InvalidArgumentError
from backup.snapshot.derive import SLOT, public_id
from backup.snapshot.header import Core, Slot
from backup.snapshot.recipients import DATA_KEY_BYTES, Identity, Recipient

_TYPE = "hpke"
_SEED_BYTES = 64
_X25519_BYTES = 32
_MLKEM_PUBLIC_BYTES = 1184
_CHECK_BYTES = 4
PUBLIC_PREFIX = "auto-backup-recipient-1-"
SECRET_PREFIX = "auto-backup-identity-1-"  # noqa: S105 - how the text of a secret begins


def _suite() -> Suite:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _to_text(prefix: str, body: bytes) -> str:
    check = sha256(prefix.encode() + body).digest()[:_CHECK_BYTES]
    return prefix + base64.urlsafe_b64encode(body + check).decode("ascii")


def _from_text(prefix: str, text: str, length: int) -> bytes:
    what = "recipient" if prefix == PUBLIC_PREFIX else "identity"
    text = text.strip()
    if not text.startswith(prefix):
        raise InvalidArgumentError(f"a {what} begins with {prefix!r}")
    try:
        raw = base64.b64decode(text[len(prefix) :].encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    fits = sha256(prefix.encode() + body).digest()[:_CHECK_BYTES] == check
    # The last character has bits to spare: a mistake in them would change nothing, and stay.
    if len(body) != length or not fits or _to_text(prefix, body) != text:
        raise InvalidArgumentError(f"the {what} is mistyped or incomplete") from None
    return body


@dataclass(frozen=True)
class HpkeRecipient(Recipient):
    """The public half: 1,184 bytes of ML-KEM-768, then 32 bytes of X25519."""

    public: bytes

    @classmethod
    def parse(cls, text: str) -> HpkeRecipient:
        """Return the recipient that ``text`` encodes, or raise ``InvalidArgumentError``."""
        return cls(_from_text(PUBLIC_PREFIX, text, _MLKEM_PUBLIC_BYTES + _X25519_BYTES))

    def text(self) -> str:
        """Return the line that ``parse`` takes."""
        return _to_text(PUBLIC_PREFIX, self.public)

    @property
    def id(self) -> str:  # type: ignore[override]
        """A public name of the key."""
        return public_id(b"hpke" + self.public)

    def wrap(self, data_key: bytes, core: Core) -> Slot:
        """See Recipient."""
        try:
            public = MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC_BYTES]),
                X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC_BYTES:]),
            )
            wrapped = _suite().encrypt(data_key, public, info=SLOT + core.digest)
        except ValueError as error:  # a number out of range, a point of low order
            message = f"the recipient {self.id} is not a public key that can be sealed for"
            raise InvalidArgumentError(message) from error
        return Slot(type=_TYPE, id=self.id, wrapped=base64.b64encode(wrapped).decode("ascii"))


@dataclass(frozen=True)
class HpkeIdentity(Identity):
    """The private half: the 64-byte seed of ML-KEM-768, then 32 bytes of X25519."""

    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> HpkeIdentity:
        """Return a new identity."""
        mlkem = MLKEM768PrivateKey.generate().private_bytes_raw()
        return cls(mlkem + X25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> HpkeIdentity:
        """Return the identity that ``text`` encodes, or raise ``InvalidArgumentError``."""
        return cls(_from_text(SECRET_PREFIX, text, _SEED_BYTES + _X25519_BYTES))

    def text(self) -> str:
        """Return the line that ``parse`` takes; it is the secret itself."""
        return _to_text(SECRET_PREFIX, self.secret)

    def recipient(self) -> HpkeRecipient:
        """Return the public half."""
        mlkem, x25519 = self._halves()
        raw = (Encoding.Raw, PublicFormat.Raw)
        return HpkeRecipient(
            mlkem.public_key().public_bytes(*raw) + x25519.public_key().public_bytes(*raw)
        )

    def _halves(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        return (
            MLKEM768PrivateKey.from_seed_bytes(self.secret[:_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(self.secret[_SEED_BYTES:]),
        )

    def fits(self, slot: Slot) -> bool:
        """See Identity."""
        return slot.type == _TYPE and slot.id == self.recipient().id

    def unwrap(self, slot: Slot, core: Core) -> bytes | None:
        """See Identity."""
        private = MLKEM768X25519PrivateKey(*self._halves())
        try:
            wrapped = base64.b64decode(slot.wrapped, validate=True)
            data_key = _suite().decrypt(wrapped, private, info=SLOT + core.digest)
        except (InvalidTag, ValueError, binascii.Error):
            return None
        return data_key if len(data_key) == DATA_KEY_BYTES else None
