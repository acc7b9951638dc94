"""Extended attributes, POSIX ACLs among them: reading those that a snapshot keeps."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from ctypes import CDLL, c_long, c_size_t
from functools import cache

Attributes = tuple[tuple[bytes, bytes], ...]

_PREFIXES = (b"user.", b"trusted.")
_NAMES = frozenset(
    {
        b"security.capability",
        b"security.selinux",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
    }
)
# What says that there is nothing for this user to read, or that it has gone since it was listed.
_NOTHING = frozenset(
    {errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOENT, errno.ESTALE}
)

# Since Linux 6.13; the same number on every architecture that Python supports on Linux.
_LISTXATTRAT = 465
_NO_FOLLOW = 0x100  # AT_SYMLINK_NOFOLLOW


def read_attributes(node: int | bytes) -> Attributes:
    """Return the extended attributes of ``node``, sorted by their names.

    These are ``user.*``, capabilities, SELinux labels, ACLs and, as the system shows them to root
    alone, ``trusted.*``. Others belong to the file system or to the kernel. An attribute that this
    user may not read, or that vanishes meanwhile, is left out.

    Args:
        node: A descriptor, or a path, of which the last component is not followed.

    Raises:
        OSError: They are there, and cannot be read.
    """
    try:
        listed = _listed(node)
    except OSError as error:
        if error.errno in _NOTHING:
            return ()
        raise
    if not listed:
        return ()
    found = []
    for name in sorted(map(os.fsencode, listed)):
        if name.startswith(_PREFIXES) or name in _NAMES:
            try:
                found.append((name, _value(node, name)))
            except OSError as error:
                if error.errno not in _NOTHING:
                    raise
    return tuple(found)


def attributes_at(name: bytes, directory: int) -> Attributes:
    """Return the extended attributes of ``name`` in the open ``directory``.

    See ``read_attributes`` for which. Most kernels have no system call for it: the way leads
    through the directory's entry in ``/proc``, at about three microseconds, and never through a
    symbolic link. Newer ones are asked first whether there is anything, at one microsecond.

    Raises:
        OSError: They are there, and cannot be read.
    """
    if _quick_look()(name, directory):
        return ()
    return read_attributes(b"/proc/self/fd/%d/%b" % (directory, name))


@cache
def _quick_look() -> Callable[[bytes, int], bool]:
    """Return what tells that a name in an open directory has no attributes whatever.

    It may say no where it is not sure, and does so wherever the system call is not to be had.
    """
    call, number, nothing = CDLL(None).syscall, c_long(_LISTXATTRAT), c_size_t(0)

    def has_none(name: bytes, directory: int) -> bool:
        found: int = call(number, directory, name, _NO_FOLLOW, None, nothing)
        return found == 0

    known = call(number, -1, b"/", _NO_FOLLOW, None, nothing) >= 0
    return has_none if known else lambda name, directory: False  # noqa: ARG005


def _listed(node: int | bytes) -> list[str]:
    if isinstance(node, int):
        return os.listxattr(node)
    return os.listxattr(node, follow_symlinks=False)


def _value(node: int | bytes, name: bytes) -> bytes:
    if isinstance(node, int):
        return os.getxattr(node, name)
    return os.getxattr(node, name, follow_symlinks=False)
