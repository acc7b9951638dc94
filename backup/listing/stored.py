"""The snapshots of a store, as their names and headers tell them; the trash apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from backup.errors import IntegrityError, SnapshotNotFoundError
from backup.locating import StoredFileSource
from backup.model import ArchiveType, SnapshotKind
from backup.retention import Placed, by_age
from backup.snapshot.names import SUFFIX, TRASH_SUFFIX, SnapshotName, parse_name
from backup.snapshot.opening import read_header
from backup.snapshot.trash_marker import MARKER_CAP, TrashMarker, parse_marker
from backup.storage.base import BaseStorage, StoredFile


class StoredSnapshot(NamedTuple):
    """A snapshot in a store, as its name and header tell it; nothing is authenticated.

    ``sequence`` is 0 and ``chain`` empty where the header cannot be read, and ``damage`` says why.
    """

    name: str
    size: int
    id: str
    host: str
    job: str
    time: datetime
    kind: SnapshotKind
    archive: ArchiveType
    sequence: int
    damage: str = ""
    chain: str = ""


Recall = Callable[[StoredFile], StoredSnapshot | None]
"""Gives what is known of a snapshot's file already, so that it need not be read."""


def recall_nothing(_: StoredFile) -> None:
    """Know nothing."""
    return


class Trashed(NamedTuple):
    """A snapshot in the trash.

    ``since`` is the later one of the moments that its marker and the store tell: a marker could say
    anything. ``marker`` is ``None`` where it cannot be read.
    """

    snapshot: StoredSnapshot
    since: datetime
    marker: TrashMarker | None


class JobFiles(NamedTuple):
    """The names of one listing: snapshots that count, those in the trash, and all markers.

    ``orphans`` are stems, names without ``.enc``: what remains when a purge was cut short.
    """

    live: dict[str, StoredFile]
    trashed: dict[str, StoredFile]
    markers: dict[str, StoredFile]
    orphans: tuple[str, ...]


def list_jobs(storage: BaseStorage, *, host: str = "", job: str = "") -> list[tuple[str, str]]:
    """Return (host, job) of all that ``storage`` holds, also of what is in the trash.

    Raises:
        StorageError: The store cannot be listed.
    """
    files = list_job_files(storage, host=host, job=job)
    stems = [stem + SUFFIX for stem in files.orphans]
    names = map(parse_name, [*files.live, *files.trashed, *stems])
    return sorted({(one.host, one.job) for one in names if one is not None})


def list_job_files(storage: BaseStorage, *, host: str = "", job: str = "") -> JobFiles:
    """Return the snapshots' files in ``storage`` and their markers; nothing is opened.

    Raises:
        StorageError: The store cannot be listed.
    """
    prefix = f"{host}/{job}/" if host and job else f"{host}/" if host else ""
    snapshots, markers = {}, {}
    for file in storage.list_files(prefix):
        stem = file.name.removesuffix(TRASH_SUFFIX).removesuffix(SUFFIX)
        name = parse_name(stem + SUFFIX)
        if name is None or (job and name.job != job):
            continue
        if file.name.endswith(TRASH_SUFFIX):
            markers[stem + SUFFIX] = file
        elif file.name.endswith(SUFFIX):
            snapshots[file.name] = file
    return JobFiles(
        live={name: file for name, file in snapshots.items() if name not in markers},
        trashed={name: file for name, file in snapshots.items() if name in markers},
        markers=markers,
        orphans=tuple(name.removesuffix(SUFFIX) for name in markers if name not in snapshots),
    )


def list_snapshots(
    storage: BaseStorage, *, host: str = "", job: str = "", recall: Recall = recall_nothing
) -> list[StoredSnapshot]:
    """Return the snapshots in ``storage``, by host and job, each from old to new (``by_age``).

    Those in the trash are left out.

    Args:
        storage: The store.
        host: Only those of this host, where given.
        job: Only those of this job, where given.
        recall: Knows files that need not be read again.

    Raises:
        StorageError: The store cannot be listed.
    """
    files = list_job_files(storage, host=host, job=job).live.values()
    return describe_files(storage, files, recall)


def list_trash(storage: BaseStorage, *, host: str = "", job: str = "") -> list[Trashed]:
    """Return the snapshots in the trash of ``storage``, in the order of ``list_snapshots``.

    Raises:
        StorageError: The store cannot be listed.
    """
    return describe_trash(storage, list_job_files(storage, host=host, job=job))


def describe_trash(storage: BaseStorage, files: JobFiles) -> list[Trashed]:
    """Return what lies in the trash by a listing, in the order of ``list_snapshots``."""
    found = []
    for one in describe_files(storage, files.trashed.values()):
        file = files.markers[one.name]
        with suppress(SnapshotNotFoundError):  # brought back meanwhile
            marker = _read_marker(storage, file)
            times = [file.modified] if marker is None else [file.modified, marker.time]
            found.append(Trashed(one, max(times), marker))
    return found


def _read_marker(storage: BaseStorage, file: StoredFile) -> TrashMarker | None:
    if file.size > MARKER_CAP:
        return None
    return parse_marker(storage.read_range(file.name, 0, MARKER_CAP))


def describe_files(
    storage: BaseStorage, files: Iterable[StoredFile], recall: Recall = recall_nothing
) -> list[StoredSnapshot]:
    """Return what the headers of ``files`` tell, in the order of ``list_snapshots``."""
    found = []
    for file in files:
        name = parse_name(file.name)
        if name is not None:
            with suppress(SnapshotNotFoundError):  # deleted meanwhile
                known = recall(file)
                found.append(known or _describe(storage, file.name, file.size, name))
    ages = by_age(_placed(one) for one in found)
    return sorted(found, key=lambda one: (one.host, one.job, ages[_placed(one)], one.name))


def _placed(stored: StoredSnapshot) -> Placed:
    return Placed(stored.chain, stored.sequence, stored.time)


def _describe(storage: BaseStorage, name: str, size: int, hint: SnapshotName) -> StoredSnapshot:
    stored = StoredSnapshot(
        name=name,
        size=size,
        id=hint.id_start,
        host=hint.host,
        job=hint.job,
        time=hint.time,
        kind=hint.kind,
        archive=hint.archive,
        sequence=0,
    )
    try:
        core = read_header(StoredFileSource(storage, name, size)).core
        time = datetime.fromtimestamp(core.time, UTC)
    except IntegrityError as error:
        return stored._replace(damage=error.message)
    except (OverflowError, OSError, ValueError):
        return stored._replace(damage=f"{name} tells a time that cannot be")
    return stored._replace(
        id=core.id.hex(),
        time=time,
        archive=core.archive,
        sequence=core.sequence,
        chain=core.chain.hex(),
    )
