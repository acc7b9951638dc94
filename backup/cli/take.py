"""``backup``, which is also ``--now``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    count_text,
    duration_text,
    print_error,
    print_json,
    print_line,
    print_note,
    size_text,
)
from backup.cli.progress import ProgressLine
from backup.errors import BackupError, ConfigError
from backup.keys import load_or_create_host_key
from backup.manager import Problem, SnapshotReport, SnapshotRequest, take_snapshot
from backup.manager.copying import copy_snapshot
from backup.manager.naming import default_job
from backup.manager.own_stores import refuse_stores
from backup.model import Entry, path_text
from backup.snapshot.compression import archive_type, check_level
from backup.snapshot.names import check_word
from backup.sources.roots import Root, prepare_roots
from backup.sources.tree import TreeWalker
from backup.storage.base import BaseStorage, ProofStrength
from backup.wiring import expanded

_SOME_OF_IT = 3
_PROVEN = {
    ProofStrength.READ_BACK: "the file read back and compared",
    ProofStrength.ATTESTED: "the file attested by its store",
    ProofStrength.EXISTENCE: "the file's size told by its store",
}
_TOLD = 10
_EXAMPLES = """say what to back up, for example:
  auto-backup --now --source ~/Documents
  auto-backup --now --source /etc /srv --store /mnt/disk"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("backup", epilog=MORE)(backup)


def backup(
    context: typer.Context,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...", help="What to save: directories or files, several after one option."
        ),
    ] = None,
    compression: Annotated[
        str,
        typer.Option(metavar="NAME", help="xz (smallest), zstd (fastest), gzip, bzip2 or none."),
    ] = "xz",
    level: Annotated[int | None, typer.Option(metavar="N", help="How hard to compress.")] = None,
) -> None:
    """Take an encrypted snapshot, and prove it before it counts. Same as --now."""
    call = invocation(context)
    if not source:
        raise ConfigError("there is nothing to back up: no --source", hint=_EXAMPLES)
    archive = archive_type(compression)
    check_level(archive, level)
    host, job = call.settings.host_name(), call.settings.job
    if job:
        check_word(job, "job")
    source = [Path(expanded(str(path))) for path in source]
    roots = prepare_roots(source)
    stores = call.settings.open_stores()
    refuse_stores(roots, stores)
    if call.dry_run:
        _tell_plan(call, roots, stores)
        return
    key, is_new = call.settings.load_or_create_key(stores)
    if is_new:
        _tell_new_key(call)
    request = SnapshotRequest(
        sources=source,
        host=host,
        job=job or default_job(roots, stores[0], host, [key]),
        recipients=[key],
        identities=[key],
        host_key=load_or_create_host_key(call.settings.state_dir()),
        archive=archive,
        level=level,
    )
    _take(call, request, roots, stores)


def _take(
    call: Invocation, request: SnapshotRequest, roots: Sequence[Root], stores: list[BaseStorage]
) -> None:
    call.start_action(
        "backup",
        job=request.job,
        sources=[path_text(root.path) for root in roots],
        stores=[str(store) for store in stores],
    )
    if call.settings.uses_default_store():
        call.note(f"no --store given: snapshots go to {stores[0]}")
    with ProgressLine(request.job, None, quiet=call.quiet) as line:
        if line.is_shown:
            line.expect(_measure(roots)[1])
        report = take_snapshot(
            request, stores[0], leave_out=stores[1:], on_progress=lambda at: line.set(at.read)
        )
    failed = _copy(report.name, stores)
    incomplete = bool(report.problems)
    call.status = _SOME_OF_IT if incomplete else 0
    if failed:
        call.status = next(iter(failed.values())).exit_code
    call.end_action(
        "failed" if failed else "incomplete" if incomplete else "done",
        snapshot=report.id.hex(),
        name=report.name,
        size=report.size,
        entries=report.counts.entries,
        source_bytes=report.counts.bytes,
        unreadable=len(report.problems),
        not_copied=[str(store) for store in failed],
        exit_status=call.status,
    )
    _tell_report(call, report, stores, failed)


def _copy(name: str, stores: Sequence[BaseStorage]) -> dict[BaseStorage, BackupError]:
    """Copy a snapshot from the first store to all others; return those that did not take it."""
    failed: dict[BaseStorage, BackupError] = {}
    for store in stores[1:]:
        try:
            copy_snapshot(stores[0], name, store)
        except BackupError as error:
            failed[store] = error
    return failed


def _measure(roots: Sequence[Root]) -> tuple[int, int]:
    """Return how many entries there are below ``roots``, and the bytes of their contents."""
    entries = size = 0
    for found in TreeWalker(roots):
        if isinstance(found, Entry):
            entries += 1
            size += found.size
    return entries, size


def _tell_plan(call: Invocation, roots: Sequence[Root], stores: Sequence[BaseStorage]) -> None:
    entries, size = _measure(roots)
    sources = [path_text(root.path) for root in roots]
    places = [str(store) for store in stores]
    if call.json:
        print_json({"sources": sources, "stores": places, "entries": entries, "bytes": size})
        return
    print_line(f"would save {count_text(entries, 'entry', 'entries')} ({size_text(size)})")
    print_line(f"  from {', '.join(sources)}")
    print_line(f"  to   {', '.join(places)}")
    print_line("nothing has been changed")


def _tell_new_key(call: Invocation) -> None:
    """Tell once, also to those who want quiet: nobody else can ever tell it."""
    print_note(f"a new key has been made: {call.settings.key_path()}")
    print_note("keep a copy of that file elsewhere, off this machine.")
    print_note("without it nobody, you included, can ever read these snapshots.")


def _tell_report(
    call: Invocation,
    report: SnapshotReport,
    stores: Sequence[BaseStorage],
    failed: dict[BaseStorage, BackupError],
) -> None:
    files = [_place(store, report.name) for store in stores if store not in failed]
    if call.json:
        print_json(_report_json(report, files, failed))
    elif not call.quiet:
        _tell_snapshot(report, files)
    for skipped in report.skipped if call.verbose else ():
        call.note(f"left out: {path_text(skipped.path)}: {skipped.reason}")
    _tell_problems(report)
    for store, error in failed.items():
        print_note(f"there is no copy in {store}:")
        print_error(error)


def _tell_snapshot(report: SnapshotReport, files: Sequence[str]) -> None:
    seconds = (report.finished - report.started).total_seconds()
    counts = report.counts
    print_line(
        f"saved {count_text(counts.entries, 'entry', 'entries')}"
        f" ({count_text(counts.files, 'file')}, {size_text(counts.bytes)})"
        f" as {size_text(report.size)} in {duration_text(seconds)}"
    )
    print_line(f"  snapshot  {report.id.hex()[:8]}  ({report.name.split('/')[1]})")
    for file in files:
        print_line(f"  file      {file}")
    print_line(f"  proven    frames decompressed and compared, {_PROVEN[report.strength]}")


def _tell_problems(report: SnapshotReport) -> None:
    if not report.problems:
        return
    what = count_text(len(report.problems), "path was", "paths were")
    print_note(f"{what} not saved, or not as they should be:")
    for problem in report.problems[:_TOLD]:
        print_note(f"  {path_text(problem.path)}: {problem.reason}")
    if len(report.problems) > _TOLD:
        print_note(f"  and {len(report.problems) - _TOLD:,} more; --json tells all")


def _place(store: BaseStorage, name: str) -> str:
    root = store.local_root()
    return f"{store.url}/{name}" if root is None else str(root / name)


def _report_json(
    report: SnapshotReport, files: Sequence[str], failed: dict[BaseStorage, BackupError]
) -> dict[str, object]:
    return {
        "snapshot": report.id.hex(),
        "name": report.name,
        "files": files,
        "sequence": report.sequence,
        "started": report.started,
        "finished": report.finished,
        "size": report.size,
        "sha256": report.sha256.hex(),
        "proven": str(report.strength),
        "entries": report.counts.entries,
        "source_files": report.counts.files,
        "source_bytes": report.counts.bytes,
        "problems": [_problem_json(problem) for problem in report.problems],
        "skipped": [_problem_json(problem) for problem in report.skipped],
        "not_copied": [
            {"store": str(store), "reason": error.message} for store, error in failed.items()
        ],
    }


def _problem_json(problem: Problem) -> dict[str, str]:
    return {"path": path_text(problem.path), "reason": problem.reason}
