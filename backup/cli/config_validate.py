"""``config validate``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup.cli.configured import problem_of_host
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import count_text, print_error, print_json, print_line, print_note
from backup.cli.service_commands import profile_named
from backup.config.finding import find_configuration
from backup.config.problems import refusal
from backup.environment import config_directories
from backup.errors import BackupError, ConfigError
from backup.manager.own_stores import refuse_stores
from backup.sources.roots import prepare_roots
from backup.wiring import expanded, open_all

if TYPE_CHECKING:
    from backup.config.models import Configuration
    from backup.config.reading import Examined, Loaded
    from backup.service.fitness import Misfit

_USAGE = 2


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("validate", epilog=MORE)(validate)


def validate(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Another one than that of --config or its place."),
    ] = None,
    *,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="reader|root", help="Tell also which jobs such a service cannot run, and why."
        ),
    ] = None,
) -> None:
    """Check a configuration; all that is wrong is told at once, with lines."""
    call = invocation(context)
    path = _found(call, None if file is None else Path(expanded(str(file))))
    examined = _examine(call, path)
    misfits = [] if service is None else _misfits(call, examined.loaded, service)
    call.status = _USAGE if examined.problems or misfits else 0
    remarks = [] if examined.loaded is None else list(_remarks(examined.loaded))
    if call.json:
        told = _validation_json(path, examined, remarks)
        own = {} if service is None else {"jobs_that_cannot_run": [m._asdict() for m in misfits]}
        print_json(told | own)
        return
    if examined.loaded is None:
        error = refusal(examined.problems)
        error.hint = None  # it would say to do what has just been done
        print_error(error)
        return
    for remark in remarks:
        call.note(remark)
    for misfit in misfits:
        print_note(f"not by a service ({service}): {misfit}")
    if not (call.quiet or misfits):
        print_line(_summary(examined.loaded))


def _examine(call: Invocation, path: Path) -> Examined:
    from backup.config.reading import Examined, examine  # noqa: PLC0415 - costs start-up time

    examined = examine(path)
    nameless = problem_of_host(call, examined.loaded) if examined.loaded else None
    return Examined(None, (nameless,)) if nameless else examined


def _misfits(call: Invocation, loaded: Loaded | None, word: str) -> list[Misfit]:
    from backup.cli.servicing import misfits_of  # noqa: PLC0415 - see above

    profile = profile_named(word)
    return [] if loaded is None else misfits_of(call, loaded, profile)


def _found(call: Invocation, given: Path | None = None) -> Path:
    path = find_configuration(given or call.settings.config)
    if path is None:
        places = " and ".join(map(str, config_directories()))
        raise ConfigError(
            f"there is no configuration in {places}", hint="it has the name config.yaml"
        )
    return path


def _summary(loaded: Loaded) -> str:
    configuration = loaded.configuration
    counts = [
        count_text(len(configuration.jobs), "job"),
        count_text(len(configuration.stores), "store"),
        count_text(len(loaded.files), "file"),
    ]
    return f"{loaded.path} is right: {', '.join(counts)}"


def _remarks(loaded: Loaded) -> Iterator[str]:
    """Yield what is allowed, and may not be meant."""
    for name in loaded.configuration.jobs:
        job = loaded.configuration.job(name)
        for source in job.sources:
            if not os.path.lexists(source.path):
                yield f"job {name}: there is no {source.path} on this machine"
        yield from _refusals(loaded.configuration, name)
        stores = [loaded.configuration.store(one) for one in loaded.configuration.stores_of(name)]
        if not job.keep and not any(one.keep for one in stores):
            yield f"job {name}: without keep, nothing of it is ever deleted"


def _refusals(configuration: Configuration, name: str) -> Iterator[str]:
    """Yield why a job could not be run as its sources and stores are."""
    paths = [one.path for one in configuration.job(name).sources if os.path.lexists(one.path)]
    urls = [configuration.store(one).url for one in configuration.stores_of(name)]
    try:
        if paths:
            refuse_stores(prepare_roots(paths), open_all(urls))
    except BackupError as error:
        yield f"job {name} cannot be run: {error.message}"


def _validation_json(path: Path, examined: Examined, remarks: list[str]) -> dict[str, object]:
    loaded = examined.loaded
    return {
        "configuration": str(path),
        "files": [str(one) for one in loaded.files] if loaded else [],
        "jobs": list(loaded.configuration.jobs) if loaded else [],
        "stores": list(loaded.configuration.stores) if loaded else [],
        "problems": [
            {
                "file": str(one.place.file),
                "line": one.place.line or None,
                "key": one.key or None,
                "text": one.text,
            }
            for one in examined.problems
        ],
        "remarks": remarks,
    }
