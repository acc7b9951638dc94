"""Offering to save what has been done as a job of the configuration."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backup.cli.asking import agrees, answer
from backup.cli.invocation import Invocation
from backup.cli.output import print_line, print_text
from backup.config.choices import (
    BY_HAND,
    DEFAULT_COMPRESSION,
    choose_schedule,
    choose_store,
    name_stores,
)
from backup.config.models import Source
from backup.config.reading import load_configuration
from backup.config.template import Answers, Part, render, render_part
from backup.config.writing import (
    check_place,
    mode_of,
    place_of,
    write_configuration,
    write_part,
)
from backup.errors import ConfigError
from backup.retention import NOTHING_GOES
from backup.snapshot.names import check_word
from backup.wiring import Settings

if TYPE_CHECKING:
    from backup.config.reading import Loaded

_SAVE = "save it as a job, which 'auto-backup --now JOB' does again (yes or no)"
_SAVE_SNAPSHOT = "save a job that takes a snapshot of it (yes or no)"
_JOB = "name of the job"
_WHEN = "when (at 02:30, every 6 hours, on sunday at 03:00)"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What may be saved.

    Args:
        sources: What it saves.
        stores: URLs or paths of where to.
        job: What it may be called.
        is_new: Whether nothing like it has been done yet: jobs make no archives.
        given: What ``--config`` says.
    """

    sources: Sequence[Path]
    stores: Sequence[str]
    job: str
    is_new: bool
    given: Path | None


def offer_job(call: Invocation, offer: Offer) -> None:
    """Save a job if a person wants it, in a new configuration or beside the one that is there.

    Raises:
        ConfigError: It could not be read as a configuration; then nothing has been written.
        StorageError: It cannot be written.
    """
    call.action = "saving a job"
    if offer.given == Path(os.devnull):
        return
    print_text("\n")
    if offer.is_new:
        print_line(f"Jobs take snapshots, not archives; here into {', '.join(offer.stores)}")
    if not agrees(_SAVE_SNAPSHOT if offer.is_new else _SAVE, usually=False):
        return
    for store in offer.stores:
        choose_store(store, _sources(offer))
    loaded = call.settings.loaded()
    known = loaded.configuration.jobs if loaded is not None else ()
    job = answer(_JOB, offer.job, lambda text: _free_name(text, known))
    schedule = answer(_WHEN, BY_HAND, choose_schedule)
    path, text = (
        _new(call, offer, job, schedule)
        if loaded is None
        else _beside(loaded, offer, job, schedule)
    )
    print_text("\n")
    print_line(f"the job {job} has been written: {path}")
    for line in _without_comments(text):
        print_line(f"  {line}")
    _tell_next(offer, job, schedule, _options_left(call.settings, is_new=loaded is None))


def _options_left(settings: Settings, *, is_new: bool) -> str:
    """Return the options that were given, and that the configuration does not say for a job."""
    said: dict[str, object] = {
        "passphrase-file": settings.passphrase_file,
        "state-dir": settings.state,
    }
    if not is_new:  # a new one says them
        said |= {"key-file": settings.key_file, "host": settings.host}
    return "".join(f" --{name} {shlex.quote(str(one))}" for name, one in said.items() if one)


def _free_name(text: str, known: Collection[str]) -> str:
    if check_word(text, "job") in known:
        raise ConfigError(f"there is a job {text!r} already", hint="name another one")
    return text


def _sources(offer: Offer) -> list[Source]:
    return [Source(path=path, exclude=()) for path in offer.sources]


def _new(call: Invocation, offer: Offer, job: str, schedule: str) -> tuple[Path, str]:
    path = place_of(offer.given, is_root=os.geteuid() == 0)
    check_place(path, force=False)
    settings = call.settings
    text = render(
        Answers(
            host=settings.host_name(),
            key_file=settings.key_path().absolute() if settings.has_key_file() else None,
            stores=name_stores(offer.stores),
            compression=DEFAULT_COMPRESSION,
            keep=NOTHING_GOES,
            schedule=schedule,
            job=job,
            sources=_sources(offer),
        )
    )
    write_configuration(path, text, force=False, mode=mode_of(path))
    _check(path, path)
    return path, text


def _beside(loaded: Loaded, offer: Offer, job: str, schedule: str) -> tuple[Path, str]:
    into, new = name_new_stores(
        offer.stores, {name: one.url for name, one in loaded.configuration.stores.items()}
    )
    text = render_part(
        Part(stores=new, job=job, sources=_sources(offer), into=into, schedule=schedule)
    )
    path = write_part(loaded.path, job, text)
    _check(loaded.path, path)
    return path, text


def name_new_stores(urls: Sequence[str], known: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return what stores are called, and those of them that get a name only now.

    >>> name_new_stores(["/mnt/a", "/mnt/b"], {"disk": "/mnt/b"})
    (['disk-2', 'disk'], {'disk-2': '/mnt/a'})
    """
    names = {url: name for name, url in known.items()}
    new: dict[str, str] = {}
    for url in urls:
        if url not in names:
            taken = {*known, *new}
            numbers = range(1, len(taken) + 2)
            free = ("disk" if number == 1 else f"disk-{number}" for number in numbers)
            name = next(one for one in free if one not in taken)
            names[url], new[name] = name, url
    return [names[url] for url in urls], new


def _check(configuration: Path, written: Path) -> None:
    """Take back what has been written where the configuration cannot be used with it."""
    try:
        load_configuration(configuration)
    except ConfigError:
        written.unlink()
        raise


def _tell_next(offer: Offer, job: str, schedule: str, options: str) -> None:
    option = f" --config {shlex.quote(str(offer.given))}" if offer.given else ""
    print_line("to run it:")
    print_line(f"  auto-backup --now {job}{option}{options}")
    if schedule:
        print_line("to have it run when it is due; or, where the daemon runs, 'daemon reload':")
        print_line(f"  auto-backup service install{option}")


def _without_comments(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        is_quoted = '"' in line and not line.lstrip().startswith("#")
        lines.append(line if is_quoted else line.partition("#")[0].rstrip())
    return [line for line in lines if line]
