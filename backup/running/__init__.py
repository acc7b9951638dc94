"""Tasks: what is due of them, and the running of it, one run of each at a time."""

from __future__ import annotations

from backup.running.agenda import LOOK_AGAIN, Turn, plan
from backup.running.runner import Runner, Waiting
from backup.running.task import Task
from backup.running.work import CallWork, CommandWork, End, Work

__all__ = [
    "LOOK_AGAIN",
    "CallWork",
    "CommandWork",
    "End",
    "Runner",
    "Task",
    "Turn",
    "Waiting",
    "Work",
    "plan",
]
