"""Which snapshot of a store is meant.

File names are hints for people: what is newest, and what belongs together, is read from
authenticated headers where there is a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from backup.errors import IntegrityError, SecretKeyError, SnapshotNotFoundError
from backup.listing.stored import (
    StoredSnapshot,
    describe_files,
    list_job_files,
    list_snapshots,
    list_trash,
)
from backup.locating import Located, locate
from backup.snapshot.header import Header
from backup.snapshot.opening import authenticate_header
from backup.snapshot.recipients import Identity
from backup.storage.base import BaseStorage

_ID_START = re.compile(r"[0-9a-f]{4,32}")
_WANTED_OF_JOB = re.compile(
    r"(?:(?P<host>[^/]+)/)?(?P<job>[^/~@]+)"
    r"(?:~(?P<back>\d{1,6})|@(?P<day>\d{4}(?:-\d\d(?:-\d\d(?:[ T]\d\d(?::\d\d){0,2})?)?)?))?",
    re.ASCII,
)


class Newest(NamedTuple):
    """The newest snapshot of a job, and its header, authenticated.

    ``sequence`` is the highest one of its chain, which one in the trash may have: no number is
    given twice.
    """

    located: Located
    header: Header
    sequence: int


def find_newest(
    storage: BaseStorage, host: str, job: str, identities: Sequence[Identity]
) -> Newest | None:
    """Return the newest snapshot of a job that opens with ``identities`` and is not in the trash.

    The others are passed over: their headers could say anything.

    Raises:
        StorageError: The store does not answer. Who took that for "there is none" would begin a
            second chain.
    """
    files = list_job_files(storage, host=host, job=job)
    for stored in reversed(describe_files(storage, files.live.values())):
        with suppress(IntegrityError, SecretKeyError, SnapshotNotFoundError):
            located, header = _authenticate(storage, stored, identities)
            sequence = header.core.sequence
            for one in describe_files(storage, files.trashed.values()):
                if one.chain == stored.chain and one.sequence > sequence:
                    with suppress(IntegrityError, SecretKeyError, SnapshotNotFoundError):
                        sequence = _authenticate(storage, one, identities)[1].core.sequence
            return Newest(located, header, sequence)
    return None


def _authenticate(
    storage: BaseStorage, stored: StoredSnapshot, identities: Sequence[Identity]
) -> tuple[Located, Header]:
    located = locate(storage, stored.name)
    return located, authenticate_header(located.source, identities, located.keys_file).header


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
    try:
        return choose_snapshot(snapshots, wanted, host=host, where=str(storage))
    except SnapshotNotFoundError as error:
        in_trash = [one.snapshot for one in list_trash(storage)]
        if any(_fitting(snapshots, wanted, host)) or not any(_fitting(in_trash, wanted, host)):
            raise
        hint = f"it is in the trash: 'auto-backup undelete {wanted}' brings it back"
        raise SnapshotNotFoundError(error.message, hint=hint) from None


def choose_snapshot(
    snapshots: Sequence[StoredSnapshot], wanted: str, *, host: str, where: str
) -> StoredSnapshot:
    """Return the one of ``snapshots``, in the order of ``list_snapshots``, that is meant.

    Raises:
        SnapshotNotFoundError: None fits, or several do.
    """
    if not snapshots:
        raise SnapshotNotFoundError(f"there is no snapshot in {where}")
    fitting = list(_fitting(snapshots, wanted, host))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SnapshotNotFoundError(
            f"{wanted!r} fits {len(fitting)} snapshots or jobs in {where}",
            hint="say which: " + ", ".join(sorted({_say(one) for one in fitting})[:8]),
        )
    raise SnapshotNotFoundError(
        f"no snapshot in {where} fits {wanted!r}",
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
