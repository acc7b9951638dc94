"""Looking at a store with the help of the catalog: what need not be read again, and what is gone.

Only what was authenticated is remembered, and only for a file that has not changed since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from backup.catalog import Catalog, Known, KnownProof, SnapshotFacts, last_word
from backup.errors import (
    BackupError,
    CatalogError,
    IntegrityError,
    SecretKeyError,
    SnapshotNotFoundError,
)
from backup.listing import StoredSnapshot, list_snapshots
from backup.locating import locate
from backup.remembering import facts_of, key_mark
from backup.snapshot.names import SUFFIX, TRASH_SUFFIX
from backup.snapshot.recipients import Identity
from backup.storage.base import BaseStorage, StoredFile

_SETTLED = timedelta(seconds=2)
"""A file that was changed less than this before it was read may change again unseen."""
_TOLD_AGAIN = timedelta(hours=1)
"""How much older a time at which a snapshot was seen has to be to be written again."""


class Seen(NamedTuple):
    """A snapshot in a store. ``facts`` are there where it opened, ``error`` where it did not."""

    stored: StoredSnapshot
    facts: SnapshotFacts | None
    error: BackupError | None
    proof: KnownProof | None


class Survey(NamedTuple):
    """What is in a store; ``gone`` was known to be there and was not deleted by this machine.

    ``problem`` tells why the catalog was of no use.
    """

    seen: list[Seen]
    gone: list[Known]
    problem: CatalogError | None


def survey(
    storage: BaseStorage,
    identities: Sequence[Identity],
    *,
    catalog: Catalog | None,
    host: str = "",
    job: str = "",
    own_host: str = "",
    now: datetime,
) -> Survey:
    """Return what is in a store, opening only those snapshots of which nothing is known.

    Args:
        storage: The store.
        identities: What opens snapshots; without any, all of them stay sealed.
        catalog: What is known; ``None`` opens everything and records nothing.
        host: Only those of this host, where given.
        job: Only those of this job, where given.
        own_host: Whose snapshots only this machine deletes; those of others may be rotated away
            by them, and are forgotten.
        now: The present moment.

    Raises:
        StorageError: The store cannot be listed.
    """
    known, proofs, problem = _look_up(catalog, storage.url, host, job)
    files: dict[str, StoredFile] = {}

    def recall(file: StoredFile) -> StoredSnapshot | None:
        files[file.name] = file
        facts = known[file.name].facts if file.name in known else None
        return _stored(facts) if facts is not None and _fits(facts, file) else None

    mark = key_mark(identities)
    seen = []
    for stored in list_snapshots(storage, host=host, job=job, recall=recall):
        file = files[stored.name]
        facts = known[stored.name].facts if stored.name in known else None
        if facts is None or not _fits(facts, file) or facts.opened_by != mark:
            facts = None  # read by another key, or before the file became what it is
        error = None
        if identities and facts is None:
            facts, error = _open(storage, stored, file, identities, now)
        own = [one for one in proofs.get(stored.name, ()) if one.id == stored.id]
        seen.append(Seen(stored, facts if mark else None, error, last_word(own)))
    missing = [one for name, one in known.items() if name not in files and one.trashed is None]
    gone = [one for one in missing if storage.stat(one.facts.name) is None]
    if catalog is not None and problem is None:
        others = [one.facts.name for one in gone if one.facts.host != own_host]
        problem = _write_down(catalog, storage, seen, known=known, others=others, now=now)
    return Survey(seen, [one for one in gone if one.facts.host == own_host], problem)


def rebuild(
    catalog: Catalog, storage: BaseStorage, identities: Sequence[Identity], *, now: datetime
) -> Survey:
    """Let the catalog know of ``storage`` what is there now, having opened all of it.

    Raises:
        CatalogError: The catalog cannot be used.
        StorageError: The store cannot be listed; the catalog is as it was.
    """
    files: dict[str, StoredFile] = {}
    seen = []
    for stored in list_snapshots(storage, recall=lambda file: files.update({file.name: file})):
        facts, error = _open(storage, stored, files[stored.name], identities, now)
        seen.append(Seen(stored, facts, error, None))
    catalog.replace(storage.url, [one.facts for one in seen if one.facts is not None])
    return Survey(seen, [], None)


def _look_up(
    catalog: Catalog | None, store: str, host: str, job: str
) -> tuple[dict[str, Known], dict[str, list[KnownProof]], CatalogError | None]:
    if catalog is None:
        return {}, {}, None
    try:
        return catalog.snapshots(store, host=host, job=job), catalog.proofs(store), None
    except CatalogError as error:
        return {}, {}, error


def _fits(facts: SnapshotFacts, file: StoredFile) -> bool:
    return (facts.size, facts.modified) == (file.size, file.modified)


def _stored(facts: SnapshotFacts) -> StoredSnapshot:
    return StoredSnapshot(
        name=facts.name,
        size=facts.size,
        id=facts.id,
        host=facts.host,
        job=facts.job,
        time=facts.time,
        kind=facts.kind,
        archive=facts.archive,
        sequence=facts.sequence,
        chain=facts.chain,
    )


def _open(
    storage: BaseStorage,
    stored: StoredSnapshot,
    file: StoredFile,
    identities: Sequence[Identity],
    now: datetime,
) -> tuple[SnapshotFacts | None, BackupError | None]:
    """Return what the snapshot says of itself, or why it does not open."""
    if stored.damage:
        return None, IntegrityError(stored.damage)
    try:
        located = locate(storage, stored.name)
        reader = located.open(identities)
    except (SecretKeyError, SnapshotNotFoundError, IntegrityError) as error:
        return None, error
    facts = facts_of(storage.url, file, located, reader, key_mark(identities))
    is_settled = file.modified + _SETTLED <= now
    return replace(facts, modified=file.modified) if is_settled else facts, None


def _write_down(
    catalog: Catalog,
    storage: BaseStorage,
    seen: Sequence[Seen],
    *,
    known: Mapping[str, Known],
    others: Sequence[str],
    now: datetime,
) -> CatalogError | None:
    """Record what is new; a look at a store where nothing can be written records nothing."""
    new = [one.facts for one in seen if one.facts is not None and _is_news(storage, one, known)]
    told = {facts.name for facts in new}
    old = [
        one.stored.name
        for one in seen
        if one.stored.name in known
        and one.stored.name not in told
        and known[one.stored.name].last_seen + _TOLD_AGAIN <= now
    ]
    if not catalog.is_writable():
        return None
    try:
        if new:
            catalog.record(new)
        if old:
            catalog.touch(storage.url, old)
        if others:
            catalog.forget(storage.url, *others)
    except CatalogError as error:
        return error
    return None


def _is_news(storage: BaseStorage, one: Seen, known: Mapping[str, Known]) -> bool:
    name = one.stored.name
    if name not in known or known[name].facts != one.facts:
        return True
    marker = name.removesuffix(SUFFIX) + TRASH_SUFFIX
    return known[name].trashed is not None and storage.stat(marker) is None
