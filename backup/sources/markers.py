"""Files that say that the directory which they lie in is not to be saved."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from backup.sources.rules import CACHE_SIGNATURE, CACHE_TAG, Cause, Excluder, Rule

# O_NONBLOCK keeps a FIFO of that name from stopping the walk for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def marked(
    excluder: Excluder, directory: int, names: Sequence[bytes]
) -> tuple[Rule, list[bytes]] | None:
    """Return why the contents of a directory are left out, and the markers, which stay.

    Args:
        excluder: Which markers count.
        directory: Its descriptor.
        names: What is in it, sorted.

    Returns:
        ``None`` where nothing marks it. A marker that is a directory counts, and does not stay.
    """
    found = excluder.markers(names)
    if found:
        detail = found[0].decode("utf-8", "backslashreplace")
        kept = [name for name in found if not _is_directory(name, directory)]
        return Rule(Cause.MARKER, detail), kept
    if excluder.may_be_cache(names) and _is_cache(directory):
        return Rule(Cause.CACHE), [CACHE_TAG]
    return None


def _is_directory(name: bytes, directory: int) -> bool:
    with suppress(OSError):
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    return False


def _is_cache(directory: int) -> bool:
    """Return whether the tag is a true one; one that cannot be read makes nothing be left out."""
    try:
        tag = os.open(CACHE_TAG, _READ, dir_fd=directory)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(tag).st_mode):
            return False
        return os.pread(tag, len(CACHE_SIGNATURE), 0) == CACHE_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(tag)
