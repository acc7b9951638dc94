"""Jobs and runs as rows."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from backup.database import from_row, to_row
from backup.run_state.records import JobRuns, Run


def read_all(found: sqlite3.Connection) -> dict[str, JobRuns]:
    """Return what is known of each job, by its name, sorted."""
    rows = found.execute("SELECT known, digest FROM jobs ORDER BY job")
    known = [from_row(JobRuns, *row) for row in rows]
    return {one.job: one for one in known}


def read_runs(found: sqlite3.Connection, job: str, most: int) -> list[Run]:
    """Return the last runs of ``job``, newest first."""
    rows = found.execute(
        "SELECT run, digest FROM runs WHERE job = ? ORDER BY number DESC LIMIT ?", (job, most)
    )
    return [from_row(Run, *row) for row in rows]


def write_run(found: sqlite3.Connection, run: Run, kept: int) -> None:
    """Write a run, and drop all but the last ``kept`` of its job."""
    found.execute(
        "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", (run.job, run.number, *to_row(run))
    )
    found.execute("DELETE FROM runs WHERE job = ? AND number <= ?", (run.job, run.number - kept))


def read(found: sqlite3.Connection, job: str) -> JobRuns | None:
    """Return what is known of ``job``."""
    row = found.execute("SELECT known, digest FROM jobs WHERE job = ?", [job]).fetchone()
    return None if row is None else from_row(JobRuns, *row)


def read_or_make(found: sqlite3.Connection, job: str, now: datetime) -> JobRuns:
    """Return what is known of ``job``, which is first seen now where nothing is."""
    known = read(found, job)
    if known is None:
        known = JobRuns(job=job, first_seen=now)
        write(found, known)
    return known


def write(found: sqlite3.Connection, known: JobRuns) -> None:
    """Write what is known of a job."""
    found.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", (known.job, *to_row(known)))


def delete(found: sqlite3.Connection, job: str) -> None:
    """Drop all that is known of ``job``."""
    found.execute("DELETE FROM jobs WHERE job = ?", [job])
    found.execute("DELETE FROM runs WHERE job = ?", [job])
