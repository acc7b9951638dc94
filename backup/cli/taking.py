"""Taking one snapshot: prepared, taken, copied, remembered, told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from backup.cli.emptied import refused_stores, tell_refused
from backup.cli.excluding import left_out_json, left_out_lines, left_out_text, remarks
from backup.cli.forecast import measure, tell_plan, tell_problems
from backup.cli.invocation import Invocation
from backup.cli.output import (
    count_text,
    duration_text,
    print_line,
    size_text,
)
from backup.cli.progress import ProgressLine
from backup.cli.sealing import prepare_sealing
from backup.cli.slow_xz import SlowXz
from backup.cli.wanted import Wanted
from backup.environment import default_store_dir
from backup.errors import BackupError
from backup.keys import load_or_create_host_key
from backup.manager import Problem, Progress, SnapshotReport, SnapshotRequest, take_snapshot
from backup.manager.chain_memory import ChainMemory
from backup.manager.copying import copy_snapshot
from backup.manager.naming import default_job
from backup.manager.own_stores import refuse_stores
from backup.model import path_text
from backup.remembering import remember_taken
from backup.reporting import COUNTING, Told
from backup.sources.roots import Root, prepare_roots
from backup.storage.base import BaseStorage, ProofStrength

_SOME_OF_IT = 3
_PROVEN = {
    ProofStrength.READ_BACK: "the file read back and compared",
    ProofStrength.ATTESTED: "the file attested by its store",
    ProofStrength.EXISTENCE: "the file's size told by its store",
}
_NOT_WHOLE = "not saved, or not whole"


def take(call: Invocation, wanted: Wanted) -> dict[str, object]:
    """Take the snapshot and tell of it, or with ``--dry-run`` what it would hold.

    Returns what is to be told in JSON; all else has been told.
    """
    roots = prepare_roots(wanted.sources)
    refuse_stores(roots, wanted.stores)
    for remark in remarks(wanted.excludes, roots):
        call.note(remark)
    call.settings.public_recipients(wanted.recipients)  # a wrong one is told at once
    refused = refused_stores(call, wanted.stores, wanted.job)
    wanted = replace(wanted, stores=[one for one in wanted.stores if one not in refused])
    if call.dry_run:
        tell_refused(refused)
        call.status = next((one.exit_code for one in refused.values()), call.status)
        return tell_plan(call, roots, wanted.excludes.rules, wanted.stores)
    return _take(call, wanted, _request(call, wanted, roots), roots, refused)


def _request(call: Invocation, wanted: Wanted, roots: Sequence[Root]) -> SnapshotRequest:
    store, host = wanted.stores[0], call.settings.host_name()
    sealing = prepare_sealing(call, wanted.stores, wanted.recipients)
    host_key = load_or_create_host_key(call.settings.state_dir())
    memory = ChainMemory(call.settings.state_dir(), host_key)
    job = wanted.job or default_job(roots, store, host, sealing.identities, memory)
    return SnapshotRequest(
        sources=wanted.sources,
        host=host,
        job=job,
        recipients=sealing.recipients(store, host, job),
        identities=sealing.identities,
        host_key=host_key,
        memory=memory,
        archive=wanted.archive,
        level=wanted.level,
        rules=wanted.excludes.rules,
        tags=wanted.tags,
        workers=wanted.workers,
    )


def _take(
    call: Invocation,
    wanted: Wanted,
    request: SnapshotRequest,
    roots: Sequence[Root],
    refused: Mapping[BaseStorage, BackupError],
) -> dict[str, object]:
    stores = wanted.stores
    call.start_action(
        "backup",
        job=request.job,
        sources=[path_text(root.path) for root in roots],
        stores=[str(store) for store in stores],
    )
    if not call.settings.names_store() and stores[0].local_root() == default_store_dir():
        call.note(f"no --store given: snapshots go to {stores[0]}")
    with call.progress(COUNTING) as line:
        total = measure(roots, request.rules, stores, line.set).bytes if line.is_shown else 0
        line.begin(request.job, total)
        slow = SlowXz(line.say)

        def tell(at: Progress) -> None:
            if at.proven is not None:
                line.at("proving", at.proven, at.stored)
                return
            line.set(at.read)
            slow.watch(at.read, total, at.quicker)

        others = [*stores[1:], *refused]
        report = take_snapshot(request, stores[0], leave_out=others, on_progress=tell)
    failed = {**refused, **_copy(call, report, wanted)}
    for store in stores:
        if store not in failed:
            _remember(call, request, report, store)
    incomplete = bool(report.problems)
    if incomplete:
        call.status = _SOME_OF_IT
        paths = count_text(len(report.problems), "path was", "paths were")
        call.reason = f"{paths} {_NOT_WHOLE}"
    for error in [*failed.values()][:1]:
        call.status, call.reason = error.exit_code, error.message
    call.details |= _details(report, wanted, failed)
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
    return _tell_report(call, report, stores, failed)


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


def _copy(
    call: Invocation, report: SnapshotReport, wanted: Wanted
) -> dict[BaseStorage, BackupError]:
    """Copy a snapshot from the first store to all others; return those that did not take it."""
    failed: dict[BaseStorage, BackupError] = {}
    first, *others = wanted.stores
    for name, store in zip(_names(wanted)[1:], others, strict=True):
        try:
            with call.progress(f"copying to {name}", report.size) as line:
                copy_snapshot(first, report.name, store, on_copied=_half_each(line))
        except BackupError as error:
            failed[store] = error
    return failed


def _half_each(line: ProgressLine) -> Callable[[int, int], None]:
    """Return what shows a copy, which is written and read back, as one piece of work."""
    return lambda written, proven: line.set((written + proven) / 2)


def _names(wanted: Wanted) -> Sequence[str]:
    is_named = len(wanted.names) == len(wanted.stores)
    return wanted.names if is_named else [str(store) for store in wanted.stores]


def _details(
    report: SnapshotReport, wanted: Wanted, failed: Collection[BaseStorage]
) -> dict[str, Told]:
    """Return what a supervisor shall know of the snapshot, and the record of runs."""
    named = list(zip(_names(wanted), wanted.stores, strict=True))
    return {
        "snapshot": report.id.hex(),
        "name": report.name,
        "sequence": report.sequence,
        "size": report.size,
        "source_bytes": report.counts.bytes,
        "entries": report.counts.entries,
        "problems": len(report.problems),
        "stores": ", ".join(name for name, store in named if store not in failed),
        "not_copied": ", ".join(name for name, store in named if store in failed),
        "strength": str(report.strength),
    }


def _tell_report(
    call: Invocation,
    report: SnapshotReport,
    stores: Sequence[BaseStorage],
    failed: dict[BaseStorage, BackupError],
) -> dict[str, object]:
    files = [_place(store, report.name) for store in stores if store not in failed]
    if not call.json and not call.quiet:
        _tell_snapshot(report, files, verbose=call.verbose)
    for line in left_out_lines(report.left_out) if call.verbose else ():
        call.note(line)
    tell_problems(report.problems, _NOT_WHOLE)
    tell_refused(failed)
    return _report_json(report, files, failed)


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
