"""Whether something is mounted at a place, as the kernel tells it."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")
_UNTRUE = frozenset({"autofs"})  # what only mounts something when somebody looks


def is_mounted(path: str, mounts: Path) -> bool:
    """Tell whether something is mounted there, as the kernel's table says.

    The table is asked first: to look at a mount whose server is dead may take for ever. Where only
    an automounter waits it is woken by a look.
    """
    if (kinds := _kinds_of_mounts(path, mounts)) - _UNTRUE:
        return True
    if kinds:
        return _wakes(path) and bool(_kinds_of_mounts(path, mounts) - _UNTRUE)
    real = os.path.realpath(path)
    return real != path and bool(_kinds_of_mounts(real, mounts) - _UNTRUE)


def _wakes(path: str) -> bool:
    try:
        os.scandir(path).close()
    except OSError:
        return False
    return True


def _kinds_of_mounts(path: str, mounts: Path) -> set[str]:
    """Return the types of what is mounted there.

    A directory that is mounted onto itself does not count: systemd does that with what a service
    may write to, and it is no disk that has come.
    """
    rows = {}
    for line in _lines(mounts):
        head, _, tail = line.partition(b" - ")
        fields = [_unescaped(one) for one in head.split()]
        if len(fields) > 4:  # noqa: PLR2004 - proc(5)
            rows[fields[0]] = fields, tail.split(b" ", 1)[0].decode(errors="replace")
    wanted = os.fsencode(path)
    return {
        kind
        for fields, kind in rows.values()
        if fields[4] == wanted
        and (fields[1] not in rows or not _is_onto_itself(fields, rows[fields[1]][0]))
    }


def _is_onto_itself(mount: list[bytes], around: list[bytes]) -> bool:
    """Tell whether a mount shows the very directory that it hides."""
    _, _, device, top, place = mount[:5]
    below = os.path.relpath(place, around[4])
    return device == around[2] and top == os.path.normpath(os.path.join(around[3], below))  # noqa: PTH118 - bytes


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _unescaped(name: bytes) -> bytes:
    text = name.decode("latin-1")
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text).encode("latin-1")
