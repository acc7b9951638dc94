"""Whom a new snapshot is sealed for."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from backup.errors import ConfigError, IntegrityError, SnapshotNotFoundError
from backup.listing import list_snapshots
from backup.locating import locate
from backup.snapshot.header import MOST_SLOTS
from backup.snapshot.recipients import (
    FernetKey,
    Identity,
    PassphraseIdentity,
    PassphraseRecipient,
    Recipient,
)
from backup.storage.base import BaseStorage


class Sealing(NamedTuple):
    """What a host has to seal with: a key, public keys, a passphrase; at least one of them."""

    key: FernetKey | None = None
    public: tuple[Recipient, ...] = ()
    passphrase: str | None = None
    identities: tuple[Identity, ...] = ()

    def recipients(self, storage: BaseStorage, host: str, job: str) -> list[Recipient]:
        """Return the recipients of a job's next snapshot.

        Raises:
            ConfigError: They are too many.
        """
        found: list[Recipient] = [] if self.key is None else [self.key]
        found += self.public
        if self.passphrase is not None:
            found.append(_passphrase_recipient(self.passphrase, storage, host, job))
        if len({one.id for one in found}) > MOST_SLOTS:
            raise ConfigError(f"a snapshot can be sealed for {MOST_SLOTS} recipients at most")
        return found


def _passphrase_recipient(
    passphrase: str, storage: BaseStorage, host: str, job: str
) -> PassphraseRecipient:
    """Return the passphrase with the salt of the job's last snapshot that it opens.

    So it stays the same recipient, and a later snapshot may refer to an earlier one.
    """
    identity = PassphraseIdentity(passphrase)
    for stored in reversed(list_snapshots(storage, host=host, job=job)):
        with suppress(IntegrityError, SnapshotNotFoundError):
            header = locate(storage, stored.name).newest_header()
            known = identity.recipient_of(header.core, header.slots)
            return known or PassphraseRecipient(passphrase)
    return PassphraseRecipient(passphrase)
