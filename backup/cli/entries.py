"""Entries as JSON."""

from __future__ import annotations

from backup.model import Entry, path_text


def entry_json(entry: Entry) -> dict[str, object]:
    """Return what ``ls --json`` tells of an entry."""
    return {
        "path": path_text(entry.path),
        "type": str(entry.type),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": entry.user,
        "group": entry.group,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "sha256": entry.digest.hex() if entry.digest and not entry.chunk_lists else None,
        "target": entry.target.decode("utf-8", "backslashreplace") if entry.target else None,
        "error": entry.error or None,
    }
