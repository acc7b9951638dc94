"""Doing things again and again, for programs, and for the daemon.

>>> scheduler = Scheduler(BackupManager("/home/ann", "/mnt/disk", key))   # doctest: +SKIP
>>> scheduler.every("6 hours").start()                                    # doctest: +SKIP

What is due is decided by ``backup.running.agenda``, from moments on disk; ``backup.running.runner``
runs it, whenever ``backup.running.heart`` beats.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from backup.clock import Clock, system_clock
from backup.conditions import NO_CONDITIONS, make_conditions
from backup.environment import host_name, local_zone, state_dir
from backup.errors import ConfigError, IntegrityError, InvalidArgumentError
from backup.run_state import RUNS_NAME, Run, RunState
from backup.running import RETRY, CallWork, Going, Heart, Runner, Task, Turn, Waiting
from backup.triggers import Retry, Trigger, make_trigger

if TYPE_CHECKING:
    from backup.verification import Proof

_LOG = logging.getLogger(__name__)
_STOPPING = 4.0
_DAY = timedelta(days=1)

Jobs = Mapping[str, Callable[[], object]]
"""Functions by the names of their jobs."""


@runtime_checkable
class Manager(Protocol):
    """What takes snapshots, as ``BackupManager`` does."""

    def create_snapshot(self) -> object:
        """Take a snapshot."""


def _ignore(*_: object) -> None:
    return


class Scheduler:
    """Runs jobs when they are due, on threads of its own; what was missed is made up for once.

    Which moments were served lies on disk, so a restart, a sleep or three days off bring exactly
    one run, and two schedulers of the same jobs do not run them twice.

    Args:
        manager: A ``BackupManager``, functions by the names of their jobs, or tasks.
        state: The directory of the record of runs; the manager's where it is not given.
        most_at_once: So many runs at once; one of over half an hour does not count any more.
        verify: Whether a manager's snapshots are checked, too: the newest daily, all weekly,
            contents monthly.
        zone: The time zone of what names none; the machine's where it is not given.
        clock: Tells the time.
        on_end: Is told of each run that has ended.

    Raises:
        ConfigError: The manager has no jobs.
    """

    def __init__(
        self,
        manager: Manager | Jobs | Sequence[Task],
        *,
        state: Path | None = None,
        most_at_once: int = 2,
        verify: bool = True,
        zone: tzinfo | None = None,
        clock: Clock = system_clock,
        on_end: Callable[[Task, Run], object] = _ignore,
    ) -> None:
        self._manager = manager if isinstance(manager, Manager) else None
        self._jobs = _jobs_of(manager)
        self._tasks = _tasks_of(manager)
        self._upkeep = _verifications(self._manager) if verify else []
        if not self._jobs and not self._tasks:
            raise ConfigError("there is nothing to schedule: the manager has no jobs")
        directory = state or getattr(manager, "state_dir", None) or state_dir()
        self._clock = clock
        self._heart: Heart | None = None
        self._runner = Runner(
            lambda: (*self._tasks, *self._upkeep),
            RunState(directory / RUNS_NAME, clock, tell=_LOG.warning),
            zone=zone or local_zone(),
            seed=host_name(),
            clock=clock,
            most_at_once=most_at_once,
            wake=self.wake,
            on_end=on_end,
        )

    def every(self, interval: str | timedelta, **options: Any) -> Self:
        """Run so often: ``every("6 hours")``, ``every("day").at("02:30")``.

        Args:
            interval: The time between two runs.
            options: ``job``: which one, where there are several; else all. ``jitter``, ``only_if``
                and ``time_zone`` as in a configuration; ``retry``: a ``Retry``.

        Raises:
            ConfigError: It makes no sense.
        """
        return self._add({"every": interval}, **options)

    def at(self, *times: str, **options: Any) -> Self:
        """Run each day at these times; behind ``every("day")`` it says when that is.

        Raises:
            ConfigError: It makes no sense; see ``every`` for the options.
        """
        last = self._tasks[-1] if self._tasks else None
        if last is not None and last.trigger is not None and last.trigger.interval == _DAY:
            for number, task in enumerate(self._tasks):
                if task.trigger == last.trigger:
                    refined = _with(last.trigger.at(*times), options)
                    self._tasks[number] = replace(task, trigger=refined)
            return self
        return self._add({"at": list(times)}, **options)

    def on(self, day: str, **options: Any) -> Self:
        """Run on days: ``on("monday at 03:00")``; see ``every`` for the options.

        Raises:
            ConfigError: It makes no sense.
        """
        return self._add({"on": day}, **options)

    def cron(self, line: str, **options: Any) -> Self:
        """Run as a line of cron says: ``cron("30 2 * * 1-5")``; see ``every`` for the options.

        Raises:
            ConfigError: It makes no sense.
        """
        return self._add({"cron": line}, **options)

    def start(self) -> Self:
        """Begin; what was missed is due now.

        Raises:
            ConfigError: Nobody said when.
        """
        if not self._tasks:
            raise ConfigError("nothing says when to run", hint='say .every("6 hours") first')
        if self._heart is None:
            self._runner.go_on()
            self._heart = Heart(self._runner.look, self._clock)
            self._heart.start()
        return self

    def stop(self) -> bool:
        """End within 5 seconds; tell whether nothing is left that runs.

        Commands are asked to end. A function cannot be ended: it goes on, and is no more than
        interrupted if the program ends first.
        """
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.stop()
        return self._runner.stop(_STOPPING)

    def wake(self) -> None:
        """Look now what is due, which else happens within 30 seconds."""
        if self._heart is not None:
            self._heart.wake()

    def verify(self) -> list[Proof]:
        """Compare the SHA-256 of each snapshot of the manager's with what was stored.

        Returns:
            A proof for each; damage is in it, not raised.

        Raises:
            ConfigError: This schedules no manager of snapshots.
            BackupError: The store does not answer.
        """
        check = getattr(self._manager, "verify_snapshots", None)
        if check is None:
            raise ConfigError("there are no snapshots to verify: this schedules no BackupManager")
        proofs: list[Proof] = check()
        return proofs

    def agenda(self) -> list[Turn]:
        """Return when each task is next, the first one at the front."""
        return self._runner.agenda()

    def waiting(self) -> dict[str, Waiting]:
        """Return the tasks that are due and wait for a condition, with the reason."""
        return self._runner.waiting()

    def running(self) -> list[str]:
        """Return the tasks that run now."""
        return self._runner.running()

    def going(self) -> list[Going]:
        """Return what is known of the runs that go on."""
        return self._runner.going()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing runs here; tell whether it came to that."""
        return self._runner.wait(seconds)

    def _add(
        self,
        said: dict[str, object],
        *,
        job: str | None = None,
        only_if: Mapping[str, object] | None = None,
        retry: Retry = RETRY,
        **options: object,
    ) -> Self:
        if job is not None and job not in self._jobs:
            raise InvalidArgumentError(
                f"there is no job {job!r}", hint="there are: " + ", ".join(self._jobs)
            )
        trigger = make_trigger(said | options)
        conditions = NO_CONDITIONS if only_if is None else make_conditions(only_if)
        for name in self._jobs if job is None else [job]:
            taken = any(task.apart == name for task in self._tasks)
            self._tasks.append(
                Task(
                    name=f"{name} {trigger.words}" if taken else name,
                    begin=_calling(self._jobs[name]),
                    trigger=trigger,
                    apart=name,
                    retry=retry,
                    conditions=conditions,
                )
            )
        return self


def _jobs_of(manager: object) -> dict[str, Callable[[], object]]:
    """Return the functions of a manager by the names of their jobs; none for tasks."""
    if isinstance(manager, Manager):
        return {str(getattr(manager, "name", "backup")): manager.create_snapshot}
    return dict(manager) if isinstance(manager, Mapping) else {}


def _tasks_of(manager: object) -> list[Task]:
    return (
        [one for one in manager if isinstance(one, Task)] if isinstance(manager, Sequence) else []
    )


def _calling(function: Callable[[], object]) -> Any:
    return lambda *_: CallWork(function)


def _with(trigger: Trigger, options: Mapping[str, Any]) -> Trigger:
    """Return ``trigger`` with the zone and the jitter that ``options`` say."""
    zone, jitter = options.get("time_zone"), options.get("jitter")
    trigger = trigger.in_time_zone(zone) if zone else trigger
    return trigger.with_jitter(jitter) if jitter else trigger


def _verifications(manager: object) -> list[Task]:
    """Return the upkeep of a manager that can check its snapshots."""
    check = getattr(manager, "verify_snapshots", None)
    if check is None:
        return []
    name = f"verify/{getattr(manager, 'name', 'backup')}"
    works: list[tuple[str, str, Callable[[], object]]] = [
        ("", "1 day", lambda: _prove(check(newest=True))),
        ("/all", "7 days", lambda: _prove(check())),
        ("/content", "30 days", lambda: _prove(check("content"))),
    ]
    return [
        Task(
            name=name + end,
            begin=_calling(work),
            trigger=make_trigger({"every": interval}),
            at_once=False,
            apart=name,
            is_upkeep=True,
        )
        for end, interval, work in works
    ]


def _prove(proofs: Sequence[Proof]) -> None:
    """Raise for damage, so that the run counts as failed."""
    damaged = [one.name for one in proofs if not one.holds]
    if damaged:
        raise IntegrityError(
            f"{len(damaged)} of {len(proofs)} snapshots are damaged: {', '.join(damaged[:3])}"
        )
