"""Working as root in a directory of somebody else: as its owner, whose it then is.

A machine's state belongs to the user that its daemon runs as, and root works in it by hand. What
root makes there has to be the owner's, or the daemon could not go on. And the owner, who may have
been taken over, must not lead root anywhere: by a link, by a pipe, by a database's journal that
names another file to delete. So root works there as the owner. Linux keeps the user by whose rights
files are reached for each thread (``setfsuid``): no other thread notices.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ctypes import CDLL

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class _Owner(NamedTuple):
    user: int
    group: int


@contextmanager
def as_owner(directory: Path, *names: str) -> Iterator[bool]:
    """Work in ``directory`` as its owner, where this process is root's and the directory is not.

    An owner who cannot get there does not use it: root then works as itself, and gives. Nothing
    may be imported in the block, as the owner may have no right to read modules.

    Args:
        directory: The directory; where there is none, the nearest one above it counts.
        names: What is to be used in it, such as ``a/b``: what root has left there becomes the
            owner's. Only directories, and files that have no other name.

    Yields:
        Whether this thread works as somebody else.
    """
    found = _somebody(directory) if os.geteuid() == 0 else None
    if found is None:
        yield False
        return
    place, owner = found
    _hand_over(place, directory, names, owner)
    with _rights_of(owner, place) as is_other:
        yield is_other
    if not is_other:
        _hand_over(place, directory, names, owner)


def _somebody(directory: Path) -> tuple[Path, _Owner] | None:
    """Return the directory that counts and its owner, ``None`` where that is root."""
    for place in (directory, *directory.parents):
        with suppress(OSError):
            status = place.stat()
            owner = _Owner(status.st_uid, status.st_gid)
            return (place, owner) if owner.user != 0 else None
    return None


@contextmanager
def _rights_of(owner: _Owner, place: Path) -> Iterator[bool]:
    """Have the rights of ``owner`` to files; tell whether that is so, and leads to ``place``."""
    library = _library()
    user, group = library.setfsuid(-1), library.setfsgid(-1)  # which changes nothing, and tells
    try:
        library.setfsgid(owner.group)
        library.setfsuid(owner.user)
        is_owner = library.setfsuid(-1) == owner.user and _leads_to(place)
        if not is_owner:
            _set_back(library, user, group)
        yield is_owner
    finally:
        _set_back(library, user, group)


def _set_back(library: CDLL, user: int, group: int) -> None:
    library.setfsuid(user)
    library.setfsgid(group)


def _library() -> CDLL:
    from ctypes import CDLL, c_int, c_uint  # noqa: PLC0415 - slow to import, and seldom needed

    library = CDLL(None)
    for call in (library.setfsuid, library.setfsgid):
        call.argtypes, call.restype = (c_uint,), c_int
    return library


def _leads_to(place: Path) -> bool:
    try:
        os.stat(os.path.join(place, os.curdir))  # noqa: PTH116, PTH118 - pathlib drops the dot
    except OSError:
        return False
    return True


def _hand_over(place: Path, directory: Path, names: tuple[str, ...], owner: _Owner) -> None:
    """Give what root has left in ``directory`` under ``names`` to the owner, as far as possible."""
    if place != directory:
        return
    for name in names:
        with suppress(OSError):
            top = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _hand_over_below(top, PurePath(name).parts, owner)
            finally:
                os.close(top)


def _hand_over_below(directory: int, parts: tuple[str, ...], owner: _Owner) -> None:
    # Looking with O_PATH waits for no pipe, and closing takes no lock of a database's along.
    node = os.open(parts[0], _LOOK, dir_fd=directory)
    try:
        if _is_left_by_root(os.fstat(node)):
            os.chown(f"/proc/self/fd/{node}", *owner)  # the file that was looked at, no other one
        if len(parts) > 1:
            _hand_over_below(node, parts[1:], owner)
    finally:
        os.close(node)


def _is_left_by_root(status: os.stat_result) -> bool:
    if status.st_uid != 0:
        return False
    is_alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return is_alone or stat.S_ISDIR(status.st_mode)


def give_to_owner(node: int, directory: int) -> None:
    """Let what root has just made in somebody's ``directory`` be that person's.

    Args:
        node: A descriptor of it: of a file that did not exist before, or of a directory, which
            may have been exchanged since for another one, and is given only if it is empty.
        directory: A descriptor of the directory.
    """
    owner, made = os.fstat(directory), os.fstat(node)
    if os.geteuid() != 0 or owner.st_uid == 0 or made.st_uid != 0:
        return
    if not (stat.S_ISDIR(made.st_mode) and os.listdir(node)):
        os.fchown(node, owner.st_uid, owner.st_gid)
