"""The tables of what is known of runs."""

from __future__ import annotations

from backup.database import Schema
from backup.errors import RunStateError

_JOBS = """CREATE TABLE jobs (
    job TEXT NOT NULL PRIMARY KEY, known BLOB NOT NULL, digest BLOB NOT NULL
) WITHOUT ROWID"""
_RUNS = """CREATE TABLE runs (
    job TEXT NOT NULL, number INTEGER NOT NULL, run BLOB NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID"""

SCHEMA = Schema(
    what="record of runs",
    application=0x41_42_72_73,
    version=1,
    tables=(_JOBS, _RUNS),
    steps={},
    error=RunStateError,
    anew="a new one is begun, and jobs count as never run",
)
