"""What rotation may believe of the snapshots of a store: only what authenticates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from backup.errors import IntegrityError, SecretKeyError, SnapshotNotFoundError
from backup.listing import StoredSnapshot
from backup.locating import Located, locate
from backup.model import SnapshotKind
from backup.retention import Candidate
from backup.snapshot.end import EndRecord
from backup.snapshot.recipients import Identity
from backup.storage.base import BaseStorage


class Opened(NamedTuple):
    """A snapshot for rotation; ``record`` and ``located`` are ``None`` where it does not open."""

    stored: StoredSnapshot
    candidate: Candidate
    record: EndRecord | None = None
    located: Located | None = None


def open_candidate(
    storage: BaseStorage, stored: StoredSnapshot, identities: Sequence[Identity]
) -> Opened:
    """Return what the snapshot says of itself, or that it cannot be believed, and why.

    Raises:
        StorageError: The store does not answer. That says nothing about a snapshot.
    """
    if stored.damage:
        return _unreadable(stored, f"damaged: {stored.damage}")
    try:
        located = locate(storage, stored.name)
        reader = located.open(identities)
    except SecretKeyError:
        return _unreadable(stored, "sealed for another key")
    except SnapshotNotFoundError:
        return _unreadable(stored, "deleted meanwhile")
    except IntegrityError as error:
        return _unreadable(stored, f"damaged: {error.message}")
    core, record = reader.core, reader.record
    if (record.host, record.job) != (stored.host, stored.job):
        return _unreadable(stored, f"belongs to {record.host}/{record.job}")
    candidate = Candidate(
        name=stored.name,
        id=core.id.hex(),
        time=datetime.fromtimestamp(core.time, UTC),
        chain=core.chain.hex(),
        sequence=core.sequence,
        tags=record.tags,
        refers_to=tuple(one.id.hex() for one in record.referred),
        incomplete=record.incomplete,
        has_errors=record.counts.errors > 0,
    )
    return Opened(stored, candidate, record, located)


def _unreadable(stored: StoredSnapshot, why: str) -> Opened:
    candidate = Candidate(
        name=stored.name,
        id=stored.id,
        time=stored.time,
        unreadable=why,
        may_refer=stored.kind is not SnapshotKind.FULL,
    )
    return Opened(stored, candidate)
