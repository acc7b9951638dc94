"""The sources of a snapshot as they are now, to compare it with them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from backup.errors import SourceError
from backup.matching import Verdict, file_has_content
from backup.model import Entry, path_text
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.selection import is_at_or_below
from backup.sources.descriptors import FileOpener
from backup.sources.reading import read_range
from backup.sources.roots import Root, prepare_roots
from backup.sources.rules import Cause
from backup.sources.sparse import next_data
from backup.sources.tree import Skipped, TreeWalker

_VANISHED = "vanished"


class PresentSource:
    """What lies at a snapshot's sources now; to be closed.

    Args:
        reader: The snapshot.
        paths: Only what is at or below these; none mean everything.
        skip: ``(st_dev, st_ino)`` of directories to leave out: stores.
        with_content: Whether to read files whose times do not say that they are unchanged.

    Raises:
        SourceError: A source is not there any more.
        ConfigError: The snapshot was taken by rules that this version does not know.
    """

    def __init__(
        self,
        reader: SnapshotReader,
        paths: Sequence[bytes],
        *,
        skip: Collection[tuple[int, int]] = (),
        with_content: bool = False,
    ) -> None:
        self._reader = reader
        self._paths = paths
        self._with_content = with_content
        self.unread: list[Skipped] = []
        """What could not be read, and so cannot be said to be gone."""
        self._walker = TreeWalker(_roots(reader), skip=skip, rules=reader.record.rules)
        self._opener = FileOpener()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opener.close()

    def entries(self) -> Iterator[Entry]:
        """Yield what is there, in the order of ``path_key``."""
        for found in self._walker:
            if not is_at_or_below(found.path, self._paths):
                continue
            if isinstance(found, Entry):
                yield found
            elif _may_hide(found):
                self.unread.append(found)

    def is_unread(self, path: bytes) -> bool:
        """Tell whether ``path`` could not be looked at."""
        return any(is_at_or_below(path, [one.path]) for one in self.unread)

    def compare(self, saved: Entry, present: Entry) -> Verdict:
        """Return whether a file is what was saved, by its times and inode, or by reading it."""
        if saved.size != present.size:
            return Verdict.DIFFERENT
        is_same_file = saved.inode == present.inode and saved.mtime_ns == present.mtime_ns
        is_untouched = is_same_file and saved.ctime_ns == present.ctime_ns
        if is_untouched and not saved.racy:
            return Verdict.SAME
        if self._with_content or is_untouched:
            # A file that changed while it was saved may have changed within the same tick.
            return self._read(saved, present)
        # A changed mode, owner or name explains the change time.
        explained = (saved.mode, saved.uid, saved.gid) != (present.mode, present.uid, present.gid)
        is_explained = explained or saved.links != present.links
        return Verdict.SAME if is_same_file and is_explained else Verdict.UNKNOWN

    def _read(self, saved: Entry, present: Entry) -> Verdict:
        if not saved.digest:
            return Verdict.UNKNOWN
        try:
            file = self._opener.open(present)
            try:
                same = file_has_content(
                    self._reader, saved, partial(read_range, file), partial(next_data, file)
                )
            finally:
                os.close(file)
        except OSError as error:
            self.unread.append(Skipped(present.path, error.strerror or str(error), is_error=True))
            return Verdict.UNKNOWN
        return Verdict.SAME if same else Verdict.DIFFERENT


def _may_hide(found: Skipped) -> bool:
    """Tell whether what the walk did not give an entry for may be there all the same."""
    if found.rule is not None:
        return found.rule.cause is Cause.SIZE  # it may have been smaller
    return found.is_error and found.reason != _VANISHED


def _roots(reader: SnapshotReader) -> list[Root]:
    paths = reader.record.sources
    roots = prepare_roots([b"/" + path for path in paths])
    if sorted(root.path for root in roots) != sorted(paths):
        moved = next(path for path in paths if path not in {root.path for root in roots})
        raise SourceError(
            f"{path_text(moved)} is now reached through a symbolic link",
            hint="what is behind it would not be comparable",
        )
    return roots
