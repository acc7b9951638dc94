"""What the catalog is told of a snapshot: what its authenticated header and end say; its proofs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

from msgspec.structs import replace

from backup.catalog import Catalog, KnownProof, SnapshotFacts
from backup.errors import (
    IntegrityError,
    SnapshotNotFoundError,
)
from backup.locating import Located, locate
from backup.model import path_text
from backup.snapshot.header import Core
from backup.snapshot.names import parse_name
from backup.snapshot.opening import read_header
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity
from backup.storage.base import BaseStorage, StoredFile
from backup.verification import Level, Proof

NEVER = datetime.fromtimestamp(0, UTC)
"""Stands for the time of a file's last change where the next look has to read it again."""


def key_mark(identities: Sequence[Identity]) -> str:
    """Return what tells apart the keys that open snapshots, without telling them."""
    names = sorted(str(getattr(one, "id", type(one).__name__)) for one in identities)
    return sha256("\n".join(names).encode()).hexdigest()[:16] if names else ""


def facts_of(
    store: str, file: StoredFile, located: Located, reader: SnapshotReader, mark: str
) -> SnapshotFacts:
    """Return what an opened snapshot says of itself, under the job in whose directory it lies."""
    record, counts = reader.record, reader.record.counts
    recorded = located.recorded_digest
    return replace(
        _facts_of_core(store, file, reader.core),
        kind=record.kind,
        sha256="" if recorded is None else recorded.hex(),
        entries=counts.entries,
        files=counts.files,
        bytes=counts.bytes,
        errors=counts.errors,
        sources=tuple(path_text(path) for path in record.sources),
        tags=record.tags,
        signer=reader.signer.hex(),
        opened_by=mark,
    )


def _facts_of_core(store: str, file: StoredFile, core: Core) -> SnapshotFacts:
    hint = parse_name(file.name)
    if hint is None:
        raise SnapshotNotFoundError(f"{file.name!r} is not the name of a snapshot in a store")
    return SnapshotFacts(
        store=store,
        name=file.name,
        id=core.id.hex(),
        host=hint.host,
        job=hint.job,
        chain=core.chain.hex(),
        sequence=core.sequence,
        time=datetime.fromtimestamp(core.time, UTC),
        kind=hint.kind,
        archive=core.archive,
        size=file.size,
        modified=NEVER,
        core_digest=core.digest.hex(),
    )


def remember_taken(
    catalog: Catalog,
    storage: BaseStorage,
    name: str,
    identities: Sequence[Identity],
    *,
    strength: str,
    started: datetime,
    finished: datetime,
) -> None:
    """Record a snapshot that has just been stored and read back.

    Raises:
        BackupError: The catalog cannot be used, or the snapshot is not there any more.
    """
    file = storage.stat(name)
    if file is None:
        raise SnapshotNotFoundError(f"there is no snapshot {name!r} in {storage}")
    located = locate(storage, name)
    if identities:
        mark = key_mark(identities)
        facts = facts_of(storage.url, file, located, located.open(identities), mark)
    else:
        facts = _facts_of_core(storage.url, file, read_header(located.source).core)
    catalog.record([facts])
    catalog.record_proof(
        KnownProof(
            store=storage.url,
            name=name,
            id=facts.id,
            level=str(Level.CHECKSUM),
            started=started,
            finished=finished,
            holds=True,
            strength=strength,
            file_bytes=file.size,
        )
    )


def remember_proof(catalog: Catalog, located: Located, proof: Proof) -> None:
    """Record what ``verify_snapshot`` found; nothing, of a file that lies in no store.

    Raises:
        CatalogError: The catalog cannot be used.
    """
    if not located.store:
        return
    known = catalog.snapshots(located.store).get(located.name)
    snapshot = known.facts.id if known else ""
    with suppress(IntegrityError):
        snapshot = read_header(located.source).core.id.hex()
    catalog.record_proof(
        KnownProof(
            store=located.store,
            name=located.name,
            id=snapshot,
            level=str(proof.level),
            started=proof.started,
            finished=proof.finished,
            holds=proof.holds,
            strength="read-back",
            entries=proof.entries,
            file_bytes=proof.file_bytes,
            content_bytes=proof.content_bytes,
            errors=len(proof.errors),
        )
    )


class Remembered(NamedTuple):
    """What rotation has to know of a store: when snapshots were proven, by id; which must be there.

    ``known`` has ids by ``host/job``.
    """

    proven: dict[str, datetime]
    known: dict[str, set[str]]


def recall_for_rotation(
    catalog: Catalog, store: str, jobs: Collection[tuple[str, str]], own_host: str
) -> Remembered:
    """Return what is known of ``jobs``: proofs of content, and what this host alone may delete.

    What was put into the trash need not be there: a purge that was cut short took it away.

    Raises:
        CatalogError: The catalog cannot be used.
    """
    proven: dict[str, datetime] = {}
    known: dict[str, set[str]] = {}
    for host, job in jobs:
        proven |= catalog.proven(store, host, job, level=str(Level.CONTENT))
        if host == own_host:
            there = catalog.snapshots(store, host=host, job=job).values()
            known[f"{host}/{job}"] = {one.facts.id for one in there if one.trashed is None}
    return Remembered(proven, known)


def remember_rotation(
    catalog: Catalog, store: str, trashed: Mapping[str, datetime], purged: Sequence[str]
) -> None:
    """Record what is in the trash after a rotation, and since when; and what it has purged.

    What an earlier run put there without living to record it is thereby made up for.

    Raises:
        CatalogError: The catalog cannot be used.
    """
    known = catalog.snapshots(store) if trashed else {}
    for name in trashed.keys() & known.keys():
        if known[name].trashed is None:
            catalog.set_trashed(store, name, trashed[name])
    catalog.forget(store, *purged)
