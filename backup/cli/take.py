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
)
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import print_json
from backup.cli.taking import take
from backup.cli.wanted import Options, Wanted
from backup.errors import ConfigError
from backup.manager.frame_pool import check_workers
from backup.snapshot.compression import archive_type, check_level
from backup.snapshot.names import check_word
from backup.wiring import expanded

_XZ = "xz"
_EXAMPLES = """say what to back up, for example:
  auto-backup --now --source ~/Documents
  auto-backup --now --source /etc /srv --store /mnt/disk
or 'auto-backup config init' writes a configuration, whose jobs --now runs"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("backup", epilog=MORE)(backup)


def backup(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Jobs of the configuration; else all of them."),
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...", help="What to save: directories or files, several after one option."
        ),
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="xz (smallest), zstd (fastest), gzip, bzip2 or none."),
    ] = None,
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
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Hand jobs to the daemon, and do not wait for their end."),
    ] = False,
) -> None:
    """Take an encrypted snapshot, and prove it before it counts. Same as --now."""
    call = invocation(context)
    check_workers(workers)
    options = Options(
        excludes=collect_excludes(
            exclude=exclude,
            exclude_file=exclude_file,
            if_present=exclude_if_present,
            caches=exclude_caches,
            larger_than=exclude_larger_than,
            one_file_system=one_file_system,
        ),
        compression=compression,
        level=level,
        workers=workers,
        recipients=recipient or (),
        tags=tuple(dict.fromkeys(check_word(word, "tag") for word in tag or ())),
    )
    if compression is not None:
        archive_type(compression)  # a wrong one is told before anything is looked for
    if source:
        if no_wait:
            raise ConfigError("--no-wait hands jobs to the daemon, and --source names none")
        _take_sources(call, source, jobs or [], options)
    else:
        _run_jobs(call, jobs or [], options, wait=not no_wait)


def _take_sources(
    call: Invocation, sources: Sequence[Path], jobs: Sequence[str], options: Options
) -> None:
    """Take a snapshot of what the call names."""
    if jobs:
        raise ConfigError(
            f"{jobs[0]!r} would be a job of the configuration, and --source says what to save",
            hint="what to save stands behind --source, a pattern in quotes: --exclude '*.log',"
            " each store behind a --store of its own, the job's name behind --job",
        )
    archive = archive_type(options.compression or _XZ)
    check_level(archive, options.level)
    call.settings.host_name()  # a wrong one is told at once
    job = call.settings.job
    wanted = Wanted(
        sources=[Path(expanded(str(path))) for path in sources],
        stores=call.settings.open_stores(),
        archive=archive,
        excludes=options.excludes,
        level=options.level,
        workers=options.workers,
        recipients=options.recipients,
        tags=options.tags,
        job=check_word(job, "job") if job else "",
    )
    told = take(call, wanted)
    if call.json:
        print_json(told)


def _run_jobs(call: Invocation, jobs: Sequence[str], options: Options, *, wait: bool) -> None:
    """Run jobs of the configuration; all of them where none is named."""
    job = call.settings.job
    if job and jobs and set(jobs) != {job}:
        raise ConfigError(
            f"--job says {job!r}, and the call names {jobs[0]!r}",
            hint=f"name all that are to be run: --now {' '.join(dict.fromkeys([*jobs, job]))}",
        )
    named = [*jobs] or ([job] if job else [])
    if not named and call.settings.loaded() is None:
        raise ConfigError("there is nothing to back up: no --source", hint=_EXAMPLES)
    from backup.cli.jobs import run_jobs  # noqa: PLC0415 - it takes time where it is not needed

    run_jobs(call, named, options, wait=wait)
