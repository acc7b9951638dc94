"""Workloads that change who can open what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from backup.errors import BackupError, SecretKeyError
from backup.listing import list_snapshots
from backup.locating import locate
from backup.manager.rewrapping import Change, rewrap
from backup.snapshot.header import check_header, parse_keys_file
from backup.snapshot.recipients import FernetKey, Identity, open_header
from backup.storage.local import LocalStorage
from backup.verification import verify_snapshot
from tests.faults.invariants import check_next_run, next_time, strangers
from tests.faults.world import KEY_TEXT, Outcome, Workload, World, files_below, snapshots_in

OWN_KEY = FernetKey.parse(KEY_TEXT)
OTHER_KEY = FernetKey(bytes(range(100, 132)))


def _change(world: World, change: Change, identities: list[Identity]) -> dict[str, Any]:
    storage = LocalStorage(world.store)
    names = [one.name for one in list_snapshots(storage)]
    for one in rewrap(storage, names, identities, change):
        if one.refused is not None:
            raise one.refused
    return {}


def _add_key(world: World) -> dict[str, Any]:
    return _change(world, Change(add=(OTHER_KEY,), proofs=(OTHER_KEY,)), [world.key])


def _remove_key(world: World) -> dict[str, Any]:
    """Take out the own key, which is refused: none that remains is proven. Then the other one."""
    with suppress(SecretKeyError):
        _change(world, Change(remove=frozenset({world.key.id})), [world.key])
    return _change(world, Change(remove=frozenset({OTHER_KEY.id})), [world.key])


def _exchange_key(world: World) -> dict[str, Any]:
    change = Change(add=(OTHER_KEY,), remove=frozenset({world.key.id}), proofs=(OTHER_KEY,))
    # After an interruption some open with the one key, some with the other.
    return _change(world, change, [world.key, OTHER_KEY])


def _take_and_add_key(world: World) -> None:
    world.take()
    world.take()
    _add_key(world)


def _keys_check(
    run: Callable[[World], object], *, old: tuple[FernetKey, ...], new: tuple[FernetKey, ...]
) -> Callable[[World, Outcome, dict[str, bytes]], Iterator[str]]:
    """Return a check that each keys file is for all of ``old``, or for all of ``new``."""

    def check(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
        names = snapshots_in(before, "store")
        sets = [{one.id for one in keys} for keys in (new, old)]
        if outcome.end == "done":
            sets.pop()
        yield from _keys_are(world, names, sets, before)
        yield from next_time(world, run)
        yield from _keys_are(world, names, [{one.id for one in new}], before)
        for name in names:
            for key in new:
                proof = verify_snapshot(locate(LocalStorage(world.store), name), [key])
                yield from (f"{name} does not open: {error.message}" for error in proof.errors)
        yield from check_next_run(world, outcome)

    return check


def _keys_are(
    world: World, names: list[str], sets: list[set[str]], before: dict[str, bytes]
) -> Iterator[str]:
    files = files_below(world.store)
    for name in names:
        for one in (name, name + ".sha256"):
            if files.get(one) != before[f"store/{one}"]:
                yield f"{one} is lost or changed"
        try:
            header = parse_keys_file(files[name + ".keys"])
            for slot in header.slots:
                key = {world.key.id: world.key, OTHER_KEY.id: OTHER_KEY}[slot.id]
                check_header(header, open_header(header, [key]))
        except (BackupError, KeyError) as error:
            yield f"{name}.keys is not valid: {error!r}"
            continue
        if {slot.id for slot in header.slots} not in sets:
            yield f"{name}.keys is for {[slot.id for slot in header.slots]}"
    yield from strangers(files)


def _take_two(world: World) -> None:
    world.take()
    world.take()


KEY_CHANGES = {
    "key add": Workload(
        _add_key,
        _take_two,
        _keys_check(_add_key, old=(OWN_KEY,), new=(OWN_KEY, OTHER_KEY)),
        below=("store",),
    ),
    "key remove": Workload(
        _remove_key,
        _take_and_add_key,
        _keys_check(_remove_key, old=(OWN_KEY, OTHER_KEY), new=(OWN_KEY,)),
        below=("store",),
    ),
    "key exchange": Workload(
        _exchange_key,
        _take_two,
        _keys_check(_exchange_key, old=(OWN_KEY,), new=(OTHER_KEY,)),
        below=("store",),
    ),
}
