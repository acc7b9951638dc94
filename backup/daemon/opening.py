"""What the daemon works by: a configuration, its frozen copy, and the tasks that read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backup.child_run import ChildRun
from backup.daemon.frozen import FrozenCopies, FrozenCopy
from backup.environment import Default
from backup.errors import BackupError, ConfigError
from backup.running import Task
from backup.tasks import Program, tasks_of, this_program

if TYPE_CHECKING:
    from backup.config.reading import Loaded

_ASKING = 30.0
_LONGEST = 300


class Opened(NamedTuple):
    """A configuration as it was found, and what else a call says.

    Args:
        loaded: The configuration.
        variables: What ``.env`` files set that counts.
        host: This machine's name in the stores.
        only_writes: Whether this host cannot open its own snapshots.
        remarks: What a person should hear.
    """

    loaded: Loaded
    variables: Mapping[str, Default]
    host: str
    only_writes: bool = False
    remarks: tuple[str, ...] = ()


Open = Callable[[], Opened]
"""Reads the configuration; a ``ConfigError`` tells all that is wrong with it."""


class InUse(NamedTuple):
    """What is gone by now."""

    opened: Opened
    copy: FrozenCopy
    program: Program
    tasks: dict[str, Task]

    def tasks_with(self, options: Sequence[str]) -> dict[str, Task]:
        """Return all tasks by their names, their commands with further options."""
        program = self.program._replace(options=(*self.program.options, *options))
        return _tasks(self.opened, self.copy, program)


def refuse_unscheduled(loaded: Loaded) -> None:
    """Refuse a configuration by which nothing would ever be run.

    Raises:
        ConfigError: No job has a schedule.
    """
    configuration = loaded.configuration
    if not any(configuration.job(name).schedule for name in configuration.jobs):
        raise ConfigError(
            f"no job in {loaded.path} has a schedule: there is nothing to do for a daemon",
            hint="give one a schedule, such as: schedule: every 6 hours",
        )


def use(opened: Opened, copies: FrozenCopies, options: tuple[str, ...]) -> InUse:
    """Freeze a configuration, and make its tasks.

    Args:
        opened: The configuration.
        copies: Where copies lie.
        options: What all commands get, besides ``--config``.

    Raises:
        ConfigError: It cannot be used.
    """
    refuse_unscheduled(opened.loaded)
    copy = copies.make(opened.loaded, opened.variables)
    program = this_program((f"--config={copy.config}", *options), copy.directory)
    return InUse(opened, copy, program, _tasks(opened, copy, program))


def _tasks(opened: Opened, copy: FrozenCopy, program: Program) -> dict[str, Task]:
    tasks = tasks_of(
        opened.loaded.configuration, program, opened.host, only_writes=opened.only_writes
    )
    return {one.name: copy.reading(one) for one in tasks}


def objection_of_program(options: tuple[str, ...], here: Path) -> str | None:
    """Return why the program on disk cannot work by the configuration; ``None`` if it can."""
    try:
        command = this_program(options, here).call("--quiet", "config", "validate")
        ended = ChildRun(command, timeout=_ASKING).run()
    except BackupError as error:
        return error.message
    if ended.timed_out:
        return f"'config validate' has not ended in {_ASKING:g} s"
    if ended.status == 0:
        return None
    said = ended.err.decode(errors="replace").strip().splitlines()
    return said[-1][:_LONGEST] if said else f"'config validate' ends with {ended.status}"
