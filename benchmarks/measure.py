"""Runs one pipeline and measures it: a program of its own, so that nothing else counts.

Reads a JSON object from standard input (``stages``: argument lists, ``cwd``, ``env``, ``log``,
``output``: file for what the last stage prints, or null) and writes one to standard output:
seconds, bytes, exit statuses. SIGTERM ends all that it started, and itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn, Self

INTERVAL = 0.05  # seconds between two looks at the memory
ENOUGH = 3  # looks; who has ended before has not been seen at work
SHARE = 10  # looking takes at most one part in so many of a processor's time
PATIENCE = 5.0  # seconds from SIGTERM to SIGKILL

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_GONE = (FileNotFoundError, ProcessLookupError)


class EndedError(Exception):
    """Somebody wants this run to end."""


def descendants(top: int) -> list[int]:
    """Return all processes below ``top``, without it."""
    found: list[int] = []
    waiting = [top]
    while waiting:
        below = children(waiting.pop())
        found += below
        waiting += below
    return found


def children(process: int) -> list[int]:
    """Return the processes whose parent is ``process``, whichever of its threads started them."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208 - names alone, and often
            with contextlib.suppress(*_GONE):
                text = Path(f"/proc/{process}/task/{thread}/children").read_text(encoding="utf-8")
                found += [int(word) for word in text.split()]
    except _GONE:
        pass
    return found


def memory(process: int) -> tuple[int, bool]:
    """Return bytes of memory, shared pages by their share (PSS), and whether it is exactly that.

    A process that hides itself from its user (not dumpable) tells its RSS alone, which is more.
    """
    try:
        return _field(f"/proc/{process}/smaps_rollup", "Pss:"), True
    except PermissionError:
        pass
    except OSError:
        return 0, True  # it has ended
    try:
        return _field(f"/proc/{process}/status", "VmRSS:"), False
    except OSError:
        return 0, True


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0  # a process that is ending has no memory any more


class Sampler:
    """Looks at the memory of all processes below this one, until it is stopped."""

    def __init__(self) -> None:
        self.peak = 0
        self.exact = True
        self.samples = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Take one sample: the sum over all processes, which counts when it is the highest."""
        each = [memory(process) for process in descendants(os.getpid())]
        self.samples += 1
        total = sum(size for size, _ in each)
        if total > self.peak:
            self.peak, self.exact = total, all(exact for _, exact in each)

    def _run(self) -> None:
        pause = INTERVAL / 10  # what is short has been seen at least once
        while not self._stop.wait(pause):
            began = (
                time.thread_time()
            )  # not the clock: waiting for a processor costs the run nothing
            self.look()
            took = time.thread_time() - began
            pause = max(INTERVAL, took * (SHARE - 1))


def measured(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the pipeline of ``spec`` and return what it took; a peak of 0 is not known."""
    with Path(spec["log"]).open("ab") as log, Sampler() as sampler:
        began = time.perf_counter()
        stages = _start(spec, log.fileno())
        statuses = [stage.wait() for stage in stages]
        wall = time.perf_counter() - began
    left = end_all()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": sampler.peak if sampler.samples >= ENOUGH else 0,
        "exact": sampler.exact,
        "statuses": statuses,
        "left": left,
    }


def _start(spec: dict[str, Any], log: int) -> list[subprocess.Popen[bytes]]:
    started: list[subprocess.Popen[bytes]] = []
    source: Any = subprocess.DEVNULL
    with contextlib.ExitStack() as files:
        last: Any = log
        if spec["output"]:
            last = files.enter_context(Path(spec["output"]).open("wb"))
        for number, command in enumerate(spec["stages"], 1):
            ends = number == len(spec["stages"])
            process = subprocess.Popen(
                command,
                stdin=source,
                stdout=last if ends else subprocess.PIPE,
                stderr=log,
                cwd=spec["cwd"],
                env=spec["env"],
            )
            if source != subprocess.DEVNULL:
                source.close()  # so that a stage notices when the one behind it ends
            source = process.stdout
            started.append(process)
    return started


def end_all() -> list[str]:
    """End what still runs below this process, reap it, and return its names."""
    names: list[str] = []
    deadline = time.monotonic() + PATIENCE
    how = signal.SIGTERM
    told: set[int] = set()
    while True:
        _reap()
        running = descendants(os.getpid())
        if not running:
            return names
        if time.monotonic() > deadline and how != signal.SIGKILL:
            how = signal.SIGKILL
            told.clear()
        for process in set(running) - told:
            told.add(process)
            with contextlib.suppress(OSError):
                if how == signal.SIGTERM:
                    names.append(Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip())
                os.kill(process, how)
        time.sleep(0.01)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end(*_: object) -> NoReturn:
    raise EndedError


def main() -> int:
    """Do what standard input says."""
    spec = json.load(sys.stdin)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what daemonises itself stays below us
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = measured(spec)
    except EndedError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_all()
        return 130
    except OSError as error:  # a command that cannot be started
        end_all()
        result = {"error": str(error)}
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
