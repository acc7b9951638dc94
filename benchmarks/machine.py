"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path


def facts(work: Path) -> dict[str, object]:
    """Return what matters of this machine, and of the file system that ``work`` lies on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _first("/proc/cpuinfo", r"model name\s*: (.*)") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": _first("/etc/os-release", r'PRETTY_NAME="?([^"\n]*)') or platform.system(),
        "python": platform.python_version(),
        "file system": file_system(work),
    }


def file_system(path: Path) -> str:
    """Return the type of the file system that a path lies on: ``ext4``, or ``unknown``."""
    wanted = path.resolve()
    found = ("", "unknown")
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4].encode().decode("unicode_escape")
        if wanted.is_relative_to(point) and len(point) >= len(found[0]):
            found = point, rest.split()[0]
    return found[1]


def _first(path: str, pattern: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(pattern, text)
    return match[1].strip() if match else ""
