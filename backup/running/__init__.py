"""Tasks: what is due of them, and the running of it, one run of each at a time."""

from __future__ import annotations

from backup.running.active import Going
from backup.running.agenda import LOOK_AGAIN, Turn, plan
from backup.running.heart import Heart
from backup.running.questions import Waiting
from backup.running.runner import Runner
from backup.running.task import RETRY, STALL_AFTER, Task
from backup.running.work import CallWork, CommandWork, End, Work

__all__ = [
    "LOOK_AGAIN",
    "RETRY",
    "STALL_AFTER",
    "CallWork",
    "CommandWork",
    "End",
    "Going",
    "Heart",
    "Runner",
    "Task",
    "Turn",
    "Waiting",
    "Work",
    "plan",
]
