"""Small SQLite files of what a machine knows: private, checked, begun anew when damaged."""

from __future__ import annotations

from backup.database.database import WAIT, Database, Work, tell_nobody
from backup.database.file import Schema, Steps
from backup.database.rows import DamagedRowError, from_row, from_text, to_row, to_text

__all__ = [
    "WAIT",
    "DamagedRowError",
    "Database",
    "Schema",
    "Steps",
    "Work",
    "from_row",
    "from_text",
    "tell_nobody",
    "to_row",
    "to_text",
]
