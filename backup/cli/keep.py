"""``rotate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer

from backup.cli.configured import policy_of
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    count_text,
    print_error,
    print_json,
    print_line,
    print_note,
    print_table,
    safe_text,
    size_text,
    time_text,
)
from backup.cli.progress import ProgressLine
from backup.cli.trash import rotation_json
from backup.clock import system_clock
from backup.errors import BackupError, CatalogError, ConfigError, SnapshotNotFoundError
from backup.listing import StoredSnapshot, list_jobs
from backup.manager.rotation import TRASH_FOR, JobRotation, RotationRequest, rotate_jobs
from backup.remembering import recall_for_rotation, remember_rotation
from backup.reporting import Told
from backup.retention import (
    MOST_DELETIONS,
    NOTHING_GOES,
    RetentionPolicy,
    Verdict,
    parse_duration,
    parse_keep,
)
from backup.storage.base import BaseStorage

_NO_POLICY = (
    "nothing is deleted: say what to keep, for example --keep last=3,daily=14,weekly=8,monthly=12"
)
_ROTATING = "rotating"
_LOOKS = 2  # at each snapshot
_WORDS = {Verdict.KEEP: "keep", Verdict.PACK: "keep", Verdict.LATER: "later"}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("rotate", epilog=MORE)(rotate)


def rotate(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="[HOST/]JOB; else all of them.")
    ] = None,
    *,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="last, hourly, daily, weekly, monthly, yearly =N; within=30d; tag=WORD.",
        ),
    ] = None,
    trash_for: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the trash keeps what was deleted.")
    ] = "7d",
    most: Annotated[
        int, typer.Option(metavar="K", help="Delete at most so many in this run.")
    ] = 100,
) -> None:
    """Put into the trash what no rule of --keep keeps; purge what lay there long enough."""
    call = invocation(context)
    if most < 1:
        raise ConfigError(f"--most needs a number from 1 on, not {most}")
    request = _request(call, parse_keep(keep or []), parse_duration(trash_for), most)
    stores = call.settings.open_stores()
    if not call.dry_run:
        call.start_action("rotate", stores=[store.url for store in stores], keep=keep or [])
    done: list[tuple[BaseStorage, JobRotation]] = []
    for store in stores:
        with call.progress(_ROTATING) as line:
            rotations = list(_rotations(call, store, _watched(request, line), jobs or []))
        if not call.json:
            _tell(call, store, rotations, request.trash_for)
        done += [(store, one) for one in rotations]
    if call.json:
        print_json([rotation_json(store, one) for store, one in done])
    if not (request.policy or any(policy_of(call, store, one.job) for store, one in done)):
        call.note(_NO_POLICY)
    errors = [one.error for _, one in done if one.error is not None]
    call.status = errors[0].exit_code if errors else 0
    call.details |= details_of([one for _, one in done])
    call.end_action(
        "failed" if errors else "done",
        trashed=[name for _, one in done for name in one.trashed],
        purged=[name for _, one in done for name in one.purged],
        errors=[error.message for error in errors],
        exit_status=call.status,
    )


def details_of(rotations: Sequence[JobRotation]) -> dict[str, Told]:
    """Return what a supervisor shall know of rotations."""
    return {
        "trashed": sum(len(one.trashed) for one in rotations),
        "purged": sum(len(one.purged) for one in rotations),
    }


def rotate_job(
    call: Invocation, store: BaseStorage, policy: RetentionPolicy, job: str
) -> JobRotation:
    """Rotate one job of this host; what was done is remembered, what went wrong is in it.

    Raises:
        SecretKeyError: Nothing opens its snapshots here.
    """
    host = call.settings.host_name()
    request = replace(_request(call, policy, TRASH_FOR, MOST_DELETIONS), host=host)
    request = _with_what_is_known(call, store, request, [(host, job)])
    with call.progress(_ROTATING) as line:
        [rotation] = rotate_jobs(store, _watched(request, line), jobs=[(host, job)])
    _remember(call, store, rotation)
    return rotation


def _request(
    call: Invocation, policy: RetentionPolicy, trash_for: timedelta, most: int
) -> RotationRequest:
    return RotationRequest(
        policy=policy,
        identities=call.settings.identities(),
        host=call.settings.own_host_name(),  # --host says whose snapshots
        trash_for=trash_for,
        most=most,
    )


def _watched(request: RotationRequest, line: ProgressLine) -> RotationRequest:
    return replace(request, on_looked=lambda size: line.add(size / _LOOKS))


def _rotations(
    call: Invocation, store: BaseStorage, request: RotationRequest, wanted: Sequence[str]
) -> Iterator[JobRotation]:
    """Rotate a store; one that fails does not keep the others from being rotated."""
    try:
        jobs = _chosen(call, store, wanted)
        if not jobs:
            call.note(call.none_found(store))
        request = _with_what_is_known(call, store, request, jobs)
        for policy, some in _by_policy(call, store, request, jobs).items():
            request = replace(request, policy=policy)
            for one in rotate_jobs(store, request, jobs=some, change=not call.dry_run):
                if not call.dry_run:
                    _remember(call, store, one)
                request = replace(request, most=request.most - len(one.plan.deletions))
                yield one
    except BackupError as error:
        yield JobRotation("", "", error=error)


def _by_policy(
    call: Invocation,
    store: BaseStorage,
    request: RotationRequest,
    jobs: Sequence[tuple[str, str]],
) -> dict[RetentionPolicy, list[tuple[str, str]]]:
    """Return the jobs by what is to be kept of them: by ``--keep``, else by the configuration."""
    if request.policy:
        return {request.policy: list(jobs)}
    found: dict[RetentionPolicy, list[tuple[str, str]]] = {}
    for host, job in jobs:
        own = host == request.host
        policy = policy_of(call, store, job) if own else NOTHING_GOES
        found.setdefault(policy, []).append((host, job))
    return found


def _with_what_is_known(
    call: Invocation, store: BaseStorage, request: RotationRequest, jobs: Sequence[tuple[str, str]]
) -> RotationRequest:
    """Add to ``request`` what the catalog knows: what is proven stays, what is gone is told."""
    try:
        found = recall_for_rotation(call.catalog(), store.url, jobs, request.host)
    except CatalogError as error:
        print_note(f"without the catalog: {error.message}")
        return request
    return replace(request, proven=found.proven, known=found.known)


def _remember(call: Invocation, store: BaseStorage, rotation: JobRotation) -> None:
    trashed = rotation.in_trash(system_clock())
    if trashed or rotation.purged:
        call.remember(
            lambda catalog: remember_rotation(catalog, store.url, trashed, rotation.purged)
        )


def _chosen(call: Invocation, store: BaseStorage, wanted: Sequence[str]) -> list[tuple[str, str]]:
    settings = call.settings
    found = list_jobs(store, host=settings.host or "", job=settings.job or "")
    for word in wanted:
        if not any(word in {job, f"{host}/{job}"} for host, job in found):
            raise SnapshotNotFoundError(
                f"there is no snapshot of job {word!r} in {store}",
                hint="there are: " + ", ".join(f"{host}/{job}" for host, job in found[:8]),
            )
    if not wanted:
        return found
    return [one for one in found if {one[1], "/".join(one)} & set(wanted)]


def _tell(
    call: Invocation, store: BaseStorage, rotations: Sequence[JobRotation], trash_for: timedelta
) -> None:
    rows = [row for one in rotations for row in _rows(one)]
    if rows and not call.quiet:
        print_table(("id", "time", "job", "size", "what", "why"), rows)
    for one in rotations:
        _tell_odd(call, one)
    if rows and not call.quiet:
        print_line(_summary(store, rotations, trash_for, planned=call.dry_run))


def _rows(rotation: JobRotation) -> Iterator[list[str]]:
    for one in rotation.purges:
        yield _row(one.snapshot, "purge", f"in the trash since {time_text(one.since, short=True)}")
    for decision in rotation.plan.decisions:
        stored = rotation.snapshots[decision.name]
        yield _row(stored, _WORDS.get(decision.verdict, "trash"), decision.reason)


def _row(stored: StoredSnapshot, what: str, why: str) -> list[str]:
    time = time_text(stored.time, short=True)
    return [stored.id[:8], time, f"{stored.host}/{stored.job}", size_text(stored.size), what, why]


def _tell_odd(call: Invocation, rotation: JobRotation) -> None:
    """Tell what a person should look at."""
    odd = [one for one in rotation.plan.decisions if one.verdict is Verdict.KEEP and not one.counts]
    for decision in odd:
        call.note(f"not counted, and kept: {decision.name}: {decision.reason}")
    for trashed, decision in rotation.held:
        call.note(
            f"in the trash, and not purged: {trashed.snapshot.name}: {decision.reason};"
            f" 'auto-backup undelete {trashed.snapshot.id[:8]}' brings it back"
        )
    if rotation.error is not None:
        if rotation.job:
            print_note(f"{rotation.host}/{rotation.job} has not been rotated to the end:")
        print_error(rotation.error)


def _summary(
    store: BaseStorage, rotations: Sequence[JobRotation], trash_for: timedelta, *, planned: bool
) -> str:
    """Return one line about a store; a plan says what would be done."""
    into: list[str] = []
    out: list[str] = []
    sizes: dict[str, int] = {}
    waiting = 0
    for one in rotations:
        sizes |= {name: stored.size for name, stored in one.snapshots.items()}
        sizes |= {trashed.snapshot.name: trashed.snapshot.size for trashed in one.purges}
        into += one.plan.deletions if planned else one.trashed
        out += [trashed.snapshot.name for trashed in one.purges] if planned else one.purged
        waiting += len(one.waiting)
    staying = sum(len(one.snapshots) for one in rotations) - len(into)
    days = f"{trash_for / timedelta(days=1):g} days"
    would = "would be " if planned else ""
    parts = [f"{count_text(staying, 'snapshot')} in {safe_text(str(store))} kept"]
    if into:
        size = size_text(sum(sizes[name] for name in into))
        parts.append(f"{len(into)} {would}put into the trash ({size}, purged after {days})")
    if out:
        size = size_text(sum(sizes[name] for name in out))
        parts.append(f"{len(out)} {would}purged ({size})")
    if waiting:
        parts.append(f"{waiting} waiting in the trash")
    return ", ".join(parts)
