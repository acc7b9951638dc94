"""What the configuration says of jobs, for the commands that go by it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from backup.cli.excluding import Excludes
from backup.cli.invocation import Invocation
from backup.errors import ConfigError
from backup.model import ExcludeRules
from backup.retention import NOTHING_GOES, RetentionPolicy
from backup.sources.roots import patterns_of_sources
from backup.sources.rules import Excluder, parse_size
from backup.storage import open_storage
from backup.storage.base import BaseStorage
from backup.wiring import open_all

if TYPE_CHECKING:
    from backup.config.models import Configuration, Job
    from backup.config.reading import Loaded


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
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            there = f"there are: {', '.join(known)}" if known else "it has none"
            raise ConfigError(
                f"there is no job {name!r} in {loaded.path}",
                hint=f"did you mean {close[0]}?" if close else there,
            )
    if not known:
        raise ConfigError(
            f"there are no jobs in {loaded.path}", hint="see docs/CONFIGURATION.md for one"
        )
    return loaded, list(dict.fromkeys(names)) or known


def stores_of(call: Invocation, loaded: Loaded, name: str) -> list[BaseStorage]:
    """Open the stores of a job: those that an option names, else its own, else the default one."""
    configuration = loaded.configuration
    said = [configuration.store(one).url for one in configuration.stores_of(name)]
    return call.settings.open_stores() if call.settings.stores or not said else open_all(said)


def policy_of(call: Invocation, store: BaseStorage, job: str) -> RetentionPolicy:
    """Return what the configuration keeps of a job of this host in a store; the store's wins."""
    configuration = call.settings.configuration()
    if configuration is None or job not in configuration.jobs:
        return NOTHING_GOES
    return _in_store(configuration, store) or configuration.job(job).keep or NOTHING_GOES


def _in_store(configuration: Configuration, store: BaseStorage) -> RetentionPolicy | None:
    found = (one for one in configuration.stores.values() if open_storage(one.url).url == store.url)
    return next((one.keep for one in found), None)


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
    own = f"jobs.{name}.exclude"
    common = own if own in loaded.origins else "defaults.exclude"
    keys = [f"{common}[{number}]" for number in range(len(job.exclude or ()))]
    for place, source in enumerate(job.sources):
        keys += [f"jobs.{name}.sources[{place}].exclude[{n}]" for n in range(len(source.exclude))]
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
