"""What the catalog holds of a snapshot and of a proof."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from backup.model import ArchiveType, SnapshotKind


class SnapshotFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a snapshot's authenticated header and end say, and the file that said it.

    ``store`` is the store's URL; ``size`` and ``modified`` are the file's, in bytes and in UTC.
    ``id``, ``chain``, ``core_digest``, ``sha256`` and ``signer`` are hexadecimal. ``sources`` are
    as people read them. ``opened_by`` tells keys apart without telling them; where it is empty
    nothing but the header has been read.
    """

    store: str
    name: str
    id: str
    host: str
    job: str
    chain: str
    sequence: int
    time: datetime
    kind: SnapshotKind
    archive: ArchiveType
    size: int
    modified: datetime
    core_digest: str
    sha256: str = ""
    entries: int = 0
    files: int = 0
    bytes: int = 0
    errors: int = 0
    sources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    signer: str = ""
    opened_by: str = ""


class KnownProof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check of a stored snapshot; ``level`` and ``strength`` in the words of those who made it.

    ``entries`` and the bytes are what was compared, ``errors`` how many differences there were.
    """

    store: str
    name: str
    id: str
    level: str
    started: datetime
    finished: datetime
    holds: bool
    strength: str = ""
    entries: int = 0
    file_bytes: int = 0
    content_bytes: int = 0
    errors: int = 0


_LEVELS = ("checksum", "content", "drill")


def last_word(proofs: Sequence[KnownProof]) -> KnownProof | None:
    """Return the proof that counts, of those of one snapshot: the newest one that holds.

    A failure counts before it until a proof which compares as much, or more, holds again.
    """
    by_age = sorted(proofs, key=lambda one: one.finished)
    word: KnownProof | None = None
    for one in by_age:
        if word is None or word.holds or not one.holds or _depth(one) >= _depth(word):
            word = one
    return word


def _depth(proof: KnownProof) -> int:
    return _LEVELS.index(proof.level) if proof.level in _LEVELS else len(_LEVELS)


class Known(NamedTuple):
    """A snapshot, and when it was seen in its store; ``trashed`` where it lies in the trash."""

    facts: SnapshotFacts
    first_seen: datetime
    last_seen: datetime
    trashed: datetime | None = None
