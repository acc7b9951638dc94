"""``schedule list``, ``schedule pause``, ``schedule resume``, ``schedule run``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from backup.child_run import OnOutput
from backup.cli import daemon_commands
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import count_text, print_json, print_line, print_table, time_text
from backup.cli.progress import ProgressLine
from backup.cli.scheduling import (
    Scheduling,
    open_scheduling,
    reasons_to_wait,
    run_what_is_due,
)
from backup.clock import system_clock
from backup.errors import ConfigError, LockedError
from backup.run_state import Cause, JobRuns, Outcome, Run
from backup.running import Runner, Task, Turn

app = typer.Typer(rich_markup_mode=None)
_FAILED = 1
_INCOMPLETE = 3
_ENDING = 15.0
_LOOK_AGAIN = 1.0
_NAMES = typer.Argument(metavar="JOB", help="As 'schedule list' names them; else all.")


def register(program: typer.Typer) -> None:
    """Add the commands to ``program``."""
    program.add_typer(app, name="schedule", help="What runs when, and running it.")


@app.callback()
def _group() -> None:
    """Look at what runs when, pause it, run it."""


app.command("start", epilog=MORE)(daemon_commands.start)
app.command("stop", epilog=MORE)(daemon_commands.stop)


@app.command("list", epilog=MORE)
def list_tasks(context: typer.Context) -> None:
    """List jobs and upkeep: when they run, how they last ended, when they are next."""
    call = invocation(context)
    found = open_scheduling(call)
    now, known = system_clock(), found.state.jobs()
    turns = {one.task.name: one for one in found.plan(known, now)}
    ordered = [turns[one.name] for one in found.tasks]
    running = {one.job for one in found.state.running()}
    waiting = reasons_to_wait([one for one in ordered if one.is_due(now)])
    states = {one.task.name: _state(one, now, running, waiting) for one in ordered}
    if call.json:
        print_json([_turn_json(one, states[one.task.name], waiting) for one in ordered])
    elif not call.quiet:
        rows = [_row(one, now, states[one.task.name]) for one in ordered]
        columns = ("job", "when", "last run", "next", "state")
        print_table(columns, rows, optional=("when", "last run"))
    _tell_what_is_kept(call, found)


def _state(turn: Turn, now: datetime, running: set[str], waiting: dict[str, str]) -> str:
    name = turn.task.name
    if name in running:
        return "running"
    if turn.known.paused_since is not None:
        return "paused"
    if name in waiting:
        return f"waits: {waiting[name]}"
    if turn.is_due(now):
        return "due"
    reason = "" if turn.known.last is None else turn.known.last.reason
    if turn.cause is Cause.RETRY:
        return f"{count_text(turn.known.failures, 'failure')}, tried again: {reason}"
    return reason


def _row(turn: Turn, now: datetime, state: str) -> list[str]:
    following = "" if turn.begins is None else time_text(turn.begins, short=True)
    if turn.begins is not None and turn.begins <= now:
        following = "now"
    if turn.known.paused_since is not None or state == "running":
        following = ""
    return [turn.task.name, turn.task.when(), _last(turn.known), following, state]


def _last(known: JobRuns) -> str:
    run = known.last
    if run is None:
        return "never"
    what = "" if run.outcome is None else f" {run.outcome}"
    return time_text(run.ended or run.started, short=True) + what


def _turn_json(turn: Turn, state: str, waiting: dict[str, str]) -> dict[str, object]:
    known = turn.known
    return {
        "job": turn.task.name,
        "upkeep": turn.task.is_upkeep,
        "when": turn.task.when(),
        "last": None if known.last is None else _run_json(known.last),
        "last_done": known.last_done,
        "failures": known.failures,
        "next": turn.begins,
        "paused_since": known.paused_since,
        "running": state == "running",
        "waits_for": waiting.get(turn.task.name),
    }


def _run_json(run: Run) -> dict[str, object]:
    return run.details | {
        "cause": str(run.cause),
        "moment": run.moment,
        "started": run.started,
        "ended": run.ended,
        "outcome": None if run.outcome is None else str(run.outcome),
        "reason": run.reason,
    }


def _tell_what_is_kept(call: Invocation, found: Scheduling) -> None:
    rotated = {one.name.rpartition("/")[2] for one in found.tasks if one.name.startswith("rotate/")}
    without = [name for name in found.configuration.jobs if name not in rotated]
    if call.settings.only_writes():
        call.note("this host cannot open its snapshots: another one has to rotate and verify them")
    elif without:
        call.note(f"without keep nothing is ever deleted: {', '.join(without)}")


@app.command("pause", epilog=MORE)
def pause(context: typer.Context, jobs: Annotated[list[str] | None, _NAMES] = None) -> None:
    """Begin no more runs, until 'schedule resume'; what runs goes on, and runs by hand do."""
    _change(invocation(context), jobs or [], pausing=True)


@app.command("resume", epilog=MORE)
def resume(context: typer.Context, jobs: Annotated[list[str] | None, _NAMES] = None) -> None:
    """End a pause; what was missed runs once."""
    _change(invocation(context), jobs or [], pausing=False)


def _change(call: Invocation, names: Sequence[str], *, pausing: bool) -> None:
    found = open_scheduling(call)
    tasks = [found.task(name) for name in names] or found.tasks
    if call.dry_run:
        known = found.state.jobs()
        changed = [
            one.name
            for one in tasks
            if (one.name in known and known[one.name].paused_since is not None) != pausing
        ]
    else:
        change = found.state.pause if pausing else found.state.resume
        changed = [one.name for one in tasks if change(one.name)]
    if call.json:
        print_json(changed)
        return
    would = "would be " if call.dry_run else ""
    for name in changed if not call.quiet else ():
        print_line(f"{name}: {would}{'paused' if pausing else 'resumed'}")
    if not changed:
        call.note("they are paused already" if pausing else "nothing of it is paused")


@app.command("run", epilog=MORE)
def run(
    context: typer.Context,
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="Run it now, whatever the schedule says.")
    ] = None,
    *,
    due: Annotated[
        bool, typer.Option("--due", help="Run all that is due: for cron and timers.")
    ] = False,
) -> None:
    """Run a job now, or with --due all that is due; never what runs already."""
    call = invocation(context)
    if (job is None) != due:
        raise ConfigError(
            "say either which job to run, or --due",
            hint="'auto-backup schedule list' tells the jobs",
        )
    found = open_scheduling(call)
    if job is None:
        _run_due(call, found)
    else:
        _run_one(call, found, found.task(job))


def _run_one(call: Invocation, found: Scheduling, task: Task) -> None:
    busy = f"{task.name} is running already"
    if call.dry_run:
        if found.state.is_running(task.name):
            raise LockedError(busy)
        print_line(f"{task.name} would be run")
        return
    ended: list[Run] = []
    runner = found.runner(on_end=lambda _, run: ended.append(run))
    with call.progress(task.name) as line:
        show = _above(line, _show_aside if call.json else _show)
        if runner.begin_by_hand(task, show, lambda at: line.at(*at)) is None:
            raise LockedError(busy, hint="'auto-backup schedule list' tells since when")
        _wait(runner)
    if call.json:
        print_json([{"job": one.job, **_run_json(one)} for one in ended])
    for one in ended:
        call.status = one.exit_status
        if one.outcome is not Outcome.DONE:
            call.note(_said(one))
    if not ended:
        call.note(f"{task.name} cannot be killed, and counts as running until it is gone")
        call.status = _FAILED


def _above(line: ProgressLine, show: OnOutput) -> OnOutput:
    """Return what shows what a run writes above the line that tells how far it is."""

    def hear(number: int, block: bytes) -> None:
        with line.hidden():
            show(number, block)

    return hear


def _show(number: int, block: bytes) -> None:
    """Pass on what a run writes; a run does not end because nobody listens."""
    stream = sys.stdout if number == 1 else sys.stderr
    with suppress(OSError, ValueError):
        stream.flush()
        stream.buffer.write(block)
        stream.buffer.flush()


def _show_aside(_: int, block: bytes) -> None:
    """Pass on what a run writes beside a document in JSON."""
    _show(2, block)


def _run_due(call: Invocation, found: Scheduling) -> None:
    if call.dry_run:
        now = system_clock()
        due = [one for one in found.plan(found.state.jobs(), now) if one.is_due(now)]
        for one in due:
            print_line(f"{one.task.name} would be run")
        return
    ended: list[Run] = []
    woken = threading.Event()

    def tell(_: Task, run: Run) -> None:
        ended.append(run)
        if not call.json and not call.quiet:
            print_line(_said(run))

    runner = found.runner(on_end=tell, wake=woken.set)
    try:
        run_what_is_due(runner, woken)
    except BaseException:
        runner.stop(_ENDING)
        raise
    for name, waits in runner.waiting().items():
        call.note(f"{name} waits: {waits.reason}")
    for name in runner.running():
        call.note(f"{name} cannot be killed, and counts as running until it is gone")
    if call.json:
        print_json([{"job": one.job, **_run_json(one)} for one in ended])
    statuses = [one.exit_status for one in ended if one.outcome is not Outcome.SKIPPED]
    failed = [one for one in statuses if one not in {0, _INCOMPLETE}]
    call.status = failed[0] if failed else max(statuses, default=0)


def _wait(runner: Runner) -> None:
    try:
        while not runner.wait(_LOOK_AGAIN):
            runner.watch()
    except BaseException:
        runner.stop(_ENDING)
        raise


def _said(run: Run) -> str:
    return f"{run.job}: {run.outcome}{': ' + run.reason if run.reason else ''}"
