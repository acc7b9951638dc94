"""Snapshots that mean harm: authentic, signed, and made by somebody who wants out of the target."""

from __future__ import annotations

import base64
import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tests.lister import listing
from tests.vectors.forge import KEY, Forge, named

OUTSIDE = "{outside}"
"""Stands for the path of the canaries in what a case says."""

MOMENT = 1_600_000_000_000_000_000

KINDS = ("file", "dir", "link", "fifo", "char", "twin")
BAD_PATHS = {
    "an absolute path": "/etc/x",
    "an absolute path to the canaries": OUTSIDE + "/secret",
    "two slashes in front": "//x",
    "a slash alone": "/",
    "dot-dot": "..",
    "dot-dot in front": "../outside/x",
    "dot-dot within": "a/../../outside/x",
    "dot-dot at the end": "a/..",
    "many dot-dots": "../" * 40 + "etc/x",
    "a dot": ".",
    "a dot within": "a/./x",
    "an empty name within": "a//x",
    "a slash at the end": "a/",
    "NUL": "a\0b",
    "dot-dot and NUL": "..\0",
    "NUL alone": "\0",
    "no name at all": "",
    "a name of 256 bytes": "n" * 256,
    "a directory of 256 bytes": "a/" + "n" * 256 + "/x",
}
LINKS = {
    "the canaries": OUTSIDE,
    "the canaries, relative": "../outside",
    "what is above": "..",
    "the root": "/",
    "itself": ".",
    "a path that climbs": "b/../../outside",
    "a process's root": "/proc/self/root" + OUTSIDE,
}
ODD_FIELDS = {
    "setuid": {"mode": 0o4777},
    "setgid": {"mode": 0o2777},
    "every bit of a mode": {"mode": 0o7777},
    "an owner that means nobody": {"uid": 2**32 - 1, "gid": 2**32 - 1, "mode": 0o6777},
    "the largest owner": {"uid": 2**32 - 2, "gid": 2**32 - 2},
    "a time before all times": {"mtime": -(2**63)},
    "a time after all times": {"mtime": 2**63 - 1},
    "a time of minus one": {"mtime": -1},
    "capabilities": {"xattrs": {"security.capability": b"\1\0\0\2" + b"\xff" * 16}},
    "capabilities that are none": {"xattrs": {"security.capability": b"x"}},
    "an ACL": {"xattrs": {"system.posix_acl_access": b"\2\0\0\0" + b"\xff" * 24}},
    "a trusted attribute": {"xattrs": {"trusted.overlay.opaque": b"y"}},
    "an attribute of no namespace": {"xattrs": {"nonsense": b"x"}},
    "an attribute with NUL": {"xattrs": {"user.a\0b": b"x"}},
    "an attribute of no name": {"xattrs": {"": b"x"}},
    "an attribute with a long name": {"xattrs": {"user." + "n" * 300: b"x"}},
    "an attribute of 100,000 bytes": {"xattrs": {"user.large": b"x" * 100_000}},
    "an attribute of SELinux": {"xattrs": {"security.selinux": b"system_u:object_r:shadow_t:s0"}},
    "many names": {"links": 2**63, "ino": 5},
    "an inode beyond 64 bits": {"ino": 2**64, "links": 2},
    "an error and a content": {"error": "it changed\x1b[2J while it was read"},
    "a racy one": {"racy": True},
}
ODD_FILES = {
    "a size that is too large": {"size": 2**62},
    "a size that is too small": {"size": 1},
    "a size of nothing": {"size": 0},
    "a negative size": {"size": -1},
    "a size beyond 64 bits": {"size": 2**64},
    "an error and a size that is too large": {"size": 2**62, "error": "it shrank"},
    "an error and no content": {"error": "Permission denied", "sha256": None, "ext": [], "size": 9},
    "another digest": {"sha256": "0" * 64},
    "no digest": {"sha256": None},
    "an extent before its content": {"ext": [[0, 0, 0, 7]]},
    "an extent beyond its frame": {"ext": [[0, 0, 2**31, 7]]},
    "an extent in no frame": {"ext": [[0, 2**32 - 1, 0, 7]]},
    "an extent in no snapshot": {"ext": [[9, 0, 0, 7]]},
    "a chunk list that is not there": {"ext": [], "chunks": [[0, 77, "0" * 64, 1]]},
    "a map of holes that overlap": {"data": [[0, 7], [3, 7]]},
    "a map of holes beyond the end": {"data": [[2**62, 7]]},
    "a device of a file": {"dev": [1, 3]},
}
DEVICES = {"memory": [1, 1], "the first disk": [8, 0], "one beyond all": [2**32 - 1, 2**32 - 1]}


def canaries(directory: Path) -> dict[str, object]:
    """Return everything that can be seen of a tree, its contents by an independent lister.

    Times of change tell of any write to an inode, numbers of links of another name elsewhere.
    """
    states = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        status = path.lstat()
        states[str(path)] = (status.st_ino, status.st_nlink, status.st_ctime_ns)
    return {"rows": listing(directory), "states": states}


def make_canaries(tmp_path: Path) -> Path:
    """Make a tree whose files have the size and the times of some that are restored."""
    directory = tmp_path / "outside"
    (directory / "a" / "b").mkdir(parents=True)
    (directory / "empty").mkdir()
    for path in ("secret", "a/secret", "a/b/secret", "x", "n"):
        (directory / path).write_bytes(b"canary")
        (directory / path).chmod(0o640)
        os.utime(directory / path, ns=(0, MOMENT))
    (directory / "nothing").touch()
    os.utime(directory / "nothing", ns=(0, MOMENT))
    os.utime(directory, ns=(0, 1))
    return directory


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[list[int]]:
    """Exchange two names as fast as a thread can; count how often."""
    swaps, over = [0], threading.Event()

    def swap() -> None:
        exchange = ctypes.CDLL(None).renameat2
        while not over.is_set():
            exchange(-100, os.fsencode(one), -100, os.fsencode(other), 2)
            swaps[0] += 1

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        yield swaps
    finally:
        over.set()
        attacker.join()


class Case(NamedTuple):
    """One snapshot that means harm, and how it is restored."""

    sentence: str
    entries: tuple[dict[str, object], ...]
    options: Mapping[str, object] = MappingProxyType({})
    sources: tuple[str, ...] = ()
    is_sorted: bool = True

    def write(self, path: Path, outside: Path) -> None:
        """Make the snapshot, with the place of the canaries filled in."""
        forge = Forge("hostile", cap=8 * 1024 * 1024)
        entries = [_filled(entry, outside) for entry in self.entries]
        if self.is_sorted:
            entries.sort(key=lambda entry: entry["path"].encode().replace(b"/", b"\0"))
        for entry in entries:
            _add(forge, dict(entry))
        forge.end_archive()
        forge.add_whole_index()
        if self.sources:
            forge.end_fields["sources"] = [
                {"p": one.replace(OUTSIDE, str(outside)).lstrip("/")} for one in self.sources
            ]
        path.write_bytes(forge.data())


def secret() -> str:
    """Return the text of the key that opens the snapshots."""
    return base64.urlsafe_b64encode(KEY).decode()


def entry(kind: str, path: str, **fields: object) -> dict[str, object]:
    """Return an entry; ``twin`` is another name of the file ``own``."""
    defaults: dict[str, dict[str, object]] = {
        "file": {"content": b"written"},
        "twin": {"content": b"written", "ino": 4711, "links": 2},
        "link": {"to": OUTSIDE},
        "char": {"dev": [1, 3]},
        "block": {"dev": [8, 0]},
    }
    real = "file" if kind == "twin" else kind
    return {"t": real, "path": path, "mode": 0o777} | defaults.get(kind, {}) | fields


def _filled(fields: dict[str, object], outside: Path) -> dict[str, object]:
    return {
        key: value.replace(OUTSIDE, str(outside)) if isinstance(value, str) else value
        for key, value in fields.items()
    }


def _add(forge: Forge, fields: dict[str, object]) -> None:
    path, content = str(fields.pop("path")), fields.pop("content", None)
    attributes = fields.pop("xattrs", None)
    if isinstance(attributes, dict):
        fields["xattrs"] = [[_b64(k.encode()), _b64(v)] for k, v in attributes.items()]
    if not isinstance(content, bytes):
        forge.entries.append(named(path) | fields)
        return
    member = forge.member("x", content)
    number = forge.add(1, member.getvalue())
    start = member.tell() - -(-len(content) // 512) * 512
    made = forge.add_entry(path, content, [[0, number, start, len(content)]])
    made.update(fields)
    for key in [key for key, value in made.items() if value is None]:
        del made[key]


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def cases() -> Iterator[Case]:
    """Yield all of them."""
    yield from _bad_paths()
    yield from _links()
    yield from _hard_links()
    yield from _orders()
    yield from _oddities()
    yield from _stripped()
    yield from _in_place()


def _bad_paths() -> Iterator[Case]:
    for (words, path), kind in product(BAD_PATHS.items(), KINDS):
        first = (entry("twin", "a-own"),) if kind == "twin" else ()
        if not (words == "no name at all" and kind == "dir"):  # which is the target itself
            yield Case(f"{words}, as a {kind}", (*first, entry(kind, path)), is_sorted=False)


def _links() -> Iterator[Case]:
    for (words, to), kind in product(LINKS.items(), KINDS):
        own = entry("twin", "a-own")
        link, below = entry("link", "l", to=to), entry(kind, "l/secret")
        yield Case(f"a {kind} below a link to {words}", (own, link, below))
        deep = entry(kind, "l/a/b/secret")
        yield Case(f"a {kind} far below a link to {words}", (own, link, deep))
    for words, to in LINKS.items():
        directory = entry("dir", "d"), entry("dir", "d/e"), entry("file", "d/e/secret")
        yield Case(f"a link to {words} in a directory", (*directory, entry("link", "d/f", to=to)))
        chain = entry("link", "a", to=to), entry("link", "b", to="a"), entry("file", "b/secret")
        yield Case(f"a file below a link to a link to {words}", chain)
        stripped = entry("link", "x/l", to=to), entry("file", "y/l/secret")
        yield Case(f"a link to {words} that --strip puts above a file", stripped, {"strip": 1})
    for target in ("a\0b", ""):
        yield Case(f"a link to {target!r}", (entry("link", "l", to=target),))
    yield Case("a link to a very long name", (entry("link", "l", to="x" * 100_000),))


def _hard_links() -> Iterator[Case]:
    second = entry("twin", "z-second")
    for kind in ("link", "dir", "fifo", "char", "block"):
        first = entry(kind, "a-first", ino=4711, links=2)
        yield Case(f"a hard link to a {kind}", (first, second))
    missing = entry("twin", "a-first", error="Permission denied", content=None, size=0)
    yield Case("a hard link to a file that was not saved", (missing, second))
    damaged = entry("twin", "a-first", sha256="0" * 64)
    yield Case("a hard link to a file that is damaged", (damaged, second))
    other = entry("twin", "z-second", content=b"other")
    yield Case("two names of one file with two contents", (entry("twin", "a-first"), other))
    below = entry("link", "l"), entry("twin", "l/secret"), second
    yield Case("a hard link to a file below a link", below)
    names = tuple(entry("twin", f"n{number:03}") for number in range(300))
    yield Case("a file of 300 names", names)


def _orders() -> Iterator[Case]:
    for one, two in product(KINDS, KINDS):
        twice = entry("twin", "a-own"), entry(one, "x"), entry(two, "x")
        yield Case(f"a {one}, then a {two} of the same name", twice, is_sorted=False)
    for kind in KINDS:
        below = entry(kind, "x/y"), entry("link", "x")
        yield Case(f"a {kind}, then a link above it", below, is_sorted=False)
        above = entry("fifo", "x"), entry(kind, "x/y")
        yield Case(f"a {kind} below a FIFO", above)


def _oddities() -> Iterator[Case]:
    for (words, fields), kind in product(ODD_FIELDS.items(), ("file", "dir", "link", "fifo")):
        yield Case(f"a {kind} with {words}", (entry(kind, "x", **fields),))
    for words, fields in ODD_FILES.items():
        yield Case(f"a file with {words}", (entry("file", "x", **fields),))
    for (words, device), kind in product(DEVICES.items(), ("char", "block")):
        yield Case(f"a {kind} device that is {words}", (entry(kind, "x", dev=device),))
    yield Case("a device of no number", (entry("char", "x", dev=None),))
    yield Case("a device of one number", (entry("char", "x", dev=[1]),))
    yield Case("an unknown type", (entry("socket", "x"),))
    yield Case("a content of a directory", (entry("dir", "x", sha256="0" * 64, size=9),))
    partial = tuple(entry("file", f".auto-backup-{n:016x}.partial") for n in range(20))
    yield Case("names like those of unfinished files", partial)
    for depth in (4_000, 4_096, 100_000):
        yield Case(f"a path of {depth:,} directories", (entry("file", "d/" * depth + "x"),))
    yield Case("a path of 100 long names", (entry("file", ("n" * 255 + "/") * 100 + "x"),))
    yield Case("a name with escape sequences", (entry("file", "\x1b]0;x\x07\x1b[2J\n\r"),))
    yield Case("a name that looks like an option", (entry("file", "--delete"),))
    yield Case("the target itself as a directory", (entry("dir", "", mode=0o4777, uid=12),))


def _stripped() -> Iterator[Case]:
    strip = {"strip": 1}
    for one, two in product(KINDS, KINDS):
        both = entry("twin", "own/z"), entry(one, "x/n"), entry(two, "y/n")
        yield Case(f"--strip gives a {one} and a {two} one name", both, strip)
    for kind in KINDS:
        yield Case(f"--strip leaves nothing of the name of a {kind}", (entry(kind, "x"),), strip)
        yield Case(f"--strip leaves less than nothing of a {kind}", (entry(kind, "x"),),
                   {"strip": 10**9})  # fmt: skip
    merged = entry("file", "x/d/f"), entry("link", "y/d")
    yield Case("--strip puts a link over a directory that nobody named", merged, strip)
    yield Case("--strip and --delete, from two directories", merged, strip | {"delete": True})


def _in_place() -> Iterator[Case]:
    place = {"in_place": True, "overwrite": "always"}
    source = "{outside}-not/home"
    for kind, delete in product(KINDS, (False, True)):
        options = place | {"delete": delete}
        words = " with --delete" if delete else ""
        lies = entry(kind, OUTSIDE + "/secret")
        yield Case(f"in place{words}, a {kind} outside of the sources", (lies,), options, (source,))
        over = entry(kind, OUTSIDE)
        yield Case(f"in place{words}, a {kind} over the canaries", (over,), options, (source,))
        beside = entry("dir", source), entry(kind, source + "-not/x")
        yield Case(f"in place{words}, a {kind} beside the source", beside, options, (source,))
        link = entry("link", source), entry(kind, source + "/secret")
        yield Case(f"in place{words}, a {kind} below a link", link, options, (source,))
