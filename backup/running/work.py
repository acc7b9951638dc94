"""What a task does: a command as a process of its own, or a function on a thread."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from backup.child_run import GRACE, ChildEnd, ChildRun, OnOutput
from backup.errors import BackupError
from backup.reporting import OnReport, Report
from backup.run_state import Outcome
from backup.run_state.records import Detail
from backup.triggers import span_text

_OUTCOMES = {0: Outcome.DONE, 3: Outcome.INCOMPLETE, 130: Outcome.INTERRUPTED}
_ERROR = "auto-backup: error: "
_LONGEST = 300


class End(NamedTuple):
    """What became of a run. ``is_gone`` is false where its process could not be killed."""

    outcome: Outcome
    reason: str = ""
    details: Mapping[str, Detail] = {}
    is_gone: bool = True


class Work(Protocol):
    """One run of a task."""

    @property
    def pid(self) -> int | None:
        """The id of its process, ``None`` where it has none, or none yet."""

    def run(self, on_report: OnReport) -> End:
        """Do it, and return what became of it; nothing is raised.

        Args:
            on_report: Is told how far it has come.
        """

    def stop(self, grace: float = GRACE) -> None:
        """Ask it to end, from any thread; what can be killed is killed after ``grace`` seconds."""

    def is_gone(self) -> bool:
        """Tell whether nothing of it is left that works."""


class CommandWork:
    """A command that tells by its exit status what became of the run.

    Args:
        command: The program and its arguments.
        lock: The descriptor of the task's lock, which the process holds too: while it lives
            nobody else runs the task.
        timeout: How long it may take.
        nothing: Exit statuses which say that there was nothing to do.
        on_output: Is told what it writes.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        lock: int | None = None,
        timeout: timedelta | None = None,
        nothing: Collection[int] = (),
        on_output: OnOutput | None = None,
    ) -> None:
        self._timeout = timeout
        self._nothing = nothing
        seconds = None if timeout is None else timeout.total_seconds()
        held = () if lock is None else (lock,)
        self._on_report: OnReport | None = None
        self._child = ChildRun(
            command, timeout=seconds, held=held, on_output=on_output, on_report=self._pass_on
        )

    @property
    def pid(self) -> int | None:
        """The id of the process, ``None`` before it has been started."""
        return self._child.pid

    def run(self, on_report: OnReport | None = None) -> End:
        """Run the command to its end."""
        self._on_report = on_report
        try:
            ended = self._child.run()
        except BackupError as error:
            return End(Outcome.FAILED, error.message)
        return self._end(ended)

    def stop(self, grace: float = GRACE) -> None:
        """Ask it to end, and kill it ``grace`` seconds later."""
        self._child.stop(grace)

    def is_gone(self) -> bool:
        """Tell whether the process has ended."""
        return self._child.is_gone()

    def _pass_on(self, report: Report) -> None:
        if self._on_report is not None:
            self._on_report(report)

    def _end(self, ended: ChildEnd) -> End:
        details: dict[str, Detail] = {**ended.details, "exit_status": ended.status}
        if ended.timed_out:
            reason = f"it took longer than {span_text(self._timeout or timedelta())}"
            more = "" if ended.is_gone else ", and cannot be killed"
            return End(Outcome.TIMED_OUT, reason + more, details, ended.is_gone)
        if ended.stopped and ended.status != 0:
            reason = "" if ended.is_gone else "it cannot be killed"
            return End(Outcome.INTERRUPTED, reason, details, ended.is_gone)
        reason = _reason(ended)
        if ended.status in self._nothing:
            return End(Outcome.SKIPPED, reason, details)
        outcome = outcome_of(ended.status or 0)
        return End(outcome, "" if outcome is Outcome.DONE else reason, details)


def outcome_of(status: int) -> Outcome:
    """Return what the exit status of our own command tells of a run."""
    return _OUTCOMES.get(status, Outcome.FAILED)


def _reason(ended: ChildEnd) -> str:
    """Return what a process said last of why it failed."""
    if ended.status is not None and ended.status < 0:
        return f"it was ended by {_signal_name(-ended.status)}"
    lines = [one.strip() for one in ended.err.decode(errors="replace").splitlines()]
    errors = [one.removeprefix(_ERROR) for one in lines if one.startswith(_ERROR)]
    said = errors or [one.removeprefix("auto-backup: ") for one in lines if one]
    return said[-1][:_LONGEST] if said else f"exit status {ended.status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class CallWork:
    """A function. It cannot be ended: a program that has to be sure runs a command.

    Args:
        function: Does the work; what it raises is the reason why the run failed.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    @property
    def pid(self) -> int | None:
        """It has no process of its own."""
        return None

    def run(self, on_report: OnReport | None = None) -> End:
        """Call the function."""
        del on_report  # it says nothing
        try:
            self._function()
        except BackupError as error:
            return End(Outcome.FAILED, error.message)
        except BaseException as error:  # noqa: BLE001 - SystemExit ends the thread, not more
            # Only its kind: what a foreign error says may hold a secret.
            return End(Outcome.FAILED, f"it raised {type(error).__name__}")
        return End(Outcome.DONE)

    def stop(self, grace: float = GRACE) -> None:
        """Do nothing."""

    def is_gone(self) -> bool:
        """Tell that it is, which holds once ``run`` has returned."""
        return True
