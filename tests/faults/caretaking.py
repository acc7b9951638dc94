"""Workloads that look after what is stored: rotation, the trash, the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from backup.errors import BackupError, CatalogError
from backup.listing import list_jobs, list_snapshots, list_trash
from backup.locating import locate
from backup.manager.rotation import TRASH_FOR, RotationRequest, rotate_jobs
from backup.manager.trash import take_out_of_trash
from backup.remembering import recall_for_rotation, remember_rotation, remember_taken
from backup.retention import RetentionPolicy
from backup.storage.local import LocalStorage
from backup.surveying import rebuild, survey
from tests.faults.invariants import (
    check_catalog,
    check_new,
    check_next_run,
    check_store,
    left_over,
    next_time,
    strangers,
)
from tests.faults.world import (
    HOST,
    JOB,
    Outcome,
    Workload,
    World,
    beside,
    files_below,
    marker,
    snapshots_in,
)


def _take_known(world: World) -> None:
    """Take three snapshots of which the catalog knows."""
    for _ in range(3):
        world.take()
    _rebuild(world)


def _rotate(world: World, trash_for: timedelta = TRASH_FOR) -> dict[str, Any]:
    """Keep the newest one, as the command does it: with what the catalog knows, and telling it."""
    storage, catalog = LocalStorage(world.store), world.catalog()
    request = RotationRequest(
        policy=RetentionPolicy(last=1),
        identities=[world.key],
        host=HOST,
        clock=world.clock,
        trash_for=trash_for,
    )
    jobs = list_jobs(storage)
    with suppress(CatalogError):
        found = recall_for_rotation(catalog, storage.url, jobs, HOST)
        request = RotationRequest(**vars(request) | found._asdict())
    for one in rotate_jobs(storage, request, jobs=jobs):
        with suppress(BackupError):
            remember_rotation(catalog, storage.url, one.in_trash(world.clock()), one.purged)
        if one.error is not None:
            raise one.error
    return {}


def _purge(world: World) -> dict[str, Any]:
    return _rotate(world, trash_for=timedelta(0))


def _take_and_rotate(world: World) -> None:
    _take_known(world)
    _rotate(world)


def _undelete(world: World) -> dict[str, Any]:
    storage = LocalStorage(world.store)
    with storage.lock(f"{HOST}/{JOB}"):
        for one in list_trash(storage):
            take_out_of_trash(storage, one.snapshot.name)
    with suppress(CatalogError):
        for known in world.catalog().snapshots(storage.url):
            world.catalog().set_trashed(storage.url, known, None)
    return {}


def _places(world: World) -> tuple[list[str], list[str]]:
    """Return the names of the snapshots that count, and of those in the trash."""
    storage = LocalStorage(world.store)
    live = [one.name for one in list_snapshots(storage)]
    return live, [one.snapshot.name for one in list_trash(storage)]


def _whole(world: World, names: list[str], before: dict[str, bytes]) -> Iterator[str]:
    """Yield which of ``names`` are not there once and as they were."""
    live, trash = _places(world)
    files = files_below(world.store)
    for name in names:
        if [*live, *trash].count(name) != 1:
            yield f"{name} is there {[*live, *trash].count(name)} times"
        for one in sorted(beside(name)):
            if files.get(one) != before[f"store/{one}"]:
                yield f"{one} is lost or changed"
    yield from strangers(files)


def _check_into_trash(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    names = snapshots_in(before, "store")
    newest = _newest(world, names)
    yield from _whole(world, names, before)
    if newest not in _places(world)[0]:
        yield "the newest snapshot is in the trash"
    if outcome.end == "done" and _places(world)[0] != [newest]:
        yield "rotation was acknowledged, and more than the newest one is left"
    yield from next_time(world, _rotate)
    if _places(world)[0] != [newest]:
        yield f"the next rotation leaves {_places(world)[0]}"
    yield from _whole(world, names, before)
    _undelete(world)
    for name in names[:1]:
        yield from check_new(world, world.store, name, ())
    yield from check_next_run(world, outcome)


def _check_purged(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    names = snapshots_in(before, "store")
    newest = next(name for name in names if f"store/{marker(name)}" not in before)
    live, _ = _places(world)
    files = set(files_below(world.store))
    if live != [newest]:
        yield f"what counts is {live}, not {newest} alone"
    for name in (set(names) - {newest}) & files:
        if not (beside(name) | {marker(name)}) <= files:
            yield f"{name} is purged by half, and there"
    if outcome.end == "done" and len([one for one in files if one.endswith(".enc")]) > 1:
        yield "the purge was acknowledged, and not all is gone"
    yield from next_time(world, _purge)
    yield from _whole(world, [newest], before)
    gone = {one for name in names if name != newest for one in (*beside(name), marker(name))}
    yield from (f"{name} stays" for name in sorted(gone & set(files_below(world.store))))
    yield from left_over(world.store)
    yield from check_new(world, world.store, newest, ())
    yield from _nothing_is_missed(world)
    yield from check_next_run(world, outcome)


def _check_undeleted(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    names = snapshots_in(before, "store")
    yield from _whole(world, names, before)
    if outcome.end == "done" and _places(world)[1]:
        yield "all was brought back, and something is in the trash"
    yield from next_time(world, _undelete)
    yield from _whole(world, names, before)
    if _places(world)[1]:
        yield "something stays in the trash"
    yield from check_new(world, world.store, names[0], ())
    yield from next_time(world, _rotate)
    yield from check_next_run(world, outcome)


def _newest(world: World, names: list[str]) -> str:
    live, trash = _places(world)
    both = [one for one in [*live, *trash] if one in names]
    return max(
        both, key=lambda name: locate(LocalStorage(world.store), name).newest_header().core.sequence
    )


def _nothing_is_missed(world: World) -> Iterator[str]:
    """Yield what is told to be gone though it was deleted on purpose."""
    found = survey(
        LocalStorage(world.store),
        [world.key],
        catalog=world.catalog(),
        own_host=HOST,
        now=world.clock(),
    )
    yield from (f"{one.facts.name} is said to be missing" for one in found.gone)


def _rebuild(world: World) -> dict[str, Any]:
    rebuild(world.catalog(), LocalStorage(world.store), [world.key], now=world.clock())
    return {}


def _record(world: World) -> dict[str, Any]:
    """Record the newest snapshot, which the catalog does not know yet."""
    storage = LocalStorage(world.store)
    now = world.clock()
    name = list_snapshots(storage)[-1].name
    remember_taken(
        world.catalog(), storage, name, [world.key], strength="read-back", started=now, finished=now
    )
    return {"recorded": name}


def _take_one_more(world: World) -> None:
    _take_known(world)
    world.take()


def _check_catalog(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    yield from check_store(world, world.store, [], before)
    storage = LocalStorage(world.store)
    told: list[str] = []
    known = world.catalog(told.append).snapshots(storage.url)
    names = set(snapshots_in(before, "store"))
    if not set(known) <= names:
        yield f"the catalog knows {sorted(set(known) - names)}, which never were"
    if not outcome.lies:
        yield from told
        recorded = outcome.value.get("recorded")
        if recorded and not (recorded in known and world.catalog().proofs(storage.url)[recorded]):
            yield f"{recorded} was recorded, and is not known"
        if "state/catalog.sqlite" in before and len(known) < len(names) - 1:
            yield f"the catalog has forgotten all but {sorted(known)}"
    yield from _nothing_is_missed(world)
    yield from next_time(world, _record)
    yield from next_time(world, _rotate)
    yield from check_catalog(world, outcome)
    yield from check_next_run(world, outcome)


def _take_two(world: World) -> None:
    world.take()
    world.take()


LOOKING_AFTER = {
    "rotate into the trash": Workload(_rotate, _take_known, _check_into_trash),
    "purge": Workload(_purge, _take_and_rotate, _check_purged, removes=True, replaces=False),
    "undelete": Workload(_undelete, _take_and_rotate, _check_undeleted),
    "catalog rebuild": Workload(
        _rebuild, _take_two, _check_catalog, below=("state",), errors=("CatalogError",)
    ),
    "catalog record": Workload(
        _record, _take_one_more, _check_catalog, below=("state",), errors=("CatalogError",)
    ),
}
