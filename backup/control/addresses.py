"""Sockets by their paths, however long these are, and who is at the other end."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# Linux's number on all architectures but PA-RISC and SPARC; Python has no name for it.
_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("3i")
_MOST = 1024


class Peer(NamedTuple):
    """Whose process is at the other end of a socket."""

    uid: int
    groups: frozenset[int]


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Hold a path of ``path``'s that is short enough for the address of a socket (unix(7)).

    Raises:
        OSError: Its directory cannot be opened.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end, as the kernel noted it when they connected, or listened.

    Raises:
        OSError: The kernel does not tell.
    """
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(told)
    return Peer(uid, frozenset({gid}) | _further_groups(connection, uid, gid))


def _further_groups(connection: socket.socket, uid: int, gid: int) -> frozenset[int]:
    try:
        told = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST)
    except OSError:  # a kernel before 4.13, or more than 256 groups
        return _listed_groups(uid, gid)
    return frozenset(one for (one,) in struct.iter_unpack("I", told))


def _listed_groups(uid: int, gid: int) -> frozenset[int]:
    """Return the groups of a user by the system's lists."""
    try:
        return frozenset(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except (KeyError, OSError):
        return frozenset()


def may_ask(peer: Peer, own: int, group: int | None) -> bool:
    """Tell whether ``peer`` may ask a daemon of the user ``own`` for something.

    Args:
        peer: Who asks.
        own: The daemon's user.
        group: The group whose members may, ``None`` for none.
    """
    return peer.uid in {0, own} or (group is not None and group in peer.groups)


def may_answer(peer: Peer, trusted: Collection[int]) -> bool:
    """Tell whether what answers may be believed: root, or one of the users ``trusted``."""
    return peer.uid == 0 or peer.uid in trusted
