"""Getting files back out of snapshots, into places that were there before."""

from __future__ import annotations

from backup.restore.manager import RestoreManager, RestoreReport
from backup.restore.plan import RestorePlan

__all__ = ["RestoreManager", "RestorePlan", "RestoreReport"]
