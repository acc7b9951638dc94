"""The runs of this machine's jobs, on disk, shared by every process that runs some."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from backup.clock import Clock, system_clock
from backup.database import WAIT, Database, tell_nobody
from backup.errors import LockedError, RunStateError
from backup.run_state.claim import Claim
from backup.run_state.job_lock import JobLock, is_held, take_lock
from backup.run_state.records import (
    ENDED_WITHOUT_A_WORD,
    Cause,
    Detail,
    JobRuns,
    Outcome,
    Run,
    as_ended,
    begun,
    ended,
    seen,
)
from backup.run_state.rows import (
    delete,
    read,
    read_all,
    read_or_make,
    read_runs,
    write,
    write_run,
)
from backup.run_state.schema import SCHEMA

RUNS_NAME = "runs.sqlite"
KEPT = 1000

Retrying = Callable[[JobRuns], datetime | None]
Decide = Callable[[JobRuns], JobRuns | None]


def _never(_: JobRuns) -> None:
    return None


class RunState:
    """Which moments of jobs were served, which runs go on, what came of them.

    Each call is a transaction of its own. Any method may raise ``RunStateError``: the file cannot
    be used. A file that is not what was written is moved aside and begun anew; runs that go on
    meanwhile keep their locks, and record their end in the new one.

    Args:
        path: The file; the jobs' locks lie in a directory beside it. Both are made when there is
            something to record.
        clock: Tells the time.
        tell: Is told about a file that was moved aside.
        wait: For how many seconds to wait for other processes.
        kept: How many runs of each job are remembered.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock = system_clock,
        *,
        tell: Callable[[str], object] = tell_nobody,
        wait: float = WAIT,
        kept: int = KEPT,
    ) -> None:
        self.path = path
        self._locks = path.with_suffix(".locks")
        self._clock = clock
        self._kept = kept
        self._database = Database(path, SCHEMA, clock=clock, tell=tell, wait=wait)

    def jobs(self) -> dict[str, JobRuns]:
        """Return what is known of each job, by its name, sorted."""
        return self._database.read(read_all, {})

    def is_newer(self) -> bool:
        """Tell whether a newer version of this program has changed the record; else, no."""
        try:
            self.jobs()
        except RunStateError as error:
            return error.is_newer
        return False

    def see(self, jobs: Iterable[str]) -> dict[str, JobRuns]:
        """Return what is known of ``jobs``; those that are new are first seen now.

        Who looks what is due looks through this: it notices when the clock was set back.
        """
        wanted, now = list(jobs), self._clock()
        known = self.jobs()
        if all(job in known and seen(known[job], now) is known[job] for job in wanted):
            return {job: known[job] for job in wanted}

        def work(found: sqlite3.Connection) -> dict[str, JobRuns]:
            looked = {job: seen(read_or_make(found, job, now), now) for job in wanted}
            for one in looked.values():
                write(found, one)
            return looked

        return self._database.write(work)

    def history(self, job: str, most: int = KEPT) -> list[Run]:
        """Return the last runs of ``job``, newest first."""
        return self._database.read(lambda found: read_runs(found, job, most), [])

    def running(self) -> list[Run]:
        """Return the runs that go on, in whichever process."""
        found = [one.unended for one in self.jobs().values()]
        return [run for run in found if run is not None and is_held(self._locks, run.job)]

    def gone(self) -> list[Run]:
        """Return the runs that will never tell their end, which nobody has recorded yet."""
        begun = [one.unended for one in self.jobs().values()]
        free = [run for run in begun if run is not None and not is_held(self._locks, run.job)]
        now = self.jobs() if free else {}  # who ends a run records it first, and frees it then
        return [run for run in free if run.job in now and now[run.job].unended == run]

    def is_running(self, job: str) -> bool:
        """Tell whether the job's lock is held: by a run, or by what one has left behind."""
        return is_held(self._locks, job)

    def claim(self, job: str, moment: datetime, *, after: datetime | None) -> Claim | None:
        """Claim the run for a scheduled moment; it counts as served from then on.

        Exactly one process gets it. ``None``: another one has, or the job runs, or is paused.

        Args:
            job: The job.
            moment: The moment.
            after: The job's ``served`` from which ``moment`` was worked out: where that has
                changed, somebody else was quicker.
        """

        def decide(known: JobRuns) -> JobRuns | None:
            if known.paused_since is not None or known.served != after:
                return None
            return replace(known, served=moment, tries=0, retry_at=None, set_back=None)

        return self._claim(job, Cause.SCHEDULE, decide)

    def claim_retry(self, job: str, retry_at: datetime) -> Claim | None:
        """Claim another try for the moment that was served last; else as ``claim``.

        Args:
            job: The job.
            retry_at: The job's ``retry_at``: where that has changed, somebody else was quicker.
        """

        def decide(known: JobRuns) -> JobRuns | None:
            if known.paused_since is not None or known.retry_at != retry_at:
                return None
            return replace(known, retry_at=None)

        return self._claim(job, Cause.RETRY, decide)

    def claim_by_hand(self, job: str) -> Claim | None:
        """Claim a run that serves no moment, also of a paused job; ``None`` if it runs already."""
        return self._claim(job, Cause.BY_HAND, lambda known: known)

    def mark_interrupted(self, retrying: Retrying = _never) -> list[Run]:
        """Record the end of runs whose processes are gone; return those runs.

        Args:
            retrying: Tells when to try again, from what is then known of the job: ``tries``
                counts this run.
        """
        dead = [one.unended for one in self.jobs().values()]
        marked = []
        for run in dead:
            if run is not None and (lock := take_lock(self._locks, run.job)) is not None:
                try:
                    marked += self._mark(run, retrying)
                finally:
                    lock.close()
        return marked

    def pause(self, job: str) -> bool:
        """Let nothing be claimed but by hand; tell whether that is new."""
        now = self._clock()
        return self._change(
            job, lambda known: None if known.paused_since else replace(known, paused_since=now)
        )

    def resume(self, job: str) -> bool:
        """End a pause; tell whether there was one. What was missed is due then, once."""
        return self._change(
            job, lambda known: replace(known, paused_since=None) if known.paused_since else None
        )

    def forget(self, job: str) -> None:
        """Drop what is known of a job that there is no more.

        Raises:
            LockedError: It is running.
        """
        if job not in self.jobs():
            return
        lock = take_lock(self._locks, job)
        if lock is None:
            raise LockedError(f"{job} is running", hint="wait until it has ended")
        try:
            self._database.write(lambda found: delete(found, job))
            lock.delete()
        finally:
            lock.close()

    def _claim(self, job: str, cause: Cause, decide: Decide) -> Claim | None:
        lock = take_lock(self._locks, job)
        if lock is None:
            return None
        known: JobRuns | None = None
        try:
            known = self._database.write(lambda found: self._begin(found, job, cause, decide))
        finally:
            if known is None:
                lock.close()
        return self._as_claim(known, lock)

    def _as_claim(self, known: JobRuns | None, lock: JobLock) -> Claim | None:
        if known is None or known.last is None:
            return None
        return Claim(known.last, known.tries, lock, self._record)

    def _begin(
        self, found: sqlite3.Connection, job: str, cause: Cause, decide: Decide
    ) -> JobRuns | None:
        now = self._clock()
        known = read_or_make(found, job, now)
        gone = known.unended  # its lock is ours, so its process is gone
        if gone is not None:
            gone = as_ended(gone, now, Outcome.INTERRUPTED, ENDED_WITHOUT_A_WORD, {})
            known = ended(known, gone, known.retry_at)
        wanted = decide(known)
        if wanted is None:
            return None
        known = begun(wanted, cause, now, os.getpid())
        for run in (gone, known.last):
            if run is not None:
                write_run(found, run, self._kept)
        write(found, known)
        return known

    def _record(
        self,
        run: Run,
        outcome: Outcome,
        reason: str,
        details: Mapping[str, Detail],
        retry_at: datetime | None,
    ) -> Run:
        over = as_ended(run, self._clock(), outcome, reason, details)

        def work(found: sqlite3.Connection) -> None:
            known = read_or_make(found, run.job, run.started)
            if known.count < run.number:  # begun anew meanwhile: what this run knows still counts
                known = replace(known, served=run.moment or known.served)
            write_run(found, over, self._kept)
            write(found, ended(known, over, retry_at))

        self._database.write(work)
        return over

    def _mark(self, run: Run, retrying: Retrying) -> list[Run]:
        now = self._clock()
        over = as_ended(run, now, Outcome.INTERRUPTED, ENDED_WITHOUT_A_WORD, {})

        def work(found: sqlite3.Connection) -> list[Run]:
            known = read(found, run.job)
            if known is None or known.unended is None or known.unended.number != run.number:
                return []  # another process has seen it, too
            write_run(found, over, self._kept)
            known = ended(known, over, known.retry_at)
            if run.cause is not Cause.BY_HAND:
                known = replace(known, retry_at=retrying(known))
            write(found, known)
            return [over]

        return self._database.write(work)

    def _change(self, job: str, decide: Decide) -> bool:
        def work(found: sqlite3.Connection) -> bool:
            known = decide(read_or_make(found, job, self._clock()))
            if known is not None:
                write(found, known)
            return known is not None

        return self._database.write(work)
