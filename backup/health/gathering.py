"""From the record of runs and the catalog to how jobs are. No store is asked, no key is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from msgspec.structs import replace

from backup.catalog import Catalog, KnownProof
from backup.catalog.records import Known, last_word
from backup.errors import CatalogError
from backup.health.judging import Upkeep, reasons_against
from backup.health.records import Health, JobHealth, Progress, StoreHealth
from backup.masking import masked
from backup.run_state import JobRuns, RunState, as_gone, ended
from backup.running import Task, Turn, plan

_PREFIXES = {"rotate": "rotation", "verify": "verification"}


class Watched(NamedTuple):
    """A job that is to be well.

    ``stores`` are the URLs of its stores by their names, ``checks`` how often its snapshots are to
    be verified by level, ``keeps_all`` whether nothing is ever deleted.
    """

    name: str
    stores: Mapping[str, str]
    checks: Mapping[str, timedelta | None]
    keeps_all: bool = False


class Now(NamedTuple):
    """What only those know who run the jobs: how far runs are, and what tasks wait for."""

    progress: Mapping[str, Progress] = {}
    waiting: Mapping[str, str] = {}


_NOTHING = Now()


def examine(
    watched: Sequence[Watched],
    tasks: Sequence[Task],
    state: RunState,
    catalog: Catalog,
    *,
    host: str,
    now: datetime,
    zone: tzinfo,
    going: Now = _NOTHING,
) -> Health:
    """Return how jobs are.

    Args:
        watched: The jobs.
        tasks: All tasks of the configuration.
        state: The record of runs.
        catalog: What is known of stores; where it cannot be used that is remarked.
        host: This machine's name in the stores.
        now: The time.
        zone: The machine's time zone.
        going: How far runs are.

    Raises:
        RunStateError: The record of runs cannot be used.
    """
    known = _known(state)
    turns = {one.task.name: one for one in plan(tasks, known, now, zone, host)}
    running = {one.job: one.started for one in state.running()}
    remarks: list[str] = []
    jobs = []
    for one in watched:
        stores = tuple(_stores(one, catalog, host, remarks))
        job = _job(one, turns[one.name], running, stores, going)
        upkeep = list(_upkeep(one.name, turns.values()))
        reasons = reasons_against(job, turns[one.name].known, upkeep, one.checks, now)
        jobs.append(replace(job, reasons=tuple(reasons)))
    return Health(host=host, time=now, jobs=tuple(jobs), remarks=tuple(dict.fromkeys(remarks)))


def _known(state: RunState) -> dict[str, JobRuns]:
    """Return what is known of jobs; a run whose process is gone has failed, recorded or not."""
    gone, known = state.gone(), state.jobs()
    for run in gone:
        found = known.get(run.job)
        if found is not None and found.unended == run:
            known[run.job] = ended(found, as_gone(run), found.retry_at)
    return known


def _job(
    watched: Watched,
    turn: Turn,
    running: Mapping[str, datetime],
    stores: tuple[StoreHealth, ...],
    going: Now,
) -> JobHealth:
    known, name = turn.known, watched.name
    last = known.last
    return JobHealth(
        job=name,
        when=turn.task.when(),
        last=None if last is None else last.ended or last.started,
        outcome="" if last is None or last.outcome is None else str(last.outcome),
        last_done=known.last_done,
        failures=known.failures,
        next=None if known.paused_since is not None else turn.begins,
        running_since=running.get(name),
        progress=going.progress.get(name),
        paused_since=known.paused_since,
        waits_for=going.waiting.get(name, ""),
        keeps_all=watched.keeps_all,
        stores=stores,
    )


def _upkeep(job: str, turns: Iterable[Turn]) -> Iterator[Upkeep]:
    """Yield what looks after the snapshots of ``job``, by the names that tasks have."""
    for turn in turns:
        kind, *rest = turn.task.name.split("/")
        if turn.task.is_upkeep and kind in _PREFIXES and rest[1:2] == [job]:
            level = f" ({rest[2]})" if rest[2:] else ""
            yield Upkeep(f"{_PREFIXES[kind]} in {rest[0]}{level}", turn.known)


def _stores(
    watched: Watched, catalog: Catalog, host: str, remarks: list[str]
) -> Iterator[StoreHealth]:
    for name, url in watched.stores.items():
        try:
            known = catalog.snapshots(url, host=host, job=watched.name)
            newest = catalog.newest_known(url, host, watched.name)
            yield _store(name, url, known, newest, catalog.proofs(url))
        except CatalogError as error:
            remarks.append(f"without the catalog: {error.message}")
            yield StoreHealth(store=name, url=masked(url))


def _store(
    name: str,
    url: str,
    known: Mapping[str, Known],
    newest: Known | None,
    proofs: Mapping[str, Sequence[KnownProof]],
) -> StoreHealth:
    held = StoreHealth(store=name, url=masked(url))
    if newest is None:
        return held
    present = {one: facts for one, facts in known.items() if facts.trashed is None}
    own = {
        one: [proof for proof in proofs.get(one, ()) if proof.id == facts.facts.id]
        for one, facts in present.items()
    }
    words = {one: last_word(found) for one, found in own.items()}
    good = [proof for found in own.values() for proof in found if proof.holds]
    facts = newest.facts
    return replace(
        held,
        snapshots=len(present),
        stored=sum(one.facts.size for one in present.values()),
        newest=facts.time,
        snapshot=facts.id,
        contents=facts.bytes,
        entries=facts.entries,
        errors=facts.errors,
        checksum=_newest(good, {"checksum", "content"}),
        content=_newest(good, {"content"}),
        damaged=tuple(sorted(one for one, word in words.items() if word and not word.holds)),
    )


def _newest(proofs: Iterable[KnownProof], of: set[str]) -> datetime | None:
    return max((one.finished for one in proofs if one.level in of), default=None)
