"""The tables of the catalog."""

from __future__ import annotations

from backup.database import Schema
from backup.errors import CatalogError

_SNAPSHOTS = """CREATE TABLE snapshots (
    store TEXT NOT NULL, name TEXT NOT NULL, host TEXT NOT NULL, job TEXT NOT NULL,
    first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, trashed TEXT,
    facts BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (store, name)
) WITHOUT ROWID"""
_PROOFS = """CREATE TABLE proofs (
    store TEXT NOT NULL, name TEXT NOT NULL, level TEXT NOT NULL, holds INTEGER NOT NULL,
    proof BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (store, name, level, holds)
) WITHOUT ROWID"""

SCHEMA = Schema(
    what="catalog",
    application=0x41_42_63_74,
    version=1,
    tables=(_SNAPSHOTS, _PROOFS),
    steps={},
    error=CatalogError,
    anew="the catalog is made again from the stores",
)
