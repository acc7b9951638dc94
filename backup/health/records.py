"""What is told of jobs, in values that can go through the daemon's socket."""

from __future__ import annotations

from datetime import datetime

import msgspec


class StoreHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is known to hold of a job.

    ``store`` is its name, ``url`` where it is, without secrets. ``stored`` is the size of all its
    snapshots, ``contents`` that of what the newest one holds, in bytes. ``errors`` counts what of
    the source could not be read then. ``checksum`` and ``content`` are when the newest proof of
    that level ended; a content is compared with a checksum too. ``damaged`` are names.
    """

    store: str
    url: str
    snapshots: int = 0
    stored: int = 0
    newest: datetime | None = None
    snapshot: str = ""
    contents: int = 0
    entries: int = 0
    errors: int = 0
    checksum: datetime | None = None
    content: datetime | None = None
    damaged: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come, in bytes; ``still_for`` is for how many seconds nothing moved."""

    what: str = ""
    done: float = 0
    total: float | None = None
    still_for: float = 0
    is_stalled: bool = False


class JobHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a job is; it is well where there are no ``reasons`` against that.

    ``next`` is when it runs next, in the past where it is due; ``when`` its schedule for people.
    """

    job: str
    when: str
    reasons: tuple[str, ...] = ()
    last: datetime | None = None
    outcome: str = ""
    last_done: datetime | None = None
    failures: int = 0
    next: datetime | None = None
    running_since: datetime | None = None
    progress: Progress | None = None
    paused_since: datetime | None = None
    waits_for: str = ""
    keeps_all: bool = False
    stores: tuple[StoreHealth, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.reasons

    @property
    def newest(self) -> StoreHealth | None:
        """The store that has the newest snapshot, the first of them in the job's order."""
        held = [(one.newest, one) for one in self.stores if one.newest is not None]
        return max(held, key=lambda pair: pair[0], default=(None, None))[1]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the jobs of a machine are, at a time.

    ``problems`` are what is wrong with what runs them, ``remarks`` what is good to know.
    """

    host: str
    time: datetime
    jobs: tuple[JobHealth, ...]
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether all jobs are well, and what runs them is."""
        return not self.problems and all(one.is_well for one in self.jobs)
