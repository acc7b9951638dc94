"""How a machine's jobs are: whether each is well, and why not."""

from __future__ import annotations

from backup.health.gathering import Watched, examine
from backup.health.judging import lasting
from backup.health.records import Health, JobHealth, StoreHealth

__all__ = ["Health", "JobHealth", "StoreHealth", "Watched", "examine", "lasting"]
