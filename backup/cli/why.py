"""``why``: whether a path would be saved, and what decides about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backup.cli.excluding import (
    Exclude,
    ExcludeCaches,
    ExcludeFile,
    ExcludeIfPresent,
    ExcludeLargerThan,
    OneFileSystem,
    collect_excludes,
    remarks,
    said_text,
)
from backup.cli.help_text import MORE
from backup.cli.invocation import invocation
from backup.cli.output import print_json, print_line
from backup.errors import ConfigError
from backup.manager.own_stores import directories_of
from backup.model import path_text
from backup.sources.explaining import Verdict, explain, find_path
from backup.sources.patterns import SaidPattern
from backup.sources.roots import prepare_roots
from backup.sources.tree import TreeWalker
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
    """Tell whether backup would save a path, and which rule decides; reads no contents."""
    call = invocation(context)
    if not paths or not source:
        raise ConfigError(
            "say which PATH, and which --source",
            hint="the PATHs stand first: auto-backup why PATH... --source PATH...",
        )
    excludes = collect_excludes(
        exclude=exclude,
        exclude_file=exclude_file,
        if_present=exclude_if_present,
        caches=exclude_caches,
        larger_than=exclude_larger_than,
        one_file_system=one_file_system,
    )
    roots = prepare_roots([expanded(str(path)) for path in source])
    for remark in remarks(excludes, roots):
        call.note(remark)
    skip = directories_of(call.settings.open_stores())
    walker = TreeWalker(roots, skip=skip, rules=excludes.rules, origins=excludes.origins)
    verdicts = [explain(walker, roots, find_path(roots, expanded(path))) for path in paths]
    if call.json:
        print_json([_verdict_json(verdict) for verdict in verdicts])
        return
    for verdict in verdicts:
        print_line(f"{path_text(verdict.path)}: {_words(verdict)}")


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
