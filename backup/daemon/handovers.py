"""Runs that somebody asked for at the socket: one after the other, told as they go on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from backup.child_run import OnOutput
from backup.control import Begun, Conversation, Ended, Moved, Wrote
from backup.errors import BackupError, DaemonError, LockedError
from backup.reporting import OnReport, Report
from backup.run_state import Cause, Claim, Run
from backup.running import Task

Begin = Callable[[Task, OnOutput, OnReport], Claim | None]


class Handovers:
    """All runs that were asked for and are not over.

    Args:
        begin: Begins a run by hand; ``None`` where the task runs already.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin_by_hand = begin
        self._lock = threading.Lock()
        self._active: dict[str, _Handover] = {}
        self._stops = False

    def begin(self, tasks: Iterable[Task], conversation: Conversation) -> None:
        """Begin the first of some tasks; the others follow, and what is told ends with the last.

        They are run also when nobody listens any more.
        """
        self._go_on(_Handover(conversation, tasks))

    def ended(self, task: Task, run: Run) -> None:
        """Take note that a run has ended, whoever began it."""
        with self._lock:
            asked = self._active.get(task.name) if run.cause is Cause.BY_HAND else None
            if asked is not None:
                del self._active[task.name]
        if asked is not None:
            outcome = "" if run.outcome is None else str(run.outcome)
            asked.conversation.tell(Ended(task.name, outcome, run.exit_status, run.reason))
            self._go_on(asked)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stops = True

    def _go_on(self, asked: _Handover) -> None:
        """Begin the next task that can begin; when none is left, that is told."""
        while asked.left:
            task = asked.left.popleft()
            try:
                self._begin(task, asked)
            except BackupError as error:
                asked.conversation.refuse(error, task.name)
            else:
                return
        asked.conversation.finish()

    def _begin(self, task: Task, asked: _Handover) -> None:
        """Begin a run.

        Raises:
            LockedError: It runs already.
            DaemonError: The daemon ends.
            RunStateError: It cannot be recorded.
        """
        if self._stops:
            raise DaemonError(f"{task.name} does not run: the daemon stops")
        busy = LockedError(
            f"{task.name} is running already", hint="'auto-backup status' tells how far it is"
        )
        with self._lock:
            if task.name in self._active:
                raise busy
            self._active[task.name] = asked
        asked.conversation.tell(Begun(task.name))
        claim = None
        try:
            claim = self._begin_by_hand(task, asked.hear(task), asked.watch(task))
        finally:
            if claim is None:
                with self._lock:
                    self._active.pop(task.name, None)
        if claim is None:
            raise busy


class _Handover:
    """What one has asked for: tasks that are left, and where to tell of them."""

    def __init__(self, conversation: Conversation, tasks: Iterable[Task]) -> None:
        self.conversation = conversation
        self.left = deque(tasks)

    def hear(self, task: Task) -> OnOutput:
        """Return what passes on the output of a task."""

        def pass_on(number: int, block: bytes) -> None:
            self.conversation.tell(Wrote(task.name, 1 if number == 1 else 2, block))

        return pass_on

    def watch(self, task: Task) -> OnReport:
        """Return what passes on how far a task has come."""

        def pass_on(report: Report) -> None:
            self.conversation.tell(Moved(task.name, *report))

        return pass_on
