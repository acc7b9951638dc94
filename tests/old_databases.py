"""Databases as the first schema of each has them, written without the package: users have such."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

_RUNS = """
CREATE TABLE jobs (
    job TEXT NOT NULL PRIMARY KEY, known BLOB NOT NULL, digest BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
    job TEXT NOT NULL, number INTEGER NOT NULL, run BLOB NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
PRAGMA application_id = 1094873715;
PRAGMA user_version = 1;
"""
_RUN = (
    '{"job":"shop","number":%d,"cause":"schedule","started":"2026-11-20T16:32:05Z","process":4321,'
    '"moment":"2026-11-20T16:32:05Z","ended":"2026-11-20T16:32:05Z","outcome":"done",'
    '"details":{"snapshot":"ab12"}}'
)
_JOB = (
    '{"job":"shop","first_seen":"2026-11-20T16:32:05Z","served":"2026-11-20T16:32:05Z","count":%d,'
    '"paused_since":"2026-11-20T16:32:05Z","last_done":"2026-11-20T16:32:05Z","last":%s}'
)
_CATALOG = """
CREATE TABLE snapshots (
    store TEXT NOT NULL, name TEXT NOT NULL, host TEXT NOT NULL, job TEXT NOT NULL,
    first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, trashed TEXT,
    facts BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (store, name)
) WITHOUT ROWID;
CREATE TABLE proofs (
    store TEXT NOT NULL, name TEXT NOT NULL, level TEXT NOT NULL, holds INTEGER NOT NULL,
    proof BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (store, name, level, holds)
) WITHOUT ROWID;
PRAGMA application_id = 1094869876;
PRAGMA user_version = 1;
"""
STORE = "file:///mnt/disk"
_NAME = "web1/shop/shop-%d-full.tar.xz.enc"
_SNAPSHOT = (
    '{"store":"file:///mnt/disk","name":"%s","id":"%032x","host":"web1","job":"shop",'
    '"chain":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","sequence":%d,"time":"2026-11-20T16:32:05Z",'
    '"kind":"full","archive":"tar.xz","size":5,"modified":"2026-11-20T16:32:05Z",'
    '"core_digest":"efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef"}'
)
_PROOF = (
    '{"store":"file:///mnt/disk","name":"%s","id":"%032x","level":"checksum",'
    '"started":"2026-11-20T16:32:05Z","finished":"2026-11-20T16:32:05Z","holds":true}'
)
_TIME = "2026-11-20T16:32:05+00:00"


def make_runs(path: Path, count: int) -> None:
    """Make a record of ``count`` runs of a job that is paused."""
    runs = [_RUN % number for number in range(1, count + 1)]
    with _made(path, _RUNS) as found:
        found.execute("INSERT INTO jobs VALUES ('shop', ?, ?)", _row(_JOB % (count, runs[-1])))
        found.executemany(
            "INSERT INTO runs VALUES ('shop', ?, ?, ?)",
            [(number, *_row(run)) for number, run in enumerate(runs, 1)],
        )
        found.commit()


def make_catalog(path: Path, count: int) -> None:
    """Make a catalog of ``count`` snapshots, each of them proven."""
    with _made(path, _CATALOG) as found:
        for number in range(1, count + 1):
            name = _NAME % number
            facts, proof = _SNAPSHOT % (name, number, number), _PROOF % (name, number)
            found.execute(
                "INSERT INTO snapshots VALUES (?, ?, 'web1', 'shop', ?, ?, NULL, ?, ?)",
                (STORE, name, _TIME, _TIME, *_row(facts)),
            )
            found.execute(
                "INSERT INTO proofs VALUES (?, ?, 'checksum', 1, ?, ?)", (STORE, name, *_row(proof))
            )
        found.commit()


def content_of(path: Path) -> tuple[int, dict[str, list[tuple[object, ...]]]]:
    """Return the schema's number and all rows by table; SQLite finds the file sound."""
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [version] = found.execute("PRAGMA user_version").fetchone()
        tables = found.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return version, {
            name: sorted(found.execute(f"SELECT * FROM {name}"))  # noqa: S608 - its own names
            for (name,) in tables
        }


def _made(path: Path, script: str) -> closing[sqlite3.Connection]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    found = sqlite3.connect(path)
    found.executescript(script)
    return closing(found)


def _row(text: str) -> tuple[bytes, bytes]:
    return text.encode(), sha256(text.encode()).digest()
