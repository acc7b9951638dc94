"""``config show``, ``config schema``; ``init`` and ``validate`` have files of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from backup.cli import config_init, config_validate
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import (
    print_json,
    print_line,
    print_table,
    print_text,
)
from backup.config.problems import did_you_mean
from backup.environment import variable, variable_origin
from backup.errors import ConfigError

if TYPE_CHECKING:
    from backup.config.effective import Effective, Said
    from backup.config.reading import Loaded

_USAGE = 2
_COLUMNS = ("key", "value", "from")

app = typer.Typer(rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the commands to ``parent``."""
    parent.add_typer(app, name="config", help="Make, check and look at the configuration.")


@app.callback()
def _group() -> None:
    """Make, check and look at the configuration."""


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
config_validate.register(app)
