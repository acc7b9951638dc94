"""The options that leave something out, as ``backup`` and ``why`` take them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from backup.cli.output import count_text
from backup.manager import LeftOut
from backup.model import ExcludeRules, path_text
from backup.sources.patterns import SaidPattern, read_patterns
from backup.sources.roots import Root
from backup.sources.rules import Excluder, parse_size
from backup.wiring import expanded

_OPTION = "--exclude"
_FEW = 5

Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out what fits, as in a .gitignore file."),
]
ExcludeFile = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="Patterns, one a line.")
]
ExcludeIfPresent = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Leave out what is in directories that hold this."),
]
ExcludeCaches = Annotated[
    bool, typer.Option("--exclude-caches", help="Leave out what a CACHEDIR.TAG marks as a cache.")
]
ExcludeLargerThan = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Leave out larger files: 100M, 1.5GiB.")
]
OneFileSystem = Annotated[
    bool, typer.Option("--one-file-system", help="Leave out what is mounted in the sources.")
]


class Excludes(NamedTuple):
    """The rules, and where each pattern of them was said, as ``Excluder`` takes both."""

    rules: ExcludeRules
    origins: tuple[str, ...]


def collect_excludes(
    *,
    exclude: Sequence[str] | None,
    exclude_file: Sequence[Path] | None,
    if_present: Sequence[str] | None,
    caches: bool,
    larger_than: str | None,
    one_file_system: bool,
) -> Excludes:
    """Return what the options say; what is said by ``--exclude`` comes after all files.

    Raises:
        ConfigError: Something of it cannot be used; the error names it, and where it was said.
    """
    said: list[SaidPattern] = []
    for path in exclude_file or ():
        said += read_patterns(Path(expanded(str(path))))
    said += [SaidPattern(text, _OPTION) for text in exclude or ()]
    rules = ExcludeRules(
        exclude=tuple(one.text for one in said),
        if_present=tuple(if_present or ()),
        caches=caches,
        one_file_system=one_file_system,
        larger_than=parse_size(larger_than) if larger_than is not None else 0,
    )
    origins = tuple(one.origin for one in said)
    Excluder(rules, origins)  # refuses what cannot be used
    return Excludes(rules, origins)


def remarks(excludes: Excludes, roots: Sequence[Root]) -> Iterator[str]:
    """Yield what a user may have meant otherwise than it works."""
    excluder = Excluder(excludes.rules, excludes.origins)
    for root in roots:
        name = root.path.rpartition(b"/")[2]
        own = excluder.at(root.path)
        rule = own.decide(name, name, is_directory=root.is_directory, size=0) if name else None
        if rule is not None and rule.pattern is not None:
            pattern = said_text(rule.pattern)
            yield f"{path_text(root.path)} is a source, which {pattern} does not leave out"
        for said in own.patterns.said:
            top = path_text(root.path)
            below = said.text.lstrip("!").rstrip("/")
            if root.path and (below + "/").startswith(top + "/"):
                rest = os.path.relpath(below, top)
                instead = f"write /{rest}" if rest != "." else "which is never left out"
                yield f"{said_text(said)} begins at the source {top}, not at /; {instead}"


def said_text(pattern: SaidPattern) -> str:
    """Return a pattern as it was said: ``--exclude "*.log"``, or ``FILE:12 "*.log"``."""
    return f'{pattern.origin} "{pattern.text}"'


def left_out_text(left_out: LeftOut, *, verbose: bool) -> str:
    """Return how much is left out."""
    return count_text(left_out.total, "path") + ("" if verbose else "; -v tells which")


def left_out_reasons(left_out: LeftOut) -> Iterator[str]:
    """Yield the most frequent reasons with their counts."""
    few = left_out.counts[:_FEW]
    for reason, count in few:
        yield f"{count:>9,}  {reason}"
    others = left_out.total - sum(count for _, count in few)
    if others:
        yield f"{others:>9,}  for other reasons"


def left_out_lines(left_out: LeftOut) -> Iterator[str]:
    """Yield a line for each path that is left out, as many as are remembered."""
    for one in left_out.told:
        yield f"left out: {path_text(one.path)}: {one.reason}"
    if left_out.total > len(left_out.told):
        yield f"left out: {left_out.total - len(left_out.told):,} more"


def left_out_json(left_out: LeftOut) -> dict[str, object]:
    """Return the counts for JSON, and the first paths."""
    paths = [{"path": path_text(one.path), "reason": one.reason} for one in left_out.told]
    return {"left_out": dict(left_out.counts), "skipped": paths}
