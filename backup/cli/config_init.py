"""``config init``: a first configuration, made of a few answers."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import print_json, print_line, print_text

if TYPE_CHECKING:
    from backup.config.template import Answers


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("init", epilog=MORE)(init)


def init(
    context: typer.Context,
    *,
    source: Annotated[
        list[Path] | None, typer.Option(metavar="PATH...", help="What to save; is not asked then.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make it anew; the old one is kept as FILE.old.")
    ] = False,
) -> None:
    """Write a first configuration: asks on a terminal, else takes defaults and options."""
    # pydantic costs start-up time
    from backup.cli.config_questions import Questions  # noqa: PLC0415
    from backup.config.survey import look  # noqa: PLC0415
    from backup.config.template import render  # noqa: PLC0415
    from backup.config.writing import (  # noqa: PLC0415
        check_place,
        mode_of,
        place_of,
        write_configuration,
    )

    call = invocation(context)
    given = call.settings.config
    path = place_of(given, is_root=os.geteuid() == 0)
    # A configuration that is there, or is to be, does not say what the new one says.
    call.settings = call.settings._replace(config=Path(os.devnull))
    if not call.dry_run:
        check_place(path, force=force)
    home = Path("~").expanduser()
    questions = Questions(call, path, home, look(home, is_root=os.geteuid() == 0))
    answers = questions.answers([str(one) for one in source or ()])
    text = render(answers)
    if call.dry_run:
        _tell_plan(call, path, text)
        return
    call.start_action("config init", path=str(path))
    old = write_configuration(path, text, force=force, mode=mode_of(path))
    call.end_action("done", exit_status=0)
    if call.json:
        print_json(_json(path, old, answers))
    elif not call.quiet:
        _tell(call, path, old, answers, named=given is not None)


def _tell_plan(call: Invocation, path: Path, text: str) -> None:
    if call.json:
        print_json({"path": str(path), "exists": os.path.lexists(path), "text": text})
        return
    print_text(text)
    there = "; there is one already, which only --force replaces"
    call.note(f"this would be {path}{there if os.path.lexists(path) else ''}")


def _tell(call: Invocation, path: Path, old: Path | None, answers: Answers, *, named: bool) -> None:
    print_line(f"the configuration has been written: {path}")
    if old is not None:
        print_line(f"  the old one is {old}")
    for source in answers.sources:
        left_out = f", without {', '.join(source.exclude)}" if source.exclude else ""
        print_line(f"  saves {source.path}{left_out}")
    for url in answers.stores.values():
        print_line(f"  into {url}")
    option = f" --config {shlex.quote(str(path))}" if named else ""
    print_line("next:")
    for line in _key_lines(call, answers.key_file):
        print_line(f"  {line}")
    print_line(f"  auto-backup config validate{option}")
    print_line(f"  auto-backup --now{option}")


def _key_lines(call: Invocation, key: Path | None) -> list[str]:
    """Return how to make the key, and that it has to be copied."""
    if key is None:
        return []
    option = "" if key == call.settings.key_path() else f" --key-file {shlex.quote(str(key))}"
    make = [] if os.path.lexists(key) else [f"auto-backup key new{option}"]
    return [*make, f"copy {key} off this machine, or print it: auto-backup key export{option}"]


def _json(path: Path, old: Path | None, answers: Answers) -> dict[str, object]:
    return {
        "path": str(path),
        "old": None if old is None else str(old),
        "host": answers.host,
        "job": answers.job,
        "sources": [{"path": str(one.path), "exclude": one.exclude} for one in answers.sources],
        "stores": answers.stores,
        "key_file": None if answers.key_file is None else str(answers.key_file),
        "key_exists": answers.key_file is not None and os.path.lexists(answers.key_file),
    }
