"""The steps of a restore, one after the other: planned and done by the same rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from backup.errors import RestoreError
from backup.model import Entry, EntryType, path_text
from backup.restore.decision import Action, Decision, Found, decide
from backup.restore.lookup import Lookup
from backup.restore.options import Overwrite, RestoreOptions
from backup.restore.placement import Place, Placement
from backup.restore.removal import Doomed, Spared

FILES = frozenset({EntryType.FILE, EntryType.STREAM})


class Step(NamedTuple):
    """What becomes of one path below the target.

    ``entry`` has that path as its own; it is ``None`` where something is deleted or spared that is
    no entry. ``found`` is what exists there. ``doomed`` is what goes away with all that is below.
    ``told`` is false for what nobody needs to be told, ``is_problem`` true for what the snapshot
    does not have though it should.
    """

    action: Action
    path: bytes
    reason: str = ""
    entry: Entry | None = None
    found: Found | None = None
    doomed: Doomed | None = None
    told: bool = True
    is_problem: bool = False


class Steps:
    """Decides about entries that come in the order of ``path_key``.

    Args:
        lookup: What exists.
        placement: Where entries go.
        options: How to restore.
        planned: What may be deleted, where that has been planned; then nothing else is looked for.
    """

    def __init__(
        self,
        lookup: Lookup,
        placement: Placement,
        options: RestoreOptions,
        planned: Mapping[bytes, Doomed] | None = None,
    ) -> None:
        self._lookup = lookup
        self._placement = placement
        self._overwrite = options.overwrite
        self._delete = options.delete
        self._planned = planned
        self._blocked: tuple[bytes, Decision] | None = None
        self._fresh: bytes | None = None
        self._open: list[tuple[bytes, set[bytes]]] = []

    def of(self, entries: Iterable[Entry]) -> Iterator[Step]:
        """Yield a step for each of ``entries``, and those that delete, in walking order.

        Raises:
            RestoreError: Two entries are to have one place.
        """
        deletes = self._delete and self._planned is None
        for entry in entries:
            place = self._placement.place(entry)
            if deletes:
                yield from self._leave_directories(place.path)
                self._note_name(place.path)
            step = self._step(entry, place)
            yield step
            if deletes and place.wanted:
                self._enter_directory(step)
        yield from self._leave_directories(None)

    def _step(self, entry: Entry, place: Place) -> Step:
        if place.left:
            problem = place.is_problem
            return Step(Action.LEAVE, entry.path, place.left, told=place.told, is_problem=problem)
        path = place.path
        if entry.type in FILES and entry.error and not entry.digest:
            return Step(Action.LEAVE, path, f"when it was saved: {entry.error}", is_problem=True)
        if path != entry.path:
            entry = msgspec.structs.replace(entry, path=path)
        found, above = self._find(path)
        if above is not None:
            return above
        if found is not None and found.is_directory and entry.type is EntryType.DIRECTORY:
            if not place.wanted:
                return Step(Action.KEEP, path, "it is only on the way", entry, found, told=False)
            if not path and self._placement.is_stripped:
                return Step(Action.KEEP, path, "it is the target", entry, found, told=False)
        return self._decide(entry, found, own=place.own)

    def _find(self, path: bytes) -> tuple[Found | None, Step | None]:
        """Return what is at ``path``, or what becomes of it because of what is above it."""
        if self._fresh is not None and path.startswith(self._fresh + b"/"):
            return None, None
        if self._blocked is not None and path.startswith(self._blocked[0] + b"/"):
            action, reason = self._blocked[1]
            return None, Step(action, path, reason)
        try:
            return self._lookup.find(path), None
        except RestoreError:
            step = self._lookup.blocker(path)
        return None, None if step is None else self._blocked_step(path, step)

    def _blocked_step(self, path: bytes, step: bytes) -> Step:
        """Return what becomes of ``path`` where ``step``, above it, is no directory."""
        if self._overwrite is Overwrite.NEVER:
            self._block(step, Action.KEEP)
            return Step(Action.KEEP, path, self._blocked_reason(step))
        if self._planned is None:
            self._block(step, Action.LEAVE)
            return Step(Action.REFUSE, step, "it is no directory")
        self._block(step, Action.REFUSE)
        return Step(Action.REFUSE, path, self._blocked_reason(step))

    def _block(self, step: bytes, action: Action) -> None:
        self._blocked = (step, Decision(action, self._blocked_reason(step)))

    @staticmethod
    def _blocked_reason(step: bytes) -> str:
        return f"{path_text(step)} is no directory"

    def _decide(self, entry: Entry, found: Found | None, *, own: bool) -> Step:
        """Decide about ``entry``, and so about what is below it where it is a directory."""
        path = entry.path
        is_directory = entry.type is EntryType.DIRECTORY
        if found is not None and found.is_directory and not is_directory:
            found = found._replace(full=self._lookup.is_full(path))
        overwrite = Overwrite.NEVER if own and found is not None else self._overwrite
        action, reason = decide(entry, found, overwrite, delete=self._delete)
        if own and action is Action.KEEP:
            reason = "it belongs to auto-backup"
        doomed = self._doom(path) if action is Action.REPLACE and found and found.full else None
        if isinstance(doomed, str):
            return Step(Action.REFUSE, path, f"what is in the directory there stays: {doomed}")
        if is_directory and found is not None and not found.is_directory:
            if action is Action.REPLACE:
                self._fresh = path
            else:
                self._block(path, Action.LEAVE if action is Action.REFUSE else Action.KEEP)
        return Step(action, path, reason, entry, found, doomed)

    def _doom(self, path: bytes) -> Doomed | str:
        """Return what goes away with the directory ``path``, or why it may not."""
        if self._planned is not None:
            return self._planned.get(path, "it has come since the plan was made")
        looked = self._lookup.survey(path, self._placement.spared)
        if isinstance(looked, Spared):
            return f"{path_text(looked.path)}: {looked.reason}"
        return looked

    def _note_name(self, path: bytes) -> None:
        """Note that the snapshot has ``path``, or something below it."""
        if not self._open:
            return
        directory, names = self._open[-1]
        rest = path[len(directory) + 1 :] if directory else path
        names.add(rest.partition(b"/")[0])

    def _enter_directory(self, step: Step) -> None:
        entry, found = step.entry, step.found
        if entry is None or found is None or not found.is_directory:
            return
        if entry.type is EntryType.DIRECTORY and not entry.error:
            self._open.append((entry.path, set()))

    def _leave_directories(self, path: bytes | None) -> Iterator[Step]:
        """Yield what is to be deleted from the directories in which ``path`` is not."""
        while self._open:
            directory, names = self._open[-1]
            if path is not None and (not directory or path.startswith(directory + b"/")):
                return
            self._open.pop()
            for name in self._lookup.names(directory):
                if name not in names:
                    yield self._delete_step(directory + b"/" + name if directory else name)

    def _delete_step(self, path: bytes) -> Step:
        try:
            looked = self._lookup.survey(path, self._placement.spared)
        except RestoreError as error:
            return Step(Action.LEAVE, path, f"not deleted: {error.message}")
        if isinstance(looked, Spared):
            reason = (
                looked.reason
                if looked.path == path
                else (f"{path_text(looked.path)}: {looked.reason}")
            )
            return Step(Action.LEAVE, path, f"not deleted: {reason}")
        return Step(Action.DELETE, path, "the snapshot does not have it", doomed=looked)
