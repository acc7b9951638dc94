"""Getting files back out of snapshots, into places that were there before."""

from __future__ import annotations

from backup.restore.manager import RestoreManager
from backup.restore.options import Overwrite
from backup.restore.plan import RestorePlan
from backup.restore.report import RestoreReport

__all__ = ["Overwrite", "RestoreManager", "RestorePlan", "RestoreReport"]
