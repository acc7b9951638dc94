"""What is known of each job's runs: which moments were served, what runs, what came of it."""

from __future__ import annotations

from backup.run_state.claim import Claim
from backup.run_state.records import FAILURES, Cause, JobRuns, Outcome, Run, as_gone, ended
from backup.run_state.run_state import RUNS_NAME, RunState

__all__ = [
    "FAILURES",
    "RUNS_NAME",
    "Cause",
    "Claim",
    "JobRuns",
    "Outcome",
    "Run",
    "RunState",
    "as_gone",
    "ended",
]
