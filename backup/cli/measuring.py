"""``stats``."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    count_text,
    print_json,
    print_line,
    print_note,
    print_table,
    size_text,
    time_text,
)
from backup.clock import system_clock
from backup.measuring import (
    Amount,
    JobFigures,
    SnapshotFigures,
    Taken,
    measure_job,
    measure_snapshot,
    ratio,
)
from backup.model import EntryType, path_text
from backup.snapshot.frame import Section
from backup.surveying import Seen, survey

_EXTENSIONS = 10
_OPTIONAL = ("ratio", "average", "oldest", "entries")
_TYPE_NAMES = {
    EntryType.FILE: ("file",),
    EntryType.DIRECTORY: ("directory", "directories"),
    EntryType.SYMLINK: ("symbolic link",),
    EntryType.FIFO: ("FIFO",),
    EntryType.CHARACTER_DEVICE: ("character device",),
    EntryType.BLOCK_DEVICE: ("block device",),
    EntryType.STREAM: ("stream",),
}
_SECTION_NAMES = {
    Section.ARCHIVE: "archive",
    Section.CHUNKS: "chunk lists",
    Section.INDEX: "index",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("stats", epilog=MORE)(stats)


def stats(
    context: typer.Context,
    snapshots: Annotated[
        list[str] | None,
        typer.Argument(metavar="SNAPSHOT", help="What is in these; else a line for each job."),
    ] = None,
) -> None:
    """Tell how much there is: of each job, or of what snapshots hold."""
    call = invocation(context)
    if not snapshots:
        _tell_jobs(call)
        return
    for one in snapshots:
        located = call.reader().locate(call.wanted(one))
        reader = located.open(call.settings.identities())
        figures = measure_snapshot(reader)
        if call.json:
            print_json(_figures_json(located.name, reader.core.id.hex(), figures))
        else:
            _tell_figures(located.name, figures)


def _tell_jobs(call: Invocation) -> None:
    store = call.settings.open_store()
    found = survey(
        store,
        call.settings.identities(),
        catalog=None if call.dry_run else call.catalog(),
        host=call.settings.host or "",
        job=call.settings.job or "",
        own_host=call.settings.host_name(),
        now=system_clock(),
    )
    jobs: list[tuple[str, str, JobFigures]] = []
    for (host, job), group in groupby(
        found.seen, key=lambda one: (one.stored.host, one.stored.job)
    ):
        taken = [_taken(one) for one in group if one.facts is not None]
        if taken:
            jobs.append((host, job, measure_job(taken)))
    unopened = sum(one.facts is None for one in found.seen)
    if call.json:
        print_json([_job_json(*one) for one in jobs])
    elif jobs:
        rows = [list(_job_cells(*one).values()) for one in jobs]
        print_table(list(_job_cells(*jobs[0])), rows, optional=_OPTIONAL)
    elif not unopened:
        call.note(call.none_found(store))
    if unopened:
        print_note(f"not counted: {count_text(unopened, 'snapshot')} that did not open")


def _taken(one: Seen) -> Taken:
    facts = one.facts
    assert facts is not None  # noqa: S101 - asked for those that have some
    return Taken(facts.time, facts.size, facts.entries, facts.bytes)


def _job_cells(host: str, job: str, figures: JobFigures) -> dict[str, str]:
    growth = figures.growth
    return {
        "job": f"{host}/{job}",
        "snapshots": f"{figures.snapshots:,}",
        "entries": f"{figures.entries:,}",
        "source": size_text(figures.source),
        "stored": size_text(figures.stored),
        "ratio": f"{figures.ratio:.1f}",
        "average": size_text(figures.average),
        "a day": "-" if growth is None else _signed_size(growth),
        "oldest": time_text(figures.oldest, short=True),
        "newest": time_text(figures.newest, short=True),
    }


def _signed_size(size: float) -> str:
    return ("-" if size < 0 else "+") + size_text(abs(size))


def _job_json(host: str, job: str, figures: JobFigures) -> dict[str, object]:
    return {
        "host": host,
        "job": job,
        "snapshots": figures.snapshots,
        "entries": figures.entries,
        "source_bytes": figures.source,
        "stored_bytes": figures.stored,
        "average_bytes": figures.average,
        "ratio": round(figures.ratio, 3),
        "growth_bytes_per_day": None if figures.growth is None else round(figures.growth),
        "oldest": figures.oldest,
        "newest": figures.newest,
    }


def _tell_figures(name: str, figures: SnapshotFigures) -> None:
    print_line(name)
    counts = figures.types.most_common()
    types = ", ".join(count_text(count, *_TYPE_NAMES[kind]) for kind, count in counts)
    print_line(f"  entries   {types}")
    files = figures.files
    what = count_text(files.count, "file")
    print_line(f"  contents  {size_text(files.size)} in {what}, each counted under one name")
    if figures.holes:
        print_line(f"            {size_text(figures.holes)} of that are holes")
    if figures.elsewhere:
        print_line(f"            {size_text(figures.elsewhere)} of that lie in earlier snapshots")
    if figures.incomplete:
        what = count_text(figures.incomplete, "entry", "entries")
        print_line(f"            {what} incomplete or doubtful; 'ls -l' tells why")
    print_line(f"  file      {size_text(figures.file_size)}")
    for section, found in figures.sections.items():
        frames = count_text(found.frames, "frame")
        compressed = f"{frames}, {size_text(found.plain)}, {ratio(found.plain, found.stored):.1f}:1"
        print_line(f"    {_SECTION_NAMES[section]:<11} {size_text(found.stored)}  ({compressed})")
    print_line(
        f"    sealing     {size_text(figures.sealing)}  (header, table of frames, signature)"
    )
    print_line("  sizes")
    for power, amount in sorted(figures.sizes.items()):
        limit = "empty" if power == 0 else f"below {size_text(1 << power)}"
        print_line(f"    {limit:<18} {_amount(amount)}")
    print_line("  extensions, the largest")
    for name_, amount in _top_extensions(figures):
        print_line(f"    {name_ or '(none)':<18} {_amount(amount)}")
    print_line("  biggest files")
    for size, path in figures.biggest:
        print_line(f"    {size_text(size):>10}  {path_text(path)}")


def _amount(amount: Amount) -> str:
    return f"{count_text(amount.count, 'file'):>14}  {size_text(amount.size):>10}"


def _top_extensions(figures: SnapshotFigures) -> list[tuple[str, Amount]]:
    by_size = sorted(figures.extensions.items(), key=lambda one: (-one[1].size, one[0]))
    return by_size[:_EXTENSIONS]


def _figures_json(name: str, snapshot: str, figures: SnapshotFigures) -> dict[str, object]:
    return {
        "name": name,
        "id": snapshot,
        "file_bytes": figures.file_size,
        "entries": {str(kind): count for kind, count in figures.types.items()},
        "files": figures.files.count,
        "source_bytes": figures.files.size,
        "hole_bytes": figures.holes,
        "elsewhere_bytes": figures.elsewhere,
        "incomplete": figures.incomplete,
        "sections": {
            _SECTION_NAMES[section]: found._asdict() for section, found in figures.sections.items()
        },
        "sealing_bytes": figures.sealing,
        "sizes": [
            {"below": 1 << power if power else 1, "files": one.count, "bytes": one.size}
            for power, one in sorted(figures.sizes.items())
        ],
        "extensions": {
            one: {"files": amount.count, "bytes": amount.size}
            for one, amount in _top_extensions(figures)
        },
        "biggest": [{"path": path_text(path), "size": size} for size, path in figures.biggest],
    }
