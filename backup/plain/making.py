"""Making an archive: written, read back, tested, and only then given its name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from hashlib import sha256

from backup.errors import DigestError, IntegrityError, SourceError
from backup.manager import SnapshotRequest
from backup.manager.request import OnProgress
from backup.manager.run import new_core, write_content
from backup.plain.content import ArchiveContent, PieceAt, Write
from backup.plain.formats import Format
from backup.plain.piece_pool import piece_pool
from backup.plain.piece_wire import testing
from backup.plain.places import Place
from backup.plain.request import ArchiveReport, ArchiveRequest, OnBytes, tell_nobody
from backup.pool.pool import Pool
from backup.sources.roots import Root
from backup.storage.base import BLOCK_BYTES, StorageWriter
from backup.storage.local_writer import LocalWriter


def make_archive(
    request: ArchiveRequest,
    places: Sequence[Place],
    *,
    on_read: OnBytes = tell_nobody,
    on_tested: OnBytes = tell_nobody,
) -> ArchiveReport:
    """Make a plain archive in each of ``places``, or in none of them.

    Args:
        request: What it is to hold.
        places: Where to.
        on_read: Is told how many bytes of contents have been read.
        on_tested: Is told how many bytes of the archive have been tested.

    Raises:
        SourceError: There is nothing of the sources to be had.
        StorageError: It could not be written.
        IntegrityError: What came back from the medium is not what was read from the sources.
    """
    started = request.clock()
    with _sinks(places) as sinks, piece_pool(request) as pool:
        content = ArchiveContent(
            request,
            _into(sinks),
            pool,
            unseen=_own_files(places, sinks),
            on_bytes=on_read,
        )
        written = content.write()
        receipts = [sink.seal() for sink in sinks]
        for place, sink in zip(places, sinks, strict=True):
            _test(place, sink, written.pieces, pool, on_tested)
        for sink in sinks:
            sink.commit()
    return ArchiveReport(
        format=request.format,
        size=receipts[0].size,
        sha256=receipts[0].sha256,
        strength=receipts[0].strength,
        counts=written.counts,
        started=started,
        finished=request.clock(),
        problems=written.problems,
        left_out=written.left_out,
        renamed=written.renamed,
    )


def make_encrypted(
    request: SnapshotRequest,
    roots: Sequence[Root],
    places: Sequence[Place],
    *,
    skip: Sequence[tuple[int, int]],
    on_progress: OnProgress,
) -> ArchiveReport:
    """Make a snapshot of ``roots`` as one file in each of ``places``, or in none of them.

    Each frame is unpacked and compared before it is sealed, as those of all snapshots are.

    Raises:
        SourceError: There is nothing of the sources to be had.
        StorageError: It could not be written, or what came back is something else.
    """
    started: datetime = request.clock()
    core = new_core(request)
    with _sinks(places) as sinks:
        _, written = write_content(
            request,
            core,
            roots,
            _into(sinks),
            skip=skip,
            unseen=_own_files(places, sinks),
            on_progress=on_progress,
        )
        if not written.counts.entries:
            raise SourceError("there is nothing to archive: the sources have vanished")
        receipts = [sink.seal() for sink in sinks]
        for sink in sinks:
            sink.commit()
    return ArchiveReport(
        format=Format(request.archive.value),
        size=receipts[0].size,
        sha256=receipts[0].sha256,
        strength=receipts[0].strength,
        counts=written.counts,
        started=started,
        finished=request.clock(),
        problems=written.problems,
        left_out=written.left_out,
        snapshot=core.id,
    )


@contextmanager
def _sinks(places: Sequence[Place]) -> Iterator[list[StorageWriter]]:
    with ExitStack() as stack:
        yield [stack.enter_context(place.create()) for place in places]


def _into(sinks: Sequence[StorageWriter]) -> Write:
    def write(data: bytes | bytearray | memoryview) -> None:
        for sink in sinks:
            sink.write(data)

    return write


def _own_files(places: Sequence[Place], sinks: Sequence[StorageWriter]) -> list[tuple[int, int]]:
    """Return (device, inode) of what is being written, and of what it is to replace."""
    own = [identity for place in places for identity in place.own_files()]
    return own + [sink.identity() for sink in sinks if isinstance(sink, LocalWriter)]


def _test(
    place: Place,
    sink: StorageWriter,
    pieces: Sequence[PieceAt],
    pool: Pool,
    on_tested: OnBytes,
) -> None:
    """Read the sealed file back, and compare what is in each piece with what was read.

    What lies between them, such as the directory of a zip, has no digest of its own, so that the
    one of the whole file is compared, too.
    """
    receipt = sink.seal()
    back = _ReadBack(sink)
    waiting: deque[PieceAt] = deque()

    def take() -> None:
        at = waiting.popleft()
        try:
            pool.next()
        except IntegrityError as error:
            raise _not_the_same(place, error.message) from error
        on_tested(at.offset + at.piece.length)

    for at in pieces:
        back.skip_to(at.offset)
        pool.submit(testing(at.piece, back.read(at.piece.length)))
        waiting.append(at)
        while pool.is_full:
            take()
    while waiting:
        take()
    back.skip_to(receipt.size)
    if back.sha256.digest() != receipt.sha256:
        raise _not_the_same(place, "its SHA-256 differs")


def _not_the_same(place: Place, reason: str) -> DigestError:
    return DigestError(
        f"{place} would not hold what was read from the sources: {reason}",
        hint="no archive has been made; check this machine's memory and that medium",
    )


class _ReadBack:
    """Reads a sealed file from its beginning to its end, and hashes all of it."""

    def __init__(self, sink: StorageWriter) -> None:
        self.sha256 = sha256()
        self._sink = sink
        self._at = 0

    def read(self, length: int) -> bytes:
        """Return the next bytes."""
        data = self._sink.read_range(self._at, length)
        self.sha256.update(data)
        self._at += length
        return data

    def skip_to(self, offset: int) -> None:
        """Read what comes before ``offset``."""
        while self._at < offset:
            self.read(min(offset - self._at, BLOCK_BYTES))
