"""Carrying out one step after the other, and keeping account of it."""

from __future__ import annotations

from collections import deque
from functools import partial

from backup.errors import IntegrityError, RestoreError
from backup.model import Entry, EntryType, path_key
from backup.restore.decision import Action, Found, unchanged
from backup.restore.descriptors import close_quietly, is_about_all
from backup.restore.frame_files import Outcome
from backup.restore.options import Overwrite
from backup.restore.origin import Lost, Origin
from backup.restore.report import OnRestored, RestoreReport
from backup.restore.steps import Step
from backup.restore.tree_writer import TreeWriter
from backup.sources.reading import read_range
from backup.sources.sparse import next_data
from backup.verification import name_entry


class StepCarrier:
    """Carries out steps.

    Args:
        origin: What is restored.
        writer: The target.
        report: What to keep account in.
        overwrite: The policy that the steps were decided by.
        on_restored: Is told after every entry.
        workers: How many processes; ``None`` for what the machine allows.
    """

    def __init__(
        self,
        origin: Origin,
        writer: TreeWriter,
        report: RestoreReport,
        overwrite: Overwrite | None,
        *,
        on_restored: OnRestored,
        workers: int | None = None,
    ) -> None:
        self._origin = origin
        self._writer = writer
        self._report = report
        self._is_exact = overwrite is Overwrite.IF_CHANGED
        self._first_names: dict[tuple[int, int], Entry] = {}
        self._awaited: set[tuple[int, int]] = set()
        self._later: list[tuple[Step, Entry, Entry]] = []
        self._kept_files: set[tuple[int, int]] = set()
        self._refusal: RestoreError | None = None
        self._damaged: list[tuple[bytes, IntegrityError]] = []
        self._last = b""
        self._under_way: set[bytes] = set()
        self._untold: deque[bytes] = deque()
        self._on_restored = on_restored
        self._files = origin.files(writer, self._written, workers=workers)

    def carry_out(self, step: Step) -> None:
        """Do what ``step`` says; what is wrong with it alone is reported.

        Raises:
            RestoreError: What refused it would refuse all others too.
        """
        self._last = step.path
        self._untold.append(step.path)
        self._under_way.add(step.path)
        try:
            with self._writer.problems_told(step.path) as refused:
                if self._do(step):
                    return
            self._refusal = self._refusal or refused.error
        except IntegrityError as error:
            self._damage(step.path, error, step.entry)
        self._tell(step.path)

    def _tell(self, path: bytes) -> None:
        """Tell that ``path`` is done, which is told in order: when all before it are done too."""
        self._under_way.discard(path)
        while self._untold and self._untold[0] not in self._under_way:
            self._on_restored(self._report, self._untold.popleft())

    def finish(self) -> None:
        """Wait for the files that others write, and put what has been reported into order.

        Raises:
            RestoreError: What refused one would refuse all others too; or nothing at all could be
                restored or was there.
        """
        self._files.finish()
        for step, entry, first in self._later:
            self._link_later(step, entry, first)
        self._report.problems.sort(key=_first_key)
        self._damaged.sort(key=_first_key)
        self._report.damaged = [error for _, error in self._damaged]
        if self._refusal is not None and not (self._report.entries or self._report.kept):
            raise self._refusal

    def close(self) -> None:
        """Wait for nothing any more; what is not whole is deleted."""
        self._files.close()

    def lose(self, part: Lost) -> None:
        """Report a part of the index that is damaged, where the entries have come to."""
        self._damage(self._last, IntegrityError(str(part), hint=self._origin.hint), None)

    def _damage(self, path: bytes, error: IntegrityError, entry: Entry | None) -> None:
        if entry is not None:
            name_entry(error, entry)
        self._damaged.append((path, error))

    def _written(self, outcome: Outcome) -> None:
        """Keep account of a file that ``_files`` was given."""
        entry, replace, error = outcome
        if isinstance(error, IntegrityError):
            self._damage(entry.path, error, entry)
        elif error is not None:
            self._writer.tell_refusal(entry.path, error)
            self._refusal = self._refusal or error
        else:
            self._report.files += 1
            self._report.size += entry.size
            self._report.entries += 1
            self._report.replaced += replace
        self._tell(entry.path)

    def _do(self, step: Step) -> bool:
        """Do a step; return whether it has only been begun."""
        entry, action = step.entry, step.action
        if action in {Action.LEAVE, Action.REFUSE} or entry is None:
            self._leave(step)
            return False
        if entry.error:
            self._report.problems.append((entry.path, f"when it was saved: {entry.error}"))
        match entry.type:
            case EntryType.DIRECTORY:
                self._directory(step, entry)
            case EntryType.FILE | EntryType.STREAM:
                return self._file(step, entry)
            case _:
                self._other(step, entry)
        return False

    def _leave(self, step: Step) -> None:
        if step.action is Action.REFUSE or step.is_problem:
            self._report.problems.append((step.path, step.reason))

    def _directory(self, step: Step, entry: Entry) -> None:
        is_new = step.action is Action.CREATE or entry.path in self._writer.prepared
        if step.action is Action.KEEP and not is_new:
            if self._is_exact and step.told:
                self._writer.keep_directory(entry)
            self._keep()
            return
        self._writer.make_directory(entry, replace=step.action is Action.REPLACE)
        self._count(step, entry)

    def _other(self, step: Step, entry: Entry) -> None:
        if step.action is Action.KEEP:
            self._keep()
            return
        replace = step.action is Action.REPLACE
        if step.action is Action.MEND and step.found is not None:
            self._writer.mend(entry, step.found.identity)
        elif entry.type is EntryType.SYMLINK:
            self._writer.defer_symlink(entry, replace=replace)
        else:
            self._writer.make_special(entry, replace=replace)
        self._count(step, entry)

    def _file(self, step: Step, entry: Entry) -> bool:
        group = (entry.filesystem, entry.inode)
        first = self._first_names.get(group) if entry.links > 1 else None
        if first is not None and group in self._awaited:
            self._later.append((step, entry, first))
            return True
        if first is not None:
            self._another_name(step, entry, first)
            return False
        if step.action is Action.COMPARE and step.found is not None:
            step = self._compared(step, entry, step.found)
        found = step.found
        is_same = found is not None and step.action in {Action.KEEP, Action.MEND}
        if is_same and self._is_exact and found is not None and found.identity in self._kept_files:
            step = step._replace(action=Action.REPLACE)  # it is a name of another group's file
        match step.action:
            case Action.KEEP:
                self._keep()
            case Action.MEND if found is not None:
                self._writer.mend(entry, found.identity)
                self._count(step, entry)
            case _ if self._files.takes(entry):
                self._writer.check_place(entry.path)
                self._files.add(entry, replace=step.action is not Action.CREATE)
                if entry.links > 1:
                    self._first_names[group] = entry
                    self._awaited.add(group)
                return True
            case _:
                self._write(step, entry)
        self._remember(step, entry, group)
        return False

    def _link_later(self, step: Step, entry: Entry, first: Entry) -> None:
        """Make another name of a file that had been begun only, and is done by now."""
        try:
            with self._writer.problems_told(entry.path) as refused:
                self._another_name(step, entry, first)
            self._refusal = self._refusal or refused.error
        except IntegrityError as error:
            self._damage(entry.path, error, entry)
        self._tell(entry.path)

    def _remember(self, step: Step, entry: Entry, group: tuple[int, int]) -> None:
        """Let other names of the file be linked to this one, where its content is known."""
        if entry.links == 1:
            return
        if step.action in {Action.KEEP, Action.MEND} and step.found is not None:
            if not self._is_exact:
                return
            self._writer.keep(entry, step.found.identity)
            self._kept_files.add(step.found.identity)
        self._first_names[group] = entry

    def _another_name(self, step: Step, entry: Entry, first: Entry) -> None:
        found = step.found
        is_linked = found is not None and self._writer.is_file(first, found.identity)
        if is_linked or (step.action is Action.KEEP and not self._is_exact):
            self._keep()
            return
        step = step._replace(action=Action.CREATE if found is None else Action.REPLACE)
        try:
            self._writer.link_file(entry, first, replace=found is not None)
        except RestoreError as error:  # the content comes first
            if is_about_all(error):
                raise
            self._write(step, entry)
            self._report.problems.append((entry.path, f"it is a file of its own: {error.message}"))
        else:
            self._report.files += 1
            self._report.size += entry.size
            self._count(step, entry)

    def _write(self, step: Step, entry: Entry) -> None:
        self._files.write(entry, replace=step.action is not Action.CREATE)
        self._report.files += 1
        self._report.size += entry.size
        self._count(step, entry)

    def _compared(self, step: Step, entry: Entry, found: Found) -> Step:
        """Return the step that follows from the content of what is there."""
        action, reason = Action.REPLACE, "its content differs"
        descriptor = self._writer.open_file(entry.path, found.identity)
        if descriptor is not None:
            try:
                if self._has_content(entry, descriptor):
                    action, reason = unchanged(entry, found)
            except OSError:
                reason = "it cannot be read"
            finally:
                close_quietly(descriptor)
        if action is not Action.REPLACE:
            self._report.compared += entry.size
        return step._replace(action=action, reason=reason)

    def _has_content(self, entry: Entry, descriptor: int) -> bool:
        read_at, data = partial(read_range, descriptor), partial(next_data, descriptor)
        return self._origin.has_content(entry, read_at, data)

    def _keep(self) -> None:
        self._report.kept += 1

    def _count(self, step: Step, entry: Entry) -> None:
        self._report.entries += 1
        self._report.replaced += step.action is Action.REPLACE
        is_mended = step.action is Action.MEND and entry.path not in self._writer.prepared
        self._report.mended += is_mended


def _first_key(reported: tuple[bytes, object]) -> bytes:
    return path_key(reported[0])
