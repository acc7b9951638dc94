"""Where ``status`` looks: the configuration's jobs, the record of runs, the catalog."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from backup.cli.handing_over import socket_of, trusted_users
from backup.cli.invocation import Invocation
from backup.cli.scheduling import Scheduling, open_scheduling, reasons_to_wait
from backup.clock import system_clock
from backup.config.identity import digest_of
from backup.control import Request, ask
from backup.errors import BackupError
from backup.health import Health, examine
from backup.health.gathering import Now
from backup.tasks import watched_of

_OUTDATED = (
    "the daemon goes by another configuration; 'auto-backup daemon reload' lets it read this one"
)


def look(call: Invocation, names: Sequence[str]) -> Health:
    """Return how jobs are; all of them where none is named.

    Raises:
        ConfigError: There is no configuration, or no such job in it.
        RunStateError: The record of runs cannot be used.
    """
    found = open_scheduling(call)
    for name in names:
        found.task(name)
    health, remarks = _told_by_daemon(call, found)
    health = health or _gathered(call, found)
    jobs = tuple(one for one in health.jobs if not names or one.job in names)
    return replace(health, jobs=jobs, remarks=(*remarks, *health.remarks))


def _told_by_daemon(call: Invocation, found: Scheduling) -> tuple[Health | None, tuple[str, ...]]:
    """Return what the daemon tells, ``None`` where it cannot, and what a person should hear."""
    try:
        answer = ask(socket_of(call), Request("status"), trusted_users(call))
    except BackupError as error:
        return None, (error.message,)
    if answer is None:
        return None, ()
    if answer.fields.get("daemon", {}).get("digest") != digest_of(found.configuration):
        return None, (_OUTDATED,)
    try:
        return msgspec.convert(answer.fields.get("health"), Health), ()
    except msgspec.ValidationError:
        return None, ("the daemon is of another version",)


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
