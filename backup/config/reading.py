"""From files to a checked configuration, or to all that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from backup.config.checking import check
from backup.config.explaining import explain
from backup.config.finding import files_beside, find_configuration, read_text
from backup.config.merging import merge
from backup.config.models import Configuration
from backup.config.problems import FileProblem, Place, Problem, dotted, refusal
from backup.config.tree import Node, parse, walk

__all__ = ["Examined", "Loaded", "examine", "find_configuration", "load_configuration"]


@dataclass(frozen=True)
class Loaded:
    """A configuration that can be used.

    Args:
        configuration: What it says.
        path: The file that was named or found.
        files: All files that it was read from, that one first.
        origins: Where each key is said, by its dotted name: ``jobs.shop.sources[0].path``.
    """

    configuration: Configuration
    path: Path
    files: tuple[Path, ...]
    origins: Mapping[str, Place]


class Examined(NamedTuple):
    """What came out of reading: a configuration, or what is wrong with its files."""

    loaded: Loaded | None
    problems: tuple[Problem, ...]


def load_configuration(path: Path) -> Loaded:
    """Read the configuration at ``path``, with the files in ``conf.d`` beside it.

    Raises:
        ConfigError: It cannot be read or used; the message tells all problems, each on a line.
    """
    examined = examine(path)
    if examined.loaded is None:
        raise refusal(examined.problems)
    return examined.loaded


def examine(path: Path) -> Examined:
    """Read the configuration at ``path``; nothing is raised about what is in its files."""
    problems: list[Problem] = []
    try:
        files = [path, *files_beside(path)]
    except FileProblem as error:
        files = [path]
        problems.append(error.problem)
    trees = [(Place(file), _read(file, problems)) for file in files]
    if problems:
        return Examined(None, tuple(sorted(problems)))
    root, problems = merge(trees)
    configuration = _validate(root, problems)
    if configuration is None or problems:
        return Examined(None, tuple(sorted(set(problems))))
    origins = {dotted(way): node.place for way, node in walk(root)}
    return Examined(Loaded(configuration, path, tuple(files), origins), ())


def _read(file: Path, problems: list[Problem]) -> Node | None:
    try:
        root, twice = parse(read_text(file), file)
    except FileProblem as error:
        problems.append(error.problem)
        return None
    problems += twice
    return root


def _validate(root: Node, problems: list[Problem]) -> Configuration | None:
    """Return the configuration; what is wrong with it is added to ``problems``."""
    problems += check(root)
    try:
        return Configuration.model_validate(root.plain())
    except ValidationError as error:
        problems += explain(error, root, Configuration)
        return None
