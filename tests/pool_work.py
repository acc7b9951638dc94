"""Work for the pools of tests: each job says what is to be done with it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from backup import errors
from backup.pool.pool import Pool, PoolSize
from backup.pool.slots import SlotSize

FACTORY = f"{__name__}:make"
SIZE = PoolSize(workers=2, slots=6, slot=SlotSize(4096, 65536), worth=1)


class Told(NamedTuple):
    """What a job gave: its number, the process that did it, and some bytes."""

    number: int
    process: int
    body: bytes


class Work:
    """Does what a job says: ``[number, what, *arguments]``."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def run(self, job):
        number, what, *arguments = msgspec.msgpack.decode(job)
        body = getattr(self, what)(*arguments)
        return msgspec.msgpack.encode([number, os.getpid()]), body or b""

    def close(self) -> None:
        """Nothing is kept."""

    def nothing(self, *_) -> None: ...

    def set_up(self):
        return self._data

    def sleep(self, seconds):
        time.sleep(seconds)

    def give(self, count, seed=0):
        return bytes([seed % 256]) * count

    def refuse(self, kind, message, hint):
        raise getattr(errors, kind)(message, hint=hint)

    def fail(self, kind, message):
        raise {"ZeroDivisionError": ZeroDivisionError, "MemoryError": MemoryError}[kind](message)

    def refuse_oddly(self, kind):
        text = "cannot read \udcff"
        raise ValueError(text) if kind == "ValueError" else getattr(errors, kind)(text, hint=text)

    def die(self, path=None):
        """End this process by SIGKILL: always, or where ``path`` is not there yet."""
        if path is not None:
            if Path(path).exists():
                return
            Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def exit(self, status):
        os._exit(status)

    def make_later(self, seconds, path):
        time.sleep(seconds)
        Path(path).touch()

    def wait_for(self, path):
        while not Path(path).exists():
            time.sleep(0.002)

    def open_files(self):
        files = Path("/proc/self/fd").iterdir()
        return "\n".join(str(one.readlink()) for one in files if one.is_symlink()).encode()


def make(data):
    return Work(data)


def make_pool(data=b"", **size: Any):
    return Pool(FACTORY, data, SIZE._replace(**size))


def encode(*job):
    return msgspec.msgpack.encode(job)


def take(pool):
    """Take the next result of a pool."""
    head, body = pool.next()
    return Told(*msgspec.msgpack.decode(head), bytes(body))


def results(pool, jobs):
    """Hand out jobs as there is room for them, and yield what they gave."""
    for job in jobs:
        pool.submit(encode(*job))
        while pool.is_full:
            yield take(pool)
    while pool.pending:
        yield take(pool)
