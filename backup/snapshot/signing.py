"""The host's signature: Ed25519 (RFC 8032) over the core line and the end's body.

All recipients share the data key, so a seal alone does not tell which host wrote a snapshot.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from backup.errors import SignatureError, UnknownSignerError, UnsignedError
from backup.snapshot.derive import SIGN
from backup.snapshot.header import PREAMBLE, Core

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
BLOCK_BYTES = PUBLIC_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True)
class HostKey:
    """What a host signs its snapshots with: 32 secret bytes."""

    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> HostKey:
        """Return a new key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> bytes:
        """The 32 bytes by which readers know this host."""
        key = Ed25519PrivateKey.from_private_bytes(self.secret)
        return key.public_key().public_bytes_raw()

    def sign(self, core: Core, body: bytes) -> bytes:
        """Return the signature block: public key, then signature."""
        key = Ed25519PrivateKey.from_private_bytes(self.secret)
        return self.public + key.sign(signed_message(core, body))


def signed_message(core: Core, body: bytes) -> bytes:
    """Return the bytes that the signature is over: a label and two digests."""
    head = sha256(PREAMBLE + core.line + b"\n").digest()
    return SIGN + head + sha256(body).digest()


def check_signature(
    core: Core, body: bytes, block: bytes, trusted: Collection[bytes] | None
) -> bytes:
    """Return the public key of the signer.

    Args:
        core: The snapshot's core.
        body: The end's body.
        block: What follows the body: nothing, or public key and signature.
        trusted: The public keys that are trusted; ``None`` accepts any signer, never no signer.

    Raises:
        UnsignedError: There is no signature.
        SignatureError: It does not fit, or is not a signature at all.
        UnknownSignerError: It fits, and the signer is not trusted.
    """
    if not block:
        raise UnsignedError("the snapshot carries no signature of a host")
    public, signature = block[:PUBLIC_BYTES], block[PUBLIC_BYTES:]
    if len(block) != BLOCK_BYTES:
        raise SignatureError("the signature of the snapshot has a wrong length")
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, signed_message(core, body))
    except (InvalidSignature, ValueError) as error:
        raise SignatureError("the signature of the snapshot does not fit") from error
    if trusted is not None and public not in trusted:
        raise UnknownSignerError(
            f"the snapshot is signed by {fingerprint(public)}, which is not a trusted host",
            hint="if that is what 'auto-backup key show' tells on that host,"
            " accept it: 'auto-backup key trust --from SNAPSHOT'",
        )
    return public


def fingerprint(public: bytes) -> str:
    """Return how a signer is named to people: 32 hexadecimal characters."""
    return sha256(public).hexdigest()[:32]
