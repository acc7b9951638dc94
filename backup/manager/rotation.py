"""Rotating a store job by job: a plan, then the trash, and after a while the end.

A marker is no authority: what lies in the trash is purged only if the policy, looking at all that
the store holds of the job, in the trash or not, would let it go as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import TypeVar

from backup._version import PROGRAM
from backup.clock import Clock, system_clock
from backup.errors import BackupError, MissingSnapshotError, StorageError
from backup.listing import (
    JobFiles,
    StoredSnapshot,
    Trashed,
    describe_files,
    describe_trash,
    list_job_files,
    list_jobs,
)
from backup.manager.candidates import Opened, open_candidate
from backup.manager.trash import delete_snapshot, finish_purges, put_into_trash
from backup.retention import (
    MOST_DELETIONS,
    NO_PLAN,
    Candidate,
    Decision,
    RetentionPlan,
    RetentionPolicy,
    Verdict,
    plan_retention,
)
from backup.snapshot.recipients import Identity
from backup.snapshot.trash_marker import TrashMarker
from backup.storage.base import BaseStorage, StoredFile

TRASH_FOR = timedelta(days=7)
_NO_FILES = JobFiles({}, {}, {}, ())
_Sized = TypeVar("_Sized", StoredFile, StoredSnapshot)


def _tell_nobody(_: int) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class RotationRequest:
    """What to keep in a store, and how carefully to delete the rest.

    Args:
        policy: What to keep of each job.
        identities: What opens the snapshots; those that do not open are left alone.
        host: This machine's name, which markers tell.
        clock: Tells the time.
        zone: Whose hours, days and so on count; ``None`` for this machine's.
        trash_for: How long a snapshot lies in the trash before it is purged.
        most: How many snapshots may go into the trash in this run.
        proven: When snapshots were proven, by id; of each job the newest proven one stays.
        known: Ids that have to be in the store, by ``host/job``: a job of which one is missing is
            left alone.
        on_looked: Is told the size of each snapshot that is looked at, which happens twice.
    """

    policy: RetentionPolicy
    identities: Sequence[Identity]
    host: str
    clock: Clock = system_clock
    zone: tzinfo | None = None
    trash_for: timedelta = TRASH_FOR
    most: int = MOST_DELETIONS
    proven: Mapping[str, datetime] = field(default_factory=dict)
    known: Mapping[str, Collection[str]] = field(default_factory=dict)
    on_looked: Callable[[int], object] = field(default=_tell_nobody, repr=False)


@dataclass
class JobRotation:
    """What is to be done about the snapshots of one job, and what has been done.

    Args:
        host: The job's host.
        job: The job.
        snapshots: Those that count, from old to new as in ``plan``.
        plan: The decision about each of them.
        purges: What goes out of the trash for good.
        held: What lies in the trash though the policy keeps it, and why it does.
        waiting: What lies in the trash and is not due yet.
        files: The names that were listed.
        trashed: What has been put into the trash.
        purged: What has been purged.
        error: Why nothing, or not all, has been done.
    """

    host: str
    job: str
    snapshots: Mapping[str, StoredSnapshot] = field(default_factory=dict)
    plan: RetentionPlan = NO_PLAN
    purges: tuple[Trashed, ...] = ()
    held: tuple[tuple[Trashed, Decision], ...] = ()
    waiting: tuple[Trashed, ...] = ()
    files: JobFiles = _NO_FILES
    trashed: list[str] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)
    error: BackupError | None = None

    def in_trash(self, now: datetime) -> dict[str, datetime]:
        """Return since when each snapshot lies in the trash, for those put there ``now``."""
        before = (*self.waiting, *(one for one, _ in self.held))
        return {one.snapshot.name: one.since for one in before} | dict.fromkeys(self.trashed, now)


def rotate_jobs(
    storage: BaseStorage,
    request: RotationRequest,
    *,
    jobs: Collection[tuple[str, str]] | None = None,
    change: bool = True,
) -> Iterator[JobRotation]:
    """Rotate the jobs of a store one after the other; yield what became of each.

    A job that is being worked on, or whose snapshots cannot be listed and understood in full, is
    left as it is, with the ``error``; the others are rotated.

    Args:
        storage: The store.
        request: What to keep.
        jobs: (host, job) of those to rotate; ``None`` for all.
        change: Whether to do it, or only to plan.

    Raises:
        StorageError: The store cannot be listed.
    """
    left = request.most
    for host, job in list_jobs(storage) if jobs is None else sorted(jobs):
        rotation = JobRotation(host, job)
        try:
            with storage.lock(f"{host}/{job}") if change else nullcontext():
                _plan(storage, request, rotation, most=left)
                if change:
                    _carry_out(storage, request, rotation)
        except BackupError as error:
            rotation.error = error
        left -= len(rotation.trashed if change else rotation.plan.deletions)
        yield rotation


def _plan(
    storage: BaseStorage, request: RotationRequest, rotation: JobRotation, *, most: int
) -> None:
    """Fill in what is to be done."""
    now = request.clock()
    files = list_job_files(storage, host=rotation.host, job=rotation.job)
    trash = describe_trash(storage, files)
    stored = describe_files(storage, _looked_at(files.live.values(), request))
    live = _open(storage, stored, request)
    hidden = _open(storage, [one.snapshot for one in trash], request)
    _check_known(storage, rotation, request, [*live, *hidden])
    _check_referred(storage, live, hidden)

    rotation.files = files
    rotation.snapshots = {one.stored.name: one.stored for one in live}
    rotation.plan = _decide(request, live, now, most)
    _plan_purges(rotation, request, trash, [*live, *hidden], now)


def _decide(
    request: RotationRequest, opened: Sequence[Opened], now: datetime, most: int
) -> RetentionPlan:
    return plan_retention(
        request.policy,
        [one.candidate for one in opened],
        now,
        zone=request.zone,
        proven=request.proven,
        most=most,
    )


def _open(
    storage: BaseStorage, found: Sequence[StoredSnapshot], request: RotationRequest
) -> list[Opened]:
    looked_at = _looked_at(found, request)
    return [open_candidate(storage, one, request.identities) for one in looked_at]


def _looked_at(found: Iterable[_Sized], request: RotationRequest) -> Iterator[_Sized]:
    """Yield what is looked at, one by one, and tell of each."""
    for one in found:
        yield one
        request.on_looked(one.size)


def _check_known(
    storage: BaseStorage,
    rotation: JobRotation,
    request: RotationRequest,
    opened: Sequence[Opened],
) -> None:
    """Raise StorageError where the store lacks a snapshot that has to be there."""
    name = f"{rotation.host}/{rotation.job}"
    # Of a damaged one the id is known as far as its name tells it.
    present = {one.stored.id for one in opened}
    starts = tuple(one.stored.id for one in opened if one.stored.damage)
    gone = set(request.known.get(name, ())) - present
    missing = {one for one in gone if not (starts and one.startswith(starts))}
    if missing:
        raise StorageError(
            f"{storage} does not list {len(missing)} of the snapshots of {name} that were there,"
            f" for example {min(missing)[:8]}",
            hint="is this the right store, mounted and whole? nothing of this job is deleted;"
            " if they were deleted on purpose, 'auto-backup catalog rebuild' says so",
        )


def _check_referred(storage: BaseStorage, live: Sequence[Opened], hidden: Sequence[Opened]) -> None:
    """Raise MissingSnapshotError where the store lacks a snapshot that another one needs."""
    present = {one.candidate.id for one in [*live, *hidden]}
    for one in live:
        if one.record is None or one.located is None:
            continue
        for referred in one.record.referred:
            if referred.id.hex() not in present and one.located.find(referred) is None:
                raise MissingSnapshotError(
                    f"{one.stored.name} needs snapshot {referred.id.hex()[:8]},"
                    f" which {storage} does not hold",
                    hint="is the store whole? nothing of this job is deleted",
                )


def _plan_purges(
    rotation: JobRotation,
    request: RotationRequest,
    trash: Sequence[Trashed],
    opened: Sequence[Opened],
    now: datetime,
) -> None:
    """Fill in what happens to the trash: what is needed stays, and what the policy would keep."""
    whole = _decide(request, opened, now, len(opened))
    decisions = {one.name: one for one in whole.decisions}
    due, held, waiting = set(), [], []
    for one in trash:
        decision = decisions[one.snapshot.name]
        if decision.verdict is Verdict.KEEP:
            held.append((one, decision))
        elif decision.verdict is Verdict.PACK or now - one.since < request.trash_for:
            waiting.append(one)
        else:
            due.add(one.snapshot.name)
    due = _without_needed(due, [one.candidate for one in opened])
    rotation.purges = tuple(one for one in trash if one.snapshot.name in due)
    rotation.held, rotation.waiting = tuple(held), tuple(waiting)


def _without_needed(due: set[str], candidates: Sequence[Candidate]) -> set[str]:
    """Return those of ``due`` to which nothing refers that stays in the store."""
    while True:
        needed = {id_ for one in candidates if one.name not in due for id_ in one.refers_to}
        kept = {one.name for one in candidates if one.name in due and one.id in needed}
        if not kept:
            return due
        due = due - kept


def _carry_out(storage: BaseStorage, request: RotationRequest, rotation: JobRotation) -> None:
    finish_purges(storage, rotation.files)
    for name in rotation.plan.deletions:
        marker = TrashMarker(
            time=request.clock(), reason="no rule keeps it", program=PROGRAM, host=request.host
        )
        put_into_trash(storage, name, marker)
        rotation.trashed.append(name)
    for one in rotation.purges:
        delete_snapshot(storage, one.snapshot.name)
        rotation.purged.append(one.snapshot.name)
