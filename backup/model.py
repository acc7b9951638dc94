"""Values that several layers share: entries, extents, kinds of snapshots."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

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


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One file, directory, link or stream of a snapshot.

    ``path`` is the absolute path without its leading ``/``, as bytes; the root directory itself has
    the empty path. Times are nanoseconds since 1970, ``size`` is bytes. Files up to one frame have
    ``extents`` and the SHA-256 of their content as ``digest``; larger ones have ``chunk_lists``,
    and as ``digest`` the SHA-256 over the digests of their chunks. Names of one hard-linked file
    share ``filesystem`` and ``inode`` and have ``links`` above one. ``error`` says why the content
    is missing or doubtful.
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


def path_key(path: bytes) -> bytes:
    """Return the sorting key of ``path``: its components, each as bytes, in walking order.

    Plain byte order would put ``a-b`` between ``a`` and ``a/b``; ``/`` replaced by NUL, which no
    name contains, does not.
    """
    return path.replace(b"/", b"\0")


def path_text(path: bytes) -> str:
    """Return ``path`` for people: absolute, with bytes that are not UTF-8 escaped."""
    return "/" + path.decode("utf-8", "backslashreplace")
