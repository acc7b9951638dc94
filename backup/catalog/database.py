"""The catalog's file: made privately, checked, brought to this version's schema.

A rollback journal, not a write-ahead log: homes may lie on a network, where the latter's shared
memory does not work. ``synchronous=EXTRA`` also makes the journal's end durable.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from backup.catalog.records import DamagedRowError
from backup.errors import CatalogError

APPLICATION = 0x41_42_63_74
SCHEMA = 1
_SNAPSHOTS = """CREATE TABLE snapshots (
    store TEXT NOT NULL, name TEXT NOT NULL, host TEXT NOT NULL, job TEXT NOT NULL,
    first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, trashed TEXT,
    facts BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (store, name)
) WITHOUT ROWID"""
_PROOFS = """CREATE TABLE proofs (
    store TEXT NOT NULL, name TEXT NOT NULL, level TEXT NOT NULL, holds INTEGER NOT NULL,
    proof BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (store, name, level, holds)
) WITHOUT ROWID"""
Steps = Mapping[int, Sequence[str]]
"""The statements that lead from a schema to the next one, by the older one's number."""

STEPS: Steps = {}

# What the system or another process is to blame for; after all else the file is damaged, as the
# statements themselves are known to be right.
_FROM_OUTSIDE = {
    sqlite3.SQLITE_PERM: "not allowed",
    sqlite3.SQLITE_BUSY: "another process is writing to it",
    sqlite3.SQLITE_LOCKED: "another process is writing to it",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_INTERRUPT: "interrupted",
    sqlite3.SQLITE_IOERR: "the system cannot read or write it",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PROTOCOL: "locks do not work there",
}


_MAKING = threading.Lock()


class DamagedCatalogError(Exception):
    """The file is not what was written; stays within this package."""


@contextmanager
def opened(path: Path, *, read_only: bool, wait: float) -> Iterator[sqlite3.Connection]:
    """Hold a connection to the catalog at ``path``, in one transaction.

    Args:
        path: The file; made where it is missing, unless ``read_only``.
        read_only: Whether to change nothing.
        wait: For how many seconds to wait for other processes.

    Raises:
        CatalogError: It cannot be used, and is left as it is.
        DamagedCatalogError: It is not what was written.
    """
    try:
        if not read_only:
            _make_private(path)
        mode = "ro" if read_only else "rw"
        url = f"file:{quote(os.fsencode(path))}?mode={mode}"
        with closing(sqlite3.connect(url, uri=True, timeout=wait, isolation_level=None)) as found:
            _prepare(found, path, STEPS, SCHEMA, read_only=read_only)
            found.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
            yield found
            found.execute("COMMIT")
    except DamagedRowError as error:
        raise DamagedCatalogError from error
    except sqlite3.Error as error:
        raise _ours(path, error) from error
    except OSError as error:
        raise CatalogError(f"cannot use the catalog {path}: {error.strerror}") from error


def _ours(path: Path, error: sqlite3.Error) -> CatalogError | DamagedCatalogError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    reason = _FROM_OUTSIDE.get(code)
    if reason is None:
        return DamagedCatalogError(str(error))
    return CatalogError(f"cannot use the catalog {path}: {reason}")


def _make_private(path: Path) -> None:
    """Make an empty file for its owner alone; one that is there is closed to all others.

    The file gets its name when nobody here has it open: a descriptor that is closed would take
    all of this process's locks on it along.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Of one name, so that what a killed process leaves is found again.
    new = path.with_name(f"{path.name}.new")
    with _MAKING:
        try:
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
        except FileNotFoundError:
            os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with suppress(FileExistsError, FileNotFoundError):  # another process was quicker
                os.link(new, path)
        with suppress(OSError):  # not in the way; the next one tries again
            new.unlink()


def _prepare(
    found: sqlite3.Connection, path: Path, steps: Steps, schema: int, *, read_only: bool
) -> None:
    """Refuse what is not a catalog of this version; make or update what may be changed."""
    version = _version(found, path, schema)
    if read_only:
        if version != schema:
            raise CatalogError(f"the catalog {path} has an older schema, and cannot be written")
        return
    found.execute("PRAGMA journal_mode = DELETE")
    found.execute("PRAGMA synchronous = EXTRA")
    if version == schema:
        return
    if version:
        keep_copy(found, path, version)
    found.execute("BEGIN IMMEDIATE")
    version = _version(found, path, schema)  # another process may have been quicker
    if version == 0:
        _make_tables(found)
    else:
        for number in range(version, schema):
            for statement in steps[number]:
                found.execute(statement)
    found.execute(f"PRAGMA user_version = {schema:d}")
    found.execute("COMMIT")


def _version(found: sqlite3.Connection, path: Path, schema: int) -> int:
    """Return the schema's number, 0 for an empty file."""
    is_alone = not found.in_transaction
    if is_alone:  # all three have to be of one moment: somebody may be making the tables
        found.execute("BEGIN")
    application = int(found.execute("PRAGMA application_id").fetchone()[0])
    version = int(found.execute("PRAGMA user_version").fetchone()[0])
    tables = int(found.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if is_alone:
        found.execute("COMMIT")
    if not (application or version or tables):
        return 0
    if application != APPLICATION or version < 1:
        raise CatalogError(
            f"{path} is not a catalog of auto-backup, and is left as it is",
            hint="move it away; the catalog is made again from the stores",
        )
    if version > schema:
        raise CatalogError(
            f"the catalog {path} has schema {version}, and this version knows {schema}",
            hint="use the newer auto-backup that made it, or move it away: it is made again",
        )
    return version


def _make_tables(found: sqlite3.Connection) -> None:
    for statement in (_SNAPSHOTS, _PROOFS):
        found.execute(statement)
    found.execute(f"PRAGMA application_id = {APPLICATION:d}")


def keep_copy(found: sqlite3.Connection, path: Path, version: int) -> None:
    """Copy a catalog of an older schema aside before it is changed."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(new)) as copy:
        found.backup(copy)
    new.replace(path.with_name(f"{path.name}.schema-{version}"))


def move_aside(path: Path, suffix: str) -> Path:
    """Rename a damaged catalog, its journal first: that must never be applied to another file."""
    kept = path.with_name(f"{path.name}.{suffix}")
    number = 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.name}.{suffix}-{number}")
    try:
        for one in ("-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + one).rename(kept.with_name(kept.name + one))
        with suppress(FileNotFoundError):
            path.rename(kept)
    except OSError as error:
        raise CatalogError(f"cannot move {path} aside: {error.strerror}") from error
    return kept
