"""Values that several layers share: entries, extents, kinds of snapshots."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

ID_BYTES = 16
DIGEST_BYTES = 32


class EntryType(StrEnum):
    """What an entry is in the file system."""

    FILE = "file"
    DIRECTORY = "dir"
    SYMLINK = "link"
    FIFO = "fifo"
    CHARACTER_DEVICE = "char"
    BLOCK_DEVICE = "block"
    STREAM = "stream"


class SnapshotKind(StrEnum):
    """How a snapshot relates to its parent."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"


class ArchiveType(StrEnum):
    """What the archive frames of a snapshot, put together, are."""

    TAR_XZ = "tar.xz"
    TAR_ZST = "tar.zst"
    TAR_GZ = "tar.gz"
    TAR_BZ2 = "tar.bz2"
    TAR = "tar"


class Extent(NamedTuple):
    """A run of an entry's bytes.

    ``offset`` and ``length`` count bytes of the frame's uncompressed piece; ``snapshot`` is the
    16-byte id of the snapshot that holds the frame.
    """

    snapshot: bytes
    frame: int
    offset: int
    length: int


class ListRef(NamedTuple):
    """Where one segment of a chunk list lies, and the SHA-256 of its bytes."""

    snapshot: bytes
    frame: int
    digest: bytes
    rows: int


class Chunk(NamedTuple):
    """One content-defined piece of a large file."""

    digest: bytes
    extent: Extent


class SourcePatterns(NamedTuple):
    """Patterns for one source alone; ``path`` is the source's, in the form of ``Entry.path``."""

    path: bytes
    exclude: tuple[str, ...]


class ExcludeRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a walk leaves out; part of a snapshot's record, so that it can be compared later.

    ``exclude`` are gitignore patterns, relative to each source; those of ``of_source`` count for
    one source and come after them, so that they decide where both fit (``patterns_of_sources``
    makes them of paths as users name them). ``if_present`` are names: a directory that holds one of
    them is recorded without its contents, as is one with a valid ``CACHEDIR.TAG`` where ``caches``
    is set. ``larger_than`` is bytes, 0 for no limit.
    """

    exclude: tuple[str, ...] = ()
    if_present: tuple[str, ...] = ()
    caches: bool = False
    one_file_system: bool = False
    larger_than: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    of_source: tuple[SourcePatterns, ...] = ()


NO_RULES = ExcludeRules()


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One file, directory, link or stream of a snapshot.

    ``path`` is the absolute path without its leading ``/``, as bytes; the root directory itself has
    the empty path. Times are nanoseconds since 1970, ``size`` is bytes. Files up to one frame have
    ``extents`` and the SHA-256 of their content as ``digest``; larger ones have ``chunk_lists``,
    and as ``digest`` the SHA-256 over the digests of their chunks. Names of one hard-linked file
    share ``filesystem`` and ``inode`` and have ``links`` above one. ``error`` says why the content
    is missing or doubtful.

    ``data`` is ``None``, or tells a sparse file's map: its runs of data as (offset, length), in
    order, apart from each other, none empty. Then extents, chunks and digest are about these runs
    joined, ``stored_size`` bytes; all else, up to ``size``, is holes, which read as zeros.
    """

    path: bytes
    type: EntryType
    mode: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    filesystem: int = 0
    links: int = 1
    target: bytes = b""
    device: tuple[int, int] | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    digest: bytes = b""
    extents: tuple[Extent, ...] = ()
    chunk_lists: tuple[ListRef, ...] = ()
    racy: bool = False
    error: str = ""
    data: tuple[tuple[int, int], ...] | None = None

    @property
    def stored_size(self) -> int:
        """How many bytes of content a snapshot holds of it: ``size`` without the holes."""
        return self.size if self.data is None else sum(length for _, length in self.data)


PLAIN_PATH = re.compile(rb"(?:[^/\0.][^/\0]{0,254}/)*[^/\0.][^/\0]{0,254}")
"""Fits most good paths, so that they are seen to be good at once: no name of them begins with a
dot, none is long or empty."""


def path_key(path: bytes) -> bytes:
    """Return the sorting key of ``path``: its components, each as bytes, in walking order.

    Plain byte order would put ``a-b`` between ``a`` and ``a/b``; ``/`` replaced by NUL, which no
    name contains, does not.
    """
    return path.replace(b"/", b"\0")


def path_text(path: bytes) -> str:
    """Return ``path`` for people: absolute, with bytes that are not UTF-8 escaped."""
    return "/" + path.decode("utf-8", "backslashreplace")
