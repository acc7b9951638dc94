"""What the configuration says of jobs, for the commands that go by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backup.cli.excluding import Excludes
from backup.cli.invocation import Invocation
from backup.config.problems import Problem, dotted, refuse_unknown_jobs
from backup.environment import default_store_dir, in_container, variable
from backup.errors import ConfigError
from backup.model import ExcludeRules
from backup.retention import NOTHING_GOES, RetentionPolicy
from backup.sources.roots import patterns_of_sources
from backup.sources.rules import Excluder, parse_size
from backup.storage import open_storage
from backup.storage.base import BaseStorage
from backup.wiring import Settings, open_all

if TYPE_CHECKING:
    from backup.config.models import Configuration, Job
    from backup.config.reading import Loaded

NAMELESS = "a container gets a new name each time: say host: in the configuration"


def host_of_jobs(call: Invocation) -> str:
    """Return this machine's name, under which its jobs save.

    Raises:
        ConfigError: It is a container, and nobody says its name: its own one would begin new
            snapshots, and new chains, each time that it is made.
    """
    settings = call.settings
    if not settings.host and not variable("HOST") and in_container():
        configuration = settings.configuration()
        if configuration is None or not configuration.host:
            raise ConfigError(NAMELESS, hint="or with --host, or AUTO_BACKUP_HOST")
    return settings.host_name()


def problem_of_host(call: Invocation, loaded: Loaded) -> Problem | None:
    """Return the same as a problem of the configuration."""
    said = loaded.configuration.host or call.settings.host or variable("HOST")
    if said or not in_container():
        return None
    return Problem(loaded.origins["version"], "host", NAMELESS)


def chosen_jobs(call: Invocation, names: Sequence[str]) -> tuple[Loaded, list[str]]:
    """Return the configuration, and the names of the jobs that are meant: none means all.

    Raises:
        ConfigError: There is no configuration, or no such job in it.
    """
    loaded = call.settings.loaded()
    if loaded is None:
        raise ConfigError(
            f"there is no configuration, and so no job {names[0]!r}",
            hint="what to save stands behind --source;"
            " 'auto-backup config init' makes a configuration",
        )
    known = list(loaded.configuration.jobs)
    refuse_unknown_jobs(names, known, str(loaded.path))
    if not known:
        raise ConfigError(
            f"there are no jobs in {loaded.path}", hint="see docs/CONFIGURATION.md for one"
        )
    return loaded, list(dict.fromkeys(names)) or known


def stores_of(call: Invocation, loaded: Loaded, name: str) -> list[BaseStorage]:
    """Open the stores of a job: those that the call names, else its own, else the default one."""
    return _stores_of(call.settings, loaded.configuration, name)


def _stores_of(settings: Settings, configuration: Configuration, name: str) -> list[BaseStorage]:
    if settings.names_store():
        return settings.open_stores()
    said = [configuration.store(one).url for one in configuration.stores_of(name)]
    return open_all(said or [str(default_store_dir())])


def policy_of(call: Invocation, store: BaseStorage, job: str) -> RetentionPolicy:
    """Return what the configuration keeps of a job of this host in a store; the store's wins.

    What a job says counts in its own stores: nobody has said it of another one, which an option
    names for once, such as a disk with old copies.
    """
    configuration = call.settings.configuration()
    if configuration is None or job not in configuration.jobs:
        return NOTHING_GOES
    said = _in_store(configuration, store)
    if said is None and _is_own(call, configuration, store, job):
        said = configuration.job(job).keep
    return NOTHING_GOES if said is None else said


def _in_store(configuration: Configuration, store: BaseStorage) -> RetentionPolicy | None:
    found = (one for one in configuration.stores.values() if open_storage(one.url).url == store.url)
    return next((one.keep for one in found), None)


def _is_own(call: Invocation, configuration: Configuration, store: BaseStorage, job: str) -> bool:
    """Whether ``store`` is one of the job's; where the configuration has none, any is."""
    settings = call.settings
    if configuration.stores_of(job):
        settings = settings._replace(stores=())
    return store.url in {one.url for one in _stores_of(settings, configuration, job)}


def excludes_of(loaded: Loaded, name: str) -> Excludes:
    """Return what a job leaves out, and where each pattern of it is said."""
    job = loaded.configuration.job(name)
    rules = ExcludeRules(
        exclude=job.exclude or (),
        if_present=job.exclude_if_present or (),
        caches=bool(job.exclude_caches),
        one_file_system=bool(job.one_file_system),
        larger_than=parse_size(job.exclude_larger_than) if job.exclude_larger_than else 0,
        of_source=patterns_of_sources((one.path, one.exclude) for one in job.sources),
    )
    origins = tuple(_origins(loaded, name, job))
    Excluder(rules, origins)  # refuses what cannot be used
    return Excludes(rules, origins)


def _origins(loaded: Loaded, name: str, job: Job) -> list[str]:
    """Return where each pattern is said, in the order in which ``Excluder`` takes them."""
    own = dotted(("jobs", name, "exclude"))
    common = own if own in loaded.origins else "defaults.exclude"
    keys = [f"{common}[{number}]" for number in range(len(job.exclude or ()))]
    for place, source in enumerate(job.sources):
        way = dotted(("jobs", name, "sources", place, "exclude"))
        keys += [f"{way}[{number}]" for number in range(len(source.exclude))]
    return [_place(loaded, key) for key in keys]


def _place(loaded: Loaded, key: str) -> str:
    """Return where ``key`` is said; a single text stands for a list of one."""
    place = loaded.origins.get(key) or loaded.origins.get(key.rpartition("[")[0])
    return str(place or loaded.path)


def combined(first: Excludes, second: Excludes) -> Excludes:
    """Return what both leave out; patterns of the second decide where both fit."""
    one, other = first.rules, second.rules
    rules = ExcludeRules(
        exclude=one.exclude + other.exclude,
        if_present=one.if_present + other.if_present,
        caches=one.caches or other.caches,
        one_file_system=one.one_file_system or other.one_file_system,
        larger_than=other.larger_than or one.larger_than,
        of_source=one.of_source,
    )
    common = len(one.exclude)
    origins = first.origins[:common] + second.origins + first.origins[common:]
    return Excludes(rules, origins)
