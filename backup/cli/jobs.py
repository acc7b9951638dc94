"""Running the jobs of the configuration: a snapshot, its copies, then rotation by ``keep``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from backup.cli.configured import (
    chosen_jobs,
    combined,
    excludes_of,
    host_of_jobs,
    policy_of,
    stores_of,
)
from backup.cli.handing_over import hand_over
from backup.cli.invocation import Invocation
from backup.cli.keep import details_of, rotate_job
from backup.cli.output import count_text, print_error, print_json, print_line, print_note
from backup.cli.recording import recorded
from backup.cli.taking import take
from backup.cli.wanted import Options, Wanted
from backup.environment import variable
from backup.errors import BackupError, KeyMissingError
from backup.manager.rotation import JobRotation
from backup.retention import RetentionPolicy
from backup.snapshot.compression import archive_type, check_level
from backup.storage.base import BaseStorage

if TYPE_CHECKING:
    from backup.config.reading import Loaded

_DONE = {0, 3}
_XZ = "xz"


def run_jobs(
    call: Invocation, names: Sequence[str], options: Options, *, wait: bool = True
) -> None:
    """Run jobs one after the other, in the daemon where one runs that can do it.

    One that fails does not keep the others from being run.

    Raises:
        ConfigError: One of them cannot be run as it is said; then none is.
    """
    loaded, names = chosen_jobs(call, names)
    host_of_jobs(call)  # a wrong one is told at once
    wanted = [wanted_of(call, loaded, name, options) for name in names]
    if hand_over(call, names, options, wait=wait):
        return
    statuses: list[int] = []
    told: list[dict[str, object]] = []
    try:
        for one in wanted:
            if len(wanted) > 1 and not (call.json or call.quiet):
                statuses.append(_tell_job(one.job))
            told.append(_run(call, one))
            statuses.append(call.status)
    finally:
        if call.json:  # of an interrupted call too: what is done is done
            print_json(told)
    failed = [status for status in statuses if status not in _DONE]
    call.status = failed[0] if failed else max(statuses)


def wanted_of(call: Invocation, loaded: Loaded, name: str, options: Options) -> Wanted:
    """Return the snapshot that a job is to take; what ``options`` say wins.

    Raises:
        ConfigError: A store cannot be opened, or the options do not fit the job.
    """
    job = loaded.configuration.job(name)
    archive = archive_type(options.compression or job.compression or _XZ)
    level = options.level if options.level is not None or options.compression else job.level
    check_level(archive, level)
    stores = stores_of(call, loaded, name)
    named = () if call.settings.names_store() else loaded.configuration.stores_of(name)
    return Wanted(
        sources=[source.path for source in job.sources],
        stores=stores,
        archive=archive,
        excludes=combined(excludes_of(loaded, name), options.excludes),
        level=level,
        workers=options.workers or job.workers,
        recipients=options.recipients or (not variable("RECIPIENTS") and job.recipients) or (),
        tags=options.tags or job.tags or (),
        job=name,
        # By its URL one is not told as it was said: there may be a password in it.
        names=[
            one if one in loaded.configuration.stores else str(store)
            for one, store in zip(named, stores, strict=False)
        ],
    )


def _tell_job(job: str) -> int:
    """Tell which job comes; that nothing can be told is no reason not to run it."""
    try:
        print_line(f"{job}:")
    except BackupError as error:
        print_error(error)
        return error.exit_code
    return 0


def _run(call: Invocation, wanted: Wanted) -> dict[str, object]:
    """Run one job; an error is told, and becomes the status."""
    call.status, call.reason = 0, ""
    call.details.clear()
    told: dict[str, object] = {}
    try:
        with recorded(call, wanted.job):
            told = take(call, wanted)
            done = [] if call.dry_run else _rotate(call, wanted, told)
    except BackupError as error:
        call.status = error.exit_code
        if not call.dry_run:
            call.fail_action("backup", error, job=wanted.job)
        print_note(f"job {wanted.job} has failed:")
        print_error(error)
        return {"job": wanted.job, **told, "error": error.message, "exit_status": error.exit_code}
    return {"job": wanted.job, **told, "rotated": done, "exit_status": call.status}


def _rotate(
    call: Invocation, wanted: Wanted, told: Mapping[str, object]
) -> list[dict[str, object]]:
    """Rotate the job where its snapshot is; what goes wrong there is told, and it stands."""
    try:
        ruled = _ruled(call, wanted, told)
        if not ruled:
            return []
        call.start_action("rotate", job=wanted.job, stores=[store.url for store, _ in ruled])
        done = [(store, rotate_job(call, store, one, wanted.job)) for store, one in ruled]
    except KeyMissingError:
        call.note(f"{wanted.job} is not rotated: this host cannot open its snapshots")
        call.end_action("skipped", reason="this host cannot open its snapshots", exit_status=0)
        return []
    errors = [one.error for _, one in done if one.error is not None]
    if errors and call.status in _DONE:
        call.status, call.reason = errors[0].exit_code, errors[0].message
    call.details |= details_of([one for _, one in done])
    call.end_action(
        "failed" if errors else "done",
        trashed=[name for _, one in done for name in one.trashed],
        purged=[name for _, one in done for name in one.purged],
        errors=[error.message for error in errors],
        exit_status=errors[0].exit_code if errors else 0,
    )
    return [_tell(call, store, rotation) for store, rotation in done]


def _ruled(
    call: Invocation, wanted: Wanted, told: Mapping[str, object]
) -> list[tuple[BaseStorage, RetentionPolicy]]:
    """Return the stores that hold the new snapshot, with what to keep there, where that is said."""
    policies = [(store, policy_of(call, store, wanted.job)) for store in wanted.stores]
    ruled = [(store, policy) for store, policy in policies if policy]
    own = call.settings.own_host_name()
    if ruled and call.settings.host_name() != own:
        call.note(f"{wanted.job} is not rotated: what to keep is said of {own}, this host")
        return []
    missing = {one["store"] for one in cast("list[dict[str, str]]", told["not_copied"])}
    return [(store, policy) for store, policy in ruled if str(store) not in missing]


def _tell(call: Invocation, store: BaseStorage, rotation: JobRotation) -> dict[str, object]:
    trashed, purged = len(rotation.trashed), len(rotation.purged)
    if rotation.error is not None:
        print_note(f"{rotation.job} has not been rotated to the end in {store}:")
        print_error(rotation.error)
    if (trashed or purged) and not (call.json or call.quiet):
        print_line(
            f"  rotated   {count_text(trashed, 'snapshot')} into the trash, {purged:,} purged"
            f" in {store}"
        )
    return {
        "store": store.url,
        "trashed": rotation.trashed,
        "purged": rotation.purged,
        "error": None if rotation.error is None else rotation.error.message,
    }
