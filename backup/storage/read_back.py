"""Reading a file back from the medium while it is still being written."""

from __future__ import annotations

import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from backup.reporting import OnBytes, tell_nobody
from backup.storage.directories import Sync

_STRETCH = 64 << 20
"""So many new bytes are worth a sync of their own; less is read at the end."""

_BLOCK = 4 << 20
_ALIGNED = 4096
_TELL_SECONDS = 0.5
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class FollowingReader:
    """Reads a growing file behind its writer, on a second thread, and hashes what comes back.

    Each stretch is made durable, dropped from the page cache, and read past that cache where the
    file system can do so (``O_DIRECT``). So proving a large file does not begin when it is written.

    Args:
        file: The descriptor that is written to.
        directory: A descriptor of the directory that the file lies in.
        name: Its name there.
        sync: Makes a file durable.
    """

    def __init__(self, file: int, directory: int, name: str, sync: Sync) -> None:
        self._file = file
        self._directory = directory
        self._name = name
        self._sync = sync
        self._reader = -1
        self._block = memoryview(b"")
        self._is_direct = False
        self._sha256 = hashlib.sha256()
        self._done = 0
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def follow(self, size: int) -> None:
        """Tell that ``size`` bytes have been written; read them if that is worth it.

        Raises:
            OSError: What was read before could not be made durable, or not be read.
        """
        if size - self._done < _STRETCH:
            return
        if self._under_way is not None:
            if not self._under_way.done():
                return
            self._wait()
        if size - self._done >= _STRETCH:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-back")
            # Whole blocks only: reading past the cache wants them.
            self._under_way = self._pool.submit(self._read_up_to, size // _BLOCK * _BLOCK)

    def digest(self, size: int, on_bytes: OnBytes = tell_nobody) -> bytes:
        """Make the whole file of ``size`` bytes durable; return the SHA-256 of what came back.

        Args:
            size: How long it is.
            on_bytes: Is told how many bytes of it have come back.

        Returns:
            The digest; no bytes where the file has another length.

        Raises:
            OSError: It could not be made durable, or not be read.
        """
        while self._under_way is not None and not self._under_way.done():
            wait([self._under_way], timeout=_TELL_SECONDS)
            on_bytes(self._done)
        self._wait()
        self._read_up_to(size, on_bytes)
        whole = os.fstat(self._file).st_size == size
        return self._sha256.digest() if whole else b""

    def close(self) -> None:
        """End the thread and let go of the file."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._let_go()

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _read_up_to(self, stop: int, on_bytes: OnBytes = tell_nobody) -> None:
        self._sync(self._file)
        # Only pages that are on the medium can be dropped, so this comes after the sync.
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        if self._reader < 0:
            self._block = memoryview(mmap.mmap(-1, _BLOCK))
            self._open_again(os.O_DIRECT)
        while self._done < stop:
            wanted = -(-(stop - self._done) // _ALIGNED) * _ALIGNED
            count = min(self._read(self._block[:wanted]), stop - self._done)
            if not count:
                return  # it is shorter than what was written, which the digest tells
            self._sha256.update(self._block[:count])
            self._done += count
            on_bytes(self._done)

    def _read(self, room: memoryview) -> int:
        try:
            return os.preadv(self._reader, [room], self._done)
        except OSError:
            if not self._is_direct:
                raise
        # Some file systems take the flag and refuse the reading.
        self._let_go()
        self._open_again(0)
        return os.preadv(self._reader, [room], self._done)

    def _open_again(self, flag: int) -> None:
        """Open the file a second time, to be read past the cache, where that is possible."""
        self._is_direct = False
        for flags in dict.fromkeys((_READ | flag, _READ)):
            with suppress(OSError):
                self._reader = os.open(self._name, flags, dir_fd=self._directory)
                if os.path.samestat(os.fstat(self._reader), os.fstat(self._file)):
                    self._is_direct = bool(flags & os.O_DIRECT)
                    return
                self._let_go()
        self._reader = self._file

    def _let_go(self) -> None:
        if self._reader not in {self._file, -1}:
            with suppress(OSError):
                os.close(self._reader)
        self._reader = self._file
