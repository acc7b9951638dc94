"""Whether there is somebody to talk to. Nothing heavy is imported here."""

from __future__ import annotations

import sys


def is_conversation() -> bool:
    """Tell whether a person reads all that is written, and types what is read."""
    return all(file is not None and file.isatty() for file in (sys.stdin, sys.stdout, sys.stderr))
