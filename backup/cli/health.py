"""Where ``status`` looks: the configuration's jobs, the record of runs, the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from backup import environment
from backup.cli.handing_over import socket_of, trusted_users
from backup.cli.invocation import Invocation
from backup.cli.scheduling import Scheduling, open_scheduling, reasons_to_wait
from backup.clock import system_clock
from backup.config.finding import find_configuration, may_not_read
from backup.config.identity import digest_of
from backup.config.problems import refuse_unknown_jobs
from backup.control import Answer, Request, ask
from backup.errors import BackupError, ConfigError, DaemonError
from backup.health import Health, examine
from backup.health.gathering import Now
from backup.tasks import watched_of

OUTDATED = (
    "the daemon goes by another configuration; 'auto-backup daemon reload' lets it read this one"
)


def look(call: Invocation, names: Sequence[str]) -> Health:
    """Return how jobs are; all of them where none is named.

    The daemon is asked first, if there is one. It goes by the configuration that it has, also when
    the files are broken by now, or not for this user to read.

    Raises:
        ConfigError: There is no configuration, or no such job in it.
        RunStateError: The record of runs cannot be used.
    """
    told, besides = _told_by_daemon(call)
    try:
        found = open_scheduling(call)
    except ConfigError as error:
        if told is None:
            raise
        besides = _unusable(call, error) if _has_configuration(call) else _Besides()
        return _chosen(told.health, names, besides)
    if told is not None and told.digest == digest_of(found.configuration):
        return _chosen(told.health, names, besides)
    health = _gathered(call, found)
    if told is not None:
        besides = _Besides(told.health.problems, (OUTDATED,))
    return _chosen(health, names, besides)


class _Besides(NamedTuple):
    """What else is wrong, and what else is good to know."""

    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def _unusable(call: Invocation, error: ConfigError) -> _Besides:
    """Tell of files that are broken, or gone; that some are not for this user is no problem."""
    first = error.problems[0] if error.problems else error.message
    told = f"the configuration cannot be used, and the daemon goes on by the one it has: {first}"
    with suppress(ConfigError):
        path = find_configuration(call.settings.config)
        if path is not None and may_not_read(path):
            return _Besides(remarks=(told,))
    return _Besides(problems=(told,))


def _chosen(health: Health, names: Sequence[str], besides: _Besides) -> Health:
    refuse_unknown_jobs(names, [one.job for one in health.jobs])
    jobs = tuple(one for one in health.jobs if not names or one.job in names)
    problems = tuple(dict.fromkeys((*besides.problems, *health.problems)))
    return replace(
        health, jobs=jobs, problems=problems, remarks=(*besides.remarks, *health.remarks)
    )


class _Told(NamedTuple):
    """What the daemon tells; ``digest`` is that of its configuration."""

    health: Health
    digest: str


def _told_by_daemon(call: Invocation) -> tuple[_Told | None, _Besides]:
    """Return what the daemon tells, ``None`` where it cannot, and what a person should hear."""
    try:
        answer = _ask(call)
    except DaemonError as error:
        return None, _Besides(problems=(error.message,))
    except BackupError as error:
        return None, _Besides(remarks=(error.message,))
    if answer is None:
        return None, _Besides()
    try:
        health = msgspec.convert(answer.fields.get("health"), Health)
        return _Told(health, str(answer.fields.get("daemon", {}).get("digest"))), _Besides()
    except msgspec.ValidationError:
        return None, _Besides(remarks=("the daemon is of another version",))


def _ask(call: Invocation) -> Answer | None:
    """Ask the daemon; one who has none, and no jobs either, means the machine's."""
    asked = Request("status")
    answer = ask(socket_of(call), asked, trusted_users(call))
    if answer is not None or _names_state(call) or _has_configuration(call):
        return answer
    state = environment.SYSTEM_STATE
    with suppress(OSError):
        return ask(environment.control_socket(state), asked, [state.stat().st_uid])
    return None


def _names_state(call: Invocation) -> bool:
    return bool(call.settings.state or environment.variable("STATE_DIR"))


def _has_configuration(call: Invocation) -> bool:
    try:
        return call.settings.configuration() is not None
    except ConfigError:
        return True


def _gathered(call: Invocation, found: Scheduling) -> Health:
    watched = watched_of(found.configuration, found.host, only_writes=call.settings.only_writes())
    now = system_clock()
    due = [one for one in found.plan(found.state.jobs(), now) if one.is_due(now)]
    return examine(
        watched,
        found.tasks,
        found.state,
        call.catalog(),
        host=found.host,
        now=now,
        zone=found.zone,
        going=Now(waiting=reasons_to_wait(due)),
    )
