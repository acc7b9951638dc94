"""Encrypted, signed, checked snapshots of directories, which open with or without this tool.

>>> from backup import BackupManager, RestoreManager
>>> path = BackupManager("/home/ann", "/mnt/backup", key).create_snapshot()   # doctest: +SKIP
>>> RestoreManager("/mnt/backup", key).restore("latest", "/tmp/restored")      # doctest: +SKIP

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.errors import (
        BackupError,
        ConfigError,
        IntegrityError,
        LockedError,
        RestoreError,
        SecretKeyError,
        SnapshotNotFoundError,
        SourceError,
        StorageError,
    )
    from backup.manager import BackupManager, SnapshotReport
    from backup.model import ExcludeRules
    from backup.restore import RestoreManager, RestorePlan, RestoreReport
    from backup.scheduler import Scheduler
    from backup.storage import BaseStorage, open_storage
    from backup.verification import Proof

_HOMES = {
    "BackupError": "backup.errors",
    "BackupManager": "backup.manager",
    "BaseStorage": "backup.storage",
    "ConfigError": "backup.errors",
    "ExcludeRules": "backup.model",
    "IntegrityError": "backup.errors",
    "LockedError": "backup.errors",
    "Proof": "backup.verification",
    "RestoreError": "backup.errors",
    "RestoreManager": "backup.restore",
    "RestorePlan": "backup.restore",
    "RestoreReport": "backup.restore",
    "Scheduler": "backup.scheduler",
    "SecretKeyError": "backup.errors",
    "SnapshotNotFoundError": "backup.errors",
    "SnapshotReport": "backup.manager",
    "SourceError": "backup.errors",
    "StorageError": "backup.errors",
    "open_storage": "backup.storage",
}

__all__ = [
    "BackupError",
    "BackupManager",
    "BaseStorage",
    "ConfigError",
    "ExcludeRules",
    "IntegrityError",
    "LockedError",
    "Proof",
    "RestoreError",
    "RestoreManager",
    "RestorePlan",
    "RestoreReport",
    "Scheduler",
    "SecretKeyError",
    "SnapshotNotFoundError",
    "SnapshotReport",
    "SourceError",
    "StorageError",
    "open_storage",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'backup' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
