"""One file on its way into a local storage."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
from contextlib import suppress

from backup.errors import StorageError
from backup.storage.base import ProofStrength, Receipt, is_name, name_taken
from backup.storage.digest import BackgroundSha256
from backup.storage.directories import Sync, sync_directory
from backup.storage.os_errors import as_storage_errors
from backup.storage.staged import StagedWriter

_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial")

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MODE = 0o600

# What file systems without hard links answer: FAT and exFAT the first, network ones the others.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalWriter(StagedWriter):
    """Write a partial file, prove it, and give it its name.

    The partial file stays locked while the writer lives, which is how ``remove_stale`` of another
    process knows.

    Args:
        directory: A descriptor of the directory; the writer closes it, unless this call raises.
        name: The full name, whose last component the file will have.
        where: How people call the storage.
        replace: Whether another file of that name may go.
        sync: Makes a file or a directory durable.
    """

    def __init__(self, directory: int, name: str, *, where: str, replace: bool, sync: Sync) -> None:
        super().__init__(f"cannot store {name!r} in {where}")
        self._directory = directory
        self._name = name
        self._final = name.rpartition("/")[2]
        self._where = where
        self._replace = replace
        self._sync = sync
        self._sha256 = BackgroundSha256()
        self._size = 0
        with as_storage_errors(self._task):
            if not replace and _exists(directory, self._final):
                raise name_taken(name, where)
            self._partial, self._file = _create_partial(directory, self._final)
        self._held = [directory, self._file]

    def _append(self, block: bytes | memoryview) -> None:
        self._sha256.update(block)
        with as_storage_errors(self._task):
            rest = memoryview(block)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        self._size += len(block)

    def _settle(self) -> Receipt:
        digest = self._sha256.digest()
        with as_storage_errors(self._task):
            self._sync(self._file)
            returned = _read_back(self._file)
        if returned != digest:
            raise StorageError(
                f"{self._task}: the medium did not return what was written",
                hint="do not trust that medium or its connection; choose another destination",
            )
        return Receipt(size=self._size, sha256=digest, strength=ProofStrength.READ_BACK)

    def _publish(self) -> None:
        with as_storage_errors(self._task):
            try:
                self._reveal()
                sync_directory(self._directory, self._sync)
            except FileExistsError as error:
                raise name_taken(self._name, self._where) from error
            except BaseException:
                self._withdraw()
                raise
        self._let_go()

    def _discard(self) -> None:
        with suppress(OSError):
            os.unlink(self._partial, dir_fd=self._directory)
        self._let_go()

    def _reveal(self) -> None:
        source, target, directory = self._partial, self._final, self._directory
        if self._replace:
            os.replace(source, target, src_dir_fd=directory, dst_dir_fd=directory)
            return
        try:
            os.link(
                source,
                target,
                src_dir_fd=directory,
                dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._reveal_by_renaming()
        else:
            os.unlink(source, dir_fd=directory)

    def _reveal_by_renaming(self) -> None:
        # Renaming would replace a file that appears after the check; the lock keeps at least the
        # other writers of this package from doing that.
        with suppress(OSError):
            fcntl.flock(self._directory, fcntl.LOCK_EX)
        if _exists(self._directory, self._final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        directory = self._directory
        os.rename(self._partial, self._final, src_dir_fd=directory, dst_dir_fd=directory)

    def _withdraw(self) -> None:
        """Take the name back: it may not survive a power cut, so it must not count now."""
        if self._replace:
            return  # the old file is gone already, and the new one is complete and proven
        with suppress(OSError):
            found = os.stat(self._final, dir_fd=self._directory, follow_symlinks=False)
            if os.path.samestat(found, os.fstat(self._file)):
                os.unlink(self._final, dir_fd=self._directory)

    def _let_go(self) -> None:
        self._sha256.close()
        # An interruption may lead here twice; a number closed twice could be somebody else's.
        while self._held:
            with suppress(OSError):
                os.close(self._held.pop())


def is_partial(filename: str) -> bool:
    """Return whether a writer of this module gives its unfinished file such a name."""
    match = _PARTIAL.fullmatch(filename)
    return match is not None and is_name(match["name"])


def remove_stale(directory: int, partial: str) -> bool:
    """Remove a partial file unless its writer lives; return whether it was removed.

    Where the file system has no locks nobody can tell, and the file stays.
    """
    try:
        file = os.open(partial, _OPEN, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(partial, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.ENOENT, errno.ENOLCK, errno.EOPNOTSUPP}:
            return False
        raise
    finally:
        os.close(file)
    return True


def _create_partial(directory: int, final: str) -> tuple[str, int]:
    while True:
        partial = f".{final}.{secrets.token_hex(4)}.partial"
        file = os.open(partial, _CREATE, _MODE, dir_fd=directory)
        if _claim(file):
            return partial, file
        os.close(file)  # remove_stale was faster, and takes the file away


def _claim(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # without locks remove_stale leaves the file alone
    return os.fstat(file).st_nlink > 0


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _read_back(file: int) -> bytes:
    # Only pages that are on the medium can be dropped, so this comes after the sync.
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    with open(file, "rb", buffering=0, closefd=False) as content:
        content.seek(0)
        return hashlib.file_digest(content, "sha256").digest()
