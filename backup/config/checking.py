"""Checks of a configuration as a whole: what is right key by key and does not fit together.

They look at the values as the files have them, so that they find their part also where something
else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from backup.config.problems import KeyPath, Problem, did_you_mean, dotted
from backup.config.tree import Node
from backup.config.values import url_problem
from backup.snapshot.compression import COMPRESSIONS, DEFAULT_LEVELS, LEVELS

DEFAULT_COMPRESSION = "xz"


def check(root: Node) -> Iterator[Problem]:
    """Yield what does not fit together."""
    stores = _mapping(root, "stores")
    defaults = _mapping(root, "defaults")
    yield from _check_stores(defaults, ("defaults",), stores)
    for name, job in _mapping(root, "jobs").items():
        if isinstance(job.value, dict):
            way = ("jobs", name)
            yield from _check_stores(job.value, way, stores)
            yield from _check_choice(job, way, defaults, stores)
            yield from _check_level(job.value, way, defaults)


def _mapping(root: Node, key: str) -> dict[str, Node]:
    found = root.value.get(key) if isinstance(root.value, dict) else None
    return found.value if found is not None and isinstance(found.value, dict) else {}


def _check_stores(
    work: Mapping[str, Node], path: KeyPath, stores: Mapping[str, Node]
) -> Iterator[Problem]:
    said = work.get("stores")
    if said is None:
        return
    for number, one in said.below() or [(0, said)]:
        reason = store_problem(one.value, stores) if isinstance(one.value, str) else ""
        if reason:
            yield Problem(one.place, dotted((*path, "stores", number)), reason)


def store_problem(said: str, stores: Mapping[str, object]) -> str:
    """Return why ``said`` is neither the name of a store nor its path or URL, else nothing."""
    if said in stores:
        return ""
    if "://" in said:
        return url_problem(said)
    if said.startswith("~") or Path(said).is_absolute():
        return ""
    return f"there is no store {said!r}{did_you_mean(said, stores.keys())}"


def _check_choice(
    job: Node, path: KeyPath, defaults: Mapping[str, Node], stores: Mapping[str, Node]
) -> Iterator[Problem]:
    own = job.value if isinstance(job.value, dict) else {}
    if len(stores) > 1 and "stores" not in own and "stores" not in defaults:
        yield Problem(
            job.place,
            dotted(path),
            f"it does not say to which stores; there are {', '.join(stores)}:"
            " name some behind stores, here or in defaults",
        )


def _check_level(
    job: Mapping[str, Node], path: KeyPath, defaults: Mapping[str, Node]
) -> Iterator[Problem]:
    level = job.get("level", defaults.get("level"))
    said = job.get("compression", defaults.get("compression"))
    compression = DEFAULT_COMPRESSION if said is None else said.value
    if level is None or not isinstance(level.value, int) or isinstance(level.value, bool):
        return
    if not isinstance(compression, str) or compression not in COMPRESSIONS:
        return
    archive = COMPRESSIONS[compression]
    levels = LEVELS[archive]
    if level.value in levels:
        return
    key = next((one for one in ("level", "compression") if one in job), "")
    node, way = (job[key], (*path, key)) if key else (level, ("defaults", "level"))
    name = "" if key else f" of {dotted(path)}"
    yield Problem(
        node.place,
        dotted(way),
        f"the compression {compression}{name} has no level {level.value}: it has"
        f" {levels.start} to {levels.stop - 1}, and {DEFAULT_LEVELS[archive]} where none is said",
    )
