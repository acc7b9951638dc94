"""Walking directory trees."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from backup.model import NO_RULES, Entry, ExcludeRules
from backup.sources.describing import Describer, Skipped
from backup.sources.descriptors import DirectoryChain
from backup.sources.filesystems import Filesystem
from backup.sources.roots import Root, prepare_roots
from backup.sources.rules import Excluder, check_sources
from backup.sources.walking import Walk, contains

__all__ = ["Skipped", "TreeWalker", "contains", "walk"]


def walk(
    roots: Sequence[bytes],
    *,
    skip: Collection[tuple[int, int]] = (),
    rules: ExcludeRules = NO_RULES,
) -> Iterator[Entry | Skipped]:
    """Yield what is below ``roots``; see ``TreeWalker``, which also knows the file systems.

    Raises:
        ConfigError: See ``prepare_roots`` and ``Excluder``.
        SourceError: See ``prepare_roots``.
    """
    return iter(TreeWalker(prepare_roots(roots), skip=skip, rules=rules))


class TreeWalker:
    """Yields an entry for everything below its roots, the roots included.

    Entries come in the order of ``path_key``: a directory before what is in it, the names of each
    directory sorted as bytes. No symbolic link is followed. What cannot be read is reported as
    ``Skipped`` in its place, and the walk goes on; a directory that can be described but not listed
    gives both. The number of open descriptors is bounded, however deep the tree is.

    What is left out on purpose is ``Skipped`` with its ``rule``: a directory just once, whatever
    is in it. File systems that the kernel makes up, and directories that the walk is
    in already, have an entry, and ``Skipped`` for their contents. A root is never left out.

    Args:
        roots: Where to start, as ``prepare_roots`` returns them.
        skip: ``(st_dev, st_ino)`` of directories to leave out: the tool's own stores.
        rules: What else to leave out.
        origins: Where each pattern of the rules was said; see ``Excluder``.
        unseen: ``(st_dev, st_ino)`` of files that are as if they were not there: what is being
            written.

    Raises:
        ConfigError: See ``Excluder``; or patterns belong to a source that is none of ``roots``.
    """

    def __init__(
        self,
        roots: Sequence[Root],
        *,
        skip: Collection[tuple[int, int]] = (),
        rules: ExcludeRules = NO_RULES,
        origins: Sequence[str] = (),
        unseen: Collection[tuple[int, int]] = (),
    ) -> None:
        check_sources(rules, [root.path for root in roots])
        self._roots = roots
        self._skip = frozenset(skip)
        self._unseen = frozenset(unseen)
        self._excluder = None if rules == NO_RULES else Excluder(rules, origins)
        self._describer = Describer()

    @property
    def excluder(self) -> Excluder | None:
        """What decides by rules, ``None`` where there are none."""
        return self._excluder

    @property
    def filesystems(self) -> Sequence[Filesystem]:
        """The file systems met so far; ``Entry.filesystem`` counts in this list."""
        return self._describer.table.filesystems

    @property
    def remarks(self) -> Sequence[Skipped]:
        """What the entries so far lack, as it could not be read."""
        return self._describer.remarks

    def __iter__(self) -> Iterator[Entry | Skipped]:
        with DirectoryChain() as chain:
            walk_under_way = Walk(
                chain, self._describer, self._skip, self._excluder, unseen=self._unseen
            )
            for root in self._roots:
                yield from walk_under_way.walk_root(root.path)

    def along(self, path: bytes) -> Iterator[Entry | Skipped]:
        """Yield what a whole walk yields at ``path`` and at the directories on the way to it."""
        with DirectoryChain() as chain:
            walk_under_way = Walk(chain, self._describer, self._skip, self._excluder, path)
            for root in self._roots:
                if contains(root.path, path):
                    yield from walk_under_way.walk_root(root.path)
