"""From a configuration to what its service needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from backup.config.checking import DEFAULT_COMPRESSION
from backup.config.models import Configuration
from backup.manager.frame_pool import plan_workers, run_bytes
from backup.model import ArchiveType
from backup.pool.machine import Machine
from backup.snapshot.compression import DEFAULT_LEVELS, archive_type
from backup.storage import open_storage

_MEBIBYTE = 1 << 20
_OWN = 256 * _MEBIBYTE
_AT_ONCE = 2
_XZ_SHARE = 8
_TASKS, _THREADS = 128, 4
_HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))
_TEMPORARY = tuple(map(Path, ("/tmp", "/var/tmp")))  # noqa: S108 - where others put theirs
_COMING_AND_GOING = tuple(map(Path, ("/media", "/mnt", "/run/media")))


def local_stores(configuration: Configuration) -> list[Path]:
    """Return the directories of all stores that jobs write to, where they are local ones."""
    urls = dict.fromkeys(
        configuration.store(one).url
        for job in configuration.jobs
        for one in configuration.stores_of(job)
    )
    roots = (open_storage(url).local_root() for url in urls)
    return list(dict.fromkeys(Path(os.path.realpath(one)) for one in roots if one is not None))


def needs_network(configuration: Configuration) -> bool:
    """Tell whether a store is remote, or a condition may ask another machine."""
    for name in configuration.jobs:
        condition = configuration.job(name).only_if
        if condition is not None and (condition.reachable or condition.command):
            return True
        stores = [configuration.store(one).url for one in configuration.stores_of(name)]
        if any(open_storage(url).local_root() is None for url in stores):
            return True
    return False


def sources_of(configuration: Configuration) -> list[Path]:
    """Return all that is saved, links followed."""
    jobs = configuration.jobs.values()
    return [Path(os.path.realpath(one.path)) for job in jobs for one in job.sources]


def files_of(configuration: Configuration) -> list[Path]:
    """Return the files that a configuration names besides: lists of public keys, commands."""
    jobs = [configuration.job(one) for one in configuration.jobs]
    lists = [configuration.recipients, *(one.recipients for one in jobs)]
    named = [one for said in lists for one in said or () if one.startswith("/")]
    commands = [one.only_if.command[0] for one in jobs if one.only_if and one.only_if.command]
    return [Path(os.path.realpath(one)) for one in (*named, *commands)]


def in_homes(paths: Sequence[Path]) -> bool:
    """Tell whether any of ``paths`` lies in a home, or holds homes."""
    return _touch(paths, _HOMES)


def in_temporary(paths: Sequence[Path]) -> bool:
    """Tell whether any of ``paths`` lies in a directory for temporary files, or holds one."""
    return _touch(paths, _TEMPORARY)


def _touch(paths: Sequence[Path], places: Sequence[Path]) -> bool:
    return any(
        path.is_relative_to(place) or place.is_relative_to(path)
        for path in paths
        for place in places
    )


def writable_paths(configuration: Configuration, mounts: Sequence[str]) -> Iterator[str]:
    """Yield what has to be writable for the local stores, with ``-`` in front: it may be absent.

    For a disk that comes and goes that is the place where it is mounted: systemd would hold a
    directory on it by a mount of its own, and the disk could not be taken away any more.

    Args:
        configuration: The configuration.
        mounts: Where something is mounted.
    """
    said = {
        Path(one)
        for name in configuration.jobs
        for one in getattr(configuration.job(name).only_if, "mounted", ())
    }
    for root in local_stores(configuration):
        around = [path for path in (root, *root.parents) if path in said]
        around += [path for path in (root, *root.parents) if _may_go(path) and str(path) in mounts]
        yield f"-{around[0] if around else root}"


def _may_go(path: Path) -> bool:
    return any(path != one and path.is_relative_to(one) for one in _COMING_AND_GOING) or (
        path in _COMING_AND_GOING[:2]
    )


def most_memory(configuration: Configuration, machine: Machine) -> int | None:
    """Return so many bytes as runs take at most, ``None`` where the machine has no more.

    A run counts on half of the limit, and with xz on an eighth: the limit leaves it as many workers
    as it would have without one.
    """
    limit = _OWN
    for archive, level, workers in _work(configuration):
        planned = workers or plan_workers(machine, archive, level)
        share = _XZ_SHARE if archive is ArchiveType.TAR_XZ and not workers else _AT_ONCE
        limit = max(limit, _OWN + share * run_bytes(planned, archive, level))
    return limit if limit < machine.memory else None


def most_tasks(configuration: Configuration, machine: Machine) -> int:
    """Return so many processes and threads as runs have at most."""
    counts = [workers or machine.cores for _, _, workers in _work(configuration)]
    return _TASKS + _AT_ONCE * _THREADS * max(counts, default=1)


def _work(configuration: Configuration) -> Iterator[tuple[ArchiveType, int, int | None]]:
    for name in configuration.jobs:
        job = configuration.job(name)
        archive = archive_type(job.compression or DEFAULT_COMPRESSION)
        level = DEFAULT_LEVELS[archive] if job.level is None else job.level
        yield archive, level, job.workers
