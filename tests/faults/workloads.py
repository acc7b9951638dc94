"""What is done while something goes wrong.

A workload is three functions: what to make ready, what to do, and what to check afterwards. To add
one, write them, mostly of those in ``invariants``, and add a line to ``WORKLOADS``.
"""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import Iterator
from typing import Any

from backup.errors import LockedError
from backup.keys import create_key_file, load_key_file
from backup.listing import list_snapshots
from backup.locating import locate
from backup.manager.copying import copy_snapshot
from backup.restore.manager import RestoreManager
from backup.snapshot.frame import Section
from backup.storage.local import LocalStorage
from backup.verification import verify_snapshot
from tests.faults.caretaking import LOOKING_AFTER
from tests.faults.invariants import check_next_run, check_store, differences, left_over
from tests.faults.key_changes import KEY_CHANGES
from tests.faults.running import RUNNING
from tests.faults.world import (
    HOST,
    JOB,
    Outcome,
    Workload,
    World,
    beside,
    files_below,
    snapshots_in,
)
from tests.lister import listing

FIRST_KEEP = 2


def _check_taken(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    without = tuple(outcome.value.get("problems", ()))
    acknowledged = outcome.value.get("store", [])
    yield from check_store(world, world.store, acknowledged, before, without=without)
    if outcome.end in {"error", "interrupted"} and not outcome.on_source:
        yield from (f"after an error {one}" for one in _visible_rest(world, before))
    yield from check_next_run(world, outcome)


def _visible_rest(world: World, before: dict[str, bytes]) -> Iterator[str]:
    """Yield new snapshots whose run said that it failed but for one that can stay: a whole one."""
    for name in set(snapshots_in(files_below(world.now), "store")) - set(
        snapshots_in(before, "store")
    ):
        if not beside(name) <= set(files_below(world.store)):
            yield f"{name} is half there"


def _take_two(world: World) -> None:
    world.take()
    world.take()


def _rotate(world: World) -> dict[str, Any]:
    manager = world.manager(keep=FIRST_KEEP)
    path = manager.create_snapshot()
    return {"store": [os.path.relpath(path, world.store)]}


def _check_rotated(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    acknowledged = outcome.value.get("store", [])

    def kept(names: list[str]) -> list[str]:
        return names[-FIRST_KEEP:] if len(names) > len(snapshots_in(before, "store")) else names

    yield from check_store(world, world.store, acknowledged, before, kept=kept)
    left = [one.name for one in list_snapshots(LocalStorage(world.store))]
    if acknowledged and len(left) != FIRST_KEEP:
        yield f"rotation was acknowledged, and {len(left)} snapshots are left"
    yield from check_next_run(world, outcome)


def _prepare_copy(world: World) -> None:
    _take_two(world)
    names = [one.name for one in list_snapshots(LocalStorage(world.store))]
    copy_snapshot(LocalStorage(world.store), names[0], LocalStorage(world.second))


def _copy(world: World) -> dict[str, Any]:
    name = list_snapshots(LocalStorage(world.store))[-1].name
    copy_snapshot(LocalStorage(world.store), name, LocalStorage(world.second))
    return {"second": [name]}


def _check_copied(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    yield from check_store(world, world.store, [], before)
    yield from check_store(world, world.second, outcome.value.get("second", []), before)
    newest = list_snapshots(LocalStorage(world.store))[-1].name
    if newest not in {one.name for one in list_snapshots(LocalStorage(world.second))}:
        copy_snapshot(LocalStorage(world.store), newest, LocalStorage(world.second))
    yield from check_store(world, world.second, [newest], before)
    yield from check_next_run(world, outcome)
    last = list_snapshots(LocalStorage(world.store))[-1].name
    copy_snapshot(LocalStorage(world.store), last, LocalStorage(world.second))
    yield from (f"in the second store {one}" for one in left_over(world.second))


def _new_key(world: World) -> dict[str, Any]:
    return {"key": base64.urlsafe_b64encode(create_key_file(world.key_file).secret).decode()}


def _check_key(world: World, outcome: Outcome, _: dict[str, bytes]) -> Iterator[str]:
    files = files_below(world.now)
    if (
        outcome.end == "done"
        and files.get("keys/key", b"").decode().strip() != outcome.value["key"]
    ):
        yield f"the key that was made is not in its file, which holds {files.get('keys/key')!r}"
    if outcome.end == "error" and not outcome.lasting and "keys/key" in files:
        yield "a key is there though it was told that none could be made"
    if "keys/key" in files:
        load_key_file(world.key_file)
    else:
        create_key_file(world.key_file)
    world.key_file.unlink()
    yield from (f"{name} is left over" for name in files_below(world.key_file.parent))


def _verify(world: World) -> dict[str, Any]:
    storage = LocalStorage(world.store)
    for one in list_snapshots(storage):
        proof = verify_snapshot(locate(storage, one.name), [world.key])
        assert proof.holds, proof.errors
    return {}


def _check_untouched(world: World, _: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    if files_below(world.now) != before:
        yield "what only reads has changed something"


def _restore(world: World) -> dict[str, Any]:
    manager = RestoreManager(world.store, identities=[world.key])
    name = list_snapshots(LocalStorage(world.store))[-1].name
    report = manager.restore(name, world.target)
    assert not report.damaged, report.damaged
    return {"problems": [os.fsdecode(path) for path, _ in report.problems]}


def _check_restored(world: World, outcome: Outcome, before: dict[str, bytes]) -> Iterator[str]:
    restored = world.target / str(world.source).lstrip("/")
    if outcome.end == "done":
        yield from differences(world, restored, _with_other_names(world, outcome))
    elif restored.is_dir():
        # Whatever has its name is whole.
        for path in restored.rglob("*"):
            relative = bytes(path.relative_to(restored))
            if path.is_file() and not path.is_symlink() and b".partial" not in relative:
                wanted = world.rows.get(relative)
                if (
                    wanted is None
                    or (listing(path.parent)[os.fsencode(path.name)].sha256) != wanted.sha256
                ):
                    yield f"{path} is not what was saved"
    yield from check_store(world, world.store, [], before)


def _refused(world: World) -> dict[str, Any]:
    place = f"{HOST}/{JOB}"
    with LocalStorage(world.store).lock(place):
        try:
            world.take()
        except LockedError:
            return world.take(job="another")
    raise AssertionError("a second run of a job was let in")


def _beside_another(world: World) -> dict[str, Any]:
    with LocalStorage(world.store).create("testhost/another/file") as writer:
        writer.write(b"half of it")
        taken = world.take()
        writer.commit()
    LocalStorage(world.store).delete("testhost/another/file")
    return taken


def _plain_archive(world: World) -> dict[str, Any]:
    taken = world.take()
    reader = locate(LocalStorage(world.store), taken["store"][0]).open([world.key])
    pieces = [
        gzip.decompress(reader.compressed_piece(Section.ARCHIVE, number))
        for number, row in enumerate(reader.rows)
        if row.section is Section.ARCHIVE
    ]
    assert b"".join(pieces).endswith(bytes(1024)), "the archive does not end as a tar does"
    return taken


# Without any fault, and for the harness to be tried on: each is wrong where a mutant is.
ALONE = {
    "second run of a job": Workload(_refused, _take_two, _check_taken),
    "beside another job": Workload(_beside_another, _take_two, _check_taken),
    "plain archive": Workload(_plain_archive, check=_check_taken),
}


def _with_other_names(world: World, outcome: Outcome) -> tuple[str, ...]:
    """Return the paths that were told to be not as they should, and other names of these files."""
    prefix = str(world.source).lstrip("/") + "/"
    told = set()
    for path in outcome.value["problems"]:
        row = world.rows.get(os.fsencode(path.removeprefix(prefix)))
        told.update(
            [path, *(prefix + os.fsdecode(one) for one in (row.linked_names if row else ()))]
        )
    return tuple(told)


WORKLOADS = (
    LOOKING_AFTER
    | KEY_CHANGES
    | RUNNING
    | {
        "first snapshot": Workload(World.take, check=_check_taken),
        "next snapshot": Workload(World.take, _take_two, _check_taken, reads=("store", "state")),
        "snapshot and rotation": Workload(_rotate, _take_two, _check_rotated, removes=True),
        "copy": Workload(
            _copy, _prepare_copy, _check_copied, below=("second",), reads=("second", "store")
        ),
        "key new": Workload(_new_key, check=_check_key, below=("keys",), reads=()),
        "verify": Workload(_verify, _take_two, _check_untouched, below=()),
        "restore": Workload(
            _restore,
            World.take,
            _check_restored,
            below=("target",),
            errors=("StorageError", "RestoreError", "SecretKeyError"),
        ),
    }
)
