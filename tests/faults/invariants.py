"""What must be true after whatever went wrong."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from backup.catalog import CATALOG_NAME
from backup.errors import BackupError
from backup.listing import list_snapshots
from backup.locating import locate
from backup.restore.manager import RestoreManager
from backup.snapshot.names import parse_name
from backup.storage.local import LocalStorage
from backup.surveying import rebuild
from backup.verification import verify_snapshot
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
from tests.lister import Row, listing

RECOVERY = {"recover.py", "README.txt"}
PARTIAL = re.compile(r"(?:.*/)?\.[^/]+\.[0-9a-f]{8}\.partial")


def check_store(
    world: World,
    store: Path,
    acknowledged: list[str],
    before: dict[str, bytes],
    *,
    kept: Callable[[list[str]], list[str]] = lambda names: names,
    without: tuple[str, ...] = (),
) -> Iterator[str]:
    """Yield what is wrong in a store: I1, I2 and I3.

    Args:
        acknowledged: The snapshots that were reported as made just now.
        before: The files that there were.
        kept: Which of all snapshots, those of before and the new ones, must still be there.
        without: Paths of the source that were reported as not saved.
    """
    place = store.name
    old = snapshots_in(before, place)
    files = files_below(store)
    found = list_snapshots(LocalStorage(store))
    listed = {one.name for one in found}
    new = sorted(listed - set(old))
    for name in set(acknowledged) - listed:
        yield f"{name} was acknowledged, and is not listed"
    for name in set(kept([*old, *new])) & set(old):
        for one in beside(name):
            if files.get(one) != before.get(f"{place}/{one}"):
                yield f"{one} was there before, and is lost or changed"
    for one in found:
        missing = beside(one.name) - set(files)
        yield from (f"{one.name} is listed without {name}" for name in sorted(missing))
        yield from (f"{name} is listed and damaged" for name in [one.name] if one.damage)
    for name in new:
        yield from check_new(world, store, name, without)
    yield from strangers(files)


def strangers(files: dict[str, bytes]) -> Iterator[str]:
    """Yield the names of ``files`` that no step of a run gives."""
    for name in sorted(set(files) - RECOVERY):
        whole = name.endswith(".enc") and parse_name(name)
        aside = name.endswith((".enc.keys", ".enc.sha256", ".enc.trash"))
        if not (whole or aside or PARTIAL.fullmatch(name)):
            yield f"{name} is nothing that a store holds"


def check_new(world: World, store: Path, name: str, without: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with a snapshot: that it does not hold, or is not the source."""
    located = locate(LocalStorage(store), name)
    proof = verify_snapshot(located, [world.key])
    yield from (f"{name} is listed, and wrong: {error.message}" for error in proof.errors)
    if proof.holds:
        yield from check_restored(world, store, name, without)


def check_restored(
    world: World, store: Path, name: str, without: tuple[str, ...] = ()
) -> Iterator[str]:
    """Restore a snapshot and yield the paths that differ from the source."""
    out = world.base / "out"
    shutil.rmtree(out, ignore_errors=True)
    manager = RestoreManager(store, identities=[world.key])
    manager.restore(name, out)
    yield from differences(world, out / str(world.source).lstrip("/"), without)
    shutil.rmtree(out)


def differences(world: World, restored: Path, without: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield where ``restored`` is not the source, but for paths ``without`` and what is below."""
    prefix = str(world.source).lstrip("/")
    left_out = [os.fsencode(path.removeprefix(prefix).lstrip("/")) for path in without]

    def known(path: bytes) -> bool:
        return any(path == one or path.startswith(one + b"/") or not one for one in left_out)

    rows = listing(restored) if restored.is_dir() else {}
    for path in sorted(world.rows.keys() | rows.keys()):
        if not known(path) and _compared(rows.get(path)) != _compared(world.rows.get(path)):
            if without and _is_parent(path, left_out):
                continue
            yield f"{os.fsdecode(path)!r} came back as another one: {rows.get(path)}"


def _compared(row: Row | None) -> Row | None:
    # With a name of a group left out the others have fewer, which is told for that name.
    return row and row._replace(linked_names=frozenset())


def _is_parent(path: bytes, others: list[bytes]) -> bool:
    return any(os.path.dirname(one) == path for one in others)  # noqa: PTH120 - bytes


def check_next_run(world: World, outcome: Outcome) -> Iterator[str]:
    """Take another snapshot; yield what is wrong then: I5, and that nothing is left over."""
    try:
        name = world.take()["store"][0]
    except BackupError as error:
        yield f"the next run fails: {error}"
        return
    found = [one.name for one in list_snapshots(LocalStorage(world.store), host=HOST, job=JOB)]
    if name not in found:
        yield f"the next run's {name} is not listed"
    yield from left_over(world.store)
    sequences = [
        (one.chain, one.sequence) for one in list_snapshots(LocalStorage(world.store), host=HOST)
    ]
    if len(set(sequences)) < len(sequences):
        yield f"two snapshots have one place in a chain: {sorted(sequences)}"
    yield from check_catalog(world, outcome)
    state = set(files_below(world.state))
    if outcome.lies:
        state = {name for name in state if ".damaged-" not in name}
    if not {"host-signing-key"} <= state <= {"host-signing-key", CATALOG_NAME}:
        yield f"the state directory holds {sorted(state)}"


def next_time(world: World, run: Callable[[World], object]) -> Iterator[str]:
    """Do it again; yield why that is not possible."""
    try:
        run(world)
    except BackupError as error:
        yield f"the same again fails: {error}"


def check_catalog(world: World, outcome: Outcome) -> Iterator[str]:
    """Use the catalog, if there is anything of one; yield what it does not bear."""
    if not set(files_below(world.state)) - {"host-signing-key"}:
        return
    told: list[str] = []
    storage = LocalStorage(world.store)
    catalog = world.catalog(told.append)
    catalog.snapshots(storage.url)
    catalog.proofs(storage.url)
    rebuild(catalog, storage, [world.key], now=world.clock())
    known = set(catalog.snapshots(storage.url))
    listed = {one.name for one in list_snapshots(storage)}
    if known != listed:
        yield f"the catalog, made again, knows {sorted(known)}, and there are {sorted(listed)}"
    if not outcome.lies:
        yield from told


def left_over(store: Path) -> Iterator[str]:
    """Yield what a store holds besides whole snapshots and the recovery files."""
    files = set(files_below(store))
    snapshots = [name for name in files if name.endswith(".enc")]
    known = {one for name in snapshots for one in (*beside(name), marker(name))}
    yield from (f"{name} is left over" for name in sorted(files - RECOVERY - known))


def checks_of(
    workload: Workload, world: World, outcome: Outcome, before: dict[str, bytes]
) -> list[str]:
    """Return everything that is wrong after a run."""
    wrong = []
    if outcome.end in {"foreign", "hung"}:
        wrong.append(f"it ended as {outcome.end}: {outcome.text}")
    allowed = ("SourceError",) if outcome.on_source else workload.errors
    allowed = (*allowed, "LockedError") if outcome.others else allowed
    if outcome.end == "error" and outcome.error not in allowed:
        wrong.append(f"it ended with {outcome.error}: {outcome.text}")
    try:
        wrong.extend(workload.check(world, outcome, before))
    except BackupError as error:
        wrong.append(f"a check was not possible: {type(error).__name__}: {error}")
    return wrong
