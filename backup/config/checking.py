"""Checks of a configuration as a whole: what is right key by key and does not fit together.

They look at the values as the files have them, so that they find their part also where something
else is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from backup.config.problems import KeyPath, Problem, did_you_mean, dotted
from backup.config.tree import Node
from backup.config.values import url_problem
from backup.errors import BackupError
from backup.snapshot.compression import COMPRESSIONS, DEFAULT_LEVELS, LEVELS
from backup.storage import open_storage

DEFAULT_COMPRESSION = "xz"


def check(root: Node) -> Iterator[Problem]:
    """Yield what does not fit together."""
    stores = _mapping(root, "stores")
    defaults = _mapping(root, "defaults")
    yield from _check_places(stores)
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


def _check_places(stores: Mapping[str, Node]) -> Iterator[Problem]:
    """Refuse two names of one place, of which each might say another ``keep``."""
    names: dict[str, str] = {}
    for name, store in stores.items():
        url = store.value.get("url") if isinstance(store.value, dict) else None
        place = _place_of(url.value) if url is not None and isinstance(url.value, str) else ""
        if url is not None and place in names:
            text = f"it is the same place as the store {names[place]}: one name is enough"
            yield Problem(url.place, dotted(("stores", name, "url")), text)
        elif place:
            names[place] = name


def _place_of(url: str) -> str:
    """Return what ``url`` has in common with others for the same place; nothing for a wrong one."""
    try:
        store = open_storage(url if "://" in url else Path(url).expanduser())
    except (BackupError, RuntimeError):
        return ""
    root = store.local_root()
    return store.url if root is None else os.path.realpath(root)


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
