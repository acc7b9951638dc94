"""Starting a nursery: by executing this very Python anew."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from backup.environment import environment_with

_PYTHON = re.compile(r"(python|pypy)[0-9.]*[dt]*(\.exe)?")
_BOOT = "import sys; sys.path[:] = {path!a}; from backup.pool.nursery import main; main({numbers})"
_BEHIND_STDERR = 3

# Each frame needs buffers of some MiB; glibc would have the kernel clear them anew every time.
_STEADY_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "536870912"}


def start_nursery(control: socket.socket, memory: int) -> subprocess.Popen[bytes]:
    """Start a nursery that is spoken to over ``control`` and shares ``memory``.

    Nothing secret is among its arguments. It says nothing to the terminal: what is wrong with it
    is noticed by its silence.

    Raises:
        OSError: There is no Python to execute, or the system refuses.
    """
    with ExitStack() as closing:
        passed = []
        # Where the standard streams are closed, others may have got their numbers.
        for file in (control.fileno(), memory):
            passed.append(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _BEHIND_STDERR))
            closing.callback(os.close, passed[-1])
        numbers = ", ".join(map(str, (*passed, os.getpid())))
        code = _BOOT.format(path=import_path(), numbers=numbers)
        return subprocess.Popen(
            [find_python(), *_flags(), "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=passed,
            env=environment_with(_STEADY_MEMORY),
        )


def _flags() -> Iterator[str]:
    """Yield how Python is to run: nothing of the site or the environment, names read as here."""
    is_utf8 = sys.getfilesystemencoding() == "utf-8"
    yield from ("-S", "-E", "-X", f"utf8={is_utf8:d}")
    if sys.dont_write_bytecode:
        yield "-B"
    if sys.pycache_prefix:
        yield from ("-X", f"pycache_prefix={sys.pycache_prefix}")


def import_path() -> list[str]:
    """Return where modules are found, absolute, this package among it however it was found."""
    own = str(Path(__file__).absolute().parents[2])
    given: list[object] = [*sys.path]  # programs put there what they like
    found = []
    for place in given:
        with suppress(OSError):  # relative to a directory that is gone
            found += [str(Path(place).absolute())] if isinstance(place, str) else []
    return found if own in found else [*found, own]


def find_python() -> str:
    """Return the interpreter that runs this program, which may be embedded in another one.

    Raises:
        OSError: There is none; a frozen program would only start itself again.
    """
    if not getattr(sys, "frozen", False):
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        places = (sys.exec_prefix, sys.base_exec_prefix)
        for path in (sys.executable or "", *(f"{one}/bin/{name}" for one in places)):
            if _PYTHON.fullmatch(Path(path).name) and os.access(path, os.X_OK):
                return path
    raise FileNotFoundError("there is no Python to start workers with")
