"""What ``config init`` asks, and where its answers come from otherwise."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from backup.cli.asking import answer
from backup.cli.consent import can_be_asked
from backup.cli.invocation import Invocation
from backup.cli.output import print_note, size_text
from backup.config.choices import (
    ALL,
    BY_HAND,
    DEFAULT_COMPRESSION,
    DEFAULT_KEEP,
    DEFAULT_SCHEDULE,
    choose_compression,
    choose_host,
    choose_keep,
    choose_schedule,
    choose_sources,
    choose_store,
    name_stores,
    split_paths,
    suggest_job,
    suggest_store,
)
from backup.config.models import Source
from backup.config.survey import Disk, Found, Survey
from backup.config.template import Answers
from backup.environment import SYSTEM_CONFIG, default_store_dir, variable
from backup.errors import ConfigError
from backup.snapshot.names import check_word

_T = TypeVar("_T")
_WHAT = "what to save (spaces between paths)"
_WHERE = "where to (a directory, or a URL)"
_KEEP = f"what to keep (rules, a number of the newest, or '{ALL}' to delete nothing)"
_COMPRESSION = "compression (xz is smallest, zstd fastest; gzip, bzip2, none)"
_WHEN = f"when (at 02:30, every 6 hours, on sunday at 03:00, cron ..., or '{BY_HAND}')"
_HOST = "this machine's name in the stores"


@dataclass(frozen=True)
class Questions:
    """Gets the answers: from options, else from a person, else by default.

    Args:
        call: The call.
        path: Where the configuration goes.
        home: Of whoever asks for it.
        survey: What was found.
    """

    call: Invocation
    path: Path
    home: Path
    survey: Survey

    def answers(self, source: Sequence[str]) -> Answers:
        """Return what the configuration is to say."""
        asks = can_be_asked() and not self.call.yes
        self._tell_found(asks=asks)
        job = self.call.settings.job and check_word(self.call.settings.job, "job")
        sources = self._sources(source, asks=asks)
        stores = self._stores(sources, asks=asks)
        return Answers(
            host=self._host(asks=asks),
            key_file=self._key_file(),
            stores=name_stores(stores),
            compression=_answer(_COMPRESSION, DEFAULT_COMPRESSION, choose_compression, asks=asks),
            keep=_answer(_KEEP, DEFAULT_KEEP, choose_keep, asks=asks),
            schedule=_answer(_WHEN, DEFAULT_SCHEDULE, choose_schedule, asks=asks),
            job=job or suggest_job([one.path for one in sources], self.home),
            sources=sources,
        )

    def _sources(self, given: Sequence[str], *, asks: bool) -> list[Source]:
        if given:
            return choose_sources(given, self.home)
        found = [str(one.path) for one in self.survey.sources]
        if not asks and not found:
            raise ConfigError("nothing was found to save", hint="name it with --source PATH...")
        default = shlex.join(found)
        return _answer(
            _WHAT, default, lambda text: choose_sources(split_paths(text), self.home), asks=asks
        )

    def _stores(self, sources: Sequence[Source], *, asks: bool) -> list[str]:
        settings = self.call.settings
        if settings.names_store():
            return [choose_store(one, sources) for one in settings.store_urls()]
        default = suggest_store(self.survey, default_store_dir(), is_root=os.geteuid() == 0)
        return [_answer(_WHERE, default, lambda text: choose_store(text, sources), asks=asks)]

    def _host(self, *, asks: bool) -> str:
        """Return this machine's name: that of a container changes with each start."""
        settings = self.call.settings
        if settings.host or variable("HOST") or not self.survey.in_container:
            return settings.host_name()
        if not asks:
            raise ConfigError(
                "this is a container, whose own name changes",
                hint="say what it is called in the stores: --host NAME",
            )
        return _answer(_HOST, "", choose_host, asks=True)

    def _key_file(self) -> Path | None:
        """Return which key is to be used, ``None`` where snapshots are sealed for others alone."""
        settings = self.call.settings
        if settings.has_key_file():
            return settings.key_path().absolute()
        if settings.passphrase_path() or settings.public_recipients():
            return None
        return (
            SYSTEM_CONFIG / "key"
            if self.path.parent == SYSTEM_CONFIG
            else settings.key_path().absolute()
        )

    def _tell_found(self, *, asks: bool) -> None:
        if self.call.quiet and not asks:
            return
        key = self._key_file()
        print_note("found on this machine:")
        for line in _found_lines(self.survey, key, is_there=key is not None and key.exists()):
            print_note(f"  {line}")


def _found_lines(survey: Survey, key: Path | None, *, is_there: bool) -> list[str]:
    lines = [f"to save  {_found_text(one)}" for one in survey.sources]
    lines += [f"disk     {_disk_text(one)}" for one in survey.disks]
    if not survey.disks:
        lines.append("disk     none but the one that holds what is to be saved")
    if key is not None:
        lines.append(f"key      {key}" + ("" if is_there else ", which is not made yet"))
    if survey.in_container:
        lines.append("it is a container: only what is mounted into it outlives it")
    return lines


def _found_text(one: Found) -> str:
    return f"{one.path} ({'' if one.whole else 'more than '}{size_text(one.size)})"


def _disk_text(one: Disk) -> str:
    room = "over the network, not looked at" if one.free is None else f"{size_text(one.free)} free"
    return f"{one.path} ({one.type}, {room})"


def _answer(question: str, default: str, choose: Callable[[str], _T], *, asks: bool) -> _T:
    """Return what an answer means, or what the default does where nobody is asked."""
    return answer(f"auto-backup: {question}", default, choose) if asks else choose(default)
