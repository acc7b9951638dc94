"""Finding the snapshots of a store.

File names are hints for people: what is newest, and what belongs together, is read from
authenticated headers where there is a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from backup.errors import IntegrityError, SecretKeyError, SnapshotNotFoundError
from backup.locating import Located, StoredFileSource, locate
from backup.model import ArchiveType, SnapshotKind
from backup.snapshot.header import Header
from backup.snapshot.names import SUFFIX, SnapshotName, parse_name
from backup.snapshot.opening import authenticate_header, read_header
from backup.snapshot.recipients import Identity
from backup.storage.base import BaseStorage

_ID_START = re.compile(r"[0-9a-f]{4,32}")
_WANTED_OF_JOB = re.compile(
    r"(?:(?P<host>[^/]+)/)?(?P<job>[^/~@]+)"
    r"(?:~(?P<back>\d{1,6})|@(?P<day>\d{4}(?:-\d\d(?:-\d\d(?:[ T]\d\d(?::\d\d){0,2})?)?)?))?",
    re.ASCII,
)


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


class Placed(NamedTuple):
    """A snapshot's place in time: ``sequence`` counts within its chain."""

    chain: str
    sequence: int
    time: datetime


def by_age(places: Iterable[Placed]) -> dict[Placed, tuple[datetime, int]]:
    """Return what sorts ``places`` from old to new.

    Within a chain its sequence decides, whatever the clock said; between chains, of which a new key
    begins another, time does.
    """
    ages = {}
    latest: dict[str, datetime] = {}
    for place in sorted(places):
        time = max(place.time, latest.get(place.chain, place.time))
        latest[place.chain] = time
        ages[place] = (time, place.sequence)
    return ages


def list_snapshots(storage: BaseStorage, *, host: str = "", job: str = "") -> list[StoredSnapshot]:
    """Return the snapshots in ``storage``, by host and job, each from old to new (``by_age``).

    Args:
        storage: The store.
        host: Only those of this host, where given.
        job: Only those of this job, where given.

    Raises:
        StorageError: The store cannot be listed.
    """
    prefix = f"{host}/{job}/" if host and job else f"{host}/" if host else ""
    found = []
    for file in storage.list_files(prefix):
        name = parse_name(file.name) if file.name.endswith(SUFFIX) else None
        if name is not None and (not job or name.job == job):
            with suppress(SnapshotNotFoundError):  # deleted meanwhile
                found.append(_describe(storage, file.name, file.size, name))
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


class Newest(NamedTuple):
    """The newest snapshot of a job, and its header, authenticated."""

    located: Located
    header: Header


def find_newest(
    storage: BaseStorage, host: str, job: str, identities: Sequence[Identity]
) -> Newest | None:
    """Return the newest snapshot of a job that opens with ``identities``.

    The others are passed over: their headers could say anything.

    Raises:
        StorageError: The store does not answer. Who took that for "there is none" would begin a
            second chain.
    """
    for stored in reversed(list_snapshots(storage, host=host, job=job)):
        with suppress(IntegrityError, SecretKeyError, SnapshotNotFoundError):
            located = locate(storage, stored.name)
            opened = authenticate_header(located.source, identities, located.keys_file)
            return Newest(located, opened.header)
    return None


def find_snapshot(storage: BaseStorage, wanted: str, *, host: str = "") -> StoredSnapshot:
    """Return the snapshot that ``wanted`` means.

    Args:
        storage: Where to look.
        wanted: An id or a unique beginning of one (4 or more), ``[HOST/]JOB`` (its newest),
            ``JOB~2`` (the one two before), ``JOB@2026-11-20`` (the newest not later), the name of
            a file in the store, or ``latest`` where the store holds one job of one host.
        host: Which host a job without one belongs to, where several have a job of that name.

    Raises:
        SnapshotNotFoundError: None fits, or several do.
    """
    snapshots = list_snapshots(storage)
    if not snapshots:
        raise SnapshotNotFoundError(f"there is no snapshot in {storage}")
    fitting = list(_fitting(snapshots, wanted, host))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SnapshotNotFoundError(
            f"{wanted!r} fits {len(fitting)} snapshots or jobs in {storage}",
            hint="say which: " + ", ".join(sorted({_say(one) for one in fitting})[:8]),
        )
    raise SnapshotNotFoundError(
        f"no snapshot in {storage} fits {wanted!r}",
        hint="there are: " + ", ".join(sorted({f"{s.host}/{s.job}" for s in snapshots})[:8]),
    )


def _say(snapshot: StoredSnapshot) -> str:
    return f"{snapshot.host}/{snapshot.job} ({snapshot.id[:8]})"


def _fitting(
    snapshots: Sequence[StoredSnapshot], wanted: str, host: str
) -> Iterator[StoredSnapshot]:
    named = [one for one in snapshots if wanted in {one.name, one.name.rpartition("/")[2]}]
    if named:
        yield from named
        return
    if wanted == "latest":
        yield from _newest_of_each(snapshots)
        return
    by_job = list(_of_job(snapshots, wanted, host))
    if by_job:
        yield from by_job
    elif _ID_START.fullmatch(wanted):
        yield from (one for one in snapshots if one.id.startswith(wanted))


def _of_job(
    snapshots: Sequence[StoredSnapshot], wanted: str, host: str
) -> Iterator[StoredSnapshot]:
    found = _WANTED_OF_JOB.fullmatch(wanted)
    if found is None:
        return
    chosen = [one for one in snapshots if one.job == found["job"]]
    if found["host"]:
        chosen = [one for one in chosen if one.host == found["host"]]
    elif any(one.host == host for one in chosen):
        chosen = [one for one in chosen if one.host == host]
    if found["day"]:
        chosen = [one for one in chosen if _not_later(one.time, found["day"])]
    for one in sorted({(one.host, one.job) for one in chosen}):
        chain = [snapshot for snapshot in chosen if (snapshot.host, snapshot.job) == one]
        back = int(found["back"] or 0)
        if back < len(chain):
            yield chain[-1 - back]


def _not_later(time: datetime, wanted: str) -> bool:
    """Tell whether ``time``, in the local zone, is not after a day, or a moment in it."""
    local = time.astimezone().strftime("%Y-%m-%dT%H:%M:%S")
    return local[: len(wanted)] <= wanted.replace(" ", "T")


def _newest_of_each(snapshots: Sequence[StoredSnapshot]) -> Iterator[StoredSnapshot]:
    newest = {(one.host, one.job): one for one in snapshots}
    yield from newest.values()
