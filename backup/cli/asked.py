"""What a person has asked for by answering questions, as ``archive`` and ``backup`` take it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backup.cli import archiving, wanted
from backup.cli.excluding import Excludes
from backup.model import ExcludeRules
from backup.plain.formats import Format
from backup.plain.naming import choose_format, file_name
from backup.plain.places import FilePlace, Place, StorePlace
from backup.snapshot.compression import archive_type
from backup.storage import open_storage
from backup.storage.os_errors import as_storage_errors
from backup.wiring import open_all

_EVERYTHING = Excludes(ExcludeRules(), ())


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person has asked for.

    Args:
        sources: What to save.
        directory: Where an archive goes; ``None`` where it goes into stores.
        stores: URLs or paths: of a snapshot, or of an archive without a directory.
        format: Of an archive; ``None`` for a snapshot.
        name: Of the archive, or of the job; empty for the source's.
        encrypt: Whether an archive is encrypted; a snapshot always is.
        replace: Whether an archive of that name may go.
    """

    sources: Sequence[Path]
    directory: Path | None
    stores: Sequence[str]
    format: Format | None
    name: str = ""
    encrypt: bool = False
    replace: bool = False

    @property
    def is_encrypted(self) -> bool:
        """Whether a key is needed to read it."""
        return self.encrypt or self.format is None

    @property
    def form(self) -> str:
        """What it becomes, for people."""
        if self.format is None:
            return f"snapshot: a {self.snapshot().archive}, encrypted and signed"
        inside = choose_format(str(self.format), None, encrypt=self.encrypt).format
        return f"{inside}, encrypted and signed" if self.encrypt else f"{inside}, not encrypted"

    def places(self) -> list[Place]:
        """Return the files that an archive becomes; a snapshot has its name when it is taken."""
        if self.format is None:
            return []
        inside = choose_format(str(self.format), None, encrypt=self.encrypt).format
        name = file_name(None, self.name, inside, encrypt=self.encrypt)
        if self.directory is not None:
            return [FilePlace(self.directory, name)]
        return [StorePlace(open_storage(url), name) for url in self.stores]

    def destinations(self) -> list[str]:
        """Return what it is written to, for people."""
        if self.format is None:
            return [str(store) for store in open_all(self.stores)]
        return [str(place) for place in self.places()]

    def archive(self) -> archiving.Wanted:
        """Return the archive to make; where it goes into stores, options have to say so."""
        return archiving.Wanted(
            sources=self.sources,
            excludes=_EVERYTHING,
            output=None if self.directory is None else f"{self.directory}{os.sep}",
            format=str(self.format),
            name=self.name,
            encrypt=self.encrypt,
        )

    def snapshot(self) -> wanted.Wanted:
        """Return the snapshot to take."""
        return wanted.Wanted(
            sources=self.sources,
            stores=open_all(self.stores),
            archive=archive_type("xz"),
            excludes=_EVERYTHING,
            job=self.name,
        )

    def room(self) -> int | None:
        """Return how many bytes are free where it goes, the fewest; ``None`` where nobody knows."""
        stores = open_all(self.stores) if self.directory is None else []
        roots = [self.directory, *(store.local_root() for store in stores)]
        free = [_free(root) for root in roots if root is not None]
        return min((one for one in free if one is not None), default=None)


def _free(directory: Path) -> int | None:
    there = next(one for one in (directory, *directory.parents) if one.exists())
    with suppress(OSError):
        return shutil.disk_usage(there).free
    return None


@contextmanager
def made(directory: Path | None) -> Iterator[None]:
    """Make a directory that is missing; it goes again where what is done then does not succeed.

    Raises:
        StorageError: It cannot be made.
    """
    here = [] if directory is None else [directory, *directory.parents]
    missing = [one for one in here if not one.exists()]
    try:
        for one in reversed(missing):
            with as_storage_errors(f"cannot make the directory {one}"):
                one.mkdir(exist_ok=True)
        yield
    except BaseException:
        for one in missing:
            with suppress(OSError):
                one.rmdir()
        raise
