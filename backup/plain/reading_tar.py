"""Plain tar archives: their members in one pass, and contents in another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

from backup.errors import DigestError, IntegrityError, TruncatedError
from backup.model import Entry, path_text
from backup.plain.arranging import Budget, Limits, Names, arrange
from backup.plain.formats import Format
from backup.plain.reading_scan import Scan
from backup.plain.reading_stream import CHECKED_BY, PlainStream
from backup.snapshot.source import ByteSource


class TarArchive:
    """A tar archive, whose members have been read; see ``PlainArchive``."""

    def __init__(self, source: ByteSource, form: Format, limits: Limits) -> None:
        self.source = source
        self.form = form
        self.checked_by = CHECKED_BY[form]
        self.lost: list[IntegrityError] = []
        self._limits = limits
        names = Names()
        scan = Scan(PlainStream(source, form, limits), Budget(limits, source.name), names)
        self.entries, self.unfit, self.notes = arrange(scan.members(), names)
        self.members = scan.count
        if scan.lost is not None:
            self.lost.append(scan.lost)

    def check(self) -> None:
        """See ``PlainArchive``."""
        # What comes out of it has been limited while its members were read.

    def read(self, entries: Iterable[Entry]) -> Iterator[Iterator[memoryview]]:
        """See ``PlainArchive``."""
        stream = PlainStream(self.source, self.form, self._limits._replace(agreed=True))
        failed: IntegrityError | None = None
        for entry in entries:
            _, _, offset, length = entry.extents[0]
            try:
                if failed is None and not stream.skip(offset - stream.at):
                    failed = TruncatedError(f"{self.source.name} has become shorter")
            except IntegrityError as error:
                failed = error
            yield _content(stream, entry, length, failed)


def _content(
    stream: PlainStream, entry: Entry, length: int, failed: IntegrityError | None
) -> Iterator[memoryview]:
    if failed is not None:
        raise type(failed)(failed.message, hint=failed.hint)
    digest = sha256()
    while length:
        piece = stream.some(length)
        if not piece:
            raise TruncatedError(f"the archive ends within {path_text(entry.path)}")
        digest.update(piece)
        length -= len(piece)
        yield piece
    if digest.digest() != entry.digest:
        raise DigestError(f"{path_text(entry.path)} is not what it was when the archive was listed")
