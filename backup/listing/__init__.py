"""Finding the snapshots of a store."""

from __future__ import annotations

from backup.listing.finding import Newest, choose_snapshot, find_newest, find_snapshot
from backup.listing.stored import (
    JobFiles,
    StoredSnapshot,
    Trashed,
    describe_files,
    describe_trash,
    list_job_files,
    list_jobs,
    list_snapshots,
    list_trash,
)
from backup.retention import Placed, by_age

__all__ = [
    "JobFiles",
    "Newest",
    "Placed",
    "StoredSnapshot",
    "Trashed",
    "by_age",
    "choose_snapshot",
    "describe_files",
    "describe_trash",
    "find_newest",
    "find_snapshot",
    "list_job_files",
    "list_jobs",
    "list_snapshots",
    "list_trash",
]
