"""Appending to a file, hashing what is appended; large files do not go through the page cache."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor

_WORTH = 16 << 20
"""So long a file is written through the page cache; what follows goes past it."""

_BLOCK = 4 << 20
_ALIGNED = 4096


class FileAppender:
    """Appends to an open file from its beginning.

    What a snapshot holds is needed once more, for the proof, and that has to come from the medium.
    In the page cache it would push out what the machine works with, and cost the more time to
    copy. So all but the first 16 MiB are written with ``O_DIRECT`` where the file system can do
    that, in blocks, on a second thread.

    Args:
        file: The descriptor, whose file is empty.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._past_cache: _PastCache | None = None
        self.size = 0

    @property
    def written(self) -> int:
        """How many bytes the system has taken so far; the rest of ``size`` is on its way."""
        return self.size if self._past_cache is None else self._past_cache.written

    def write(self, block: bytes | memoryview) -> None:
        """Append ``block``; it may change after the return.

        Raises:
            OSError: It, or what came before, could not be written.
        """
        rest = memoryview(block)
        if self._past_cache is None:
            first = len(rest) if self.size < _WORTH else -self.size % _ALIGNED
            self._write_now(rest[:first])
            rest = rest[first:]
        if rest:
            if self._past_cache is None:
                self._past_cache = _PastCache(self._file, self._sha256, self.size)
            self._past_cache.write(rest)
            self.size += len(rest)

    def _write_now(self, block: memoryview) -> None:
        self._sha256.update(block)
        rest = block
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self.size += len(block)

    def digest(self) -> bytes:
        """Hand everything to the system; return the SHA-256 of it.

        Raises:
            OSError: It could not be written.
        """
        if self._past_cache is not None:
            self._past_cache.finish()
        return self._sha256.digest()

    def close(self) -> None:
        """End the second thread."""
        if self._past_cache is not None:
            self._past_cache.close()


class _PastCache:
    """Two blocks of memory: one is filled while the other one is hashed and written."""

    def __init__(self, file: int, sha256: hashlib._Hash, written: int) -> None:
        self.written = written
        self._file = file
        self._sha256 = sha256
        self._blocks = [memoryview(mmap.mmap(-1, _BLOCK)) for _ in range(2)]
        self._filled = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="append")
        self._under_way: Future[None] | None = None
        self._is_direct = _set_direct(file, on=True)

    def write(self, rest: memoryview) -> None:
        while rest:
            count = min(len(rest), _BLOCK - self._filled)
            self._blocks[0][self._filled : self._filled + count] = rest[:count]
            self._filled += count
            rest = rest[count:]
            if self._filled == _BLOCK:
                self._wait()
                self._under_way = self._thread.submit(self._put, self._blocks[0])
                self._blocks.reverse()
                self._filled = 0

    def finish(self) -> None:
        self._wait()
        if self._is_direct:  # what is left is no whole block
            self._is_direct = False
            _set_direct(self._file, on=False)
        self._put(self._blocks[0][: self._filled])
        self._filled = 0

    def close(self) -> None:
        self._thread.shutdown()

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _put(self, block: memoryview) -> None:
        self._sha256.update(block)
        left = block
        while left:
            left = left[self._write_some(left) :]
        self.written += len(block)

    def _write_some(self, rest: memoryview) -> int:
        if self._is_direct:
            try:
                count = os.write(self._file, rest)
                if count % _ALIGNED == 0:
                    return count
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                count = 0
            # The file system takes the flag and not the writing, or a full disk took a part.
            self._is_direct = False
            _set_direct(self._file, on=False)
            return count
        return os.write(self._file, rest)


def _set_direct(file: int, *, on: bool) -> bool:
    """Let what is written go past the page cache, or not; return whether that could be done."""
    try:
        flags = fcntl.fcntl(file, fcntl.F_GETFL)
        wanted = flags | os.O_DIRECT if on else flags & ~os.O_DIRECT
        fcntl.fcntl(file, fcntl.F_SETFL, wanted)
    except OSError:
        return False
    return True
