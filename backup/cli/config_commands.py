"""``config validate``, ``config show``, ``config schema``; ``init`` has a file of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup.cli import config_init
from backup.cli.configured import problem_of_host
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    count_text,
    print_error,
    print_json,
    print_line,
    print_note,
    print_table,
    print_text,
)
from backup.cli.service_commands import profile_named
from backup.config.finding import find_configuration
from backup.config.problems import did_you_mean, refusal
from backup.environment import config_directories, variable, variable_origin
from backup.errors import BackupError, ConfigError
from backup.manager.own_stores import refuse_stores
from backup.sources.roots import prepare_roots
from backup.wiring import expanded, open_all

if TYPE_CHECKING:
    from backup.config.effective import Effective, Said
    from backup.config.models import Configuration
    from backup.config.reading import Examined, Loaded
    from backup.service.fitness import Misfit

_USAGE = 2
_COLUMNS = ("key", "value", "from")

app = typer.Typer(rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the commands to ``parent``."""
    parent.add_typer(app, name="config", help="Make, check and look at the configuration.")


@app.callback()
def _group() -> None:
    """Make, check and look at the configuration."""


@app.command("validate", epilog=MORE)
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


@app.command("show", epilog=MORE)
def show(
    context: typer.Context,
    job: Annotated[
        list[str] | None, typer.Argument(metavar="JOB", help="Only these; all without it.")
    ] = None,
) -> None:
    """Tell what holds in the end, and where each of it was said."""
    call = invocation(context)
    loaded = call.settings.loaded()
    if call.settings.names_store():
        call.settings.store_urls()  # a name that no store has is told
    said = _said(call)
    names = _names(call, loaded, job or [])
    machine = list(_machine(call, loaded, said))
    jobs = {name: _job(loaded, name, said) for name in names} if loaded else {}
    if call.json:
        print_json(_shown_json(loaded, machine, jobs))
        return
    if loaded is None:
        call.note("there is no configuration: only options, variables and defaults hold")
    for title, rows in [("", machine), *((f"job {name}", one) for name, one in jobs.items())]:
        if title:
            print_line("")
            print_line(title)
        print_table(_COLUMNS, [(one.key, one.text, one.origin) for one in rows])


def _names(call: Invocation, loaded: Loaded | None, wanted: list[str]) -> list[str]:
    known = list(loaded.configuration.jobs) if loaded else []
    wanted = wanted or ([call.settings.job] if call.settings.job else [])
    for name in wanted:
        if name not in known:
            instead = did_you_mean(name, known)
            raise ConfigError(f"the configuration has no job {name!r}{instead}")
    return list(dict.fromkeys(wanted)) or known


def _job(loaded: Loaded, name: str, said: dict[str, Said]) -> list[Effective]:
    from backup.config.effective import effective_job  # noqa: PLC0415 - see above

    return list(effective_job(loaded, name, said))


def _said(call: Invocation) -> dict[str, Said]:
    """Return what options and variables say, by the keys of the configuration."""
    from backup.config.effective import Said  # noqa: PLC0415 - see above

    settings = call.settings
    options = {
        "stores": list(settings.stores),
        "host": settings.host,
        "key_file": settings.key_file,
    }
    names = {"stores": "store", "host": "host", "key_file": "key-file"}
    said = {
        key: Said(value if isinstance(value, list) else str(value), f"--{names[key]}")
        for key, value in options.items()
        if value
    }
    variables = {"stores": "STORE", "host": "HOST", "key_file": "KEY_FILE"}
    for key, name in {**variables, "recipients": "RECIPIENTS"}.items():
        text, origin = variable(name), variable_origin(name)
        if key not in said and text is not None and origin is not None:
            value = {"stores": [text], "recipients": text.split(":")}.get(key, text)
            said[key] = Said(value, origin)
    return said


def _machine(call: Invocation, loaded: Loaded | None, said: dict[str, Said]) -> Iterator[Effective]:
    """Yield what holds for all jobs of this machine."""
    from backup.config.effective import (  # noqa: PLC0415 - see above
        DEFAULT,
        Effective,
        effective_key,
    )

    settings = call.settings
    defaults = {"host": settings.host_name(), "key_file": str(settings.key_path())}
    for key in ("host", "key_file", "recipients"):
        found = effective_key(loaded, key, said)
        if found is not None:
            yield found
        elif key in defaults:
            yield Effective(key, defaults[key], defaults[key], DEFAULT)
    for key, given, name in (
        ("state_dir", settings.state, "STATE_DIR"),
        ("identity", settings.identity_file, "IDENTITY"),
        ("passphrase_file", settings.passphrase_file, "PASSPHRASE_FILE"),
        ("signers", None, "SIGNERS"),
    ):
        option = f"--{key.replace('_', '-')}" if given else variable_origin(name)
        path = given or variable(name) or (settings.state_dir() if key == "state_dir" else None)
        if path is not None:
            yield Effective(key, str(path), str(path), option or DEFAULT)


def _shown_json(
    loaded: Loaded | None, machine: list[Effective], jobs: dict[str, list[Effective]]
) -> dict[str, object]:
    return {
        "configuration": str(loaded.path) if loaded else None,
        "files": [str(one) for one in loaded.files] if loaded else [],
        "machine": {one.key: {"value": one.value, "from": one.origin} for one in machine},
        "jobs": {
            name: {
                "sources": [
                    {"value": one.value, "from": one.origin} for one in rows if one.key == "sources"
                ],
                **{
                    one.key: {"value": one.value, "from": one.origin}
                    for one in rows
                    if one.key != "sources"
                },
            }
            for name, rows in jobs.items()
        },
    }


@app.command("schema", epilog=MORE)
def schema(context: typer.Context) -> None:
    """Write the JSON Schema of configurations, for editors."""
    from backup.config.schema import make_schema  # noqa: PLC0415 - see above

    del context
    print_text(json.dumps(make_schema(), indent=2) + "\n")


config_init.register(app)
