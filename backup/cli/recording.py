"""A run of a job by hand, in this very process: claimed and recorded like those of a supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backup.cli.invocation import Invocation
from backup.cli.output import print_note
from backup.errors import BackupError, LockedError
from backup.run_state import RUNS_NAME, Claim, Outcome, RunState
from backup.running.work import outcome_of

_INTERRUPTED = 130
_FAILED = 1


@contextmanager
def recorded(call: Invocation, job: str) -> Iterator[None]:
    """Let a job run within: it alone, until it has ended; what came of it is recorded.

    A plan claims nothing, and neither does a run whose supervisor has claimed it. Where the record
    of runs cannot be used this is told, and the job runs.

    Raises:
        LockedError: The job runs already.
    """
    claim = None if call.dry_run or call.reporter.is_heard else _claim(call, job)
    try:
        yield
    except BackupError as error:
        _finish(call, claim, error.exit_code, error.message)
        raise
    except Exception as error:
        _finish(call, claim, _FAILED, f"it raised {type(error).__name__}")
        raise
    except BaseException:
        _finish(call, claim, _INTERRUPTED, "")
        raise
    _finish(call, claim, call.status, call.reason)


def _claim(call: Invocation, job: str) -> Claim | None:
    state = RunState(call.settings.state_dir() / RUNS_NAME, tell=print_note)
    try:
        claim = state.claim_by_hand(job)
    except BackupError as error:
        print_note(f"this run is not recorded: {error.message}")
        return None
    if claim is None:
        raise LockedError(
            f"{job} is running already", hint="'auto-backup schedule list' tells since when"
        )
    return claim


def _finish(call: Invocation, claim: Claim | None, status: int, reason: str) -> None:
    if claim is None:
        return
    outcome = outcome_of(status)
    try:
        claim.finish(
            outcome,
            reason="" if outcome is Outcome.DONE else reason,
            details={**call.details, "exit_status": status},
        )
    except BackupError as error:
        print_note(f"the end of this run is not recorded: {error.message}")
    finally:
        claim.close()
