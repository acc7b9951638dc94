"""A run that this process has claimed: it alone may carry it out, and tells how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self

from backup.run_state.job_lock import JobLock
from backup.run_state.records import Detail, Outcome, Run

Record = Callable[[Run, Outcome, str, Mapping[str, Detail], datetime | None], Run]


class Claim:
    """The right, and the duty, to carry out a run; the job's lock is held as long.

    As a context manager it records, at its end, a run that has not told its own as interrupted.

    Args:
        run: The run.
        tries: How many runs for this moment have failed before.
        lock: The job's lock.
        record: Writes down the end.
    """

    def __init__(self, run: Run, tries: int, lock: JobLock, record: Record) -> None:
        self.run = run
        self.tries = tries
        self._lock = lock
        self._record = record

    @property
    def job(self) -> str:
        """The job."""
        return self.run.job

    @property
    def moment(self) -> datetime | None:
        """The scheduled moment that is served."""
        return self.run.moment

    def fileno(self) -> int:
        """Return the descriptor of the job's lock.

        A process that is given it (``pass_fds``) holds the lock, too: as long as it lives no other
        run of the job begins, even when this process is gone.
        """
        return self._lock.fileno()

    def finish(
        self,
        outcome: Outcome,
        *,
        reason: str = "",
        details: Mapping[str, Detail] | None = None,
        retry_at: datetime | None = None,
    ) -> Run:
        """Record the end of the run, and let go of the lock; return the run as it ended.

        Args:
            outcome: What became of it.
            reason: Why it failed or was skipped, for people; never a secret.
            details: What else is told of it.
            retry_at: When to try again.

        Raises:
            RunStateError: It cannot be recorded. The lock stays: it may be tried again, or
                ``close`` gives up.
        """
        if self.run.outcome is None:
            self.run = self._record(self.run, outcome, reason, details or {}, retry_at)
        self.close()
        return self.run

    def close(self) -> None:
        """Let go of the lock. A run whose end was not recorded counts as interrupted from now."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self.run.outcome is None:
                self.finish(Outcome.INTERRUPTED)
        finally:
            self.close()
