"""Recipients wrap a snapshot's data key into slots, identities get it out again.

A recipient is what a snapshot is sealed for, an identity is what opens it. Every slot wraps the
data key alone, exactly 32 bytes, bound to the snapshot by the digest of its core line, so that no
slot can be carried over to another snapshot.
"""

from __future__ import annotations

import base64
import binascii
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from unicodedata import normalize

from cryptography.fernet import Fernet, InvalidToken

from backup.errors import (
    HeaderError,
    InvalidArgumentError,
    KeyMissingError,
    LimitError,
    WrongKeyError,
)
from backup.snapshot.derive import SLOT, derive_key, public_id
from backup.snapshot.header import Core, Header, Slot, check_header

DATA_KEY_BYTES = 32
_FERNET = "fernet"
_PASSPHRASE = "passphrase"  # noqa: S105 - the name of a slot's type
_SALT_BYTES = 16
MOST_PASSPHRASE_SLOTS = 4


class Recipient(ABC):
    """What a snapshot can be sealed for."""

    id: str

    @abstractmethod
    def wrap(self, data_key: bytes, core: Core) -> Slot:
        """Return a slot that gives ``data_key`` to this recipient."""


class Identity(ABC):
    """What opens a snapshot."""

    @abstractmethod
    def fits(self, slot: Slot) -> bool:
        """Tell whether ``slot`` is meant for this identity, from what stands in clear."""

    @abstractmethod
    def unwrap(self, slot: Slot, core: Core) -> bytes | None:
        """Return the data key of ``slot``, or ``None`` where it does not open."""


def _wrap_under(secret: bytes, data_key: bytes, core: Core) -> str:
    key = base64.urlsafe_b64encode(derive_key(secret, core.digest, SLOT))
    return Fernet(key).encrypt_at_time(data_key, core.time).decode("ascii")


def _unwrap_under(secret: bytes, wrapped: str, core: Core) -> bytes | None:
    key = base64.urlsafe_b64encode(derive_key(secret, core.digest, SLOT))
    try:
        data_key = Fernet(key).decrypt(wrapped.encode("ascii"))
    except (InvalidToken, UnicodeEncodeError):
        return None
    return data_key if len(data_key) == DATA_KEY_BYTES else None


@dataclass(frozen=True)
class FernetKey(Recipient, Identity):
    """A plain Fernet key, as ``Fernet.generate_key()`` makes it: recipient and identity in one."""

    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str | bytes) -> FernetKey:
        """Return the key that ``text`` encodes.

        Raises:
            InvalidArgumentError: The text is not 32 bytes in base64url.
        """
        raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
        try:
            secret = base64.b64decode(raw.strip(), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != DATA_KEY_BYTES:
            raise InvalidArgumentError(
                "a secret key is 32 bytes in base64url, as Fernet.generate_key() makes it"
            ) from None
        return cls(secret)

    @property
    def id(self) -> str:  # type: ignore[override]
        """A public name of the key."""
        return public_id(b"fernet" + self.secret)

    def text(self) -> str:
        """Return the line that ``parse`` takes; it is the secret itself."""
        return base64.urlsafe_b64encode(self.secret).decode("ascii")

    def wrap(self, data_key: bytes, core: Core) -> Slot:
        """See Recipient."""
        return Slot(type=_FERNET, id=self.id, wrapped=_wrap_under(self.secret, data_key, core))

    def fits(self, slot: Slot) -> bool:
        """See Identity."""
        return slot.type == _FERNET and slot.id == self.id

    def unwrap(self, slot: Slot, core: Core) -> bytes | None:
        """See Identity."""
        return _unwrap_under(self.secret, slot.wrapped, core)


@dataclass(frozen=True)
class Argon2Cost:
    """What a passphrase costs to try (RFC 9106): memory in KiB, passes, lanes."""

    memory: int = 256 * 1024
    time: int = 3
    lanes: int = 2


MOST_ARGON2 = Argon2Cost(memory=1024 * 1024, time=10, lanes=8)


@lru_cache(maxsize=8)  # of a store's snapshots many have the same salt
def _argon2id(passphrase: str, salt: bytes, cost: Argon2Cost) -> bytes:
    # Imported here: half the users never type a passphrase, and older versions lack it.
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id  # noqa: PLC0415

    return Argon2id(
        salt=salt,
        length=32,
        iterations=cost.time,
        lanes=cost.lanes,
        memory_cost=cost.memory,
    ).derive(normalize("NFC", passphrase).encode())


@dataclass(frozen=True)
class PassphraseRecipient(Recipient):
    """A passphrase. Keep the salt: the same salt makes the same recipient."""

    passphrase: str = field(repr=False)
    salt: bytes = field(default_factory=lambda: os.urandom(_SALT_BYTES))
    cost: Argon2Cost = field(default_factory=Argon2Cost)

    @property
    def id(self) -> str:  # type: ignore[override]
        """A public name, made of the salt alone."""
        return public_id(b"passphrase" + self.salt)

    def wrap(self, data_key: bytes, core: Core) -> Slot:
        """See Recipient."""
        secret = _argon2id(self.passphrase, self.salt, self.cost)
        return Slot(
            type=_PASSPHRASE,
            id=self.id,
            salt=base64.b64encode(self.salt).decode("ascii"),
            memory=self.cost.memory,
            time=self.cost.time,
            lanes=self.cost.lanes,
            wrapped=_wrap_under(secret, data_key, core),
        )


@dataclass(frozen=True)
class PassphraseIdentity(Identity):
    """A passphrase that may open any passphrase slot."""

    passphrase: str = field(repr=False)

    def fits(self, slot: Slot) -> bool:
        """See Identity."""
        return slot.type == _PASSPHRASE

    def unwrap(self, slot: Slot, core: Core) -> bytes | None:
        """See Identity.

        Raises:
            LimitError: The slot asks for more memory or time than a reader may spend.
        """
        most = MOST_ARGON2
        low = slot.lanes < 1 or slot.time < 1 or slot.memory < 8 * slot.lanes
        if low or slot.memory > most.memory or slot.time > most.time or slot.lanes > most.lanes:
            raise LimitError("a passphrase slot asks for more work than a reader may do")
        try:
            salt = base64.b64decode(slot.salt, validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(salt) != _SALT_BYTES or public_id(b"passphrase" + salt) != slot.id:
            return None
        cost = Argon2Cost(slot.memory, slot.time, slot.lanes)
        return _unwrap_under(_argon2id(self.passphrase, salt, cost), slot.wrapped, core)

    def recipient_of(self, core: Core, slots: Sequence[Slot]) -> PassphraseRecipient | None:
        """Return the recipient whose slot this passphrase opens, ``None`` where there is none."""
        passphrases = [slot for slot in slots if self.fits(slot)]
        for slot in passphrases[:MOST_PASSPHRASE_SLOTS]:
            if self.unwrap(slot, core) is not None:
                return PassphraseRecipient(self.passphrase, base64.b64decode(slot.salt))
        return None


def make_slots(recipients: Sequence[Recipient], data_key: bytes, core: Core) -> tuple[Slot, ...]:
    """Return one slot per recipient, in their order, none twice."""
    unique = {recipient.id: recipient for recipient in recipients}
    if not unique:
        raise KeyMissingError("a snapshot needs a recipient", hint="make one with 'key new'")
    return tuple(recipient.wrap(data_key, core) for recipient in unique.values())


def open_header(header: Header, identities: Sequence[Identity]) -> bytes:
    """Return the data key, having checked the header's mac.

    Raises:
        KeyMissingError: There is no identity at all.
        WrongKeyError: The snapshot is sealed for others.
        HeaderError: A slot or the rest of the header is damaged.
    """
    if not identities:
        raise KeyMissingError("there is no key to open the snapshot with")
    tried = 0
    fitting = False
    for slot in header.slots:
        if slot.type == _PASSPHRASE:
            tried += 1
            if tried > MOST_PASSPHRASE_SLOTS:
                continue
        for identity in identities:
            if not identity.fits(slot):
                continue
            data_key = identity.unwrap(slot, header.core)
            if data_key is not None:
                check_header(header, data_key)
                return data_key
            fitting = fitting or not isinstance(identity, PassphraseIdentity)
    if fitting:
        raise HeaderError(
            "the header is damaged or was changed: the slot of this key does not open"
        )
    raise WrongKeyError(
        "the snapshot is sealed for other keys than the one given",
        hint="it opens with one of: " + ", ".join(f"{s.type[:20]} {s.id}" for s in header.slots),
    )
