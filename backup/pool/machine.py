"""How many processors and how much memory a run may count on, inside containers too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_MEGABYTE = 1_000_000
_BASE_BYTES = 300 * _MEGABYTE
_CORE_BYTES = 24 * _MEGABYTE
_BASE_CORES = 4
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_ABOVE = ".."


class Machine(NamedTuple):
    """Processors that may be used, and bytes of memory: those it has, or a container's limit."""

    cores: int
    memory: int


def this_machine(groups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> Machine:
    """Return what the scheduler, and the control groups, leave to this process.

    Args:
        groups: Where the system shows control groups (version 2).
        membership: The file that says in which of them this process is.
    """
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _own_groups(groups, membership):
        cores = min(cores, _cores_of(_read(group / "cpu.max"), cores))
        for name in ("memory.max", "memory.high"):
            limit = _read(group / name)
            memory = min(memory, int(limit[0])) if limit and limit[0].isdigit() else memory
    return Machine(cores, memory)


def _own_groups(groups: Path, membership: Path) -> Iterator[Path]:
    """Yield the group of this process and those around it, each of which may have limits."""
    own = PurePosixPath()
    for line in _lines(membership):
        if line.startswith("0::/"):
            own = PurePosixPath(line.removeprefix("0::/").rstrip("\n"))
    if _ABOVE in own.parts:  # it lies beside what this process can see
        own = PurePosixPath()
    yield groups / own
    yield from (groups / one for one in own.parents)


def _cores_of(quota: list[str], others: int) -> int:
    """Return how many cores a quota and its period stand for, rounded up."""
    if len(quota) != 2 or not all(map(str.isdigit, quota)) or not int(quota[1]):  # noqa: PLR2004
        return others
    return max(1, -(-int(quota[0]) // int(quota[1])))


def _read(path: Path) -> list[str]:
    lines = _lines(path)
    return lines[0].split() if lines else []


def _lines(path: Path) -> list[str]:
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        return file.readlines()
    return []


def memory_budget(machine: Machine) -> int:
    """Return how many bytes all processes of a run may take together.

    300 MB, and 24 MB for each core above four; half of the memory where that is less.
    """
    budget = _BASE_BYTES + _CORE_BYTES * max(machine.cores - _BASE_CORES, 0)
    return min(budget, machine.memory // 2)


def worker_count(machine: Machine, *, budget: int, own: int, each: int) -> int:
    """Return how many workers fit: at most one a core, at least one.

    Args:
        machine: Where they will run.
        budget: How many bytes all processes may take together.
        own: What the calling process and what is shared take.
        each: What a worker takes.
    """
    return max(1, min(machine.cores, (budget - own) // each))
