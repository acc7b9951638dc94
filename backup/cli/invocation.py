"""What the global options say, as every command gets it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import typer

from backup.catalog import CATALOG_NAME, Catalog
from backup.cli.action_log import LOG_NAME, ActionLog
from backup.cli.output import print_note
from backup.cli.progress import ProgressLine
from backup.cli.secrets import ask_passphrase, can_ask
from backup.errors import BackupError, ConfigError, KeyMissingError, SnapshotNotFoundError
from backup.listing import StoredSnapshot, find_snapshot, list_snapshots
from backup.locating import is_file_url
from backup.reporting import Reporter, Told
from backup.restore import RestoreManager
from backup.snapshot.names import SUFFIX
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity, PassphraseIdentity
from backup.storage.base import BaseStorage
from backup.wiring import Settings

SNAPSHOT = typer.Argument(
    metavar="SNAPSHOT", help="An id, JOB, JOB~1, JOB@2026-11-20, latest, a file's path or URL."
)
_LATEST = "latest"
_YES = frozenset({"1", "yes", "true", "on"})
_NO = frozenset({"0", "no", "false", "off"})


@dataclass
class Invocation:
    """One call of the command; ``status`` is what it exits with when nothing raises.

    ``reason`` says why that is not 0, where it is said in one line.

    ``alone`` tells whether the process ends with it. ``reporter`` tells its supervisor, where it is
    a run that has one, and ``details`` are what that shall know of the run afterwards.
    """

    settings: Settings = field(default_factory=Settings)
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    dry_run: bool = False
    yes: bool = False
    log_file: Path | None = None
    alone: bool = False
    status: int = 0
    reason: str = ""
    action: str = ""
    reporter: Reporter = field(default_factory=Reporter)
    details: dict[str, Told] = field(default_factory=dict)
    _log: ActionLog | None = None

    def note(self, text: str) -> None:
        """Tell something that is not data, unless the user wants quiet."""
        if not self.quiet:
            print_note(text)

    def progress(self, what: str, total: int | None = None) -> ProgressLine:
        """Return the line that tells how far something has come, of so many bytes."""
        return ProgressLine(what, total, quiet=self.quiet, reporter=self.reporter)

    def start_action(self, action: str, **fields: object) -> None:
        """Begin a line pair in the log; a log that cannot be opened is told, and no more."""
        self.action = action
        path = self.log_file or self.settings.state_dir() / LOG_NAME
        try:
            self._log = ActionLog(path, is_state=self.log_file is None)
        except OSError as error:
            print_note(f"cannot write the log {path}: {error.strerror}")
            return
        self._log.start(action, **fields)

    def end_action(self, status: str, **fields: object) -> None:
        """End the line pair; only the first call counts."""
        if self._log is not None:
            self._log.end(status, **fields)
            self._log.close()
            self._log = None

    def fail_action(self, action: str, error: BackupError, **fields: object) -> None:
        """End the line pair with an error; one that came before its beginning is logged too."""
        if self._log is None:
            self.start_action(action, **fields)
        self.end_action("failed", error=error.message, exit_status=error.exit_code)

    def catalog(self) -> Catalog:
        """Return what this machine knows of its stores."""
        return Catalog(self.settings.state_dir() / CATALOG_NAME, tell=print_note)

    def remember(self, work: Callable[[Catalog], object]) -> None:
        """Record something in the catalog; where that is not possible it is told, and no more."""
        try:
            work(self.catalog())
        except BackupError as error:
            print_note(f"not recorded in the catalog: {error.message}")

    def reader(self) -> RestoreManager:
        """Return what reads the one store that was named, with the key."""
        self.settings.open_store()  # a wrong call is told before a missing key
        return self.reader_with(self.identities())

    def reader_with(self, identities: Sequence[Identity]) -> RestoreManager:
        """Return what reads the one store that was named."""
        return RestoreManager(
            self.settings.open_store(),
            identities=identities,
            trusted=self.settings.trusted_signers(),
        )

    def identities(self) -> list[Identity]:
        """Return what opens snapshots; a person who has no file for it is asked for a passphrase.

        Raises:
            SecretKeyError: There is nothing.
        """
        try:
            return self.settings.identities()
        except KeyMissingError as error:
            if self.settings.names_key_file() or not can_ask():
                raise
            self.note(error.message)
            return [PassphraseIdentity(ask_passphrase("passphrase of the snapshots: "))]

    def open(self, snapshot: str) -> SnapshotReader:
        """Open the snapshot that the user means, with the key."""
        return self.reader().open(self.wanted(snapshot))

    def list_snapshots(self, store: BaseStorage) -> list[StoredSnapshot]:
        """Return the snapshots in ``store``, with --host or --job only those."""
        settings = self.settings
        return list_snapshots(store, host=settings.host or "", job=settings.job or "")

    def none_found(self, store: BaseStorage) -> str:
        """Return the words for a store in which nothing is, or nothing of --host and --job."""
        root = store.local_root()
        if root is not None and not os.path.lexists(root):
            return f"there is no snapshot in {store}: there is no such directory"
        host, job = self.settings.host, self.settings.job
        scope = (f" of host {host}" if host else "") + (f" of job {job}" if job else "")
        return f"there is no snapshot{scope} in {store}"

    def wanted(self, snapshot: str) -> str:
        """Return ``snapshot`` so that it means the same without --host and --job.

        Raises:
            SnapshotNotFoundError: Nothing of that host and job fits.
        """
        host, job = self.settings.host, self.settings.job
        is_file = snapshot.endswith(SUFFIX) and os.path.lexists(snapshot)
        if is_file or is_file_url(snapshot) or not (host or job):
            return snapshot
        store = self.settings.open_store()
        name = self._newest(store) if snapshot == _LATEST else snapshot
        found = find_snapshot(store, name, host=self.settings.host_name())
        if host not in {None, found.host} or job not in {None, found.job}:
            raise SnapshotNotFoundError(
                f"{snapshot!r} means a snapshot of {found.host}/{found.job},"
                " which is not what --host and --job say"
            )
        return found.name

    def _newest(self, store: BaseStorage) -> str:
        """Return the name of what ``latest`` means with --host and --job."""
        found = self.list_snapshots(store)
        if not found:
            raise SnapshotNotFoundError(self.none_found(store))
        jobs = sorted({f"{one.host}/{one.job}" for one in found})
        own = f"{self.settings.host_name()}/{self.settings.job}"
        if len(jobs) == 1 or own in jobs:
            return jobs[0] if len(jobs) == 1 else own
        raise SnapshotNotFoundError(
            f"{_LATEST!r} fits {len(jobs)} jobs in {store}",
            hint="say which: " + ", ".join(jobs[:8]),
        )


def says_yes(value: str | None) -> bool:
    """Return whether the value of a variable means yes.

    Raises:
        ConfigError: It means neither yes nor no.
    """
    word = (value or "no").strip().lower()
    if word not in _YES | _NO:
        raise ConfigError(
            f"AUTO_BACKUP_YES is {value!r}, which is neither yes nor no", hint="set it to 1 or 0"
        )
    return word in _YES


def invocation(context: typer.Context) -> Invocation:
    """Return the invocation of ``context``."""
    return cast("Invocation", context.obj)
