"""``why``: whether a path would be saved, and what decides about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from backup.cli.configured import chosen_jobs, combined, excludes_of, stores_of
from backup.cli.excluding import (
    Exclude,
    ExcludeCaches,
    ExcludeFile,
    ExcludeIfPresent,
    ExcludeLargerThan,
    Excludes,
    OneFileSystem,
    collect_excludes,
    remarks,
    said_text,
)
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import print_error, print_json, print_line, print_note
from backup.errors import BackupError, ConfigError
from backup.manager.own_stores import directories_of
from backup.model import path_text
from backup.sources.explaining import Verdict, explain, find_path
from backup.sources.patterns import SaidPattern
from backup.sources.roots import prepare_roots
from backup.sources.tree import TreeWalker
from backup.storage.base import BaseStorage
from backup.wiring import expanded


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("why", epilog=MORE)(why)


def why(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="What to tell about.")
    ] = None,
    *,
    source: Annotated[
        list[Path] | None, typer.Option(metavar="PATH...", help="What would be saved.")
    ] = None,
    exclude: Exclude = None,
    exclude_file: ExcludeFile = None,
    exclude_if_present: ExcludeIfPresent = None,
    exclude_caches: ExcludeCaches = False,
    exclude_larger_than: ExcludeLargerThan = None,
    one_file_system: OneFileSystem = False,
) -> None:
    """Tell whether backup would save a path, and which rule decides; reads no contents.

    Without --source the jobs of the configuration are asked, or the one that --job names.
    """
    call = invocation(context)
    excludes = collect_excludes(
        exclude=exclude,
        exclude_file=exclude_file,
        if_present=exclude_if_present,
        caches=exclude_caches,
        larger_than=exclude_larger_than,
        one_file_system=one_file_system,
    )
    if not paths or not (source or call.settings.loaded()):
        raise ConfigError(
            "say which PATH, and which --source",
            hint="the PATHs stand first: auto-backup why PATH... --source PATH...",
        )
    if source:
        sources = [Path(expanded(str(path))) for path in source]
        asked = [_Asked("", sources, excludes, call.settings.open_stores())]
    else:
        asked = list(_jobs(call, excludes))
    told = [(one.job, verdict) for one in asked for verdict in _told_of(call, one, paths)]
    if call.json:
        print_json([({"job": job} if job else {}) | _verdict_json(one) for job, one in told])
        return
    for job, verdict in told:
        print_line(f"{job + ': ' if job else ''}{path_text(verdict.path)}: {_words(verdict)}")


class _Asked(NamedTuple):
    """What would be saved, of which is asked; ``job`` is empty where options say it."""

    job: str
    sources: list[Path]
    excludes: Excludes
    stores: list[BaseStorage]


def _jobs(call: Invocation, more: Excludes) -> Iterator[_Asked]:
    """Yield the jobs of the configuration."""
    job = call.settings.job
    loaded, names = chosen_jobs(call, [job] if job else [])
    for name in names:
        sources = [source.path for source in loaded.configuration.job(name).sources]
        excludes = combined(excludes_of(loaded, name), more)
        yield _Asked(name, sources, excludes, stores_of(call, loaded, name))


def _told_of(call: Invocation, asked: _Asked, paths: Sequence[str]) -> list[Verdict]:
    """Return what is to be told of a job; one that cannot be run does not hide the others."""
    try:
        return list(_verdicts(call, asked, paths))
    except BackupError as error:
        if not asked.job:
            raise
        call.status = error.exit_code
        print_note(f"job {asked.job} cannot be run:")
        print_error(error)
        return []


def _verdicts(call: Invocation, asked: _Asked, paths: Sequence[str]) -> Iterator[Verdict]:
    roots = prepare_roots(asked.sources)
    for remark in remarks(asked.excludes, roots):
        call.note(remark)
    rules, origins = asked.excludes
    walker = TreeWalker(roots, skip=directories_of(asked.stores), rules=rules, origins=origins)
    for path in paths:
        yield explain(walker, roots, find_path(roots, expanded(path)))


def _words(verdict: Verdict) -> str:
    reason = _reason(verdict)
    negated = said_text(verdict.revived_by) if verdict.revived_by is not None else ""
    if verdict.is_saved:
        if reason:
            return f"saved, but not what is in it: {reason}"
        return f"saved, as {negated} says" if negated else "saved"
    if verdict.at != verdict.path:
        reason = f"in {path_text(verdict.at)}: {reason}"
    if negated:
        reason += f"; {negated} comes too late, as nothing in that directory is looked at"
    return f"not saved: {reason}"


def _reason(verdict: Verdict) -> str:
    rule = verdict.rule
    if rule is None:
        return verdict.reason
    if rule.pattern is not None:
        return f"excluded by {said_text(rule.pattern)}"
    return rule.words


def _verdict_json(verdict: Verdict) -> dict[str, object]:
    rule = verdict.rule
    return {
        "path": path_text(verdict.path),
        "saved": verdict.is_saved,
        "reason": verdict.reason or None,
        "at": path_text(verdict.at) if verdict.reason else None,
        "rule": str(rule.cause) if rule is not None else None,
        "pattern": _pattern_json(rule.pattern if rule is not None else None),
        "revived_by": _pattern_json(verdict.revived_by),
    }


def _pattern_json(pattern: SaidPattern | None) -> dict[str, str] | None:
    return None if pattern is None else pattern._asdict()
