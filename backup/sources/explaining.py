"""Whether a path is saved, and what decides about it: answered by the walk itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from backup.model import Entry
from backup.sources.describing import Skipped
from backup.sources.patterns import SaidPattern
from backup.sources.roots import Root
from backup.sources.rules import Cause, Rule
from backup.sources.tree import TreeWalker, contains


class Verdict(NamedTuple):
    """What becomes of one path.

    Args:
        path: It, in the form of ``Entry.path``.
        is_saved: Whether it has an entry in the snapshot.
        reason: Why not, or why its contents are left out; empty where all of it is saved.
        at: The directory or file at which that was decided: the path, or one above it.
        rule: The rule that decided, where it was one.
        revived_by: The negated pattern that fits the path. Where the path is not saved, this one
            came too late: a directory above is left out.
    """

    path: bytes
    is_saved: bool
    reason: str = ""
    at: bytes = b""
    rule: Rule | None = None
    revived_by: SaidPattern | None = None


def explain(walker: TreeWalker, roots: Sequence[Root], path: bytes) -> Verdict:
    """Tell what ``walker``, which starts at ``roots``, does about ``path``."""
    root = next((root for root in roots if contains(root.path, path)), None)
    if root is None:
        return Verdict(path, is_saved=False, reason="not below any source", at=path)
    found = list(walker.along(path))
    entry = next((one for one in found if isinstance(one, Entry) and one.path == path), None)
    left_out = next((one for one in reversed(found) if isinstance(one, Skipped)), None)
    if entry is not None and (left_out is None or left_out.path != path):
        pattern = _decisive(walker, root, path, is_directory=entry.type == "dir")
        return Verdict(path, is_saved=True, at=path, revived_by=pattern)
    if left_out is None:
        return Verdict(path, is_saved=False, reason="does not exist", at=path)
    return Verdict(
        path,
        is_saved=entry is not None,
        reason=left_out.reason,
        at=left_out.path,
        rule=left_out.rule,
        revived_by=_late(walker, root, path, left_out),
    )


def find_path(roots: Sequence[Root], given: str) -> bytes:
    """Return ``given`` in the form of ``Entry.path``, as a walk from ``roots`` would meet it.

    Links on the way are followed; a link at its end is meant itself, unless only what is behind it
    lies below a root.
    """
    whole = os.fsencode(given)
    above, name = os.path.split(whole.rstrip(b"/"))
    if name in {b"", b".", b".."}:
        return os.path.realpath(whole).lstrip(b"/")
    lies_at = os.path.join(os.path.realpath(above or b"."), name).lstrip(b"/")  # noqa: PTH118 - bytes
    if any(contains(root.path, lies_at) for root in roots):
        return lies_at
    behind = os.path.realpath(whole).lstrip(b"/")
    return behind if any(contains(root.path, behind) for root in roots) else lies_at


def _decisive(
    walker: TreeWalker, root: Root, path: bytes, *, is_directory: bool
) -> SaidPattern | None:
    """Return the negated pattern that decides about ``path`` by itself."""
    if walker.excluder is None or path == root.path:
        return None
    patterns = walker.excluder.at(root.path).patterns
    relative = path[len(root.path) + 1 if root.path else 0 :]
    name = relative.rpartition(b"/")[2]
    number = patterns.decide(name, relative, is_directory=is_directory)
    return patterns.said[number] if number is not None and patterns.is_negated(number) else None


def _late(walker: TreeWalker, root: Root, path: bytes, left_out: Skipped) -> SaidPattern | None:
    is_above = left_out.rule is not None and left_out.path != path
    if not is_above or left_out.rule is None or left_out.rule.cause is not Cause.PATTERN:
        return None
    is_directory = os.path.isdir(b"/" + path) and not os.path.islink(b"/" + path)  # noqa: PTH112, PTH114
    return _decisive(walker, root, path, is_directory=is_directory)
