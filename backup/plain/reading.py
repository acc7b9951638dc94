"""Opening a plain archive, whatever its format, for all who read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backup.errors import (
    IntegrityError,
    LimitError,
    NotASnapshotError,
    RestoreError,
    SnapshotNotFoundError,
    StorageError,
)
from backup.locating import PathSource
from backup.model import Entry
from backup.plain.arranging import Limits
from backup.plain.formats import Format, format_at, format_of
from backup.plain.reading_tar import TarArchive
from backup.plain.reading_zip import ZipArchive
from backup.snapshot.names import SUFFIX
from backup.snapshot.source import ByteSource

_PATH_STARTS = ("/", "./", "../", "~")
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class PlainArchive(Protocol):
    """A plain archive whose members are known.

    ``entries`` are in the order of ``path_key``, ``unfit`` tells which of them cannot be restored,
    ``lost`` what of the archive is damaged, ``notes`` what else people should know. ``members`` is
    how many members there are, ``checked_by`` what tells of damage to contents.
    """

    source: ByteSource
    form: Format
    checked_by: str
    entries: list[Entry]
    unfit: dict[bytes, str]
    lost: list[IntegrityError]
    notes: list[str]
    members: int

    def check(self) -> None:
        """Look at the archive as a whole, before contents are read.

        Raises:
            LimitError: They are too large.
            IntegrityError: Members overlap.
            RestoreError: A password is needed.
        """
        ...

    def read(self, entries: Iterable[Entry]) -> Iterator[Iterator[memoryview]]:
        """Yield the content of each of ``entries``, which come in the order of ``place_of``.

        Each is read before the next one is asked for; it raises ``IntegrityError`` where it is not
        what the archive tells.
        """
        ...


def place_of(entry: Entry) -> tuple[int, int]:
    """Return where the content of a file of a plain archive lies."""
    _, number, offset, _ = entry.extents[0]
    return number, offset


def find_archive(text: str) -> Path | None:
    """Return the file that ``text`` names, if it is a plain archive.

    A bare word is one only with the suffix of an archive: else it is the name of a snapshot, and
    no file that lies around may take its place.

    Raises:
        SnapshotNotFoundError: It has such a suffix, and there is no such file.
        NotASnapshotError: It has, or is packed like an archive, and is none.
        StorageError: It cannot be read.
    """
    form = format_of(text)
    if (form is None and not text.startswith(_PATH_STARTS)) or "://" in text:
        return None
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if not path.is_file():  # nothing else is opened: a FIFO would wait
        if form is None:
            return None
        raise SnapshotNotFoundError(f"there is no file {text}")
    try:
        with path.open("rb") as file:
            found = format_at(file)
            head = file.read(8)
    except OSError as error:
        raise StorageError(f"cannot read {text}: {error.strerror}") from error
    if found is None:
        _refuse(text, form, head)
    return None if found is None else path


def _refuse(text: str, form: Format | None, head: bytes) -> None:
    packed = next((word for magic, word in _PACKED.items() if head.startswith(magic)), None)
    if packed is not None:
        raise NotASnapshotError(
            f"{text} is packed with {packed}, but no tar archive comes out of its beginning",
            hint="it is cut off or damaged there, or holds something else",
        )
    hint = "zip and tar archives are read, packed with gzip, bzip2, xz, zstd or not at all"
    if form is not None:
        raise NotASnapshotError(f"{text} is no {form} archive, whatever its name says", hint=hint)
    if not text.endswith(SUFFIX):
        raise NotASnapshotError(f"{text} is neither a snapshot nor a plain archive", hint=hint)


def open_archive(path: Path, limits: Limits) -> PlainArchive:
    """Open the plain archive ``path``, and read what its members are.

    Raises:
        LimitError: There are too many, or too much comes out of it.
        IntegrityError: Nothing of it can be read.
        StorageError: The file cannot be read.
    """
    source = PathSource(path)
    source.name = str(path)
    try:
        with path.open("rb") as file:
            form = format_at(file)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return open_source(source, form, limits)


def open_source(source: ByteSource, form: Format | None, limits: Limits) -> PlainArchive:
    """Open the archive in ``source``; see ``open_archive``."""
    if form is None:
        raise NotASnapshotError(f"{source.name} is no plain archive")
    return ZipArchive(source, limits) if form is Format.ZIP else TarArchive(source, form, limits)


@dataclass
class ArchiveProof:
    """What of a plain archive was read and compared; ``errors`` is empty where all is well.

    ``unread`` is what this reader does not know how to read.
    """

    members: int = 0
    content_bytes: int = 0
    errors: list[IntegrityError] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def verify_archive(archive: PlainArchive, on_bytes: Callable[[int], object]) -> ArchiveProof:
    """Read all of an archive, and compare every checksum that it has.

    Raises:
        LimitError: Too much comes out of it.
        RestoreError: A password is needed.
        StorageError: The file cannot be read.
    """
    proof = ArchiveProof(members=archive.members, errors=archive.lost)
    if not isinstance(archive, ZipArchive):  # reading the members has read all of it
        proof.content_bytes = sum(one.stored_size for one in archive.entries)
        return proof
    try:
        archive.check()
    except LimitError:
        raise
    except IntegrityError as error:
        proof.errors.append(error)
        return proof
    told = {error.message for error in proof.errors}
    for _, content in archive.read_all():
        try:
            for piece in content:
                proof.content_bytes += len(piece)
                on_bytes(len(piece))
        except IntegrityError as error:
            if error.message not in told:
                proof.errors.append(error)
        except RestoreError as error:
            proof.unread.append(error.message)
    return proof
