"""What a restore would do, and what it did, in words and in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backup.cli.invocation import Invocation
from backup.cli.output import (
    count_text,
    duration_text,
    json_text,
    print_json,
    print_line,
    print_note,
    print_text,
    size_text,
)
from backup.model import path_text
from backup.restore import RestorePlan, RestoreReport
from backup.restore.decision import Action
from backup.restore.plan import plan_steps
from backup.snapshot.recipients import Identity

_TOLD = 10
_EXAMPLES = 5
_WORDS = {
    Action.CREATE: ("created", ""),
    Action.REPLACE: ("replaced", ""),
    Action.COMPARE: ("compared", "same size and time; replaced only if the content differs"),
    Action.MEND: ("mended", "kept, and given back mode, owner, attributes and time"),
    Action.KEEP: ("kept", "as it is"),
    Action.LEAVE: ("left alone", ""),
    Action.DELETE: ("deleted", ""),
    Action.REFUSE: ("in the way", "so restore would refuse, and change nothing"),
}
_WITH_EXAMPLES = frozenset({Action.REPLACE, Action.LEAVE, Action.DELETE, Action.REFUSE})
_WIDTH = 12
_IN_PLACE = "where it was"


def place_text(plan: RestorePlan) -> str:
    """Return where a plan restores to."""
    return _IN_PLACE if plan.options.in_place else str(plan.target)


def consent_text(plan: RestorePlan) -> str:
    """Return what the user has to agree to."""
    counts = {
        "replace": plan.tallies[Action.REPLACE].count,
        "compare and perhaps replace": plan.tallies[Action.COMPARE].count,
        "mend": plan.tallies[Action.MEND].count,
        "delete": plan.tallies[Action.DELETE].count,
    }
    words = [f"{what} {count:,}" for what, count in counts.items() if count]
    if plan.is_system:
        words.append("write to the directories of the running system")
    return ", ".join(words[:-1]) + (" and " if words[:-1] else "") + words[-1]


def plan_lines(plan: RestorePlan) -> Iterator[str]:
    """Yield what a plan would do: counts, sizes, and the first paths of what needs thought."""
    entries = count_text(plan.entries, "entry", "entries")
    is_simple = plan.entries == plan.tallies[Action.CREATE].count
    would = "would restore" if is_simple else "would go through"
    yield f"{would} {entries} ({count_text(plan.files, 'file')}, {size_text(plan.size)})"
    yield f"  from {plan.snapshot.name}"
    yield f"  to   {place_text(plan)}"
    if is_simple:
        return
    for action, (word, meaning) in _WORDS.items():
        tally = plan.tallies[action]
        if not tally.count:
            continue
        size = f" ({size_text(tally.size)})" if tally.size else ""
        note = f": {meaning}" if meaning else ""
        yield f"  {word:{_WIDTH}}{tally.count:,}{size}{note}"
        if action not in _WITH_EXAMPLES:
            continue
        for path, reason in tally.examples[:_EXAMPLES]:
            yield f"    {path_text(path)}: {reason}"
        if tally.paths > _EXAMPLES:
            yield f"    and {tally.paths - _EXAMPLES:,} more; --dry-run -v tells all"


def note_plan(plan: RestorePlan) -> None:
    """Tell a plan to the user whose consent is needed."""
    for line in plan_lines(plan):
        print_note(line)


def tell_plan(call: Invocation, plan: RestorePlan, identities: Sequence[Identity]) -> None:
    """Tell what a restore would do, with ``--json`` or ``-v`` every single step."""
    _note_lost(plan)
    if call.json:
        _print_plan_json(plan, identities)
        return
    for line in plan_lines(plan):
        print_line(line)
    if call.verbose:
        for step in plan_steps(plan.snapshot.open(identities), plan):
            print_line(f"{_WORDS[step.action][0]:{_WIDTH}}{path_text(step.path)}  {step.reason}")
    print_line("nothing has been changed")


def _print_plan_json(plan: RestorePlan, identities: Sequence[Identity]) -> None:
    """Write one document, without ever having all of its steps in memory."""
    head = json_text(
        {
            "snapshot": plan.snapshot.name,
            "target": str(plan.target),
            "entries": plan.entries,
            "files": plan.files,
            "bytes": plan.size,
            "actions": {
                str(action): {"count": tally.count, "bytes": tally.size}
                for action, tally in plan.tallies.items()
            },
            "needs_consent": plan.needs_consent,
            "conflicts": [path_text(path) for path in plan.conflicts],
            "incomplete": [path_text(path) for path, _ in plan.incomplete],
            "lost": [str(part) for part in plan.lost],
        }
    )
    print_text(head[:-1] + ',"steps":[')
    separator = ""
    for step in plan_steps(plan.snapshot.open(identities), plan):
        told = {"path": path_text(step.path), "action": str(step.action), "reason": step.reason}
        print_text(separator + json_text(told))
        separator = ","
    print_text("]}\n")


def tell_report(
    call: Invocation, plan: RestorePlan, report: RestoreReport, seconds: float, checked_by: str
) -> None:
    """Tell what a restore did; ``checked_by`` is what every content was compared with."""
    if call.json:
        _print_report_json(plan, report, seconds)
        return
    if not call.quiet:
        entries = count_text(report.entries, "entry", "entries")
        print_line(
            f"restored {entries} ({count_text(report.files, 'file')}, {size_text(report.size)})"
            f" in {duration_text(seconds)}, {_compared(checked_by)}"
        )
        print_line(f"  to {place_text(plan)}")
        if done := _what_else(report):
            print_line(f"  {done}")
        left = plan.tallies[Action.LEAVE]
        _tell_some("left alone", left.count, [_about(*one) for one in left.examples])
    damaged = [error.message for error in report.damaged]
    _tell_some("not restored, because stored bytes are damaged", len(damaged), damaged)
    for hint in sorted({error.hint for error in report.damaged if error.hint}):
        print_note(f"hint: {hint}")
    problems = [_about(*one) for one in report.problems[:_TOLD]]
    _tell_some("not as they were", len(report.problems), problems)


def _print_report_json(plan: RestorePlan, report: RestoreReport, seconds: float) -> None:
    print_json(
        {
            "snapshot": plan.snapshot.name,
            "target": str(plan.target),
            "entries": report.entries,
            "files": report.files,
            "bytes": report.size,
            "replaced": report.replaced,
            "mended": report.mended,
            "kept": report.kept,
            "left": report.left,
            "deleted": report.deleted,
            "seconds": round(seconds, 3),
            "confined": report.confined,
            "damaged": [error.message for error in report.damaged],
            "problems": [
                {"path": path_text(path), "reason": reason} for path, reason in report.problems
            ],
        }
    )


def _compared(checked_by: str) -> str:
    if checked_by:
        return f"every content compared with {checked_by.rstrip(',')}"
    return "and nothing in the archive tells whether contents are as they were"


def _what_else(report: RestoreReport) -> str:
    counts = {
        "replaced what was there": report.replaced,
        "got only mode, owner, attributes or time back": report.mended,
        "others kept as they are": report.kept,
        "names deleted": report.deleted,
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _about(path: bytes, reason: str) -> str:
    return f"{path_text(path)}: {reason}"


def _note_lost(plan: RestorePlan) -> None:
    for part in plan.lost[:_TOLD]:
        print_note(f"damaged: {part}")


def _tell_some(what: str, count: int, lines: Sequence[str]) -> None:
    if not count:
        return
    print_note(f"{count:,} {what}:")
    for line in lines[:_TOLD]:
        print_note(f"  {line}")
    if count > len(lines[:_TOLD]):
        print_note(f"  and {count - len(lines[:_TOLD]):,} more; --json tells all")
