"""What the daemon answers at its socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import tzinfo
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from backup._version import VERSION
from backup.catalog import Catalog
from backup.clock import Clock
from backup.config.identity import digest_of, variable_digests
from backup.config.problems import refuse_unknown_jobs
from backup.control import Answer, Conversation, Request
from backup.daemon.handovers import Handovers
from backup.errors import ConfigError
from backup.health import Health, examine
from backup.health.gathering import Now
from backup.health.records import Progress
from backup.running import Going, Task, Waiting
from backup.tasks import watched_of

if TYPE_CHECKING:
    from backup.daemon.daemon import Daemon


class Answers:
    """Answers what is asked at the socket.

    Args:
        daemon: The daemon.
        catalog: What is known of stores.
        clock: Tells the time.
        zone: The machine's time zone.
    """

    def __init__(self, daemon: Daemon, catalog: Catalog, clock: Clock, zone: tzinfo) -> None:
        self._daemon = daemon
        self._catalog = catalog
        self._clock = clock
        self._zone = zone
        self._since = clock()
        self.handovers = Handovers(daemon.begin_by_hand)

    def handle(self, request: Request, conversation: Conversation) -> None:
        """Answer; what is asked for by ``run`` goes on, and is told as it does.

        Raises:
            BackupError: It is refused.
        """
        if request.do == "run":
            self.handovers.begin(self._tasks(request), conversation)
            return
        conversation.tell(Answer(self._fields(request)))
        conversation.finish()

    def _fields(self, request: Request) -> dict[str, object]:
        if request.do == "reload":
            return self._reload()
        if request.do == "status":
            return {"daemon": self._hello(), "health": msgspec.to_builtins(self._health())}
        return self._hello()

    def _hello(self) -> dict[str, object]:
        opened = self._daemon.in_use.opened
        return {
            "pid": os.getpid(),
            "version": VERSION,
            "since": self._since,
            "configuration": str(opened.loaded.path),
            "digest": digest_of(opened.loaded.configuration),
            "variables": variable_digests(),
            "status": self._daemon.status(),
        }

    def _reload(self) -> dict[str, object]:
        problems = self._daemon.reload()
        if problems:
            path = str(self._daemon.in_use.opened.loaded.path)
            raise ConfigError.of_problems(path, problems, hint="the daemon goes on by the old one")
        return self._hello()

    def _health(self) -> Health:
        opened = self._daemon.in_use.opened
        watched = watched_of(
            opened.loaded.configuration, opened.host, only_writes=opened.only_writes
        )
        found = examine(
            watched,
            list(self._daemon.tasks.values()),
            self._daemon.state,
            self._catalog,
            host=opened.host,
            now=self._clock(),
            zone=self._zone,
            going=_going(self._daemon.runner.going(), self._daemon.runner.waiting()),
        )
        problem = self._daemon.problem
        return replace(found, problems=(problem,)) if problem else found

    def _tasks(self, request: Request) -> list[Task]:
        """Return the tasks that are to be run.

        Raises:
            ConfigError: There is none of such a name.
        """
        known = self._daemon.in_use.tasks_with(request.options)
        jobs = [name for name, one in known.items() if not one.is_upkeep]
        if not set(request.names) <= known.keys():
            refuse_unknown_jobs(request.names, jobs, "the daemon's configuration")
        return [known[name] for name in dict.fromkeys(request.names or jobs)]


def _going(runs: list[Going], waiting: Mapping[str, Waiting]) -> Now:
    return Now(
        {
            one.name: Progress(
                what=one.report.what if one.report else "",
                done=one.report.done if one.report else 0,
                total=one.report.total if one.report else None,
                still_for=one.still,
                is_stalled=one.is_stalled,
            )
            for one in runs
        },
        {name: one.reason for name, one in waiting.items()},
    )
