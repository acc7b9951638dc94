"""``auto-backup`` alone on a terminal: asks what to do, shows it, does it, saves it as a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from backup.cli.archiving import archive_sources
from backup.cli.asked import Asked, made
from backup.cli.asking import agrees
from backup.cli.asking_what import WhatToDo
from backup.cli.forecast import Measured, measure, tell_problems
from backup.cli.invocation import Invocation
from backup.cli.output import count_text, print_line, print_text, size_text
from backup.cli.saving_job import Offer, offer_job
from backup.cli.taking import take
from backup.config.choices import suggest_job
from backup.config.finding import is_to_be_made
from backup.errors import BackupError
from backup.model import NO_RULES
from backup.sources.roots import prepare_roots
from backup.wiring import Settings, open_all

_GO_ON = "go on (yes or no)"
_INTRODUCTION = """\
Enter takes what stands in brackets, Tab completes paths, Ctrl-C leaves it.
Nothing is changed before you have seen what will be done, and agreed.
What else there is: auto-backup --help

"""


def converse(call: Invocation) -> None:
    """Ask what to do, do it once a person agrees, and offer to save it as a job.

    Raises:
        BackupError: Something went wrong, or the answer was no.
    """
    call.action = "questions"
    given = call.settings.config
    if is_to_be_made(given):  # what is to be made says nothing yet
        call.settings = call.settings._replace(config=Path(os.devnull))
    print_text(_INTRODUCTION)
    asked = WhatToDo(call).ask()
    fits = _tell_plan(call, asked)
    if call.dry_run:
        print_line("nothing has been changed")
        return
    if not agrees(_GO_ON, usually=fits):
        raise BackupError("you said no", hint="nothing has been changed")
    usual = call.settings.store_urls()
    job = _do(call, asked)
    offer_job(
        call,
        Offer(
            sources=asked.sources,
            stores=asked.stores if asked.format is None else usual,
            job=job,
            is_new=asked.format is not None,
            given=given,
        ),
    )


def _tell_plan(call: Invocation, asked: Asked) -> bool:
    """Tell what will be done; return whether there is room for it, as far as anybody can tell."""
    found = _measured(call, asked)
    room = asked.room()
    fits = room is None or found.bytes < room
    count = count_text(found.entries, "entry", "entries")
    print_text("\nto be done:\n")
    for number, source in enumerate(asked.sources):
        print_line(f"  {'' if number else 'save':<10}{source}")
    print_line(f"{'':12}{count} ({count_text(found.files, 'file')}, {size_text(found.bytes)})")
    for number, place in enumerate(asked.destinations()):
        print_line(f"  {'' if number else 'to':<10}{place}")
    if asked.directory is not None and not asked.directory.exists():
        print_line(f"{'':12}in a directory that is made now")
    if asked.replace:
        print_line(f"{'':12}in place of the one that is there, once this one is tested")
    print_line(f"  format    {asked.form}")
    for line in _key_lines(call.settings) if asked.is_encrypted else ():
        print_line(line)
    if room is not None and not fits:
        print_line(f"  room      only {size_text(room)} are free there: it may not fit")
    tell_problems(found.problems, "found that cannot be read")
    return fits


def _measured(call: Invocation, asked: Asked) -> Measured:
    roots, stores = prepare_roots(asked.sources), open_all(asked.stores)
    with call.progress("counting") as line:
        return measure(roots, NO_RULES, stores, line.set)


def _key_lines(settings: Settings) -> list[str]:
    """Return which key opens it, and that it has to be kept."""
    keep = f"{'':12}keep a copy of it off this machine: without it nobody can read this"
    if settings.has_key_file():
        return [f"  key       {settings.key_path()}", keep]
    if settings.passphrase_path() or settings.public_recipients():
        return ["  key       none of this machine's: a passphrase, or public keys"]
    return [f"  key       {settings.key_path()}, which is made now", keep]


def _do(call: Invocation, asked: Asked) -> str:
    """Do it; return the name that a job of it may have."""
    print_text("\n")
    if asked.directory is None:
        call.settings = call.settings._replace(stores=tuple(asked.stores))
    if asked.format is None:
        call.action = "backup"
        told = take(call, asked.snapshot())
        return cast("str", told["name"]).split("/")[1]
    call.action = "archive"
    call.yes = asked.replace  # that has been asked
    with made(asked.directory):
        archive_sources(call, asked.archive())
    return suggest_job(asked.sources, Path("~").expanduser())
