"""Whether what a job waits for holds now."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backup.child_run import NOT_STARTED, ChildRun
from backup.conditions.mounts import is_mounted
from backup.conditions.words import Conditions, host_and_port
from backup.errors import BackupError

_SUPPLIES = Path("/sys/class/power_supply")
_MOUNTS = Path("/proc/self/mountinfo")
_CONNECTING = 10.0
_ASKING = 60.0


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where the machine tells of itself, and how long an answer may take."""

    supplies: Path = _SUPPLIES
    mounts: Path = _MOUNTS
    connecting: float = _CONNECTING
    asking: float = _ASKING


SURROUNDINGS = Surroundings()


def reason_against(conditions: Conditions, around: Surroundings = SURROUNDINGS) -> str | None:
    """Return why a job may not begin now, ``None`` where nothing speaks against it.

    It can take as long as a name server, a mount or a command takes: ask on a thread of its own.
    """
    return Asker(around)(conditions)


class Asker:
    """Tells as ``reason_against`` does, on any number of threads, until ``stop``."""

    def __init__(self, around: Surroundings = SURROUNDINGS) -> None:
        self._around = around
        self._lock = threading.Lock()
        self._commands: list[ChildRun] = []
        self._stops = False

    def __call__(self, conditions: Conditions) -> str | None:
        """Return why a job may not begin now."""
        return next(self._reasons(conditions), None)

    def stop(self, grace: float) -> None:
        """End the commands that have been begun, and begin no more; kill after so many seconds."""
        with self._lock:
            self._stops = True
            commands = [*self._commands]
        for one in commands:
            one.stop(grace)

    def go_on(self) -> None:
        """Begin commands again, after ``stop``."""
        with self._lock:
            self._stops = False

    def is_busy(self) -> bool:
        """Tell whether a command is under way."""
        return bool(self._commands)

    def _reasons(self, conditions: Conditions) -> Iterator[str]:
        """Yield what speaks against it; what is asked quickly comes first."""
        around, command = self._around, conditions.command
        if conditions.mains_power and _is_on_battery(around.supplies):
            yield "not on mains power"
        for path in conditions.mounted:
            if not is_mounted(path, around.mounts):
                yield f"nothing is mounted on {path}"
        for address in conditions.reachable:
            if reason := _cannot_reach(address, around.connecting):
                yield f"cannot reach {address}: {reason}"
        if command and (reason := self._cannot_run(command, around.asking)):
            yield f"{command[0]} says no: {reason}"

    def _cannot_run(self, command: tuple[str, ...], seconds: float) -> str | None:
        child = ChildRun(command, timeout=seconds, is_foreign=True)
        with self._lock:
            if self._stops:
                return "it has not been asked"
            self._commands.append(child)
        try:
            end = child.run()
        except BackupError as error:
            return error.message
        finally:
            with self._lock:
                self._commands.remove(child)
        if end.timed_out:
            return f"no answer in {seconds:g} s"
        if end.status == NOT_STARTED:
            return end.err.decode(errors="replace").strip() or "it cannot be started"
        return f"exit status {end.status}" if end.status else None


def _is_on_battery(supplies: Path) -> bool:
    """Tell whether no charger is connected though there is a battery that feeds the machine."""
    has_battery = False
    for supply in _entries(supplies):
        kind = _word(supply / "type")
        if kind in {"Mains", "USB", "UPS"} and _word(supply / "online") not in {"", "0"}:
            return False
        if kind == "Battery" and _word(supply / "scope") != "Device":  # a mouse has one, too
            has_battery = has_battery or _word(supply / "status") == "Discharging"
    return has_battery


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _cannot_reach(address: str, seconds: float) -> str | None:
    host, port = host_and_port(address)
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except TimeoutError:
        return f"no answer in {seconds:g} s"
    except socket.gaierror:
        return "its name leads to no address"
    except (OSError, UnicodeError) as error:
        return (getattr(error, "strerror", None) or "it is not a host's name").lower()
    return None
