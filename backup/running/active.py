"""A run that goes on: what is heard of it, and for how long nothing has been."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from backup.child_run import OnOutput
from backup.reporting import COUNTING, OnReport, Report
from backup.run_state import Claim
from backup.running.task import Task
from backup.running.work import End, Work
from backup.triggers import span_text

_LOG = logging.getLogger(__name__)


class Going(NamedTuple):
    """A run that goes on.

    ``report`` is what it said last of how far it is. ``still`` is for how many seconds it has
    neither moved a byte nor written anything; ``is_stalled`` whether that is longer than its task
    allows. A function, which has no process, tells nothing and never counts as stalled.
    """

    name: str
    began: datetime
    pid: int | None
    report: Report | None
    still: float
    is_stalled: bool


class Active:
    """A run that goes on; ``claim`` is its right to do so.

    Args:
        task: Its task.
        claim: The claim.
        on_output: Is told what it writes.
        on_report: Is told how far it has come.
    """

    def __init__(
        self,
        task: Task,
        claim: Claim,
        on_output: OnOutput | None = None,
        on_report: OnReport | None = None,
    ) -> None:
        self.task = task
        self.claim = claim
        self.began = time.monotonic()
        self.end: End | None = None
        self.is_given_up = False
        self.work: Work = task.begin(claim.fileno(), self._hear_output)
        self._on_output = on_output
        self._on_report = on_report
        self._report: Report | None = None
        self._moved = self.began
        self._told_stalled = False

    def carry_out(self) -> End:
        """Do the work, and return what became of it."""
        self.end = self.work.run(self._hear_report)
        return self.end

    def going(self) -> Going:
        """Return what is known of it now."""
        pid, still = self.work.pid, time.monotonic() - self._moved
        is_stalled = pid is not None and still >= self.task.stall_after.total_seconds()
        return Going(self.task.name, self.claim.run.started, pid, self._report, still, is_stalled)

    def watch(self) -> None:
        """Log that it has stalled, once, and that it moves again."""
        is_stalled = self.going().is_stalled
        if is_stalled and not self._told_stalled:
            seconds = self.task.stall_after.total_seconds()
            span = f"{seconds:g} s" if seconds % 60 else span_text(self.task.stall_after)
            _LOG.warning("%s has not moved a byte for %s", self.task.name, span)
        elif self._told_stalled and not is_stalled:
            _LOG.warning("%s moves again", self.task.name)
        self._told_stalled = is_stalled

    def _hear_output(self, number: int, block: bytes) -> None:
        self._move()
        self._pass_on(self._on_output, number, block)

    def _hear_report(self, report: Report) -> None:
        last, self._report = self._report, report
        is_new = last is None or (last.what, last.done) != (report.what, report.done)
        if is_new or report.what == COUNTING:
            self._move()
        self._pass_on(self._on_report, report)

    def _move(self) -> None:
        self._moved = time.monotonic()

    def _pass_on(self, hear: Callable[..., object] | None, *heard: object) -> None:
        try:
            if hear is not None:
                hear(*heard)
        except Exception as error:  # noqa: BLE001 - who listens is not part of the run
            _LOG.warning("cannot pass on what %s tells: %s", self.task.name, type(error).__name__)
            self._on_output = self._on_report = None
