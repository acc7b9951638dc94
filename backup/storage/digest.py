"""A SHA-256 that is computed beside the work of its caller."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

# Below this, handing a block to another thread takes about as long as hashing it.
_WORTH_A_THREAD_BYTES = 256 << 10


class BackgroundSha256:
    """Hash large blocks on a second thread, one at a time.

    Hashing, writing and encrypting all release the interpreter's lock. One block in flight is
    enough to overlap them, and bounds the memory that is held.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._pool: ThreadPoolExecutor | None = None
        self._in_flight: Future[None] | None = None

    def update(self, block: bytes | memoryview) -> None:
        """Add ``block``; one that is not bytes is hashed at once, as its owner may change it."""
        self._wait()
        if isinstance(block, memoryview) or len(block) < _WORTH_A_THREAD_BYTES:
            self._sha256.update(block)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sha256")
        self._in_flight = self._pool.submit(self._sha256.update, block)

    def digest(self) -> bytes:
        """Return the digest of all blocks so far."""
        self._wait()
        return self._sha256.digest()

    def close(self) -> None:
        """End the second thread."""
        if self._pool is not None:
            self._pool.shutdown()

    def _wait(self) -> None:
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            in_flight.result()
