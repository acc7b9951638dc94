"""What this machine knows about snapshots without asking a store: a cache, never the only truth."""

from __future__ import annotations

from backup.catalog.catalog import CATALOG_NAME, Catalog
from backup.catalog.records import Known, KnownProof, SnapshotFacts, last_word

__all__ = ["CATALOG_NAME", "Catalog", "Known", "KnownProof", "SnapshotFacts", "last_word"]
