"""Errors of the operating system, told as ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import StorageError

_MAKE_ROOM = "free some space there, or choose another destination"
_CHECK_RIGHTS = "check who owns that directory, and its permissions"

_HINTS = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EACCES: _CHECK_RIGHTS,
    errno.EPERM: _CHECK_RIGHTS,
    errno.EROFS: "mount it writable, or choose another destination",
    errno.EFBIG: "check `ulimit -f`; FAT file systems hold no file of 4 GiB or more",
    errno.ELOOP: "a symbolic link stands where a file belongs; remove the link",
    errno.ENOTDIR: "a directory is needed where a file or a symbolic link stands",
    errno.EIO: "the medium may be failing; look into the system log",
}


@contextmanager
def as_storage_errors(task: str) -> Iterator[None]:
    """Turn every OSError of the block into a StorageError.

    Args:
        task: What did not succeed, such as ``cannot store 'a.enc' in /mnt/x``.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StorageError(f"{task}: {reason}", hint=_HINTS.get(error.errno or 0)) from error
