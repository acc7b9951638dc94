"""The preloaded library ``shim.c``: how it is built, and how a process uses it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from needs import needs

SOURCE = Path(__file__).with_name("shim.c")
_PATH_MAX = 4096
_MOST_CALLS = 1 << 16
_MOST_PLACES = 4


class Action(IntEnum):
    """What becomes of a call; as in ``shim.c``."""

    NONE = 0
    KILL_BEFORE = 1
    KILL_AFTER = 2
    KILL_MIDDLE = 3
    FAIL = 4
    FAIL_ON = 5
    SHORT = 6
    INTERRUPT_BEFORE = 7
    INTERRUPT_AFTER = 8
    STOP_BEFORE = 9
    FLIP = 10


class State(ctypes.Structure):
    """What the library and its user share; as in ``shim.c``."""

    _fields_ = (
        ("domain", ctypes.c_long),
        ("eligible", ctypes.c_long),
        ("at", ctypes.c_long),
        ("action", ctypes.c_long),
        ("error", ctypes.c_long),
        ("count", ctypes.c_long),
        ("fired", ctypes.c_long),
        ("log", ctypes.c_long),
        ("below", (ctypes.c_char * _PATH_MAX) * _MOST_PLACES),
        ("kinds", ctypes.c_ubyte * _MOST_CALLS),
    )


def build(directory: Path) -> Path:
    """Compile the library into ``directory``; return its path."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    needs(compiler, "there is no C compiler")
    library = directory / "shim.so"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    done = subprocess.run(
        [*command, "-o", library, SOURCE, "-ldl"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return library


class Shim:
    """The library as this process has it, which was started with it preloaded."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        library.shim_state.restype = ctypes.POINTER(State)
        library.shim_kind_name.restype = ctypes.c_char_p
        self._arm = library.shim_arm
        self.state: State = library.shim_state().contents
        self.names: list[str] = []
        while name := library.shim_kind_name(len(self.names)):
            self.names.append(name.decode())

    def bits(self, kinds: Iterable[str]) -> int:
        """Return the kinds of calls as the bits that the library knows them by."""
        return sum(1 << self.names.index(kind) for kind in kinds)

    def set(
        self,
        below: Iterable[Path],
        domain: Iterable[str],
        *,
        at: int = 0,
        action: Action = Action.NONE,
        error: int = 0,
        eligible: Iterable[str] | None = None,
        log: int = -1,
    ) -> None:
        """Say what shall happen to calls on files ``below`` some directories, once armed."""
        state = self.state
        paths = [bytes(path) for path in below]
        for place in range(_MOST_PLACES):
            state.below[place].value = paths[place] if place < len(paths) else b""
        domain = set(domain)
        state.domain = self.bits(domain)
        state.eligible = self.bits(domain if eligible is None else domain & set(eligible))
        state.at, state.action, state.error, state.log = at, action, error, log
        state.count = state.fired = 0

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Count the calls of the block."""
        self._arm(1)
        try:
            yield
        finally:
            self._arm(0)

    def calls(self) -> list[str]:
        """Return the kinds of the calls that were counted, in their order."""
        count = min(self.state.count, _MOST_CALLS)
        return [self.names[kind] for kind in self.state.kinds[:count]]

    @property
    def fired(self) -> str:
        """The kind of the call that went wrong; empty where none did."""
        return self.names[self.state.fired] if self.state.fired else ""
