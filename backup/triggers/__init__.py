"""When a job is due: pure functions of a trigger, the last run and the time."""

from __future__ import annotations

from backup.triggers.due import delayed, due, next_run
from backup.triggers.retry import NO_RETRY, Retry, is_retry_due, retry_at
from backup.triggers.spans import parse_span, span_text
from backup.triggers.time_zones import zone_of
from backup.triggers.trigger import Trigger, at, cron, describe, every, make_trigger, on

__all__ = [
    "NO_RETRY",
    "Retry",
    "Trigger",
    "at",
    "cron",
    "delayed",
    "describe",
    "due",
    "every",
    "is_retry_due",
    "make_trigger",
    "next_run",
    "on",
    "parse_span",
    "retry_at",
    "span_text",
    "zone_of",
]
