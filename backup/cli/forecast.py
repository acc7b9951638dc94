"""What a backup would save, found by a walk that reads no contents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from backup.cli.excluding import left_out_json, left_out_lines, left_out_reasons, left_out_text
from backup.cli.invocation import Invocation
from backup.cli.output import count_text, print_line, print_note, size_text
from backup.manager import LeftOut, Problem
from backup.manager.omissions import Omissions
from backup.manager.own_stores import directories_of
from backup.model import Entry, EntryType, ExcludeRules, path_text
from backup.reporting import OnBytes, tell_nobody
from backup.sources.roots import Root
from backup.sources.tree import TreeWalker
from backup.storage.base import BaseStorage

_TOLD = 10
_TELL_AFTER = 1000


class Measured(NamedTuple):
    """What a walk found: how much there is, what is left out, what cannot be listed."""

    entries: int
    files: int
    bytes: int
    left_out: LeftOut
    problems: tuple[Problem, ...]


def measure(
    roots: Sequence[Root],
    rules: ExcludeRules,
    stores: Sequence[BaseStorage],
    on_bytes: OnBytes = tell_nobody,
    unseen: Sequence[tuple[int, int]] = (),
) -> Measured:
    """Return what a snapshot of ``roots`` into ``stores`` would hold.

    Args:
        roots: What to save.
        rules: What to leave out.
        stores: Their directories are left out, too.
        on_bytes: Is told how many bytes have been found, now and then.
        unseen: Files that are not there for the walk; see ``TreeWalker``.
    """
    entries = files = size = 0
    omissions, problems = Omissions(), []
    for found in TreeWalker(roots, skip=directories_of(stores), rules=rules, unseen=unseen):
        if isinstance(found, Entry):
            entries += 1
            files += found.type is EntryType.FILE
            size += found.size
            if entries % _TELL_AFTER == 0:
                on_bytes(size)
        elif found.is_error:
            problems.append(Problem(found.path, found.reason))
        else:
            omissions.append(Problem(found.path, found.reason))
    return Measured(entries, files, size, omissions.summary(), tuple(problems))


def tell_plan(
    call: Invocation, roots: Sequence[Root], rules: ExcludeRules, stores: Sequence[BaseStorage]
) -> dict[str, object]:
    """Tell what a backup would save and what it would leave out; return it for JSON."""
    found = measure(roots, rules, stores)
    return tell_measured(call, roots, found, [str(store) for store in stores])


def tell_measured(
    call: Invocation, roots: Sequence[Root], found: Measured, places: Sequence[str]
) -> dict[str, object]:
    """Tell what would be saved to ``places``; return it for JSON."""
    sources = [path_text(root.path) for root in roots]
    if call.json:
        counts = {"entries": found.entries, "source_files": found.files, "bytes": found.bytes}
        problems = [{"path": path_text(path), "reason": why} for path, why in found.problems]
        told = {"sources": sources, "stores": places, **counts, "problems": problems}
        return told | left_out_json(found.left_out)
    files, size = count_text(found.files, "file"), size_text(found.bytes)
    print_line(f"would save {count_text(found.entries, 'entry', 'entries')} ({files}, {size})")
    print_line(f"  from      {', '.join(sources)}")
    print_line(f"  to        {', '.join(places)}")
    if found.left_out.total:
        print_line(f"  left out  {left_out_text(found.left_out, verbose=call.verbose)}")
        for reason in left_out_reasons(found.left_out):
            print_line(f"  {reason}")
    print_line("nothing has been changed")
    for line in left_out_lines(found.left_out) if call.verbose else ():
        call.note(line)
    tell_problems(found.problems, "found that cannot be read")
    return {}


def tell_problems(problems: Sequence[Problem], what: str) -> None:
    """Tell the paths that something is wrong with."""
    if not problems:
        return
    print_note(f"{count_text(len(problems), 'path was', 'paths were')} {what}:")
    for problem in problems[:_TOLD]:
        print_note(f"  {path_text(problem.path)}: {problem.reason}")
    if len(problems) > _TOLD:
        print_note(f"  and {len(problems) - _TOLD:,} more; --json tells all")
