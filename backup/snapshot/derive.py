"""Every key that is derived, each with a label of its own (RFC 5869, HKDF with SHA-256)."""

from __future__ import annotations

import hmac
from hashlib import sha256

FRAMES = b"auto-backup/1/frames"
HEADER_MAC = b"auto-backup/1/header-mac"
SLOT = b"auto-backup/1/slot"
KEY_ID = b"auto-backup/1/key-id"
SIGN = b"auto-backup/1/sign"


def derive_key(secret: bytes, salt: bytes, label: bytes) -> bytes:
    """Return 32 bytes derived from ``secret`` for the purpose that ``label`` names.

    HKDF-SHA-256 for an output of one hash length: extract, then a single expand step.
    """
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, label + b"\x01", "sha256")


def public_id(material: bytes) -> str:
    """Return 16 hexadecimal characters that name ``material`` without telling anything of it."""
    return sha256(KEY_ID + material).hexdigest()[:16]
