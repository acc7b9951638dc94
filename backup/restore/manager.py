"""Restoring snapshots, for programs.

>>> manager = RestoreManager("/mnt/backup", key)                   # doctest: +SKIP
>>> manager.restore("latest", "/tmp/restored", ["/home/ann/notes"])  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup.clock import Clock, system_clock
from backup.environment import host_name, key_file_path
from backup.errors import IntegrityError
from backup.keys import load_key_file
from backup.listing import StoredSnapshot, find_snapshot, list_snapshots
from backup.locating import Located, locate, locate_path
from backup.model import Entry, EntryType, SnapshotKind
from backup.restore.landlock import confine
from backup.restore.plan import RestorePlan, entry_path, plan_restore, refuse_conflicts
from backup.restore.tree_writer import TreeWriter
from backup.snapshot.content import read_content
from backup.snapshot.names import SUFFIX, slug
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import FernetKey, Identity
from backup.snapshot.selection import select_entries
from backup.storage import open_storage
from backup.storage.base import BaseStorage
from backup.verification import Level, Proof, name_entry, verify_snapshot

_WITHOUT_INDEX = (
    "the index is damaged, the archive need not be: 'auto-backup decrypt SNAPSHOT | tar x' (with J,"
    " z, j or --zstd by its name) gets out what it holds"
)


@dataclass(kw_only=True)
class RestoreReport:
    """What a restore did.

    ``damaged`` was not restored because stored bytes are not those that were saved; ``problems``
    is what could not be restored as it was, each with its reason. ``confined`` tells whether the
    kernel kept this process from writing anywhere else.
    """

    entries: int = 0
    files: int = 0
    size: int = 0
    damaged: list[IntegrityError] = field(default_factory=list)
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    confined: bool = False


OnRestored = Callable[[RestoreReport, bytes], None]


def _nobody(_: RestoreReport, __: bytes) -> None:
    return


class RestoreManager:
    """Restores from one store.

    Args:
        backup_dir: The store: a directory, or a store's URL.
        secret_key: A Fernet key as text or bytes; ``None`` takes the key file.
        identities: What opens the snapshots, in place of ``secret_key``.
        clock: Tells the time.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str] | BaseStorage,
        secret_key: str | bytes | None = None,
        *,
        identities: Sequence[Identity] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.storage = (
            backup_dir if isinstance(backup_dir, BaseStorage) else open_storage(_url(backup_dir))
        )
        self.identities = _identities(secret_key) if identities is None else identities
        self._clock = clock

    def list_snapshots(self) -> list[StoredSnapshot]:
        """Return all snapshots of the store."""
        return list_snapshots(self.storage)

    def locate(self, snapshot: str) -> Located:
        """Return the snapshot that ``snapshot`` means.

        An id or the beginning of one, ``[HOST/]JOB``, ``JOB~2``, ``JOB@2026-11-20``, ``latest``
        (see ``find_snapshot``), or the path of an ``.enc`` file.
        """
        if snapshot.endswith(SUFFIX) and os.path.lexists(snapshot):
            return locate_path(Path(snapshot))
        found = find_snapshot(self.storage, snapshot, host=slug(host_name()))
        return locate(self.storage, found.name)

    def open(self, snapshot: str) -> SnapshotReader:
        """Open the snapshot that ``snapshot`` means."""
        return self.locate(snapshot).open(self.identities)

    def plan_restore(
        self,
        snapshot: str,
        target: str | os.PathLike[str],
        paths: Sequence[str | bytes | os.PathLike[str]] = (),
    ) -> RestorePlan:
        """Return what ``restore`` would do, having changed nothing.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            RestoreError: It does not hold one of ``paths``.
            IntegrityError: Its header, its end or its index is damaged.
        """
        located = self.locate(snapshot)
        reader = located.open(self.identities)
        wanted = [entry_path(path) for path in paths]
        try:
            return plan_restore(reader, located, Path(target), wanted)
        except IntegrityError as error:
            if reader.record.kind is SnapshotKind.FULL:
                error.hint = error.hint or _WITHOUT_INDEX
            raise

    def restore(
        self,
        snapshot: str,
        target: str | os.PathLike[str],
        paths: Sequence[str | bytes | os.PathLike[str]] = (),
        *,
        on_restored: OnRestored = _nobody,
    ) -> RestoreReport:
        """Restore ``paths``, or everything, below ``target``; never overwrite anything.

        Args:
            snapshot: See ``locate``.
            target: A directory; made where it is missing. Entries get their whole path below it.
            paths: What to restore, with all that is below; nothing means everything.
            on_restored: Is told after every entry.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            RestoreError: The target has something where an entry belongs, the snapshot does not
                hold one of ``paths``, or the system refuses. In the first two cases nothing has
                been changed.
        """
        plan = self.plan_restore(snapshot, target, paths)
        refuse_conflicts(plan)
        reader = plan.snapshot.open(self.identities)
        return run_restore(reader, plan, on_restored=on_restored)

    def validate(self, snapshot: str) -> Proof:
        """Read every byte of a snapshot and compare every digest; restore nothing."""
        located = self.locate(snapshot)
        return verify_snapshot(located, self.identities, level=Level.CONTENT, clock=self._clock)


def run_restore(
    reader: SnapshotReader,
    plan: RestorePlan,
    *,
    confined: bool = False,
    on_restored: OnRestored = _nobody,
) -> RestoreReport:
    """Do what ``plan`` says; damaged contents are left out and reported.

    Args:
        reader: The snapshot.
        plan: What to restore, and where to.
        confined: Let this process write nowhere else from now on, for good, where the kernel can.
        on_restored: Is told after every entry.
    """
    report = RestoreReport()
    first_names: dict[tuple[int, int], Entry] = {}
    with TreeWriter(plan.target) as writer:
        report.confined = confined and confine(plan.target)
        for entry in select_entries(reader, plan.paths):
            try:
                _restore_entry(reader, writer, entry, first_names, report)
            except IntegrityError as error:
                name_entry(error, entry)
                report.damaged.append(error)
            on_restored(report, entry.path)
        writer.finish()
        report.problems.extend(writer.problems)
    return report


def _restore_entry(
    reader: SnapshotReader,
    writer: TreeWriter,
    entry: Entry,
    first_names: dict[tuple[int, int], Entry],
    report: RestoreReport,
) -> None:
    if entry.error:
        report.problems.append((entry.path, f"when it was saved: {entry.error}"))
    match entry.type:
        case EntryType.DIRECTORY:
            writer.make_directory(entry)
        case EntryType.SYMLINK:
            writer.defer_symlink(entry)
        case EntryType.FIFO | EntryType.CHARACTER_DEVICE | EntryType.BLOCK_DEVICE:
            writer.make_special(entry)
        case EntryType.FILE | EntryType.STREAM:
            if entry.error and not entry.digest:
                return
            _restore_file(reader, writer, entry, first_names)
            report.files += 1
            report.size += entry.size
    report.entries += 1


def _restore_file(
    reader: SnapshotReader,
    writer: TreeWriter,
    entry: Entry,
    first_names: dict[tuple[int, int], Entry],
) -> None:
    group = (entry.filesystem, entry.inode)
    if entry.links > 1 and group in first_names:
        writer.link_file(entry, first_names[group])
        return
    writer.write_file(entry, read_content(reader, entry))
    if entry.links > 1:
        first_names[group] = entry


def _url(backup_dir: str | os.PathLike[str]) -> str | Path:
    return backup_dir if isinstance(backup_dir, str) else Path(backup_dir)


def _identities(secret_key: str | bytes | None) -> list[Identity]:
    return [load_key_file(key_file_path()) if secret_key is None else FernetKey.parse(secret_key)]
