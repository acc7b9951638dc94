"""Restoring snapshots, for programs.

>>> manager = RestoreManager("/mnt/backup", key)                   # doctest: +SKIP
>>> manager.restore("latest", "/tmp/restored", ["/home/ann/notes"])  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from backup.clock import Clock, system_clock
from backup.environment import host_name, key_file_path, state_dir
from backup.errors import IntegrityError, InvalidArgumentError, SnapshotNotFoundError
from backup.keys import load_key_file
from backup.listing import StoredSnapshot, find_snapshot, list_snapshots
from backup.locating import Located, is_file_url, locate, locate_path, locate_url
from backup.model import SnapshotKind
from backup.restore.options import Overwrite, RestoreOptions
from backup.restore.paths import entry_path
from backup.restore.plan import RestorePlan, plan_restore, refuse_conflicts
from backup.restore.report import WITHOUT_INDEX, OnRestored, RestoreReport
from backup.restore.run import nobody, run_restore
from backup.snapshot.names import SUFFIX, slug
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import FernetKey, Identity
from backup.storage import open_storage
from backup.storage.base import BaseStorage
from backup.verification import Level, Proof, verify_snapshot

__all__ = ["RestoreManager", "RestoreReport", "run_restore"]


class RestoreManager:
    """Restores from one store.

    Args:
        backup_dir: The store: a directory, or a store's URL.
        secret_key: A Fernet key as text or bytes; ``None`` takes the key file.
        identities: What opens the snapshots, in place of ``secret_key``.
        trusted: Public keys of trusted hosts; ``None`` accepts any host's signature.
        clock: Tells the time.
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str] | BaseStorage,
        secret_key: str | bytes | None = None,
        *,
        identities: Sequence[Identity] | None = None,
        trusted: Collection[bytes] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.storage = (
            backup_dir if isinstance(backup_dir, BaseStorage) else open_storage(_url(backup_dir))
        )
        self.identities = _identities(secret_key) if identities is None else identities
        self.trusted = trusted
        self._clock = clock

    def list_snapshots(self) -> list[StoredSnapshot]:
        """Return all snapshots of the store."""
        return list_snapshots(self.storage)

    def locate(self, snapshot: str) -> Located:
        """Return the snapshot that ``snapshot`` means.

        An id or the beginning of one, ``[HOST/]JOB``, ``JOB~2``, ``JOB@2026-11-20``, ``latest``
        (see ``find_snapshot``), or the path or URL of an ``.enc`` file.
        """
        if snapshot.endswith(SUFFIX) and os.path.lexists(snapshot):
            return locate_path(Path(snapshot))
        if is_file_url(snapshot):
            return locate_url(snapshot)
        try:
            found = find_snapshot(self.storage, snapshot, host=slug(host_name()))
        except SnapshotNotFoundError as error:
            if error.hint or not Path(snapshot).is_file():
                raise
            hint = f"the file {snapshot} was not looked at: to mean it, say ./{snapshot}"
            raise SnapshotNotFoundError(error.message, hint=hint) from None
        return locate(self.storage, found.name)

    def open(self, snapshot: str) -> SnapshotReader:
        """Open the snapshot that ``snapshot`` means."""
        return self.locate(snapshot).open(self.identities, trusted=self.trusted)

    def plan_restore(
        self,
        snapshot: str,
        target: str | os.PathLike[str] | None = None,
        paths: Sequence[str | bytes | os.PathLike[str]] = (),
        *,
        overwrite: Overwrite | str | None = None,
        delete: bool = False,
        strip: int = 0,
        in_place: bool = False,
        system: bool = False,
        own: Sequence[Path] | None = None,
    ) -> RestorePlan:
        """Return what ``restore`` would do, having changed nothing.

        Args:
            snapshot: See ``locate``.
            target: See ``restore``.
            paths: See ``restore``.
            overwrite: See ``restore``.
            delete: See ``restore``.
            strip: See ``restore``.
            in_place: See ``restore``.
            system: See ``restore``.
            own: Files and directories of this program, of which those that exist are left as they
                are; ``None`` means key file and state directory.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            RestoreError: It does not hold one of ``paths``, there is no room, or ``delete`` cannot
                be done with this snapshot.
            IntegrityError: Its header or its end is damaged, or the part of its index that would
                tell of one of ``paths``.
            InvalidArgumentError: Two of the arguments do not go together.
        """
        place = _target(target, in_place=in_place)
        root = self.storage.local_root()
        options = RestoreOptions(
            overwrite=_overwrite(overwrite),
            delete=delete,
            strip=strip,
            in_place=in_place,
            system=system,
            stores=() if root is None else (root,),
            own=(key_file_path(), state_dir()) if own is None else tuple(own),
        )
        located = self.locate(snapshot)
        reader = located.open(self.identities, trusted=self.trusted)
        try:
            return plan_restore(reader, located, place, [entry_path(one) for one in paths], options)
        except IntegrityError as error:
            if reader.record.kind is SnapshotKind.FULL:
                error.hint = error.hint or WITHOUT_INDEX
            raise

    def restore(
        self,
        snapshot: str,
        target: str | os.PathLike[str] | None = None,
        paths: Sequence[str | bytes | os.PathLike[str]] = (),
        *,
        overwrite: Overwrite | str | None = None,
        delete: bool = False,
        strip: int = 0,
        in_place: bool = False,
        system: bool = False,
        on_restored: OnRestored = nobody,
        workers: int | None = None,
    ) -> RestoreReport:
        """Restore ``paths``, or everything, below ``target`` or to where they were.

        What happens is what ``plan_restore`` tells, and nobody is asked.

        Args:
            snapshot: See ``locate``.
            target: A directory; made where it is missing. Entries get their whole path below it.
            paths: What to restore, with all that is below; nothing means everything.
            overwrite: What becomes of what exists; ``None`` refuses the restore as a whole.
            delete: Whether to delete, below restored directories, what the snapshot does not have.
            strip: How many leading components to take off every path.
            in_place: Restore to the paths of the sources; there is no ``target`` then.
            system: Restore in place also what says which machine this is and how it starts.
            on_restored: Is told after every entry.
            workers: How many processes write files; ``None`` for what the machine allows.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            RestoreError: Something is in the way, the snapshot does not hold one of ``paths``,
                there is no room, or the system refuses. Except for the last, nothing has been
                changed.
        """
        plan = self.plan_restore(
            snapshot,
            target,
            paths,
            overwrite=overwrite,
            delete=delete,
            strip=strip,
            in_place=in_place,
            system=system,
        )
        refuse_conflicts(plan)
        reader = plan.snapshot.open(self.identities, trusted=self.trusted)
        return run_restore(reader, plan, on_restored=on_restored, workers=workers)

    def validate(self, snapshot: str, *, workers: int | None = None) -> Proof:
        """Read every byte of a snapshot and compare every digest; restore nothing.

        Args:
            snapshot: See ``locate``.
            workers: How many processes do it; ``None`` for what the machine allows.
        """
        located = self.locate(snapshot)
        return verify_snapshot(
            located,
            self.identities,
            level=Level.CONTENT,
            trusted=self.trusted,
            clock=self._clock,
            workers=workers,
        )


def _target(target: str | os.PathLike[str] | None, *, in_place: bool) -> Path:
    """Return the directory below which entries get their whole path."""
    if (target is None) != in_place:
        raise InvalidArgumentError(
            "a restore goes either to a target or in place",
            hint="name a directory, which need not exist, or say that it goes in place",
        )
    return Path("/") if target is None else Path(target)


def _overwrite(given: Overwrite | str | None) -> Overwrite | None:
    try:
        return None if given is None else Overwrite(given)
    except ValueError:
        raise InvalidArgumentError(
            f"{given!r} is no way to overwrite",
            hint="there are " + ", ".join(Overwrite),
        ) from None


def _url(backup_dir: str | os.PathLike[str]) -> str | Path:
    return backup_dir if isinstance(backup_dir, str) else Path(backup_dir)


def _identities(secret_key: str | bytes | None) -> list[Identity]:
    return [load_key_file(key_file_path()) if secret_key is None else FernetKey.parse(secret_key)]
