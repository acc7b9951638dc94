"""The catalog: which snapshots are known to lie in which store, and which of them were proven."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from backup.catalog.records import Known, KnownProof, SnapshotFacts, last_word
from backup.catalog.schema import SCHEMA
from backup.clock import Clock, system_clock
from backup.database import (
    WAIT,
    DamagedRowError,
    Database,
    from_row,
    from_text,
    tell_nobody,
    to_row,
    to_text,
)

CATALOG_NAME = "catalog.sqlite"
_UPSERT = (
    "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?) ON CONFLICT DO UPDATE SET"
    " host = excluded.host, job = excluded.job, last_seen = excluded.last_seen, trashed = NULL,"
    " facts = excluded.facts, digest = excluded.digest"
)


class Catalog:
    """What is known without asking a store. Each call is one transaction of its own.

    A file that is not what was written is moved aside and begun anew. Every method may raise
    ``CatalogError``: the file cannot be used. Who can do without goes on without.

    Args:
        path: The file. It is made, with its directory, when there is something to record.
        clock: Tells the time.
        tell: Is told about a file that was moved aside.
        wait: For how many seconds to wait for other processes.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock = system_clock,
        tell: Callable[[str], object] = tell_nobody,
        wait: float = WAIT,
    ) -> None:
        self.path = path
        self._clock = clock
        self._database = Database(path, SCHEMA, clock=clock, tell=tell, wait=wait)

    def is_writable(self) -> bool:
        """Tell whether something can be recorded, as far as that can be told beforehand."""
        return self._database.is_writable()

    def snapshots(self, store: str, *, host: str = "", job: str = "") -> dict[str, Known]:
        """Return what is known of the snapshots of ``store`` by their names, sorted."""

        def work(found: sqlite3.Connection) -> dict[str, Known]:
            rows = found.execute(
                "SELECT store, name, host, job, first_seen, last_seen, trashed, facts, digest"
                " FROM snapshots WHERE store = ?1 AND (host = ?2 OR ?2 = '')"
                " AND (job = ?3 OR ?3 = '') ORDER BY name",
                (store, host, job),
            )
            return {row[1]: _known(row) for row in rows}

        return self._database.read(work, {})

    def stores(self) -> list[str]:
        """Return the URLs of all stores of which something is known."""

        def work(found: sqlite3.Connection) -> list[str]:
            return [row[0] for row in found.execute("SELECT DISTINCT store FROM snapshots")]

        return self._database.read(work, [])

    def newest_known(self, store: str, host: str, job: str) -> Known | None:
        """Return the newest snapshot of a job that is not in the trash.

        Between chains time decides, within a chain its sequence, whatever the clock said.
        """
        known = list(self.snapshots(store, host=host, job=job).values())
        present = [one.facts for one in known if one.trashed is None]
        latest: dict[str, datetime] = {}
        for facts in present:
            latest[facts.chain] = max(facts.time, latest.get(facts.chain, facts.time))
        newest = max(present, key=lambda one: (latest[one.chain], one.sequence), default=None)
        return next((one for one in known if one.facts is newest), None)

    def record(self, facts: Sequence[SnapshotFacts]) -> None:
        """Record snapshots as seen in their stores just now."""
        now = to_text(self._clock())
        self._database.write(lambda found: _insert(found, facts, now))

    def touch(self, store: str, names: Iterable[str]) -> None:
        """Record that snapshots which are known are there still."""
        rows = [(to_text(self._clock()), store, name) for name in names]
        statement = "UPDATE snapshots SET last_seen = ? WHERE store = ? AND name = ?"
        self._database.write(lambda found: found.executemany(statement, rows))

    def set_trashed(self, store: str, name: str, when: datetime | None) -> None:
        """Record that a snapshot was put into the trash, or with ``None`` taken out of it."""
        values = (None if when is None else to_text(when), store, name)
        statement = "UPDATE snapshots SET trashed = ? WHERE store = ? AND name = ?"
        self._database.write(lambda found: found.execute(statement, values))

    def forget(self, store: str, *names: str) -> None:
        """Drop snapshots that were deleted on purpose, and their proofs."""
        rows = [(store, name) for name in names]
        if rows and self._database.is_there():
            self._database.write(lambda found: _delete(found, rows))

    def replace(self, store: str, facts: Sequence[SnapshotFacts]) -> None:
        """Let ``facts`` be all that is known of ``store``, in one step.

        Proofs, and since when a snapshot is known, stay where it is still the same one.
        """
        now = to_text(self._clock())
        new = {one.name: one for one in facts}

        def work(found: sqlite3.Connection) -> None:
            rows = found.execute(
                "SELECT name, facts, digest FROM snapshots WHERE store = ?", [store]
            )
            ids = {name: from_row(SnapshotFacts, *rest).id for name, *rest in rows}
            lost = [one for one in ids if one not in new or new[one].id != ids[one]]
            _delete(found, [(store, name) for name in lost])
            found.executemany(
                "DELETE FROM proofs WHERE store = ? AND name = ?",
                [(store, name) for (name,) in _proof_names(found, store) if name not in new],
            )
            _insert(found, facts, now)

        self._database.write(work)

    def record_proof(self, proof: KnownProof) -> None:
        """Record a proof; of each level the newest that holds and the newest that does not stay."""
        values = (proof.store, proof.name, proof.level, proof.holds, *to_row(proof))
        statement = "INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?, ?, ?)"
        self._database.write(lambda found: found.execute(statement, values))

    def proofs(self, store: str) -> dict[str, list[KnownProof]]:
        """Return the proofs of the snapshots of ``store`` by their names, each from old to new."""

        def work(found: sqlite3.Connection) -> dict[str, list[KnownProof]]:
            by_name: dict[str, list[KnownProof]] = {}
            for row in found.execute("SELECT proof, digest FROM proofs WHERE store = ?", [store]):
                proof = from_row(KnownProof, *row)
                by_name.setdefault(proof.name, []).append(proof)
            for proofs in by_name.values():
                proofs.sort(key=lambda one: one.finished)
            return by_name

        return self._database.read(work, {})

    def proven(
        self, store: str, host: str, job: str, *, level: str | None = None
    ) -> dict[str, datetime]:
        """Return when the snapshots of a job were last proven, by their ids.

        A snapshot that is not known to be sound any more (``last_word``), or that lies in the
        trash, is not among them.

        Args:
            store: The store's URL.
            host: The job's host.
            job: The job.
            level: Only proofs of this level, where given.
        """
        proofs = self.proofs(store)
        found = {}
        for name, known in self.snapshots(store, host=host, job=job).items():
            own = [one for one in proofs.get(name, ()) if one.id == known.facts.id]
            word = last_word(own)
            good = [one.finished for one in own if one.holds and level in {None, one.level}]
            if known.trashed is None and good and word is not None and word.holds:
                found[known.facts.id] = good[-1]
        return found


def _known(row: Sequence[object]) -> Known:
    store, name, host, job, first, last, trashed, facts, digest = row
    found = from_row(SnapshotFacts, facts, digest)
    if (found.store, found.name, found.host, found.job) != (store, name, host, job):
        raise DamagedRowError
    when = None if trashed is None else from_text(trashed)
    return Known(found, from_text(first), from_text(last), when)


def _insert(found: sqlite3.Connection, facts: Sequence[SnapshotFacts], now: str) -> None:
    rows = [(one.store, one.name, one.host, one.job, now, now, *to_row(one)) for one in facts]
    found.executemany(_UPSERT, rows)


def _delete(found: sqlite3.Connection, rows: Sequence[tuple[str, str]]) -> None:
    found.executemany("DELETE FROM snapshots WHERE store = ? AND name = ?", rows)
    found.executemany("DELETE FROM proofs WHERE store = ? AND name = ?", rows)


def _proof_names(found: sqlite3.Connection, store: str) -> list[tuple[str]]:
    return found.execute("SELECT DISTINCT name FROM proofs WHERE store = ?", [store]).fetchall()
