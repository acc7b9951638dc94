"""Taking, encrypting and rotating snapshots, for programs.

>>> manager = BackupManager("/home/ann", "/mnt/backup", key)    # doctest: +SKIP
>>> manager.create_snapshot()                                    # doctest: +SKIP
'/mnt/backup/web1/ann/ann-20261120T163205Z-7f3a-full.tar.xz.enc'
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from backup.clock import Clock, system_clock
from backup.environment import host_name, key_file_path, state_dir
from backup.errors import IntegrityError, SecretKeyError, SourceError, StorageError
from backup.keys import load_key_file, load_or_create_host_key
from backup.listing import Placed, by_age, list_snapshots
from backup.locating import locate
from backup.manager.naming import default_job
from backup.manager.request import OnProgress, SnapshotReport, SnapshotRequest, no_progress
from backup.manager.run import new_core, take_snapshot, write_content
from backup.retention import plan_keep_last
from backup.snapshot.compression import archive_type, check_level
from backup.snapshot.names import DIGEST_SUFFIX, KEYS_SUFFIX, SUFFIX, slug
from backup.snapshot.recipients import FernetKey
from backup.sources.roots import prepare_roots
from backup.storage import open_storage
from backup.storage.base import BaseStorage
from backup.storage.local_writer import LocalWriter


class BackupManager:
    """Takes encrypted snapshots of one directory or file into one store.

    Args:
        source_dir: The directory, or a single file.
        backup_dir: The store: a directory, created where it is missing, or a store's URL.
        secret_key: A Fernet key as text or bytes; ``None`` takes the key file.
        keep: How many snapshots to keep after each new one; ``None`` deletes nothing, ever.
        compression: ``xz``, ``zstd``, ``gzip``, ``bzip2`` or ``none``.
        level: The compression level, ``None`` for the default.
        job: The job's name; made of the source's name where it is not given.
        host: This machine's name in the store.
        state: Where this host's signing key lies.
        clock: Tells the time.
        on_progress: Is told how far a snapshot has come.
    """

    def __init__(
        self,
        source_dir: str | os.PathLike[str],
        backup_dir: str | os.PathLike[str],
        secret_key: str | bytes | None = None,
        *,
        keep: int | None = None,
        compression: str = "xz",
        level: int | None = None,
        job: str | None = None,
        host: str | None = None,
        state: Path | None = None,
        clock: Clock = system_clock,
        on_progress: OnProgress = no_progress,
    ) -> None:
        self.last_report: SnapshotReport | None = None
        self._source = os.fspath(Path(source_dir).absolute())  # programs may move later
        self._storage = open_storage(_store_of(backup_dir))
        self._key = _key_of(secret_key)
        self._keep = keep
        self._archive = archive_type(compression)
        self._level = level
        check_level(self._archive, level)
        self._job = job
        self._host = host or slug(host_name())
        self._state = state or state_dir()
        self._clock = clock
        self._on_progress = on_progress
        if keep is not None:
            plan_keep_last((), keep)  # refuses what cannot be kept, before anything is stored

    def create_snapshot(self) -> str:
        """Take a snapshot, prove it, rotate if ``keep`` says so; return the ``.enc`` file's path.

        What could not be read is told by ``last_report.problems``; the rest has been stored.

        Raises:
            SourceError: The source is missing, or empty though its last snapshot was not.
            StorageError: The snapshot could not be stored; nothing of it is left.
        """
        request = self._request()
        self.last_report = take_snapshot(request, self._storage, on_progress=self._on_progress)
        if self._keep is not None:
            self._rotate_backups(self._keep)
        return self._path(self.last_report.name)

    def _request(self, source: str | None = None) -> SnapshotRequest:
        path = source or self._source
        job = self._job or default_job(
            prepare_roots([path]), self._storage, self._host, [self._key]
        )
        return SnapshotRequest(
            sources=[path],
            host=self._host,
            job=job,
            recipients=[self._key],
            identities=[self._key],
            host_key=load_or_create_host_key(self._state),
            archive=self._archive,
            level=self._level,
            clock=self._clock,
        )

    def _encrypt_file(self, path: str | os.PathLike[str]) -> str:
        """Encrypt the file ``path`` into ``<path>.enc`` beside it, and leave it as it is.

        The result is a snapshot of one entry. It never replaces a file.

        Raises:
            SourceError: There is no such file, or it could not be read.
            StorageError: The encrypted file could not be written, or is there already.
        """
        source = Path(path)
        roots = prepare_roots([source])
        if roots[0].is_directory:
            raise SourceError(f"{source} is a directory, not a file")
        request = self._request(os.fspath(source))
        target = source.with_name(source.name + SUFFIX)
        with _beside(target) as sink:
            _, written = write_content(request, new_core(request), roots, sink.write)
            if written.problems:
                raise SourceError(f"cannot encrypt {source}: {written.problems[0].reason}")
            sink.commit()
        return os.fspath(target)

    def _rotate_backups(self, keep: int) -> list[str]:
        """Delete all but the newest ``keep`` snapshots of this source; return the paths removed.

        Snapshots of other sources and files that do not open with this key are left alone.

        Raises:
            InvalidArgumentError: ``keep`` is below 1 (also a ``ValueError``).
            StorageError: The store cannot be listed, or does not delete.
        """
        decisions = plan_keep_last((), keep) or plan_keep_last(self._own_snapshots(), keep)
        removed = [decision.name for decision in decisions if not decision.keep]
        for name in removed:
            delete_snapshot(self._storage, name)
        return [self._path(name) for name in removed]

    def _own_snapshots(self) -> list[str]:
        """Return the names of this source's snapshots, oldest first, by their signed records."""
        source = os.path.realpath(os.fsencode(self._source)).lstrip(b"/")
        own = {}
        for stored in list_snapshots(self._storage, host=self._host, job=self._job or ""):
            try:
                reader = locate(self._storage, stored.name).open([self._key])
            except (IntegrityError, SecretKeyError):
                continue
            if reader.record.sources == (source,):
                core = reader.core
                time = datetime.fromtimestamp(core.time, UTC)
                own[stored.name] = Placed(core.chain.hex(), core.sequence, time)
        ages = by_age(own.values())
        return sorted(own, key=lambda name: (ages[own[name]], name))

    def _path(self, name: str) -> str:
        root = self._storage.local_root()
        return f"{self._storage.url}/{name}" if root is None else os.fspath(root / name)


def delete_snapshot(storage: BaseStorage, name: str) -> None:
    """Delete the snapshot ``name``, then what lies beside it."""
    storage.delete(name)
    stem = name.removesuffix(SUFFIX)
    for suffix in (KEYS_SUFFIX, DIGEST_SUFFIX):
        storage.delete(stem + suffix)


def _store_of(backup_dir: str | os.PathLike[str]) -> str | Path:
    return backup_dir if isinstance(backup_dir, str) else Path(backup_dir)


def _key_of(secret_key: str | bytes | None) -> FernetKey:
    return load_key_file(key_file_path()) if secret_key is None else FernetKey.parse(secret_key)


def _beside(target: Path) -> LocalWriter:
    try:
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    try:
        return LocalWriter(
            directory, target.name, where=str(target.parent), replace=False, sync=os.fsync
        )
    except BaseException:
        os.close(directory)
        raise
