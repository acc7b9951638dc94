"""What is done again and again, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from backup.child_run import OnOutput
from backup.conditions import NO_CONDITIONS, Conditions
from backup.running.work import Work
from backup.triggers import Retry, Trigger, describe

RETRY = Retry()
STALL_AFTER = timedelta(minutes=30)
"""What counts where nothing is said of it."""

Begin = Callable[[int | None, OnOutput | None], Work]
"""Makes the work of one run, of the descriptor of the task's lock and of who hears its output."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something that is done again and again: a job, or the upkeep of its snapshots.

    Args:
        name: Its name in the record of runs; of a job the job's.
        begin: Makes the work of one run.
        trigger: When it is due; ``None`` where it follows another task, or runs by hand alone.
        follows: The task after each good run of which it is due.
        at_once: Whether a new one is due now, and not one interval later.
        apart: Tasks that say the same here do not run at once; for example those of one job.
        retry: What happens after a failure.
        conditions: What has to hold before it begins.
        is_upkeep: Whether it looks after what jobs store, and is no job itself.
        stall_after: After what time in which no byte moves a run counts as stalled.
    """

    name: str
    begin: Begin
    trigger: Trigger | None = None
    follows: str = ""
    at_once: bool = True
    apart: str = ""
    retry: Retry = RETRY
    conditions: Conditions = NO_CONDITIONS
    is_upkeep: bool = False
    stall_after: timedelta = STALL_AFTER

    def when(self) -> str:
        """Return when it is due, for people."""
        if self.trigger is not None:
            return describe(self.trigger)
        return f"after {self.follows}" if self.follows else "by hand"
