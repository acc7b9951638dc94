"""Several files become one configuration: what has a name is put together, nothing is replaced."""

from __future__ import annotations

from backup.config.problems import Place, Problem, dotted
from backup.config.tree import Node, walk

SECTIONS = ("stores", "notifiers", "defaults", "jobs")
"""Mappings of which each file may hold a part."""

_VERSION = "version"


def merge(files: list[tuple[Place, Node | None]]) -> tuple[Node, list[Problem]]:
    """Return what all files say together, and what is wrong with that.

    Args:
        files: The configuration itself first, then those of ``conf.d``; ``None`` for an empty one.
    """
    problems: list[Problem] = []
    merged: dict[str, Node] = {}
    for _, root in files:
        if root is None:
            continue
        if not isinstance(root.value, dict):
            problems.append(Problem(root.place, "", "it has to begin with keys, such as jobs:"))
            continue
        for key, node in root.value.items():
            _add(merged, key, node, problems)
        problems += _empty(root)
    return Node(files[0][0], merged), problems


def _add(merged: dict[str, Node], key: str, node: Node, problems: list[Problem]) -> None:
    """Put a key of the top level where it belongs."""
    if key in SECTIONS and node.value is None:
        return
    there = merged.get(key)
    if there is None:
        merged[key] = node
    elif key in SECTIONS and isinstance(there.value, dict) and isinstance(node.value, dict):
        for name, one in node.value.items():
            if name in there.value:
                problems.append(_twice((key, name), there.value[name], one))
        merged[key] = there._replace(value=there.value | node.value)
    elif key != _VERSION or there.value != node.value:
        problems.append(_twice((key,), there, node))


def _twice(path: tuple[str, ...], first: Node, second: Node) -> Problem:
    return Problem(second.place, dotted(path), f"it is told twice, first in {first.place}")


def _empty(root: Node) -> list[Problem]:
    """Return the keys behind which nothing stands: it may have been commented out."""
    return [
        Problem(node.place, dotted(path), "nothing stands behind it: say it, or leave it out")
        for path, node in walk(root)
        if node.value is None and path[0:] not in {(one,) for one in SECTIONS}
    ]
