"""``status`` and ``history``: how the jobs of this machine are, and what became of their runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    age_text,
    count_text,
    duration_text,
    print_json,
    print_line,
    print_table,
    size_text,
    time_text,
)
from backup.clock import system_clock
from backup.config.problems import refuse_unknown_jobs

if TYPE_CHECKING:
    from backup.health import Health, JobHealth
    from backup.run_state import Run, RunState

_NOT_WELL = 1
_LEVELS = ("checksum", "content")
_MOST = 20
_JOBS = typer.Argument(metavar="JOB", help="Jobs of the configuration; else all of them.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("status", epilog=MORE)(status)
    app.command("history", epilog=MORE)(history)


def status(
    context: typer.Context,
    jobs: Annotated[list[str] | None, _JOBS] = None,
    *,
    check: Annotated[
        bool,
        typer.Option("--check", help="Tell only what is not well; exit 1 where something is not."),
    ] = False,
) -> None:
    """Tell how each job is and why, its newest snapshot, what of it is proven, what comes next."""
    call = invocation(context)
    from backup.cli.health import look  # noqa: PLC0415 - costs start-up time

    found = look(call, jobs or [])
    if check and not found.is_well:
        call.status = _NOT_WELL
    if call.json:
        print_json(_health_json(found))
    elif check:
        for problem in found.problems:
            print_line(problem)
        for job in found.jobs:
            if not job.is_well:
                print_line(f"{job.job}: {'; '.join(job.reasons)}")
    else:
        _tell(call, found)
    for remark in found.remarks:
        call.note(remark)


def _tell(call: Invocation, found: Health) -> None:
    now = found.time
    rows = [_row(one, now) for one in found.jobs]
    columns = ("job", "state", "snapshot", "contents", "proven", "next", "stored")
    print_table(columns, rows, optional=("contents", "stored"))
    for problem in found.problems:
        print_line(problem)
    for job in found.jobs:
        for reason in job.reasons:
            print_line(f"{job.job}: {reason}")
    if call.verbose:
        for job in found.jobs:
            _tell_stores(job, now)
    wrong = sum(not one.is_well for one in found.jobs)
    if wrong:
        call.note(f"{wrong:,} of {count_text(len(found.jobs), 'job')} {_is(wrong)} not well")
    all_kept = [one.job for one in found.jobs if one.keeps_all]
    if all_kept:
        call.note(f"without keep nothing is ever deleted: {', '.join(all_kept)}")


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _row(job: JobHealth, now: datetime) -> list[str]:
    newest = job.newest
    stored = sum(one.stored for one in job.stores)
    count = sum(one.snapshots for one in job.stores)
    return [
        job.job,
        _state(job),
        "none" if newest is None else _ago(newest.newest, now),
        "" if newest is None else size_text(newest.contents),
        _proven(job, now),
        _next(job, now),
        f"{count:,}: {size_text(stored)}" if count else "",
    ]


def _state(job: JobHealth) -> str:
    if job.running_since is not None:
        return f"runs {_share(job)}".rstrip()
    return "ok" if job.is_well else "not well"


def _share(job: JobHealth) -> str:
    at = job.progress
    if at is None or not at.total:
        return ""
    return f"{min(99, int(100 * at.done / at.total))} %"


def _ago(when: datetime | None, now: datetime) -> str:
    if when is None:
        return "never"
    age = age_text((now - when).total_seconds())
    return "just now" if age == "now" else f"{age} ago"


def _proven(job: JobHealth, now: datetime) -> str:
    """Return how old the newest proof of each level is, in the store where it is oldest."""
    told = []
    for level in _LEVELS:
        times = [getattr(one, level) for one in job.stores if one.newest is not None]
        if times and None not in times:
            told.append(f"{level} {_ago(min(times), now).removesuffix(' ago')}")
    return ", ".join(told) or "nothing"


def _next(job: JobHealth, now: datetime) -> str:
    if job.paused_since is not None:
        return "paused"
    if job.next is None:
        return "" if job.running_since is not None else "by hand"
    if job.next <= now:
        return "now"
    return f"in {age_text((job.next - now).total_seconds())}".replace("in now", "in a moment")


def _tell_stores(job: JobHealth, now: datetime) -> None:
    print_line(f"{job.job}: {job.when}, last run {_last(job)}")
    for one in job.stores:
        what = "nothing"
        if one.newest is not None:
            what = (
                f"{count_text(one.snapshots, 'snapshot')}, {size_text(one.stored)}; newest"
                f" {one.snapshot[:8]} of {time_text(one.newest, short=True)};"
                f" checksum {_ago(one.checksum, now)}, content {_ago(one.content, now)}"
            )
        print_line(f"  {one.store} ({one.url}): {what}")


def _last(job: JobHealth) -> str:
    if job.last is None:
        return "never"
    return f"{time_text(job.last, short=True)} {job.outcome}".rstrip()


def _health_json(found: Health) -> dict[str, object]:
    import msgspec  # noqa: PLC0415 - see above

    told: dict[str, object] = msgspec.to_builtins(found)
    jobs = [{"ok": one.is_well, **msgspec.to_builtins(one)} for one in found.jobs]
    return {"ok": found.is_well, **told, "jobs": jobs}


def history(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="As 'schedule list' names them; else all jobs."),
    ] = None,
    *,
    most: Annotated[
        int, typer.Option(metavar="K", min=1, help="How many runs, of all that are meant.")
    ] = _MOST,
) -> None:
    """List runs, newest first: when, why, how long, what became of them, what they saved."""
    call = invocation(context)
    from backup.cli.scheduling import open_scheduling  # noqa: PLC0415 - costs start-up time

    found = open_scheduling(call)
    names = jobs or list(found.configuration.jobs)
    known = {one.name for one in found.tasks} | set(found.state.jobs())
    refuse_unknown_jobs(names, known)
    runs = [run for name in dict.fromkeys(names) for run in found.state.history(name, most)]
    runs = _with_ends(sorted(runs, key=lambda one: one.started, reverse=True)[:most], found.state)
    if call.json:
        print_json([_run_json(one) for one in runs])
        return
    if runs:
        print_table(("started", "job", "cause", "took", "outcome", "saved"), list(_rows(runs)))
    for one in reversed(runs):
        if one.reason:
            print_line(f"{time_text(one.started, short=True)} {one.job}: {one.reason}")
    if not runs:
        call.note("nothing has run yet")


def _with_ends(runs: Sequence[Run], state: RunState) -> list[Run]:
    """Return the runs; those whose processes are gone have been interrupted, recorded or not."""
    from backup.run_state import as_gone  # noqa: PLC0415 - costs start-up time

    gone = state.gone() if any(one.outcome is None for one in runs) else []
    return [as_gone(one) if one in gone else one for one in runs]


def _rows(runs: Sequence[Run]) -> Iterator[list[str]]:
    now = system_clock()
    for one in runs:
        yield [
            time_text(one.started, short=True),
            one.job,
            str(one.cause),
            _took(one, now),
            "running" if one.outcome is None else str(one.outcome),
            _saved(one),
        ]


def _took(run: Run, now: datetime) -> str:
    if run.ended is None and run.outcome is not None:
        return ""  # nobody has seen its end
    return duration_text(max((run.ended or now) - run.started, timedelta()).total_seconds())


def _saved(run: Run) -> str:
    snapshot, size = run.details.get("snapshot"), run.details.get("source_bytes")
    if not isinstance(snapshot, str):
        return ""
    return f"{snapshot[:8]} {size_text(size)}" if isinstance(size, int) else snapshot[:8]


def _run_json(run: Run) -> dict[str, object]:
    return {
        "job": run.job,
        "number": run.number,
        "cause": str(run.cause),
        "moment": run.moment,
        "started": run.started,
        "ended": run.ended,
        "outcome": None if run.outcome is None else str(run.outcome),
        "reason": run.reason,
        **run.details,
    }
