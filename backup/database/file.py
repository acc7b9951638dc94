"""A database's file: made privately, checked, brought to this version's schema.

A rollback journal, not a write-ahead log: homes may lie on a network, where the latter's shared
memory does not work. ``synchronous=EXTRA`` also makes the journal's end durable.

Root works in somebody else's directory as its owner, as SQLite believes what lies there: a journal
may name another file, which is then deleted.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from backup.database.rows import DamagedRowError
from backup.errors import StateError
from backup.owners import as_owner

Steps = Mapping[int, Sequence[str]]
"""The statements that lead from a schema to the next one, by the older one's number."""

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


_BESIDE = ("-journal", "-wal", "-shm")

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_MAKING = threading.Lock()


class DamagedFileError(Exception):
    """The file is not what was written; never leaves the classes that keep such files."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What one kind of database is made of, and what it is called.

    Args:
        what: Its name in messages, such as ``catalog``.
        application: The number by which SQLite tells it from others' files.
        version: The number of the newest schema.
        tables: The statements that make it.
        steps: What leads here from older schemas.
        error: What is raised when the file cannot be used.
        anew: What becomes of it when the file is moved away, for people.
    """

    what: str
    application: int
    version: int
    tables: Sequence[str]
    steps: Steps
    error: type[StateError]
    anew: str


@contextmanager
def opened(
    path: Path, schema: Schema, *, read_only: bool, wait: float
) -> Iterator[sqlite3.Connection]:
    """Hold a connection to the database at ``path``, in one transaction.

    Args:
        path: The file; made where it is missing, unless ``read_only``.
        schema: What it is to be.
        read_only: Whether to change nothing.
        wait: For how many seconds to wait for other processes.

    Raises:
        StateError: It cannot be used, and is left as it is: the schema's ``error``.
        DamagedFileError: It is not what was written.
    """
    try:
        with working_at(path), _connected(path, read_only=read_only, wait=wait) as found:
            _prepare(found, path, schema, read_only=read_only)
            found.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
            yield found
            found.execute("COMMIT")
    except DamagedRowError as error:
        raise DamagedFileError from error
    except sqlite3.Error as error:
        raise _ours(path, schema, error) from error
    except OSError as error:
        raise schema.error(f"cannot use the {schema.what} {path}: {error.strerror}") from error


@contextmanager
def _connected(path: Path, *, read_only: bool, wait: float) -> Iterator[sqlite3.Connection]:
    if not read_only:
        _make_private(path)
    for one in (path, *_beside(path)):
        _refuse_odd(one)
    url = _url(path, "ro" if read_only else "rw")
    with closing(sqlite3.connect(url, uri=True, timeout=wait, isolation_level=None)) as found:
        yield found


def _refuse_odd(path: Path) -> None:
    """Refuse a pipe, which SQLite would wait for; a journal may come and go at any moment."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, f"{path.name} is not a regular file")


def _url(path: Path, mode: str) -> str:
    return f"file:{quote(os.fsencode(path))}?mode={mode}"


def working_at(path: Path) -> AbstractContextManager[bool]:
    """Be the owner of the database's directory, where this process is root's; see ``as_owner``."""
    used = (path, path.with_name(f"{path.name}.new"), *_beside(path))
    return as_owner(path.parent, *(one.name for one in used))


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + one) for one in _BESIDE]


def _ours(path: Path, schema: Schema, error: sqlite3.Error) -> StateError | DamagedFileError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    reason = _FROM_OUTSIDE.get(code)
    if reason is None:
        return DamagedFileError(str(error))
    return schema.error(f"cannot use the {schema.what} {path}: {reason}")


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
            os.close(os.open(new, _CREATE, 0o600))
            with suppress(FileExistsError, FileNotFoundError):  # another process was quicker
                os.link(new, path)
        with suppress(OSError):  # not in the way; the next one tries again
            new.unlink()


def _prepare(found: sqlite3.Connection, path: Path, schema: Schema, *, read_only: bool) -> None:
    """Refuse what is not of this kind and version; make or update what may be changed."""
    version = _version(found, path, schema)
    if read_only:
        if version != schema.version:
            raise schema.error(
                f"the {schema.what} {path} has an older schema, and cannot be written"
            )
        return
    found.execute("PRAGMA journal_mode = DELETE")
    found.execute("PRAGMA synchronous = EXTRA")
    if version == schema.version:
        return
    found.execute("BEGIN IMMEDIATE")
    version = _version(found, path, schema)  # another process may have been quicker
    if version == 0:
        _make_tables(found, schema)
    elif version < schema.version:
        keep_copy(path, version)
        for number in range(version, schema.version):
            for statement in schema.steps[number]:
                found.execute(statement)
    found.execute(f"PRAGMA user_version = {schema.version:d}")
    found.execute("COMMIT")


def _version(found: sqlite3.Connection, path: Path, schema: Schema) -> int:
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
    if application != schema.application or version < 1:
        raise schema.error(
            f"{path} is not a {schema.what} of auto-backup, and is left as it is",
            hint=f"move it away; {schema.anew}",
        )
    if version > schema.version:
        raise schema.error(
            f"the {schema.what} {path} has schema {version}, and this version knows"
            f" {schema.version}",
            hint=f"use the newer auto-backup that made it, or move it away: {schema.anew}",
            is_newer=True,
        )
    return version


def _make_tables(found: sqlite3.Connection, schema: Schema) -> None:
    for statement in schema.tables:
        found.execute(statement)
    found.execute(f"PRAGMA application_id = {schema.application:d}")


def keep_copy(path: Path, version: int) -> None:
    """Copy a database of an older schema aside before it is changed.

    In the transaction that changes it, so that nobody else is copying, or has changed it already.
    """
    new = path.with_name(f"{path.name}.copy.new")
    for left in (new, *_beside(new)):  # by a process that was killed
        with suppress(FileNotFoundError):
            left.unlink()
    os.close(os.open(new, _CREATE | os.O_EXCL, 0o600))
    # Not from the connection that is about to write: SQLite would wait for that.
    reading = sqlite3.connect(_url(path, "ro"), uri=True)
    with closing(reading) as old, closing(sqlite3.connect(new)) as copy:
        old.backup(copy)
    new.replace(path.with_name(f"{path.name}.schema-{version}"))


def move_aside(path: Path, suffix: str) -> Path:
    """Rename a damaged database, its journal first: that must never be applied to another file.

    Raises:
        OSError: It cannot be renamed.
    """
    kept = path.with_name(f"{path.name}.{suffix}")
    number = 1
    while os.path.lexists(kept):
        number += 1
        kept = path.with_name(f"{path.name}.{suffix}-{number}")
    for one, kept_one in zip(_beside(path), _beside(kept), strict=True):
        with suppress(FileNotFoundError):
            one.rename(kept_one)
    with suppress(FileNotFoundError):
        path.rename(kept)
    return kept
