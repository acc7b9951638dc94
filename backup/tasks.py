"""From a configuration to tasks: its jobs, and the upkeep of what they store.

A task's run is the command itself, as a fresh process: what it does is what a person would do by
hand, and no fault of it reaches who started it. Upkeep that comes later adds itself to ``UPKEEP``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from backup.conditions import NO_CONDITIONS, Conditions
from backup.config.keeping import keep_rules
from backup.config.models import Configuration, Job, Store
from backup.config.scheduling import CHECKS
from backup.environment import default_store_dir, variable
from backup.errors import ConfigError
from backup.health import Watched
from backup.health.judging import levels
from backup.pool.starting import find_python, import_path
from backup.retention import RetentionPolicy
from backup.running import RETRY, STALL_AFTER, CommandWork, Task
from backup.running.task import Begin
from backup.storage import open_storage
from backup.triggers import Retry, Trigger, every

_NOTHING_THERE = 10
_AGAIN = Retry(times=1, wait=timedelta(hours=1))
_DEFAULT_STORE = "default"
_ALL_EACH = 7
_LONGEST = timedelta(days=3660)
_DAY = timedelta(days=1)
_COMMAND = "import sys; sys.path[:] = {path!a}; from backup.cli import main; sys.exit(main())"
_FROM = "import os; os.chdir({directory!a}); "


class Place(NamedTuple):
    """A job in one of its stores; ``is_readable``: whether this host can open its snapshots."""

    job: str
    work: Job
    name: str
    store: Store | None
    host: str
    is_readable: bool = True

    def keep(self) -> RetentionPolicy | None:
        """Return what to keep of the job there."""
        own = None if self.store is None else self.store.keep
        return self.work.keep if own is None else own

    def options(self) -> list[str]:
        """Return the options of a command that is about that store.

        By its name: a URL may have a password in it, which others could read.
        """
        return [] if self.store is None else [f"--store={self.name}"]


class Program(NamedTuple):
    """How to call the command: what starts it, and the options that all its calls get."""

    command: tuple[str, ...]
    options: tuple[str, ...] = ()

    def call(self, *arguments: str) -> list[str]:
        """Return a command line."""
        return [*self.command, *self.options, *arguments]


Upkeep = Callable[[Program, Place], Iterator[Task]]


def this_program(options: Sequence[str] = (), directory: Path | None = None) -> Program:
    """Return how to call this very program anew.

    Args:
        options: What all calls get.
        directory: Where it is to run, if not where this one does.

    Raises:
        ConfigError: There is no Python to start it with.
    """
    try:
        python = find_python()
    except OSError as error:
        raise ConfigError("there is no Python to run jobs with") from error
    code = _COMMAND.format(path=import_path())
    if directory is not None:
        code = _FROM.format(directory=str(directory)) + code
    return Program((python, "-P", "-c", code), tuple(options))


def tasks_of(
    configuration: Configuration, program: Program, host: str, *, only_writes: bool = False
) -> list[Task]:
    """Return all tasks of a configuration: its jobs first, in their order.

    Args:
        configuration: The configuration.
        program: How to call the command.
        host: This machine's name in the stores.
        only_writes: Whether it cannot open its own snapshots: others rotate them, and check
            their contents.
    """
    jobs, upkeep = [], []
    for name in configuration.jobs:
        jobs.append(_job(name, configuration.job(name), program))
        for place in places_of(configuration, name, host):
            here = place._replace(is_readable=not only_writes)
            upkeep += [task for make in UPKEEP for task in make(program, here)]
    return [*jobs, *upkeep]


def places_of(configuration: Configuration, job: str, host: str) -> Iterator[Place]:
    """Yield a job in each of its stores."""
    work = configuration.job(job)
    for name in configuration.stores_of(job):
        yield Place(job, work, name, configuration.store(name), host)
    if not configuration.stores_of(job):
        yield Place(job, work, _DEFAULT_STORE, None, host)


def watched_of(
    configuration: Configuration, host: str, *, only_writes: bool = False
) -> list[Watched]:
    """Return the jobs of a configuration, with what it takes for each of them to be well.

    Args:
        configuration: The configuration.
        host: This machine's name in the stores.
        only_writes: As ``tasks_of`` has it.
    """
    found = []
    for name in configuration.jobs:
        places = list(places_of(configuration, name, host))
        checks = configuration.job(name).verify or CHECKS
        found.append(
            Watched(
                name,
                _urls(places),
                levels(checks, is_readable=not only_writes),
                keeps_all=not any(one.keep() for one in places),
            )
        )
    return found


def _urls(places: Sequence[Place]) -> dict[str, str]:
    """Return the URLs of stores by their names; one that the environment names stands for all."""
    given = variable("STORE")
    if given:
        return {given: _url(given)}
    return {
        one.name: _url(str(default_store_dir()) if one.store is None else one.store.url)
        for one in places
    }


def _url(said: str) -> str:
    return open_storage(said if "://" in said else Path(said).expanduser()).url


def _job(name: str, work: Job, program: Program) -> Task:
    return Task(
        name=name,
        begin=_calling(program.call("backup", name), work),
        trigger=work.schedule,
        apart=name,
        retry=work.retry or RETRY,
        conditions=_conditions(work),
        stall_after=work.stall_after or STALL_AFTER,
    )


def _conditions(work: Job) -> Conditions:
    return work.only_if or NO_CONDITIONS


def _calling(command: Sequence[str], work: Job, nothing: tuple[int, ...] = ()) -> Begin:
    return lambda lock, on_output: CommandWork(
        command, lock=lock, timeout=work.timeout, nothing=nothing, on_output=on_output
    )


def _upkeep(
    place: Place, name: str, command: Sequence[str], trigger: Trigger, *, apart: str = ""
) -> Task:
    return Task(
        name=name,
        begin=_calling(command, place.work, (_NOTHING_THERE,)),
        trigger=trigger,
        at_once=False,
        apart=apart or f"verify/{place.job}",
        retry=_AGAIN,
        conditions=_conditions(place.work),
        is_upkeep=True,
        stall_after=place.work.stall_after or STALL_AFTER,
    )


def _rotations(program: Program, place: Place) -> Iterator[Task]:
    """Yield the daily rotation; without ``keep`` there is none.

    A job rotates after each run of its own. This one empties the trash in time also of a job that
    runs rarely, or fails.
    """
    keep = place.keep()
    if keep and place.is_readable:
        rules = [f"--keep={one}" for one in keep_texts(keep)]
        job = f"{place.host}/{place.job}"
        command = program.call("rotate", job, *place.options(), *rules)
        name = f"rotate/{place.name}/{place.job}"
        yield _upkeep(place, name, command, every(_DAY), apart=place.job)


def keep_texts(keep: RetentionPolicy) -> list[str]:
    """Return what ``--keep`` has to say for a policy."""
    rules = keep_rules(keep)
    tags = rules.pop("tags", [])
    return [f"{word}={value}" for word, value in rules.items()] + [
        f"tag={one}" for one in (tags if isinstance(tags, list) else [])
    ]


def _verifications(program: Program, place: Place) -> Iterator[Task]:
    """Yield the checks: checksums of the newest, each seventh time of all; contents."""
    checks = place.work.verify or CHECKS
    name = f"verify/{place.name}/{place.job}"
    of_job = (*place.options(), f"--host={place.host}", f"--job={place.job}")
    if checks.checksum is not None:
        options = (*place.options(), "--level=checksum")
        newest = program.call("verify", f"{place.host}/{place.job}", *options)
        yield _upkeep(place, name, newest, every(checks.checksum))
        everything = program.call("verify", "--level=checksum", *of_job)
        yield _upkeep(
            place, f"{name}/all", everything, every(min(checks.checksum * _ALL_EACH, _LONGEST))
        )
    if checks.content is not None and place.is_readable:
        contents = program.call("verify", "--level=content", *of_job)
        yield _upkeep(place, f"{name}/content", contents, every(checks.content))


UPKEEP: tuple[Upkeep, ...] = (_rotations, _verifications)
"""What is done for each job in each store besides its runs."""
