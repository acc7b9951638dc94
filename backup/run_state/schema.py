"""The tables of what is known of runs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

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


def is_newer(path: Path) -> bool:
    """Tell whether a newer version of this program has changed the record; else, no."""
    # By SQLite: a descriptor that is opened and closed here would take its locks along.
    url = f"file:{quote(os.fsencode(path))}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(url, uri=True, timeout=0)) as found:
        return int(found.execute("PRAGMA user_version").fetchone()[0]) > SCHEMA.version
    return False
