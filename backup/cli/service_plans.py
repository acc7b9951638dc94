"""What ``service install`` would do in each of its three ways, and what speaks against it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backup.cli.configured import host_of_jobs
from backup.cli.invocation import Invocation
from backup.cli.servicing import Ground, fit, needs_of, options_of
from backup.config.dotenv import NAME as DOTENV
from backup.environment import own_state_dir
from backup.errors import BackupError, ConfigError
from backup.service.facts import command_path
from backup.service.fitness import Misfit
from backup.service.installing import Site, cron_steps, system_steps, user_steps
from backup.service.places import DAEMON_LOCK
from backup.service.program import parts_of, program_hint, program_problem
from backup.service.removing import judge_files, refuse_changed, refuse_foreign
from backup.service.site import (
    closed_directory,
    config_file,
    is_locked,
    state_at,
    systemd_version,
)
from backup.service.steps import Step
from backup.service.unit import Profile

if TYPE_CHECKING:
    from backup.config.reading import Loaded

CRON = "cron"
_OLDEST_SYSTEMD = 250
_BY_CRON = "--cron has cron run what is due"
_UNINSTALL_FIRST = "'auto-backup service uninstall' takes that away first"


class Plan(NamedTuple):
    """What would be done.

    Args:
        kind: The profile, or ``cron``.
        steps: All of it.
        obstacles: What speaks against it.
        misfits: The jobs that would not run.
        state: Where the state is going to lie.
    """

    kind: str
    steps: list[Step]
    obstacles: list[ConfigError]
    misfits: list[Misfit]
    state: Path


def plan_system(call: Invocation, loaded: Loaded, ground: Ground, profile: Profile) -> Plan:
    """Return how a service of the system would be installed."""
    service, places = ground.service(profile), ground.places
    facts, misfits = fit(call, loaded, service)
    files = [*loaded.files, loaded.path.parent / DOTENV]
    directories = dict.fromkeys(one.parent.absolute() for one in loaded.files)
    site = Site(
        places=places,
        service=service,
        is_there=os.path.lexists(places.unit),
        sysusers=command_path("systemd-sysusers"),
        files=tuple(config_file(one.absolute()) for one in files if one.is_file()),
        directories=tuple(map(config_file, directories)),
        stores=tuple(facts.stores.values()),
        state=state_at(places.state, [call.settings.state_dir(), own_state_dir()]),
    )
    steps = system_steps(site, needs_of(call, loaded, ground, facts, profile))
    obstacles = [*_of_root(ground), *_of_systemd(ground)]
    obstacles += _of_all(call, [places.unit, places.sysusers], misfits)
    obstacles += _of_files(loaded, ground, profile)
    if os.path.lexists(places.cron):
        obstacles.append(_does_it("cron", places.cron))
    obstacles += _of_daemon([call.settings.state_dir(), own_state_dir()], places.state)
    return Plan(profile, steps, obstacles, _of_jobs(misfits), places.state)


def plan_user(call: Invocation, loaded: Loaded, ground: Ground) -> Plan:
    """Return how a service of the user's own manager would be installed."""
    facts, misfits = fit(call, loaded, ground.service(Profile.USER))
    steps = user_steps(ground.places, needs_of(call, loaded, ground, facts, Profile.USER))
    obstacles = [*_of_systemd(ground), *_of_all(call, [ground.places.user_unit], misfits)]
    state = call.settings.state_dir().absolute()
    return Plan(Profile.USER, steps, obstacles, _of_jobs(misfits), state)


def plan_cron(call: Invocation, loaded: Loaded, ground: Ground) -> Plan:
    """Return how cron would be told: root's by a file, a user's by that user's crontab."""
    places, state = ground.places, call.settings.state_dir().absolute()
    options = options_of(call, loaded)
    steps = cron_steps(
        places,
        (*ground.program.words, *options, "--quiet", "schedule", "run", "--due"),
        lock=state / "cron.lock",
        flock=command_path("flock"),
        crontab=None if ground.is_root else own_crontab(ground),
    )
    obstacles = list(_of_all(call, [places.cron] if ground.is_root else [], []))
    is_there = places.cron.parent.is_dir() if ground.is_root else command_path("crontab")
    if not is_there:
        obstacles.append(ConfigError("there is no cron on this machine", hint="install it first"))
    if ground.is_root:
        reason = program_problem(parts_of(ground.program), as_reader=False)
        obstacles += [ConfigError(reason, hint=program_hint())] if reason else []
    units = (places.unit, places.user_unit)
    obstacles += [_does_it("systemd", one) for one in units if os.path.lexists(one)]
    return Plan(CRON, steps, obstacles, [], state)


def own_crontab(ground: Ground) -> str:
    """Return the user's crontab; nothing where there is none."""
    try:
        answer = ground.run(("crontab", "-l"), None)
    except BackupError:
        return ""
    return answer.out if answer.status == 0 else ""


def _of_jobs(misfits: Sequence[Misfit]) -> list[Misfit]:
    return [one for one in misfits if one.job]


def _does_it(who: str, path: Path) -> ConfigError:
    return ConfigError(f"{who} runs the jobs already: {path}", hint=_UNINSTALL_FIRST)


def _of_all(
    call: Invocation, written: Sequence[Path], misfits: Sequence[Misfit]
) -> Iterator[ConfigError]:
    """Yield what speaks against any service: no name, no key, files that are in the way."""
    try:
        host_of_jobs(call)
        found = judge_files(tuple(written))
        refuse_foreign(found)
        refuse_changed(found, agreed=call.yes)
    except ConfigError as error:
        yield error
    yield from (ConfigError(one.reason) for one in misfits if not one.job)


def _of_systemd(ground: Ground) -> Iterator[ConfigError]:
    if not ground.has_systemd():
        yield ConfigError(
            "systemd does not run here, so nothing would start the service",
            hint=f"{_BY_CRON}; a container's first process can be the daemon itself",
        )
        return
    version = systemd_version(ground.run)
    if version is not None and version < _OLDEST_SYSTEMD:
        yield ConfigError(
            f"systemd {version} is too old for the unit, which needs {_OLDEST_SYSTEMD}",
            hint=_BY_CRON,
        )


def _of_daemon(homes: Sequence[Path], place: Path) -> Iterator[ConfigError]:
    """Yield what runs the jobs from another state: neither would know of the other's runs."""
    for home in dict.fromkeys(homes):
        if home != place and is_locked(home / DAEMON_LOCK):
            yield ConfigError(
                f"a daemon runs the jobs already, with its state in {home}",
                hint="end it first; the service goes on where it was",
            )


def _of_root(ground: Ground) -> Iterator[ConfigError]:
    if not ground.is_root:
        hint = "call it with sudo, or with --user for a service of your own"
        yield ConfigError("only root can install a service of the system", hint=hint)


def _of_files(loaded: Loaded, ground: Ground, profile: Profile) -> Iterator[ConfigError]:
    """Yield what keeps another user from this program and this configuration."""
    as_reader = profile is Profile.READER
    reason = program_problem(parts_of(ground.program), as_reader=as_reader)
    if reason:
        yield ConfigError(reason, hint=program_hint())
    closed = closed_directory(loaded.path) if as_reader else None
    if closed is not None:
        hint = "move it to /etc/auto-backup/config.yaml, its place on a machine"
        yield ConfigError(f"{loaded.path} lies in {closed}, which only its owner enters", hint=hint)
