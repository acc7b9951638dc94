"""One file on its way into a local storage."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from contextlib import suppress

from backup.errors import StorageError
from backup.owners import give_to_owner
from backup.reporting import OnBytes
from backup.storage.appending import FileAppender
from backup.storage.base import ProofStrength, Receipt, is_name, name_taken
from backup.storage.directories import Sync, close_directory, sync_directory
from backup.storage.os_errors import as_storage_errors
from backup.storage.read_back import FollowingReader
from backup.storage.staged import StagedWriter

_PARTIAL = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial")

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MODE = 0o600

# Network file systems without locks: nothing more can be done.
NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

_NO_REPLACE = 1  # RENAME_NOREPLACE
_NO_SUCH_CALL = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}

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
        give: Whether the file is to be the directory's owner's, if root makes it.
    """

    def __init__(
        self,
        directory: int,
        name: str,
        *,
        where: str,
        replace: bool,
        sync: Sync,
        give: bool = True,
    ) -> None:
        super().__init__(f"cannot store {name!r} in {where}")
        self._directory = directory
        self._name = name
        self._final = name.rpartition("/")[2]
        self._where = where
        self._replace = replace
        self._sync = sync
        with as_storage_errors(self._task):
            if not replace and _exists(directory, self._final):
                taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                raise name_taken(name, where) from taken
            self._partial, self._file = _create_partial(directory, self._final)
            self._held = [self._file]
            self._appender = FileAppender(self._file)
            self._read_back = FollowingReader(self._file, directory, self._partial, sync)
            try:
                if give:
                    give_to_owner(self._file, directory)
            except BaseException:
                self._discard()
                raise
        self._held.insert(0, directory)

    def mode(self) -> int:
        """Return the permission bits that the file system gives to the file."""
        with as_storage_errors(self._task):
            return stat.S_IMODE(os.fstat(self._file).st_mode)

    def identity(self) -> tuple[int, int]:
        """Return (device, inode) of the file, which a walk over its directory meets."""
        with as_storage_errors(self._task):
            status = os.fstat(self._file)
        return status.st_dev, status.st_ino

    def _append(self, block: bytes | memoryview) -> None:
        with as_storage_errors(self._task):
            self._appender.write(block)
            self._read_back.follow(self._appender.written)

    def _settle(self, on_proven: OnBytes) -> Receipt:
        with as_storage_errors(self._task):
            digest = self._appender.digest()
            size = self._appender.size
            returned = self._read_back.digest(size, on_proven)
        if returned != digest:
            raise StorageError(
                f"{self._task}: the medium did not return what was written",
                hint="do not trust that medium or its connection; choose another destination",
            )
        return Receipt(size=size, sha256=digest, strength=ProofStrength.READ_BACK)

    def _read(self, offset: int, length: int) -> bytes:
        # Proving it has dropped it from the page cache, so that it comes from the medium.
        blocks = []
        with as_storage_errors(self._task):
            while length and (block := os.pread(self._file, length, offset)):
                blocks.append(block)
                offset, length = offset + len(block), length - len(block)
        return b"".join(blocks)

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
        if rename_new(directory, source, target):
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
        # Renaming would replace a file that appears after the check. No lock helps: the job's own
        # is on this very directory, and waiting for that would be waiting for this process.
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
                # What lies beside it may go next, and must not be gone earlier on the medium.
                sync_directory(self._directory, self._sync)

    def _let_go(self) -> None:
        self._appender.close()
        self._read_back.close()
        # An interruption may lead here twice; a number closed twice could be somebody else's.
        while self._held:
            with suppress(OSError):
                os.close(self._held.pop())


def is_partial(filename: str) -> bool:
    """Return whether a writer of this module gives its unfinished file such a name."""
    match = _PARTIAL.fullmatch(filename)
    return match is not None and is_name(match["name"])


def remove_stale(directory: int, partial: str, *, abandoned: bool = False) -> bool:
    """Remove a partial file unless its writer lives; return whether it was removed.

    Where the file system has no locks nobody can tell, and the file stays unless it is
    ``abandoned``.
    """
    try:
        file = os.open(partial, _OPEN, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        if not _is_free(file) and not abandoned:
            return False
        os.unlink(partial, dir_fd=directory)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        with suppress(OSError):
            os.close(file)
    return True


def _is_free(file: int) -> bool:
    """Lock the file of a dead writer; return False where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _create_partial(directory: int, final: str) -> tuple[str, int]:
    while True:
        partial = f".{final}.{secrets.token_hex(4)}.partial"
        file = os.open(partial, _CREATE, _MODE, dir_fd=directory)
        try:
            if _claim(file):
                return partial, file
        except BaseException:
            with suppress(OSError):
                os.unlink(partial, dir_fd=directory)
            close_directory(file)
            raise
        os.close(file)  # remove_stale was faster, and takes the file away


def _claim(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # without locks remove_stale leaves the file alone
    return os.fstat(file).st_nlink > 0


def rename_new(directory: int, source: str, target: str) -> bool:
    """Rename a file in one step that replaces nothing; return False where that is not known.

    Raises:
        FileExistsError: The name is taken.
        OSError: The system refuses.
    """
    from ctypes import CDLL, c_char_p, c_int, c_uint, get_errno  # noqa: PLC0415 - slow to import

    try:
        call = CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    call.argtypes = (c_int, c_char_p, c_int, c_char_p, c_uint)
    if call(directory, os.fsencode(source), directory, os.fsencode(target), _NO_REPLACE) == 0:
        return True
    error = get_errno()
    if error in _NO_SUCH_CALL:
        return False
    raise OSError(error, os.strerror(error), target)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
