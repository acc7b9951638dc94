"""Telling what became of an archive."""

from __future__ import annotations

from collections.abc import Sequence

from backup.cli.excluding import left_out_json, left_out_lines, left_out_text
from backup.cli.forecast import tell_problems
from backup.cli.invocation import Invocation
from backup.cli.output import count_text, duration_text, print_line, print_note, size_text
from backup.model import path_text
from backup.plain.naming import Chosen
from backup.plain.request import ArchiveReport

_FEW = 10


def tell_choice(call: Invocation, chosen: Chosen, *, made: bool) -> None:
    """Tell where the format is not the one that was asked for."""
    if chosen.not_had:
        call.note(f"{chosen.not_had}: {'made' if made else 'would make'} a {chosen.format}")


def tell_report(call: Invocation, report: ArchiveReport, files: Sequence[str]) -> None:
    """Tell what was made."""
    if not call.json and not call.quiet:
        _tell_archive(report, files, verbose=call.verbose)
    for line in left_out_lines(report.left_out) if call.verbose else ():
        call.note(line)
    if report.renamed:
        _tell_renamed(call, report)
    tell_problems(report.problems, "not saved, or not whole")


def _tell_archive(report: ArchiveReport, files: Sequence[str], *, verbose: bool) -> None:
    seconds = (report.finished - report.started).total_seconds()
    counts = report.counts
    print_line(
        f"archived {count_text(counts.entries, 'entry', 'entries')}"
        f" ({count_text(counts.files, 'file')}, {size_text(counts.bytes)})"
        f" as {size_text(report.size)} in {duration_text(seconds)}"
    )
    for file in files:
        print_line(f"  file      {file}")
    if report.snapshot:
        print_line(f"  snapshot  {report.snapshot.hex()[:8]}, a {report.format} inside")
    if report.left_out.total:
        print_line(f"  left out  {left_out_text(report.left_out, verbose=verbose)}")
    what = "frames unpacked and compared" if report.snapshot else "unpacked, every digest compared"
    print_line(f"  tested    read back from the medium, {what}")


def _tell_renamed(call: Invocation, report: ArchiveReport) -> None:
    names = report.renamed
    call.note(f"{count_text(len(names), 'name is', 'names are')} not UTF-8, and escaped in a zip:")
    for one in names[:_FEW]:
        call.note(f"  {path_text(one.path)}")
    if len(names) > _FEW:
        print_note(f"  and {len(names) - _FEW:,} more; --json tells all")


def report_json(report: ArchiveReport, files: Sequence[str]) -> dict[str, object]:
    """Return what was made, for JSON."""
    return {
        "files": files,
        "format": str(report.format),
        "encrypted": bool(report.snapshot),
        "snapshot": report.snapshot.hex() or None,
        "started": report.started,
        "finished": report.finished,
        "size": report.size,
        "sha256": report.sha256.hex(),
        "tested": str(report.strength),
        "entries": report.counts.entries,
        "source_files": report.counts.files,
        "source_bytes": report.counts.bytes,
        "renamed": [{"path": path_text(path), "name": name} for path, name in report.renamed],
        "problems": [{"path": path_text(path), "reason": why} for path, why in report.problems],
        **left_out_json(report.left_out),
    }
