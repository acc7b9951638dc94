"""Where ``status`` looks: the configuration's jobs, the record of runs, the catalog."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from backup.cli.invocation import Invocation
from backup.cli.scheduling import open_scheduling, reasons_to_wait
from backup.clock import system_clock
from backup.health import Health, examine
from backup.health.gathering import Now
from backup.tasks import watched_of


def look(call: Invocation, names: Sequence[str]) -> Health:
    """Return how jobs are; all of them where none is named.

    Raises:
        ConfigError: There is no configuration, or no such job in it.
        RunStateError: The record of runs cannot be used.
    """
    found = open_scheduling(call)
    for name in names:
        found.task(name)
    watched = watched_of(found.configuration, found.host, only_writes=call.settings.only_writes())
    now = system_clock()
    due = [one for one in found.plan(found.state.jobs(), now) if one.is_due(now)]
    health = examine(
        watched,
        found.tasks,
        found.state,
        call.catalog(),
        host=found.host,
        now=now,
        zone=found.zone,
        going=Now(waiting=reasons_to_wait(due)),
    )
    if not names:
        return health
    return replace(health, jobs=tuple(one for one in health.jobs if one.job in names))
