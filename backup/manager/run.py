"""One run: from what was asked for to a snapshot that has been proven and counts.

The order of steps is what keeps a crash from leaving anything that looks finished: all bytes
durable and read back under a name that nobody lists, then the files beside it, then the name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from backup.errors import IntegrityError, SourceError, StorageError
from backup.listing import find_newest
from backup.manager.committing import commit_with
from backup.manager.content import ContentWriter, Written
from backup.manager.frame_job import FrameWorker
from backup.manager.own_stores import directories_of, refuse_stores
from backup.manager.recovery_files import place_recovery_files
from backup.manager.request import OnProgress, SnapshotReport, SnapshotRequest, no_progress
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
from backup.storage.base import BaseStorage, Receipt, StorageWriter

_ORPHANS_AFTER = timedelta(hours=1)
_MOST_DRAWS = 10


class _Place(NamedTuple):
    """Where a new snapshot stands in its job's chain."""

    chain: bytes
    sequence: int
    previous: bytes | None
    record: EndRecord | None


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
        on_progress: Is told after every frame.

    Raises:
        ConfigError: A source is a store, or lies in one.
        SourceError: A source is missing, or empty though its last snapshot was not.
        SecretKeyError: There is nobody to seal it for.
        StorageError: It could not be stored; nothing that looks finished is left.
    """
    check_word(request.host, "host")
    check_word(request.job, "job")
    roots = prepare_roots(request.sources)
    stores = [storage, *leave_out]
    refuse_stores(roots, stores)
    started = request.clock()
    _clear_away(storage, request, started)
    place = _find_place(storage, request)
    core, name = _choose_id(storage, request, place, started)
    with storage.create(str(name)) as sink:
        writer, written = write_content(
            request,
            core,
            roots,
            sink.write,
            skip=directories_of(stores),
            on_progress=on_progress,
        )
        _refuse_empty(roots, written, place.record)
        receipt = sink.seal()
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
        skipped=written.skipped,
    )


def write_content(
    request: SnapshotRequest,
    core: Core,
    roots: Sequence[Root],
    write: Callable[[bytes | bytearray], object],
    *,
    skip: Sequence[tuple[int, int]] = (),
    on_progress: OnProgress = no_progress,
) -> tuple[SnapshotWriter, Written]:
    """Write a whole snapshot of ``roots`` to ``write``."""
    level = check_level(request.archive, request.level)
    data_key = secrets.token_bytes(DATA_KEY_BYTES)
    slots = make_slots(request.recipients, data_key, core)
    writer = SnapshotWriter(write, core, slots, data_key, host_key=request.host_key, level=level)
    worker = FrameWorker(core, data_key, level)
    try:
        content = ContentWriter(request, roots, writer, worker, skip=skip, on_progress=on_progress)
        return writer, content.write()
    finally:
        worker.close()


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
    place = _Place(secrets.token_bytes(ID_BYTES), 1, None, None)
    return _make_core(request, place, request.clock())


def _find_place(storage: BaseStorage, request: SnapshotRequest) -> _Place:
    newest = find_newest(storage, request.host, request.job, request.identities)
    if newest is None:
        return _Place(secrets.token_bytes(ID_BYTES), 1, None, None)
    core = newest.header.core
    record = None
    with suppress(IntegrityError):
        record = newest.located.open(request.identities).record
    return _Place(core.chain, core.sequence + 1, core.digest, record)


def _refuse_empty(roots: Sequence[Root], written: Written, before: EndRecord | None) -> None:
    """Refuse a source with nothing in it where there was something: a disk is not mounted."""
    if written.counts.entries > len(roots) or before is None:
        return
    directories = [root for root in roots if root.is_directory]
    if len(directories) == len(roots) and before.counts.entries > len(before.sources):
        raise SourceError(
            f"{path_text(roots[0].path)} is empty, and was not in its last snapshot",
            hint="is the disk mounted? if it is meant to be empty, use another --job",
        )


def _commit(
    storage: BaseStorage, sink: StorageWriter, name: str, keys: bytes, receipt: Receipt
) -> None:
    stem = name.removesuffix(SUFFIX)
    line = digest_line(receipt.sha256, name.rpartition("/")[2])
    commit_with(storage, sink, name, {stem + KEYS_SUFFIX: keys, stem + DIGEST_SUFFIX: line})


def _clear_away(storage: BaseStorage, request: SnapshotRequest, now: datetime) -> None:
    """Remove what earlier runs of this job left when they were killed."""
    storage.clear_partials()
    prefix = f"{request.host}/{request.job}/"
    names = {file.name: file.modified for file in storage.list_files(prefix)}
    for name, modified in names.items():
        for suffix in (KEYS_SUFFIX, DIGEST_SUFFIX):
            alone = name.endswith(suffix) and name.removesuffix(suffix) + SUFFIX not in names
            # A younger one may belong to a run that is about to finish.
            if alone and now - modified > _ORPHANS_AFTER:
                with suppress(StorageError):
                    storage.delete(name)
