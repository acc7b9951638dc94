"""Planning a restore: what it would write, replace and delete. Nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from backup.errors import IntegrityError, RestoreError
from backup.model import Entry, EntryType, path_text
from backup.restore.decision import Action
from backup.restore.lookup import Lookup
from backup.restore.options import NO_OPTIONS, Overwrite, RestoreOptions
from backup.restore.origin import Lost, Origin, Restorable, as_origin
from backup.restore.paths import entry_path, paths_above
from backup.restore.placement import Placement
from backup.restore.removal import Doomed
from backup.restore.space import SpaceNeeded
from backup.restore.steps import FILES, Step, Steps
from backup.snapshot.reader import SnapshotReader

__all__ = ["RestorePlan", "Tally", "entry_path", "plan_restore", "plan_steps", "refuse_conflicts"]

_TOLD = 5
_EXAMPLES = 20
_WRITTEN = frozenset({Action.CREATE, Action.REPLACE, Action.COMPARE})
_TOUCHING = (Action.CREATE, Action.REPLACE, Action.COMPARE, Action.MEND)
_POLICIES = " always, if-changed, if-newer or never"
_CHANGING = (Action.REPLACE, Action.COMPARE, Action.MEND, Action.DELETE)


@dataclass(kw_only=True)
class Tally:
    """How often something is planned, how many bytes that is, and the first paths with reasons.

    ``paths`` is how many there are; each may stand for several that are counted.
    """

    count: int = 0
    paths: int = 0
    size: int = 0
    examples: list[tuple[bytes, str]] = field(default_factory=list)

    def add(self, path: bytes, reason: str, size: int, count: int = 1) -> None:
        """Count one more."""
        self.count += count
        self.paths += 1
        self.size += size
        if len(self.examples) < _EXAMPLES:
            self.examples.append((path, reason))


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore would do. ``paths`` are without leading ``/``; none mean everything.

    ``entries``, ``files`` and ``size`` count what of the snapshot was asked for, ``tallies`` what
    becomes of it, ``deletions`` what goes away, ``cleared`` the directories that go away because
    something else is to be in their place. ``conflicts`` are the first paths below the target
    where something stands in the way; ``incomplete`` are entries whose content the snapshot does
    not have, with the reason; ``lost`` are damaged parts of the index. ``roots`` are the paths that
    are restored with all that is below them, and whether each is a directory that need not be put
    in the place of something else. ``is_system`` says
    that something would be written to the directories of the running system.
    """

    snapshot: Restorable
    target: Path
    options: RestoreOptions = NO_OPTIONS
    paths: tuple[bytes, ...]
    entries: int
    files: int
    size: int
    tallies: Mapping[Action, Tally]
    deletions: Mapping[bytes, Doomed] = field(default_factory=dict)
    cleared: Mapping[bytes, Doomed] = field(default_factory=dict)
    conflicts: tuple[bytes, ...] = ()
    incomplete: tuple[tuple[bytes, str], ...] = ()
    lost: tuple[Lost, ...] = ()
    roots: Mapping[bytes, bool] = field(default_factory=dict)
    is_system: bool = False

    @property
    def written_size(self) -> int:
        """How many bytes of content would be written, or compared."""
        return sum(self.tallies[action].size for action in _WRITTEN)

    @property
    def needs_consent(self) -> bool:
        """Whether something that exists would be changed, or the running system written to."""
        counted = _CHANGING if self.options.overwrite else (Action.DELETE,)
        return self.is_system or any(self.tallies[action].count for action in counted)


def plan_restore(
    reader: SnapshotReader | Origin,
    located: Restorable,
    target: Path,
    paths: Sequence[bytes],
    options: RestoreOptions = NO_OPTIONS,
) -> RestorePlan:
    """Return the plan to restore ``paths`` of what was opened below ``target``.

    Raises:
        RestoreError: The snapshot does not hold one of ``paths``, ``options`` ask for what this
            snapshot cannot give, or there is no room.
        IntegrityError: The part of the index that would tell of one of ``paths`` is damaged.
    """
    origin = as_origin(reader)
    if options.delete:
        _refuse_deletion(origin)
    lookup = Lookup(target, details=options.overwrite is Overwrite.IF_CHANGED)
    try:
        planner = _Planner(origin, lookup, target, tuple(paths), options)
        for step in planner.steps():
            planner.add(step)
        planner.check()
        return planner.plan(located)
    finally:
        lookup.close()


def plan_steps(reader: SnapshotReader | Origin, plan: RestorePlan) -> Iterator[Step]:
    """Yield every step of ``plan``, one after the other, for those who want to see them all."""
    lookup = Lookup(plan.target, details=plan.options.overwrite is Overwrite.IF_CHANGED)
    try:
        origin = as_origin(reader)
        yield from _Planner(origin, lookup, plan.target, plan.paths, plan.options).steps()
    finally:
        lookup.close()


def _refuse_deletion(origin: Origin) -> None:
    if reason := origin.why_no_deletion():
        raise RestoreError(
            f"--delete is refused for this snapshot: {reason},"
            " and nobody can tell that from what it never had",
            hint="restore without --delete, or into an empty directory",
        )


class _Planner:
    """Adds up the steps of a restore."""

    def __init__(
        self,
        origin: Origin,
        lookup: Lookup,
        target: Path,
        paths: tuple[bytes, ...],
        options: RestoreOptions,
    ) -> None:
        self._origin = origin
        self._target = target
        self._paths = paths
        self._options = options
        self._placement = Placement(target, paths, origin.sources, options, origin.unfit)
        self._steps = Steps(lookup, self._placement, options)
        self._space = SpaceNeeded(lookup)
        self._lost: list[Lost] = []
        self._missing = set(paths)
        self._roots: dict[bytes, bool] = {}
        self._tallies = {action: Tally() for action in Action}
        self._deletions: dict[bytes, Doomed] = {}
        self._cleared: dict[bytes, Doomed] = {}
        self._incomplete: list[tuple[bytes, str]] = []
        self._entries = self._files = self._size = 0
        self._is_system = False

    def steps(self) -> Iterator[Step]:
        """Yield the steps, counting the entries as they come by."""
        return self._steps.of(self._chosen())

    def _chosen(self) -> Iterator[Entry]:
        roots = frozenset((*self._paths, *self._origin.sources))
        for entry in self._origin.select(self._paths, self._lost.append):
            self._entries += 1
            if self._missing:
                self._missing.difference_update(paths_above(entry.path))
            if entry.path in roots and self._is_wanted(entry.path):
                self._roots[entry.path] = entry.type is EntryType.DIRECTORY
            if entry.type is EntryType.FILE:
                self._files += 1
                self._size += entry.size
            if entry.error:
                self._incomplete.append((entry.path, entry.error))
            yield entry

    def _is_wanted(self, path: bytes) -> bool:
        return not self._paths or any(one in self._paths for one in paths_above(path))

    def add(self, step: Step) -> None:
        """Take a step into account."""
        self._space.add(step)
        if step.doomed is not None:
            is_replaced = step.action is Action.REPLACE
            (self._cleared if is_replaced else self._deletions)[step.path] = step.doomed
            within = step.doomed.names - is_replaced
            if within:
                self._tallies[Action.DELETE].add(step.path, step.reason, step.doomed.size, within)
        if step.action is Action.DELETE or not step.told:
            return
        entry = step.entry
        size = entry.size if entry is not None and entry.type in FILES else 0
        self._tallies[step.action].add(step.path, step.reason, size)
        if entry is not None and step.path in self._roots and step.action is Action.REPLACE:
            self._roots[step.path] = False  # to take its place is to write to what it lies in
        if step.action in _TOUCHING and not self._is_system:
            self._is_system = self._placement.is_system_place(step.path)

    def check(self) -> None:
        """Refuse what cannot be done as a whole."""
        if self._missing:
            self._refuse_missing(min(self._missing))
        if self._options.delete and self._lost:
            raise RestoreError(
                f"--delete is refused: {self._lost[0]}, and what is in it may not be deleted",
                hint="restore without --delete",
            )
        unseen = self._origin.unread - len(self._incomplete)
        if self._options.delete and unseen > 0:
            raise RestoreError(
                f"--delete is refused: {unseen:,} of what was there could not be read when the"
                " snapshot was taken, and nobody can tell it from what is new",
                hint="restore without --delete",
            )
        if self._options.delete and self._placement.prefixes > 1:
            raise RestoreError(
                "--delete is refused: without their leading components, what comes from several"
                " directories goes to one",
                hint="restore them one by one, or without --delete",
            )
        if not self._tallies[Action.REFUSE].count:
            self._space.check()

    def _refuse_missing(self, path: bytes) -> NoReturn:
        for part in self._lost:
            if part.may_hold(path):
                raise IntegrityError(f"{path_text(path)} cannot be looked up: {part}")
        raise RestoreError(
            f"the snapshot does not hold {path_text(path)}",
            hint="'auto-backup ls SNAPSHOT' lists what it holds",
        )

    def plan(self, located: Restorable) -> RestorePlan:
        """Return what all steps come to."""
        return RestorePlan(
            snapshot=located,
            target=self._target,
            options=self._options,
            paths=self._paths,
            entries=self._entries,
            files=self._files,
            size=self._size,
            tallies=self._tallies,
            deletions=self._deletions,
            cleared=self._cleared,
            conflicts=tuple(path for path, _ in self._tallies[Action.REFUSE].examples),
            incomplete=tuple(self._incomplete),
            lost=tuple(self._lost),
            roots=self._roots,
            is_system=self._is_system,
        )


def refuse_conflicts(plan: RestorePlan) -> None:
    """Raise ``RestoreError`` where the plan would meet something that may not be replaced."""
    refused = plan.tallies[Action.REFUSE]
    if not refused.count:
        return
    if plan.options.overwrite is None:
        told = ", ".join(path_text(path) for path in plan.conflicts[:_TOLD])
        message = f"{plan.target} already has {told}"
        hint = "restore into an empty directory, or say what to do: --overwrite" + _POLICIES
    else:
        told = ", ".join(
            f"{path_text(path)} ({reason})" for path, reason in refused.examples[:_TOLD]
        )
        message = f"in {plan.target} this stands in the way: {told}"
        hint = "move it away; --delete deletes what is in a directory that was none"
    more = refused.count - _TOLD
    raise RestoreError(
        message + (f" and {more:,} more" if more > 0 else ""),
        hint=f"nothing has been changed; {hint}",
    )
