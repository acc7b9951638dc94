"""``backup``, which is also ``--now``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from backup.cli.excluding import (
    Exclude,
    ExcludeCaches,
    ExcludeFile,
    ExcludeIfPresent,
    ExcludeLargerThan,
    OneFileSystem,
    collect_excludes,
    left_out_json,
    left_out_lines,
    left_out_text,
    remarks,
)
from backup.cli.forecast import measure, tell_plan, tell_problems
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
from backup.cli.sealing import prepare_sealing
from backup.cli.slow_xz import SlowXz
from backup.errors import BackupError, ConfigError
from backup.keys import load_or_create_host_key
from backup.manager import Problem, Progress, SnapshotReport, SnapshotRequest, take_snapshot
from backup.manager.chain_memory import ChainMemory
from backup.manager.copying import copy_snapshot
from backup.manager.frame_pool import check_workers
from backup.manager.naming import default_job
from backup.manager.own_stores import refuse_stores
from backup.model import path_text
from backup.remembering import remember_taken
from backup.snapshot.compression import archive_type, check_level
from backup.snapshot.names import check_word
from backup.sources.roots import Root, prepare_roots
from backup.storage.base import BaseStorage, ProofStrength
from backup.wiring import expanded

_SOME_OF_IT = 3
_PROVEN = {
    ProofStrength.READ_BACK: "the file read back and compared",
    ProofStrength.ATTESTED: "the file attested by its store",
    ProofStrength.EXISTENCE: "the file's size told by its store",
}
_NOT_WHOLE = "not saved, or not whole"
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
    *,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many processes read and compress; 1 is this one alone. By default what"
            " cores and memory allow.",
        ),
    ] = None,
    recipient: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Seal for this public key, or file of them, too."),
    ] = None,
    exclude: Exclude = None,
    exclude_file: ExcludeFile = None,
    exclude_if_present: ExcludeIfPresent = None,
    exclude_caches: ExcludeCaches = False,
    exclude_larger_than: ExcludeLargerThan = None,
    one_file_system: OneFileSystem = False,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="A word to keep with the snapshot.")
    ] = None,
) -> None:
    """Take an encrypted snapshot, and prove it before it counts. Same as --now."""
    call = invocation(context)
    if not source:
        raise ConfigError("there is nothing to back up: no --source", hint=_EXAMPLES)
    archive = archive_type(compression)
    check_level(archive, level)
    check_workers(workers)
    host, job = call.settings.host_name(), call.settings.job
    if job:
        check_word(job, "job")
    tags = tuple(dict.fromkeys(check_word(word, "tag") for word in tag or ()))
    excludes = collect_excludes(
        exclude=exclude,
        exclude_file=exclude_file,
        if_present=exclude_if_present,
        caches=exclude_caches,
        larger_than=exclude_larger_than,
        one_file_system=one_file_system,
    )
    source = [Path(expanded(str(path))) for path in source]
    roots = prepare_roots(source)
    stores = call.settings.open_stores()
    refuse_stores(roots, stores)
    for remark in remarks(excludes, roots):
        call.note(remark)
    call.settings.public_recipients(recipient or [])  # a wrong one is told at once
    if call.dry_run:
        tell_plan(call, roots, excludes.rules, stores)
        return
    sealing = prepare_sealing(call, stores, recipient or [])
    host_key = load_or_create_host_key(call.settings.state_dir())
    memory = ChainMemory(call.settings.state_dir(), host_key)
    job = job or default_job(roots, stores[0], host, sealing.identities, memory)
    request = SnapshotRequest(
        sources=source,
        host=host,
        job=job,
        recipients=sealing.recipients(stores[0], host, job),
        identities=sealing.identities,
        host_key=host_key,
        memory=memory,
        archive=archive,
        level=level,
        rules=excludes.rules,
        tags=tags,
        workers=workers,
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
        total = measure(roots, request.rules, stores).bytes if line.is_shown else 0
        line.expect(total)
        slow = SlowXz(line.say)

        def tell(at: Progress) -> None:
            line.set(at.read)
            slow.watch(at.read, total, at.quicker)

        report = take_snapshot(request, stores[0], leave_out=stores[1:], on_progress=tell)
    failed = _copy(report.name, stores)
    for store in stores:
        if store not in failed:
            _remember(call, request, report, store)
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
        left_out=report.left_out.total,
        not_copied=[str(store) for store in failed],
        exit_status=call.status,
    )
    _tell_report(call, report, stores, failed)


def _remember(
    call: Invocation, request: SnapshotRequest, report: SnapshotReport, store: BaseStorage
) -> None:
    call.remember(
        lambda catalog: remember_taken(
            catalog,
            store,
            report.name,
            request.identities,
            strength=str(report.strength),
            started=report.started,
            finished=report.finished,
        )
    )


def _copy(name: str, stores: Sequence[BaseStorage]) -> dict[BaseStorage, BackupError]:
    """Copy a snapshot from the first store to all others; return those that did not take it."""
    failed: dict[BaseStorage, BackupError] = {}
    for store in stores[1:]:
        try:
            copy_snapshot(stores[0], name, store)
        except BackupError as error:
            failed[store] = error
    return failed


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
        _tell_snapshot(report, files, verbose=call.verbose)
    for line in left_out_lines(report.left_out) if call.verbose else ():
        call.note(line)
    tell_problems(report.problems, _NOT_WHOLE)
    for store, error in failed.items():
        print_note(f"there is no copy in {store}:")
        print_error(error)


def _tell_snapshot(report: SnapshotReport, files: Sequence[str], *, verbose: bool) -> None:
    seconds = (report.finished - report.started).total_seconds()
    counts = report.counts
    print_line(
        f"saved {count_text(counts.entries, 'entry', 'entries')}"
        f" ({count_text(counts.files, 'file')}, {size_text(counts.bytes)})"
        f" as {size_text(report.size)} in {duration_text(seconds)}"
    )
    print_line(f"  snapshot  {report.id.hex()[:8]}  ({report.name.split('/')[1]})")
    if report.left_out.total:
        print_line(f"  left out  {left_out_text(report.left_out, verbose=verbose)}")
    for file in files:
        print_line(f"  file      {file}")
    print_line(f"  proven    frames decompressed and compared, {_PROVEN[report.strength]}")


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
        **left_out_json(report.left_out),
        "not_copied": [
            {"store": str(store), "reason": error.message} for store, error in failed.items()
        ],
    }


def _problem_json(problem: Problem) -> dict[str, str]:
    return {"path": path_text(problem.path), "reason": problem.reason}
