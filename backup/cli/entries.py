"""Entries as JSON."""

from __future__ import annotations

from backup.model import Entry, path_text


def shown_path(entry: Entry, top: str = "/") -> str:
    """Return the path of an entry for people; ``top`` is what it begins with."""
    return top + path_text(entry.path)[1:]


def entry_json(entry: Entry, top: str = "/") -> dict[str, object]:
    """Return what ``ls --json`` tells of an entry; see ``shown_path``."""
    return {
        "path": shown_path(entry, top),
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
