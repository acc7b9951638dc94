"""The questions that say what to do; an answer that cannot be used is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from backup.cli.asked import Asked
from backup.cli.asking import agrees, answer, question_text, yes_or_no
from backup.cli.choosing import (
    FORMATS,
    SNAPSHOT,
    choose_directory,
    choose_form,
    choose_job,
    choose_sources,
    choose_stem,
    choose_where,
)
from backup.cli.completing import (
    Complete,
    complete_directory,
    complete_nothing,
    complete_paths,
    tab_completes,
)
from backup.cli.invocation import Invocation
from backup.cli.output import print_error, print_line
from backup.clock import system_clock
from backup.config.choices import check_writable, choose_store
from backup.config.models import Source
from backup.errors import BackupError, ConfigError
from backup.plain.formats import Format
from backup.plain.naming import stem_of
from backup.snapshot.names import check_word, slug
from backup.sources.roots import prepare_roots
from backup.storage.base import check_name
from backup.wiring import Settings

_T = TypeVar("_T")
_WHAT = "what to save (spaces between paths)"
_WHERE = "where to (a directory) [here, a snapshot into its store]"
_DIRECTORY = "which directory"
_STORE = "which store (a directory)"
_FORM = "format (a number or a name)"
_NAME = "name"
_JOB = "name of its job [after the source]"
_ENCRYPT = "encrypt it, so that only your key opens it (yes or no)"
_REPLACE = "replace it (yes or no)"
_MOST = 5


@dataclass(frozen=True)
class WhatToDo:
    """Asks; what options say already is not asked."""

    call: Invocation

    def ask(self) -> Asked:
        """Return what a person wants to be done."""
        sources = _asked(_WHAT, "", choose_sources, complete_paths)
        where = self._where()
        form = self._form(where)
        if form is None:
            return self._snapshot(sources, where)
        return self._archive(sources, where, form)

    def _where(self) -> str | None:
        settings = self.call.settings
        if settings.stores:
            print_line(f"where to: {', '.join(settings.store_urls())}")
            return None
        configuration = settings.configuration()
        stores = (
            {name: one.url for name, one in configuration.stores.items()} if configuration else {}
        )
        if stores:
            print_line(f"stores of the configuration: {', '.join(stores)}")
        return _asked(_WHERE, "", lambda text: choose_where(text, stores), complete_directory)

    def _form(self, where: str | None) -> Format | None:
        settings = self.call.settings
        for number, (name, remark) in enumerate(FORMATS.items(), 1):
            print_line(f"  {number}  {name:<8}  {remark}")
        stores = [where] if where else settings.store_urls()
        for store in stores:
            print_line(f"{'':15}into {store}")
        usual = SNAPSHOT if settings.names_store() or settings.configuration() else "zip"

        def choose(text: str) -> Format | None:
            form = choose_form(text)
            if form is None:
                _check_key(settings)
            return form

        return _asked(_FORM, usual, choose)

    def _snapshot(self, sources: list[Path], where: str | None) -> Asked:
        settings = self.call.settings
        stores = self._stores(sources, [where] if where else list(settings.store_urls()))
        said = settings.job
        job = check_word(said, "job") if said else _asked(_JOB, "", choose_job)
        return Asked(sources=sources, directory=None, stores=stores, format=None, name=job)

    def _stores(self, sources: list[Path], urls: list[str]) -> list[str]:
        """Return stores that can be written to, and in which no source lies."""
        saved = [Source(path=path, exclude=()) for path in sources]
        try:
            return [choose_store(url, saved) for url in urls]
        except BackupError as error:
            print_error(error)
        return [_asked(_STORE, "", lambda text: choose_store(text, saved), complete_directory)]

    def _archive(self, sources: list[Path], where: str | None, form: Format) -> Asked:
        settings = self.call.settings
        into_store = bool(settings.stores) or bool(where and "://" in where)
        stem = stem_of(prepare_roots(sources), None, system_clock())
        usual = slug(stem) if into_store else stem
        check = check_name if into_store else str
        ask_name = partial(_asked, _NAME, usual, lambda text: check(choose_stem(text, form)))
        asked = Asked(
            sources=sources,
            directory=None if into_store else _directory(where),
            stores=([where] if where else settings.store_urls()) if into_store else [],
            format=form,
            name=ask_name(),
            encrypt=_encrypt(settings, form),
        )
        return _settled(asked, ask_name)


def _directory(where: str | None) -> Path:
    """Return where an archive goes: the directory that was said, or this one where it can."""
    here = Path(where or Path.cwd())
    try:
        check_writable(here)
        return here
    except BackupError as error:
        print_error(error)
    return _asked(_DIRECTORY, "", choose_directory, complete_directory)


def _settled(asked: Asked, ask_name: Callable[[], str]) -> Asked:
    """Return ``asked`` with a name that is free, or is to be taken from what has it."""
    for _ in range(_MOST):
        taken = [place for place in asked.places() if place.is_taken()]
        if not taken:
            return asked
        print_line(f"there is one already: {taken[0]}")
        if agrees(_REPLACE, usually=False):
            return replace(asked, replace=True)
        asked = replace(asked, name=ask_name())
    raise ConfigError("no name was said that is free", hint="nothing has been changed")


def _encrypt(settings: Settings, form: Format) -> bool:
    if form is Format.ZIP:
        print_line("  (encrypted it is a tar.xz, as no zip can be)")

    def choose(text: str) -> bool:
        says_yes = yes_or_no(text)
        if says_yes:
            _check_key(settings)
        return says_yes

    return answer(_ENCRYPT, "no", choose)


def _check_key(settings: Settings) -> None:
    """Refuse a key that is named, and is missing or cannot be used."""
    if settings.has_key_file():
        settings.load_key()


def _asked(
    question: str, default: str, choose: Callable[[str], _T], complete: Complete = complete_nothing
) -> _T:
    with tab_completes(complete, question_text(question, default)):
        return answer(question, default, choose)
