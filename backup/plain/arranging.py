"""What the members of a plain archive come to: one entry for each name, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from backup.errors import LimitError
from backup.model import Entry, EntryType, path_key, path_text

GIB = 2**30
_MEMBER_COST = 700
"""Bytes of memory for a member, beside its names and attributes."""

_WORDS = {EntryType.SYMLINK: "a symbolic link"}


class Limits(NamedTuple):
    """How much an archive may hold; ``agreed`` says that somebody wants it whatever it holds.

    Contents of more than ``free`` bytes may not be more than ``ratio`` times as large as the
    archive, nor more than ``total`` bytes. ``members`` and ``memory``, what their names and
    attributes take, count in any case.
    """

    members: int = 2_000_000
    memory: int = GIB
    free: int = GIB
    ratio: int = 250
    total: int = 4096 * GIB
    agreed: bool = False

    def check_size(self, contents: int, archive: int, name: str) -> None:
        """Refuse contents that are too large for an archive of so many bytes.

        Raises:
            LimitError: They are.
        """
        if self.agreed or contents <= self.free:
            return
        hint = "it may have been made to fill disks; where you trust it, add --yes"
        if contents > self.total:
            raise LimitError(
                f"{name} holds more than {self.total // GIB:,} GiB of contents", hint=hint
            )
        if contents > self.ratio * max(archive, 1):
            raise LimitError(
                f"{name} holds more than {self.ratio} times its own {archive:,} bytes", hint=hint
            )


class Member(msgspec.Struct, frozen=True, gc=False):
    """One member, as it comes: ``link`` is the path of an earlier one that it is a hard link to.

    ``unfit`` says why it cannot be restored.
    """

    entry: Entry
    link: bytes | None = None
    unfit: str = ""


class Arranged(NamedTuple):
    """The entries in the order of ``path_key``; which of them cannot be restored, and why."""

    entries: list[Entry]
    unfit: dict[bytes, str]
    notes: list[str]


class Names:
    """Makes paths of the names of members."""

    def __init__(self) -> None:
        self.absolute = 0

    def path(self, name: bytes) -> bytes:
        """Return ``name`` as an entry has it: relative, without ``.`` and empty components.

        What leads out, ``..``, stays, so that the planner sees and refuses it.
        """
        self.absolute += name.startswith(b"/")
        return relative(name)

    def notes(self) -> Iterator[str]:
        """Yield what people should know."""
        if self.absolute:
            are = "name in it is" if self.absolute == 1 else "names in it are"
            yield f"{self.absolute:,} {are} absolute: below the target, without the first /"


def relative(name: bytes) -> bytes:
    """Return ``name`` without ``.`` and empty components, and so without a leading ``/``."""
    if b"//" not in name and b"./" not in name and not name.endswith((b"/", b"/.")):
        return b"" if name == b"." else name.lstrip(b"/")
    return b"/".join(part for part in name.split(b"/") if part not in {b"", b"."})


class Budget:
    """Counts what members take of memory."""

    def __init__(self, limits: Limits, name: str) -> None:
        self._limits = limits
        self._name = name
        self._members = self._memory = 0

    def add(self, entry: Entry) -> None:
        """Count one member.

        Raises:
            LimitError: There are too many, or they have too much beside their contents.
        """
        self._members += 1
        self._memory += _MEMBER_COST + len(entry.path) + len(entry.target)
        self._memory += sum(len(name) + len(value) for name, value in entry.xattrs)
        self._memory += 100 * len(entry.data or ())
        if self._members > self._limits.members:
            raise LimitError(f"{self._name} has more than {self._limits.members:,} members")
        if self._memory > self._limits.memory:
            raise LimitError(
                f"the names and attributes in {self._name} take more than"
                f" {self._limits.memory // GIB} GiB"
            )


def arrange(members: Iterable[Member], names: Names) -> Arranged:
    """Return the entries of ``members``, which come in the order in which they stand.

    Of several members of one name the last one counts. A hard link is another name of what had the
    name that it tells, when it came.
    """
    latest: dict[bytes, Entry] = {}
    unfit: dict[bytes, str] = {}
    again = 0
    for number, member in enumerate(members, 1):
        entry, reason = member.entry, member.unfit
        if member.link is not None:
            entry, reason = _linked(entry, member.link, latest, unfit)
        elif entry.type is EntryType.FILE:
            entry = msgspec.structs.replace(entry, inode=number)
        if not entry.path:
            if entry.type is EntryType.DIRECTORY:  # the target itself, which stays as it is
                continue
            reason = "it has no name"
        known = latest.get(entry.path)
        is_merged = known is not None and known.type is entry.type is EntryType.DIRECTORY
        again += known is not None and not is_merged
        latest[entry.path] = entry
        unfit.pop(entry.path, None)
        if reason:
            unfit[entry.path] = reason
    entries = sorted(latest.values(), key=lambda one: path_key(one.path))
    unfit.update(_below_others(entries, unfit))
    notes = list(names.notes())
    if again:
        are = "member has" if again == 1 else "members have"
        notes.append(f"{again:,} {are} the name of a later one, which counts")
    return Arranged(_counted(entries, unfit), unfit, notes)


def _linked(
    entry: Entry, link: bytes, latest: dict[bytes, Entry], unfit: dict[bytes, str]
) -> tuple[Entry, str]:
    """Return a hard link as another name of what it leads to, or why that is not possible."""
    first = latest.get(link)
    if first is None:
        return entry, f"it is a hard link to {path_text(link)}, which is not in the archive"
    if link in unfit:
        return entry, f"it is a hard link to {path_text(link)}: {unfit[link]}"
    if first.type is EntryType.DIRECTORY:
        return entry, f"it is a hard link to {path_text(link)}, which is a directory"
    return msgspec.structs.replace(first, path=entry.path), ""


def _below_others(entries: list[Entry], unfit: dict[bytes, str]) -> Iterator[tuple[bytes, str]]:
    """Yield the paths below one that is no directory, with the reason."""
    above: Entry | None = None
    for entry in entries:  # what lies below another one stands right behind it
        if above is not None and entry.path.startswith(above.path + b"/"):
            word = _WORDS.get(above.type, "no directory")
            yield entry.path, f"it lies below {path_text(above.path)}, which is {word} there"
        elif entry.type is not EntryType.DIRECTORY and entry.path and entry.path not in unfit:
            above = entry


def _counted(entries: list[Entry], unfit: dict[bytes, str]) -> list[Entry]:
    """Return ``entries``, those of files with the number of names that the file has."""
    names = Counter(one.inode for one in entries if one.inode and one.path not in unfit)
    return [
        msgspec.structs.replace(one, links=names[one.inode]) if names[one.inode] > 1 else one
        for one in entries
    ]
