"""Taking, encrypting and rotating snapshots, for programs.

>>> manager = BackupManager("/home/ann", "/mnt/backup", key)    # doctest: +SKIP
>>> manager.create_snapshot()                                    # doctest: +SKIP
'/mnt/backup/web1/ann/ann-20261120T163205Z-7f3a-full.tar.xz.enc'
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from backup.catalog import CATALOG_NAME, Catalog
from backup.clock import Clock, system_clock
from backup.environment import host_name, key_file_path, state_dir
from backup.errors import BackupError, LockedError, SourceError, StorageError
from backup.keys import load_key_file, load_or_create_host_key
from backup.listing import list_snapshots
from backup.locating import locate
from backup.manager.candidates import Opened, open_candidate
from backup.manager.emptied import refuse_emptied
from backup.manager.frame_pool import check_workers
from backup.manager.naming import default_job
from backup.manager.request import OnProgress, SnapshotReport, SnapshotRequest, no_progress
from backup.manager.run import new_core, take_snapshot, write_content
from backup.manager.trash import delete_snapshot
from backup.model import NO_RULES, ExcludeRules
from backup.remembering import remember_proof, remember_taken
from backup.retention import RetentionPolicy, plan_retention
from backup.snapshot.compression import archive_type, check_level
from backup.snapshot.names import SUFFIX, slug
from backup.snapshot.recipients import FernetKey
from backup.sources.roots import prepare_roots
from backup.sources.rules import Excluder
from backup.storage import open_storage
from backup.storage.local_writer import LocalWriter
from backup.verification import Checked, Level, Proof, verify_snapshot

_LOG = logging.getLogger(__name__)


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
        state: Where this host's signing key and its catalog lie.
        rules: What to leave out; the source itself never is.
        workers: How many processes read and compress, 1 for this one alone; ``None`` for what
            cores and memory allow.
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
        rules: ExcludeRules = NO_RULES,
        workers: int | None = None,
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
        check_workers(workers)
        self._workers = workers
        self._job = job
        self._host = host or slug(host_name())
        self._state = state or state_dir()
        Excluder(rules)  # refuses what cannot be used
        self._rules = rules
        self._catalog = Catalog(self._state / CATALOG_NAME, clock=clock, tell=_LOG.warning)
        self._clock = clock
        self._on_progress = on_progress
        if keep is not None:
            RetentionPolicy(last=keep)  # refuses what cannot be kept, before anything is stored

    def create_snapshot(self) -> str:
        """Take a snapshot, prove it, rotate if ``keep`` says so; return the ``.enc`` file's path.

        What could not be read is told by ``last_report.problems``; the rest has been stored.

        Raises:
            SourceError: The source is missing, or empty though its last snapshot was not.
            StorageError: The snapshot could not be stored; nothing of it is left. Or the store is
                empty, and was not.
        """
        request = self._request()
        refuse_emptied(self._catalog, self._storage, request.host, request.job)
        self.last_report = take_snapshot(request, self._storage, on_progress=self._on_progress)
        self._remember(request, self.last_report)
        if self._keep is not None:
            with suppress(LockedError):  # another run began meanwhile, and rotates when it is done
                self._rotate_backups(self._keep)
        return self._path(self.last_report.name)

    @property
    def name(self) -> str:
        """What tells this source in this store apart from others, in the record of runs."""
        which = sha256(f"{self._source}\0{self._storage.url}".encode()).hexdigest()[:8]
        return f"{self._job or slug(Path(self._source).name)}-{which}"

    @property
    def state_dir(self) -> Path:
        """Where this host's state lies."""
        return self._state

    def verify_snapshots(
        self, level: Level | str = Level.CHECKSUM, *, newest: bool = False
    ) -> list[Proof]:
        """Return a proof for each snapshot of this source; damage is in it, not raised.

        Args:
            level: ``checksum`` or ``content``; see ``Level``.
            newest: Whether to check the newest one alone.

        Raises:
            StorageError: The store does not answer.
        """
        checked: Checked = {}
        proofs = []
        for one in self._own_names()[-1 if newest else 0 :]:
            located = locate(self._storage, one)
            proof = verify_snapshot(
                located, [self._key], level=Level(level), clock=self._clock, checked=checked
            )
            with _told_if_not_recorded():
                remember_proof(self._catalog, located, proof)
            proofs.append(proof)
        return proofs

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
            rules=self._rules,
            workers=self._workers,
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

        They are gone at once, without a stay in the trash. Snapshots of other sources and files
        that do not open with this key are left alone.

        Raises:
            InvalidArgumentError: ``keep`` is below 1 (also a ``ValueError``).
            LockedError: Another run of the job is at work.
            StorageError: The store cannot be listed, or does not delete.
        """
        policy = RetentionPolicy(last=keep)  # refuses what cannot be kept
        jobs = {_job_of(one) for one in self._own_snapshots()}
        with ExitStack() as locks:
            for job in sorted(jobs):
                locks.enter_context(self._storage.lock(job))
            # What another run did before it let go of its lock must be known.
            own = [one for one in self._own_snapshots() if _job_of(one) in jobs]
            # What counts here is the order of the snapshots, not what the clock says today.
            now = max((one.candidate.time for one in own), default=self._clock())
            plan = plan_retention(policy, [one.candidate for one in own], now, most=len(own) or 1)
            for name in plan.deletions:
                self._forget(name)  # before: nobody shall miss what was deleted on purpose
                delete_snapshot(self._storage, name)
        return [self._path(name) for name in plan.deletions]

    def _remember(self, request: SnapshotRequest, report: SnapshotReport) -> None:
        with _told_if_not_recorded():
            remember_taken(
                self._catalog,
                self._storage,
                report.name,
                request.identities,
                strength=str(report.strength),
                started=report.started,
                finished=report.finished,
            )

    def _forget(self, name: str) -> None:
        with _told_if_not_recorded():
            self._catalog.forget(self._storage.url, name)

    def _own_snapshots(self) -> list[Opened]:
        """Return this source's snapshots, by their signed records."""
        return [one for one in self._opened() if self._is_own(one)]

    def _own_names(self) -> list[str]:
        """Return the names of this source's snapshots, and of what beside them does not open."""
        opened = self._opened()
        jobs = {_job_of(one) for one in opened if self._is_own(one)}
        jobs.add(f"{self._host}/{self._job or slug(Path(self._source).name)}")
        mine = [one for one in opened if one.record is None or self._is_own(one)]
        return [one.stored.name for one in mine if _job_of(one) in jobs]

    def _opened(self) -> list[Opened]:
        listed = list_snapshots(self._storage, host=self._host, job=self._job or "")
        return [open_candidate(self._storage, one, [self._key]) for one in listed]

    def _is_own(self, one: Opened) -> bool:
        source = os.path.realpath(os.fsencode(self._source)).lstrip(b"/")
        return one.record is not None and one.record.sources == (source,)

    def _path(self, name: str) -> str:
        root = self._storage.local_root()
        return f"{self._storage.url}/{name}" if root is None else os.fspath(root / name)


@contextmanager
def _told_if_not_recorded() -> Iterator[None]:
    try:
        yield
    except BackupError as error:
        _LOG.warning("not recorded in the catalog: %s", error.message)


def _job_of(one: Opened) -> str:
    return f"{one.stored.host}/{one.stored.job}"


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
