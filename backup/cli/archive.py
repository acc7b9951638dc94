"""``archive``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backup.cli.archiving import Wanted, archive_sources
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
from backup.cli.invocation import invocation
from backup.cli.output import print_json
from backup.wiring import expanded


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("archive", epilog=MORE)(archive)


def archive(
    context: typer.Context,
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE", help="Directories and files to put into it.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="What to write, or the directory to write to; else the current one.",
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="zip, tar, tar.gz, tar.bz2, tar.xz or tar.zst; else what FILE ends with, or zip.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call it, in place of the source and the time."),
    ] = None,
    *,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Make an encrypted snapshot in one file instead.")
    ] = False,
    exclude: Exclude = None,
    exclude_file: ExcludeFile = None,
    exclude_if_present: ExcludeIfPresent = None,
    exclude_caches: ExcludeCaches = False,
    exclude_larger_than: ExcludeLargerThan = None,
    one_file_system: OneFileSystem = False,
) -> None:
    """Make a zip or a tar of directories and files, and test it before it gets its name."""
    call = invocation(context)
    wanted = Wanted(
        sources=[Path(expanded(str(path))) for path in sources],
        output=None if output is None else expanded(output),
        format=form,
        name=name,
        encrypt=encrypt,
        excludes=collect_excludes(
            exclude=exclude,
            exclude_file=exclude_file,
            if_present=exclude_if_present,
            caches=exclude_caches,
            larger_than=exclude_larger_than,
            one_file_system=one_file_system,
        ),
    )
    told = archive_sources(call, wanted)
    if call.json:
        print_json(told)
