"""One run: from what was asked for to a snapshot that has been proven and counts.

The order of steps is what keeps a crash from leaving anything that looks finished: all bytes
durable and read back under a name that nobody lists, then the files beside it, then the name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from backup.errors import IntegrityError, SourceError, StorageError
from backup.listing import find_newest
from backup.manager.committing import clear_away, commit_with
from backup.manager.content import ContentWriter, Written
from backup.manager.frame_pool import frame_pool
from backup.manager.own_stores import directories_of, refuse_stores
from backup.manager.recovery_files import place_recovery_files
from backup.manager.request import (
    OnProgress,
    Progress,
    SnapshotReport,
    SnapshotRequest,
    no_progress,
)
from backup.model import ID_BYTES, SnapshotKind, path_text
from backup.snapshot.compression import check_level
from backup.snapshot.end import EndRecord
from backup.snapshot.header import Core, make_core
from backup.snapshot.names import (
    DIGEST_SUFFIX,
    KEYS_SUFFIX,
    SUFFIX,
    SnapshotName,
    check_word,
    digest_line,
)
from backup.snapshot.recipients import DATA_KEY_BYTES, make_slots
from backup.snapshot.writer import SnapshotWriter
from backup.sources.roots import Root, prepare_roots
from backup.sources.tree import TreeWalker
from backup.storage.base import BaseStorage, Receipt, StorageWriter

_MOST_DRAWS = 10


class _Place(NamedTuple):
    """Where a new snapshot stands in its job's chain."""

    chain: bytes
    sequence: int
    previous: bytes | None
    record: EndRecord | None
    had_content: bool = False


def take_snapshot(
    request: SnapshotRequest,
    storage: BaseStorage,
    *,
    leave_out: Sequence[BaseStorage] = (),
    on_progress: OnProgress = no_progress,
) -> SnapshotReport:
    """Take a full snapshot of the request's sources into ``storage``.

    Args:
        request: What to save, for whom, and how.
        storage: Where to. Its own directory is left out of the sources.
        leave_out: Further stores whose directories are left out.
        on_progress: Is told after every frame, and while what was written is read back.

    Raises:
        ConfigError: A source is a store, or lies in one; or a rule or a tag cannot be used.
        SourceError: A source is missing, or empty though its last snapshot was not.
        SecretKeyError: There is nobody to seal it for.
        LockedError: Another run of this job is at work.
        StorageError: It could not be stored; nothing that looks finished is left.
    """
    check_word(request.host, "host")
    check_word(request.job, "job")
    for tag in request.tags:
        check_word(tag, "tag")
    roots = prepare_roots(request.sources)
    TreeWalker(roots, rules=request.rules)  # refuses what cannot be used
    stores = [storage, *leave_out]
    refuse_stores(roots, stores)
    started = request.clock()
    place = f"{request.host}/{request.job}"
    with storage.lock(place) as alone:
        clear_away(storage, place, started, alone=alone)
        return _take_alone(
            request,
            storage,
            roots,
            skip=directories_of(stores),
            started=started,
            on_progress=on_progress,
        )


def _take_alone(
    request: SnapshotRequest,
    storage: BaseStorage,
    roots: Sequence[Root],
    *,
    skip: Sequence[tuple[int, int]],
    started: datetime,
    on_progress: OnProgress,
) -> SnapshotReport:
    """Take the snapshot while no other run of this job is at work."""
    place = _find_place(storage, request)
    core, name = _choose_id(storage, request, place, started)
    with storage.create(str(name)) as sink:
        writer, written = write_content(
            request, core, roots, sink.write, skip=skip, on_progress=on_progress
        )
        _refuse_empty(roots, written, had_content=place.had_content)
        receipt = _seal(sink, written, writer.size, on_progress)
        with _remembered(request, storage, core, str(name), written):
            _commit(storage, sink, str(name), writer.keys_file(), receipt)
    with suppress(StorageError):  # a convenience; verify tells where it is missing
        place_recovery_files(storage)
    return SnapshotReport(
        name=str(name),
        id=core.id,
        sequence=core.sequence,
        size=receipt.size,
        sha256=receipt.sha256,
        strength=receipt.strength,
        counts=written.counts,
        started=started,
        finished=request.clock(),
        problems=written.problems,
        left_out=written.left_out,
    )


def write_content(
    request: SnapshotRequest,
    core: Core,
    roots: Sequence[Root],
    write: Callable[[bytes | bytearray | memoryview], object],
    *,
    skip: Sequence[tuple[int, int]] = (),
    unseen: Sequence[tuple[int, int]] = (),
    on_progress: OnProgress = no_progress,
) -> tuple[SnapshotWriter, Written]:
    """Write a whole snapshot of ``roots`` to ``write``; see ``ContentWriter``."""
    level = check_level(request.archive, request.level)
    data_key = secrets.token_bytes(DATA_KEY_BYTES)
    slots = make_slots(request.recipients, data_key, core)
    writer = SnapshotWriter(write, core, slots, data_key, host_key=request.host_key, level=level)
    with frame_pool(core, data_key, level, workers=request.workers) as pool:
        content = ContentWriter(
            request, roots, writer, pool, skip=skip, unseen=unseen, on_progress=on_progress
        )
        return writer, content.write()


def _make_core(request: SnapshotRequest, place: _Place, started: datetime) -> Core:
    return make_core(
        snapshot_id=secrets.token_bytes(ID_BYTES),
        chain=place.chain,
        sequence=place.sequence,
        time=int(started.timestamp()),
        archive=request.archive,
        previous=place.previous,
        cap=request.cap,
    )


def _choose_id(
    storage: BaseStorage, request: SnapshotRequest, place: _Place, started: datetime
) -> tuple[Core, SnapshotName]:
    """Return a core, and a name that is free: of an id it has four characters only.

    The store refuses a name in use anyway; this only keeps chance from making a run fail.
    """
    for _ in range(_MOST_DRAWS):
        core = _make_core(request, place, started)
        name = SnapshotName(
            request.host, request.job, started, core.id.hex()[:4], SnapshotKind.FULL, core.archive
        )
        if storage.stat(str(name)) is None:
            break
    return core, name


def new_core(request: SnapshotRequest) -> Core:
    """Return the core of a snapshot that begins a chain of its own."""
    return _make_core(request, _first_place(), request.clock())


def _first_place() -> _Place:
    return _Place(secrets.token_bytes(ID_BYTES), 1, None, None)


def _find_place(storage: BaseStorage, request: SnapshotRequest) -> _Place:
    if not request.identities:
        return _remembered_place(storage, request)
    newest = find_newest(storage, request.host, request.job, request.identities)
    if newest is None:
        return _first_place()
    core = newest.header.core
    record = None
    with suppress(IntegrityError):
        record = newest.located.open(request.identities).record
    had_content = record is not None and record.counts.entries > len(record.sources)
    return _Place(core.chain, newest.sequence + 1, core.digest, record, had_content)


def _remembered_place(storage: BaseStorage, request: SnapshotRequest) -> _Place:
    """Return the place on a host that cannot read: headers in the store could say anything."""
    memory = request.memory
    before = memory and memory.recall(storage, request.host, request.job)
    if not before:
        return _first_place()
    chain, previous = bytes.fromhex(before.chain), bytes.fromhex(before.digest)
    return _Place(chain, before.sequence + 1, previous, None, before.had_content)


@contextmanager
def _remembered(
    request: SnapshotRequest, storage: BaseStorage, core: Core, name: str, written: Written
) -> Iterator[None]:
    """Remember the snapshot around the moment in which it becomes visible."""
    memory = request.memory
    if memory is None:
        yield
        return
    one = memory.remember(core, name, entries=written.counts.entries, sources=written.sources)
    memory.intend(storage, request.host, request.job, one)
    yield
    memory.settle(storage, request.host, request.job, one)


def _seal(sink: StorageWriter, written: Written, stored: int, on_progress: OnProgress) -> Receipt:
    """Have what was written proven, and tell how far that has come."""
    counts = written.counts
    at = Progress(counts.entries, counts.bytes, stored, b"", written.quicker)
    return sink.seal(lambda proven: on_progress(at._replace(proven=proven)))


def _refuse_empty(roots: Sequence[Root], written: Written, *, had_content: bool) -> None:
    """Refuse a source with nothing in it where there was something: a disk is not mounted."""
    if written.counts.entries > len(roots) or not had_content:
        return
    if all(root.is_directory for root in roots):
        left_out = written.left_out.total
        what = "all that is in {} is left out" if left_out else "{} is empty"
        why = "'auto-backup why PATH' tells by which rule;" if left_out else "is the disk mounted?"
        raise SourceError(
            f"{what.format(path_text(roots[0].path))}, and was not in its last snapshot",
            hint=f"{why} if it is meant to be empty, use another --job",
        )


def _commit(
    storage: BaseStorage, sink: StorageWriter, name: str, keys: bytes, receipt: Receipt
) -> None:
    stem = name.removesuffix(SUFFIX)
    line = digest_line(receipt.sha256, name.rpartition("/")[2])
    commit_with(storage, sink, name, {stem + KEYS_SUFFIX: keys, stem + DIGEST_SUFFIX: line})
