"""What is to become of an entry where something exists already: the rules, and nothing else."""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from typing import NamedTuple

from backup.model import Entry, EntryType
from backup.restore.metadata import is_taken_away
from backup.restore.options import Overwrite


class Action(StrEnum):
    """What a restore does with an entry or, to delete it, with what is none.

    ``compare``: size and time are equal, so content and digest are compared when it comes to it;
    equal is kept (or mended), else replaced. ``leave``: not restored, for a reason beside what is
    there. ``refuse``: the restore as a whole is not begun.
    """

    CREATE = "create"
    REPLACE = "replace"
    COMPARE = "compare"
    MEND = "mend"
    KEEP = "keep"
    LEAVE = "leave"
    DELETE = "delete"
    REFUSE = "refuse"


class Found(NamedTuple):
    """What exists in an entry's place.

    ``target`` is that of a symbolic link, ``xattrs`` its attributes by name; both are only there
    where somebody asked for details. ``full`` says that it is a directory with something in it.
    """

    status: os.stat_result
    target: bytes = b""
    xattrs: dict[bytes, bytes] | None = None
    full: bool = False

    @property
    def identity(self) -> tuple[int, int]:
        """What no two files of a machine have in common."""
        return self.status.st_dev, self.status.st_ino

    @property
    def kind(self) -> int:
        """Its type, as ``stat`` tells it."""
        return stat.S_IFMT(self.status.st_mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, and no link to one."""
        return self.kind == stat.S_IFDIR


class Decision(NamedTuple):
    """What to do, and why."""

    action: Action
    reason: str = ""


_KINDS = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.STREAM: stat.S_IFREG,
    EntryType.DIRECTORY: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}
_WORDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_DEVICES = frozenset({EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE})
_FILES = frozenset({EntryType.FILE, EntryType.STREAM})


def decide(
    entry: Entry, found: Found | None, overwrite: Overwrite | None, *, delete: bool = False
) -> Decision:
    """Return what becomes of ``entry`` where ``found`` is, or nothing.

    A directory that is there is kept, and what is in it decided one by one; the policy then says
    whether it gets the metadata of its entry. ``if-newer`` goes by the times of modification alone.
    """
    if found is None:
        return Decision(Action.CREATE)
    kept = _why_kept(entry, found, overwrite)
    if found.kind != _KINDS[entry.type] or not found.is_directory:
        if overwrite is None:
            return Decision(Action.REFUSE, "it exists")
        if not kept:
            return _decide_about_existing(entry, found, overwrite, delete=delete)
    elif not kept:
        return _decide_directory(entry, found, overwrite)
    return Decision(Action.KEEP, kept)


def _why_kept(entry: Entry, found: Found, overwrite: Overwrite | None) -> str:
    """Return why the policy keeps whatever exists, ``""`` where it does not."""
    if overwrite is Overwrite.NEVER:
        return "it exists"
    is_old = entry.mtime_ns <= found.status.st_mtime_ns
    return "it is as new or newer" if overwrite is Overwrite.IF_NEWER and is_old else ""


def _decide_directory(entry: Entry, found: Found, overwrite: Overwrite | None) -> Decision:
    if overwrite is not Overwrite.IF_CHANGED:
        return Decision(Action.MEND, "it exists")
    reason = metadata_change(entry, found)
    if not reason and entry.mtime_ns == found.status.st_mtime_ns:
        return Decision(Action.KEEP, "unchanged")
    return Decision(Action.MEND, reason or "its time differs")


def _decide_about_existing(
    entry: Entry, found: Found, overwrite: Overwrite, *, delete: bool
) -> Decision:
    if found.kind != _KINDS[entry.type]:
        return _decide_other_kind(entry, found, delete=delete)
    if overwrite is Overwrite.ALWAYS:
        return Decision(Action.REPLACE, "always")
    if overwrite is Overwrite.IF_NEWER:
        return Decision(Action.REPLACE, "the snapshot's is newer")
    return _decide_change(entry, found)


def _decide_other_kind(entry: Entry, found: Found, *, delete: bool) -> Decision:
    was = _WORDS[_KINDS[entry.type]]
    reason = f"it is {_WORDS.get(found.kind, 'something else')}, and was {was}"
    if found.full and not delete:
        return Decision(Action.REFUSE, "a directory with something in it is in its place")
    return Decision(Action.REPLACE, reason)


def _decide_change(entry: Entry, found: Found) -> Decision:
    """Decide about something of the same type: what of it shows a change without reading it?"""
    if reason := _visible_change(entry, found):
        return Decision(Action.REPLACE, reason)
    if entry.type in _FILES and not _surely_untouched(entry, found.status):
        return Decision(Action.COMPARE, "size and time are equal")
    return unchanged(entry, found)


def _visible_change(entry: Entry, found: Found) -> str:
    status = found.status
    changes = {
        "its size differs": entry.type in _FILES and status.st_size != entry.size,
        "it leads elsewhere": found.target != entry.target,
        "it is another device": entry.type in _DEVICES and _device(status) != entry.device,
        "its time differs": status.st_mtime_ns != entry.mtime_ns,
        "it has other names": status.st_nlink > 1 and entry.links == 1,
    }
    return next((reason for reason, is_so in changes.items() if is_so), "")


def unchanged(entry: Entry, found: Found) -> Decision:
    """Return what becomes of something whose content is that of ``entry``."""
    reason = metadata_change(entry, found)
    if not reason:
        return Decision(Action.KEEP, "unchanged")
    if found.status.st_nlink > 1:
        # Its other names may be those of somebody else's file, whose owner this would change.
        return Decision(Action.REPLACE, reason)
    return Decision(Action.MEND, reason)


def metadata_change(entry: Entry, found: Found) -> str:
    """Return what of mode, owner and attributes is not as in ``entry``; ``""`` if all is."""
    status = found.status
    if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) != entry.mode:
        return "its mode differs"
    if (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
        return "its owner differs"
    there = found.xattrs or {}
    saved = dict(entry.xattrs)
    others = any(is_taken_away(name) and name not in saved for name in there)
    if others or any(there.get(name) != value for name, value in saved.items()):
        return "its attributes differ"
    return ""


def _surely_untouched(entry: Entry, status: os.stat_result) -> bool:
    """Return whether nobody can have written to the file since it was saved.

    The time of the last change of an inode cannot be set, so the same inode with the same one has
    the content that was saved, unless that was written just as it was saved.
    """
    same = (status.st_ctime_ns, status.st_ino) == (entry.ctime_ns, entry.inode)
    return same and not entry.racy and not entry.error


def _device(status: os.stat_result) -> tuple[int, int]:
    return os.major(status.st_rdev), os.minor(status.st_rdev)
