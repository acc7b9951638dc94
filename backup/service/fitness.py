"""Which jobs a profile cannot run, and why: decided by facts alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from backup.config.models import Configuration, Job
from backup.service.facts import Facts, MountFact, PathFact, StoreFact
from backup.service.places import USER
from backup.service.unit import Profile
from backup.storage import open_storage

_PRIVATE = tuple(map(Path, ("/proc", "/dev")))
_ASKING_FOR_RIGHTS = frozenset({"sudo", "doas", "su", "pkexec", "runuser", "setpriv"})
_OVER_NETWORK = ("nfs", "nfs4")
_OTHER_PROFILE = "the profile root could"


class Misfit(NamedTuple):
    """A job that a profile cannot run; ``job`` is empty where that is so for all of them."""

    job: str
    reason: str

    def __str__(self) -> str:
        """Return it as a line."""
        return f"job {self.job}: {self.reason}" if self.job else self.reason


class Service(NamedTuple):
    """Who is to run jobs: the profile, and the number of its user, ``None`` where it is new."""

    profile: Profile
    user: int | None


def misfits(
    configuration: Configuration, facts: Facts, service: Service, secrets: list[Path]
) -> Iterator[Misfit]:
    """Yield the jobs that ``service`` cannot run.

    Args:
        configuration: The configuration.
        facts: What was found of its stores, of its sources and commands, and of ``secrets``.
        service: Who is to run them.
        secrets: The files of keys that it needs.
    """
    for path in secrets:
        if not facts.paths[path].exists:
            yield Misfit("", f"there is no {path}: 'auto-backup key new' makes a key")
    for name in configuration.jobs:
        job = configuration.job(name)
        reasons = [
            *_of_stores(configuration, name, facts, service),
            *_of_sources(job, facts, service),
            *_of_command(job, facts, service),
        ]
        yield from (Misfit(name, one) for one in dict.fromkeys(reasons))


def _of_stores(
    configuration: Configuration, name: str, facts: Facts, service: Service
) -> Iterator[str]:
    said = configuration.stores_of(name)
    if not said and service.profile is not Profile.USER:
        yield "it does not say where to: the default store lies in somebody's home; name one"
    for one in said:
        root = open_storage(configuration.store(one).url).local_root()
        fact = None if root is None else facts.stores.get(Path(os.path.realpath(root)))
        reason = None if fact is None else store_problem(fact, service)
        if reason:
            yield f"its store {one}: {reason}"


def store_problem(fact: StoreFact, service: Service) -> str | None:
    """Return why ``service`` cannot write to a store, or could not be given it."""
    if fact.read_only:
        return f"{fact.path} is mounted for reading only"
    if service.profile is not Profile.READER or not fact.exists:
        return None
    if fact.strange is not None and fact.owners != {service.user}:
        return (
            f"{fact.path} holds what is no part of a store ({fact.strange}), and so it is not given"
            f" to {USER} as a whole: take that away, or: chown -R {USER}: {fact.path}"
        )
    theirs = sorted(fact.owners - {0, service.user})
    if theirs:
        return (
            f"something in {fact.path} belongs to user number {theirs[0]}, and {USER} could not"
            f" change it: chown -R {USER}: {fact.path}, or --profile root"
        )
    return None


def has_to_be_given(fact: StoreFact, service: Service) -> bool:
    """Tell whether a store is root's, and is to be the reader's."""
    return service.profile is Profile.READER and fact.exists and fact.owners != {service.user}


def _of_sources(job: Job, facts: Facts, service: Service) -> Iterator[str]:
    for source in job.sources:
        path = Path(os.path.realpath(source.path))
        reason = _source_problem(facts.paths[path], facts.mounts, service)
        if reason:
            yield f"its source {source.path}: {reason}"


def _source_problem(fact: PathFact, mounts: tuple[MountFact, ...], service: Service) -> str | None:
    if service.profile is Profile.USER:
        refused = fact.exists and fact.refused
        return "you may not read it: a service of the system could" if refused else None
    if any(fact.path.is_relative_to(one) for one in _PRIVATE):
        return "a service sees a /proc and a /dev of its own"
    mount = _mount_of(fact.path, mounts)
    if mount is None:
        return None
    user = 0 if service.profile is Profile.ROOT else service.user
    if mount.user is not None and mount.user != user:
        return (
            f"{mount.path} is mounted ({mount.type}) for user number {mount.user} alone:"
            " mount it with the option allow_other, or run that job as that user (--user)"
        )
    if mount.type in _OVER_NETWORK and fact.exists:
        return _over_network(fact, service)
    return None


def _over_network(fact: PathFact, service: Service) -> str | None:
    if service.profile is Profile.READER and not fact.open:
        return (
            f"it lies on NFS, whose server decides what {USER} may read, whatever it may read here;"
            f" {_OTHER_PROFILE}, where the server does not squash root"
        )
    if service.profile is Profile.ROOT and fact.refused:
        return "it lies on NFS, and its server does not let root read it (root_squash)"
    return None


def _mount_of(path: Path, mounts: tuple[MountFact, ...]) -> MountFact | None:
    """Return the mount that ``path`` is reached by: of several in one place the last."""
    around = [one for one in mounts if path.is_relative_to(one.path)]
    return max(reversed(around), key=lambda one: len(one.path.parts), default=None)


def _of_command(job: Job, facts: Facts, service: Service) -> Iterator[str]:
    command = job.only_if.command if job.only_if is not None else ()
    if not command:
        return
    fact = facts.paths[Path(command[0])]
    if not fact.exists:
        yield f"its condition's command {command[0]} does not exist"
    elif Path(command[0]).name in _ASKING_FOR_RIGHTS and service.profile is not Profile.ROOT:
        yield f"its condition's command {command[0]} gets no more rights than the service has"
    elif service.profile is Profile.READER and not fact.runs and fact.owner != service.user:
        yield f"its condition's command {command[0]} is not for {USER} to run; {_OTHER_PROFILE}"


def paths_to_look_at(configuration: Configuration, secrets: list[Path]) -> list[Path]:
    """Return the paths of which ``misfits`` needs facts, beside the directories of stores."""
    found = [*secrets]
    for name in configuration.jobs:
        job = configuration.job(name)
        found += [Path(os.path.realpath(one.path)) for one in job.sources]
        found += [Path(job.only_if.command[0])] if job.only_if and job.only_if.command else []
    return list(dict.fromkeys(found))
