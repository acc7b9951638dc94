"""Which processes there are below another one: the nurseries and workers of pools."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

_NURSERY = b"backup.pool.nursery"
_ENDED = "ZX"


def children(process):
    """Return the children of all threads of a process."""
    found = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(process):
    found = []
    for child in children(process):
        found += [child, *descendants(child)]
    return found


def nurseries(process):
    """Return the nurseries below a process, which may be its grandchildren."""
    found = []
    for child in descendants(process):
        with suppress(OSError):
            if _NURSERY in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    workers = {worker for nursery in found for worker in children(nursery)}
    return [one for one in found if one not in workers]


def workers(process):
    return [worker for nursery in nurseries(process) for worker in children(nursery)]


def is_alive(process):
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in _ENDED


def wait_until(condition, seconds=10.0):
    """Wait until ``condition()`` is true; return what it was."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return found


def all_gone(processes, seconds=2.0):
    """Tell whether all ``processes`` end in time."""
    return wait_until(lambda: not any(map(is_alive, processes)), seconds)


class Watch:
    """Collects, while it is entered, the nurseries and workers below a process.

    Args:
        process: Its id; this one by default.
        owners: Whether to collect to whom the memory of the workers belongs.
    """

    def __init__(self, process=None, *, owners=False):
        self._process = process or os.getpid()
        self._asks_for_owners = owners
        self.owners: set[int] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.nurseries: set[int] = set()
        self.workers: set[int] = set()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _look(self):
        while not self._is_over.wait(0.008):
            found = nurseries(self._process)
            self.nurseries.update(found)
            for nursery in found:
                self.workers.update(children(nursery))
            for worker in self.workers if self._asks_for_owners else ():
                with suppress(OSError):
                    self.owners.add(Path(f"/proc/{worker}/mem").stat().st_uid)
