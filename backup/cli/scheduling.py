"""What the commands of ``schedule`` work with: the configuration's tasks and the record of runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backup.cli.configured import host_of_jobs
from backup.cli.invocation import Invocation
from backup.cli.output import print_note
from backup.conditions import NO_CONDITIONS, reason_against
from backup.config.problems import refuse_unknown_jobs
from backup.environment import local_zone
from backup.errors import ConfigError
from backup.run_state import RUNS_NAME, JobRuns, RunState
from backup.running import Runner, Task, Turn, plan

if TYPE_CHECKING:
    from backup.config.models import Configuration

_ASKING = 3.0


class Scheduling(NamedTuple):
    """All that a command of ``schedule`` needs."""

    configuration: Configuration
    tasks: list[Task]
    state: RunState
    host: str
    zone: tzinfo

    def task(self, name: str) -> Task:
        """Return the task of that name.

        Raises:
            ConfigError: There is none.
        """
        known = {one.name: one for one in self.tasks}
        refuse_unknown_jobs([name], known)
        return known[name]

    def known(self) -> dict[str, JobRuns]:
        """Return what is known of all tasks; those that are new are first seen now."""
        return self.state.see(one.name for one in self.tasks)

    def plan(self, known: Mapping[str, JobRuns], now: datetime) -> list[Turn]:
        """Return when each task is next."""
        return plan(self.tasks, known, now, self.zone, self.host)

    def runner(self, **options: object) -> Runner:
        """Return what runs the tasks."""
        return Runner(
            lambda: self.tasks,
            self.state,
            zone=self.zone,
            seed=self.host,
            **options,  # type: ignore[arg-type]  # as they are named there
        )


def open_scheduling(call: Invocation) -> Scheduling:
    """Return what the commands of ``schedule`` work with.

    Raises:
        ConfigError: There is no configuration, or it cannot be used.
    """
    from backup.tasks import tasks_of, this_program  # noqa: PLC0415 - costs start-up time

    settings = call.settings
    loaded = settings.loaded()
    if loaded is None:
        raise ConfigError("there is no configuration", hint="name one with --config FILE")
    host = host_of_jobs(call)
    program = this_program([f"--config={loaded.path.absolute()}", *_passed_on(call)])
    tasks = tasks_of(loaded.configuration, program, host, only_writes=settings.only_writes())
    state = RunState(settings.state_dir() / RUNS_NAME, tell=print_note)
    return Scheduling(loaded.configuration, tasks, state, host, local_zone())


def _passed_on(call: Invocation) -> list[str]:
    """Return the options of this call that hold for the commands that it starts."""
    said: dict[str, Path | str | None] = {
        "state-dir": call.settings.state and call.settings.state.absolute(),
        "key-file": call.settings.key_file and call.settings.key_file.absolute(),
        "identity": call.settings.identity_file and call.settings.identity_file.absolute(),
        "passphrase-file": call.settings.passphrase_file
        and call.settings.passphrase_file.absolute(),
        "log-file": call.log_file and call.log_file.absolute(),
        "host": call.settings.host,
    }
    passed = [f"--{name}={value}" for name, value in said.items() if value]
    return [*passed, "--quiet"] if call.quiet else passed


def reasons_to_wait(turns: Sequence[Turn], seconds: float = _ASKING) -> dict[str, str]:
    """Return why tasks that are due may not begin, asking all at once for so many seconds."""
    asked = [one.task for one in turns if one.task.conditions != NO_CONDITIONS]
    found: dict[str, str | None] = {}

    def ask(task: Task) -> None:
        found[task.name] = reason_against(task.conditions)

    threads = [threading.Thread(target=ask, args=(one,), daemon=True) for one in asked]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    unanswered = f"its conditions have not been answered in {seconds:g} s"
    reasons = {one.name: found.get(one.name, unanswered) for one in asked}
    return {name: reason for name, reason in reasons.items() if reason}


def run_what_is_due(runner: Runner, woken: threading.Event) -> None:
    """Run all that is due, and what follows of it; return when nothing is left to do.

    Args:
        runner: What runs the tasks.
        woken: Is set when it should look again.
    """
    idle = 0
    while idle < 2:  # noqa: PLR2004 - a condition may be answered between a look and the next line
        woken.clear()
        runner.look()
        if runner.wait(0):
            idle += 1
            continue
        idle = 0
        woken.wait(1)
