"""``restore`` and ``decrypt``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import SNAPSHOT, Invocation, invocation
from backup.cli.output import (
    count_text,
    duration_text,
    is_terminal,
    print_bytes,
    print_json,
    print_line,
    print_note,
    safe_text,
    size_text,
)
from backup.cli.progress import ProgressLine
from backup.errors import ConfigError, RestoreError
from backup.model import SnapshotKind, path_text
from backup.restore import RestorePlan, RestoreReport
from backup.restore.manager import run_restore
from backup.restore.plan import refuse_conflicts
from backup.snapshot.frame import Section
from backup.wiring import expanded

_SOME_OF_IT = 3
_DAMAGED = 13
_TOLD = 10


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("restore", epilog=MORE)(restore)
    app.command("decrypt", epilog=MORE)(decrypt)


def restore(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="What of it; else everything.")
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A directory; entries get their whole path below it."),
    ] = None,
) -> None:
    """Restore a snapshot, or some paths of it; nothing that exists is overwritten."""
    call = invocation(context)
    if target is None:
        raise ConfigError(
            "there is no --target: where is it to be restored?",
            hint="name a directory, which need not exist: --target /tmp/restored",
        )
    target = Path(expanded(str(target)))
    manager = call.reader()
    plan = manager.plan_restore(call.wanted(snapshot), target, paths or [])
    if call.dry_run:
        _tell_plan(call, plan)
        return
    refuse_conflicts(plan)
    call.start_action("restore", snapshot=plan.snapshot.name, target=str(target))
    started = time.monotonic()
    with ProgressLine("restoring", plan.size, quiet=call.quiet) as line:
        reader = plan.snapshot.open(manager.identities)
        report = run_restore(
            reader, plan, confined=call.alone, on_restored=lambda at, _: line.set(at.size)
        )
    call.status = _DAMAGED if report.damaged else _SOME_OF_IT if report.problems else 0
    call.end_action(
        "damaged" if report.damaged else "incomplete" if report.problems else "done",
        entries=report.entries,
        size=report.size,
        damaged=len(report.damaged),
        problems=len(report.problems),
        exit_status=call.status,
    )
    _tell_report(call, plan, report, time.monotonic() - started)


def _tell_plan(call: Invocation, plan: RestorePlan) -> None:
    conflicts = [path_text(path) for path in plan.conflicts]
    if call.json:
        print_json(
            {
                "snapshot": plan.snapshot.name,
                "target": str(plan.target),
                "entries": plan.entries,
                "files": plan.files,
                "bytes": plan.size,
                "conflicts": conflicts,
                "incomplete": [path_text(path) for path, _ in plan.incomplete],
            }
        )
        return
    entries = count_text(plan.entries, "entry", "entries")
    print_line(
        f"would restore {entries} ({count_text(plan.files, 'file')}, {size_text(plan.size)})"
    )
    print_line(f"  from {plan.snapshot.name}")
    print_line(f"  to   {safe_text(str(plan.target))}")
    for path in conflicts[:_TOLD]:
        print_line(f"  in the way: {safe_text(path)}")
    if len(conflicts) > _TOLD:
        print_line(f"  and {len(conflicts) - _TOLD:,} more in the way")
    if conflicts:
        print_line("restore would refuse: it overwrites nothing")
    print_line("nothing has been changed")


def _tell_report(
    call: Invocation, plan: RestorePlan, report: RestoreReport, seconds: float
) -> None:
    if call.json:
        print_json(
            {
                "snapshot": plan.snapshot.name,
                "target": str(plan.target),
                "entries": report.entries,
                "files": report.files,
                "bytes": report.size,
                "seconds": round(seconds, 3),
                "confined": report.confined,
                "damaged": [error.message for error in report.damaged],
                "problems": [
                    {"path": path_text(path), "reason": reason} for path, reason in report.problems
                ],
            }
        )
        return
    if not call.quiet:
        entries = count_text(report.entries, "entry", "entries")
        print_line(
            f"restored {entries} ({count_text(report.files, 'file')}, {size_text(report.size)})"
            f" in {duration_text(seconds)}, every content compared with its SHA-256"
        )
        print_line(f"  to {safe_text(str(plan.target))}")
    damaged = [error.message for error in report.damaged]
    _tell_some("not restored, because stored bytes are damaged", damaged)
    problems = [f"{path_text(path)}: {reason}" for path, reason in report.problems]
    _tell_some("not as they were", problems)


def _tell_some(what: str, lines: list[str]) -> None:
    if not lines:
        return
    print_note(f"{len(lines):,} {what}:")
    for line in lines[:_TOLD]:
        print_note(f"  {safe_text(line)}")
    if len(lines) > _TOLD:
        print_note(f"  and {len(lines) - _TOLD:,} more; --json tells all")


def decrypt(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
) -> None:
    """Write a snapshot's plain archive to standard output: decrypt latest | tar xJ."""
    call = invocation(context)
    reader = call.open(snapshot)
    if is_terminal():
        raise ConfigError(
            "the archive is not for a terminal",
            hint=f"put it into a pipe or a file: auto-backup decrypt {snapshot} | tar x"
            f"  (it is a {reader.core.archive})",
        )
    if reader.record.kind is not SnapshotKind.FULL:
        raise RestoreError(
            f"the archive of this {reader.record.kind} snapshot holds only what was added",
            hint="use restore, which knows where all the rest is",
        )
    call.start_action("decrypt", snapshot=reader.core.id.hex())
    size = 0
    for number, row in enumerate(reader.rows):
        if row.section is Section.ARCHIVE:
            piece = reader.compressed_piece(Section.ARCHIVE, number)
            print_bytes(piece)
            size += len(piece)
    call.end_action("done", size=size, exit_status=0)
