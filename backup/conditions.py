"""Under which conditions a job runs at all: ``only_if``."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from backup.child_run import NOT_STARTED, ChildRun
from backup.errors import BackupError, InvalidArgumentError

_SUPPLIES = Path("/sys/class/power_supply")
_MOUNTS = Path("/proc/self/mountinfo")
_CONNECTING = 10.0
_ASKING = 60.0
_MOST_PORTS = 65_535
_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:.%\w]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})"
)
_ESCAPE = re.compile(r"\\([0-7]{3})")
_UNTRUE = frozenset({"autofs"})  # what only mounts something when somebody looks


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What has to hold before a job begins; all of it.

    ``mains_power``: a machine without a battery has it. ``mounted``: something is mounted there.
    ``reachable``: ``host:port`` takes connections. ``command``: exits with 0.
    """

    mains_power: bool = False
    mounted: tuple[str, ...] = ()
    reachable: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


NO_CONDITIONS = Conditions()
_WORDS = ("mains_power", "mounted", "reachable", "command")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where the machine tells of itself, and how long an answer may take."""

    supplies: Path = _SUPPLIES
    mounts: Path = _MOUNTS
    connecting: float = _CONNECTING
    asking: float = _ASKING


SURROUNDINGS = Surroundings()


def make_conditions(said: Mapping[str, object]) -> Conditions:
    """Return the conditions of a mapping such as ``{"mounted": "/mnt/disk"}``.

    Raises:
        InvalidArgumentError: A word is unknown, or has no usable value.
    """
    values: dict[str, object] = {}
    for word, value in said.items():
        if word == "mains_power":
            values[word] = _is_true(value)
        elif word == "mounted":
            values[word] = tuple(map(_directory, _texts(word, value, "/mnt/disk")))
        elif word == "reachable":
            values[word] = tuple(map(_address, _texts(word, value, "db1:5432")))
        elif word == "command":
            values[word] = _command(value)
        else:
            raise _unknown(str(word))
    return Conditions(**values)  # type: ignore[arg-type]  # each was checked above


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
            if not _is_mounted(path, around.mounts):
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


def _is_mounted(path: str, mounts: Path) -> bool:
    """Tell whether something is mounted there, as the kernel's table says.

    The table is asked first: to look at a mount whose server is dead may take for ever. Where only
    an automounter waits it is woken by a look.
    """
    if (kinds := _kinds_of_mounts(path, mounts)) - _UNTRUE:
        return True
    if kinds:
        return _wakes(path) and bool(_kinds_of_mounts(path, mounts) - _UNTRUE)
    real = os.path.realpath(path)
    return real != path and bool(_kinds_of_mounts(real, mounts) - _UNTRUE)


def _wakes(path: str) -> bool:
    try:
        os.scandir(path).close()
    except OSError:
        return False
    return True


def _kinds_of_mounts(path: str, mounts: Path) -> set[str]:
    """Return the types of what is mounted there.

    A directory that is mounted onto itself does not count: systemd does that with what a service
    may write to, and it is no disk that has come.
    """
    rows = {}
    for line in _lines(mounts):
        head, _, tail = line.partition(b" - ")
        fields = [_unescaped(one) for one in head.split()]
        if len(fields) > 4:  # noqa: PLR2004 - proc(5)
            rows[fields[0]] = fields, tail.split(b" ", 1)[0].decode(errors="replace")
    wanted = os.fsencode(path)
    return {
        kind
        for fields, kind in rows.values()
        if fields[4] == wanted
        and (fields[1] not in rows or not _is_onto_itself(fields, rows[fields[1]][0]))
    }


def _is_onto_itself(mount: list[bytes], around: list[bytes]) -> bool:
    """Tell whether a mount shows the very directory that it hides."""
    _, _, device, top, place = mount[:5]
    below = os.path.relpath(place, around[4])
    return device == around[2] and top == os.path.normpath(os.path.join(around[3], below))  # noqa: PTH118 - bytes


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _unescaped(name: bytes) -> bytes:
    text = name.decode("latin-1")
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text).encode("latin-1")


def _cannot_reach(address: str, seconds: float) -> str | None:
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except TimeoutError:
        return f"no answer in {seconds:g} s"
    except socket.gaierror:
        return "its name leads to no address"
    except (OSError, UnicodeError) as error:
        return (getattr(error, "strerror", None) or "it is not a host's name").lower()
    return None


def _is_true(value: object) -> bool:
    if value is not True:
        raise InvalidArgumentError("mains_power can only be true", hint="to not ask, leave it out")
    return True


def _texts(word: str, value: object, example: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if (
        not isinstance(texts, list | tuple)
        or not texts
        or not all(isinstance(one, str) and one for one in texts)
    ):
        raise InvalidArgumentError(f"{word} needs a text such as {example}, or a list of them")
    return tuple(texts)


def _directory(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"mounted needs an absolute path, not {path!r}")
    return os.path.normpath(path)


def _address(text: str) -> str:
    _host_and_port(text)
    return text


def _host_and_port(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= _MOST_PORTS:
        raise InvalidArgumentError(
            f"reachable needs a host and a port, not {address[:80]!r}",
            hint="write it as db1:5432 or [2001:db8::1]:5432",
        )
    return found["six"] or found["host"], int(found["port"])


def _command(value: object) -> tuple[str, ...]:
    words = _texts("command", value, "[/usr/bin/test, -e, /x]")
    if isinstance(value, str) or not words[0].startswith("/") or any("\0" in w for w in words):
        raise InvalidArgumentError(
            "command needs a list that begins with the program's absolute path",
            hint="write it as [/usr/bin/test, -e, /x]; no shell is involved",
        )
    return words


def _unknown(word: str) -> InvalidArgumentError:
    close = get_close_matches(word, _WORDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"what can be said: {', '.join(_WORDS)}"
    return InvalidArgumentError(f"{word[:80]!r} is no condition", hint=hint)
