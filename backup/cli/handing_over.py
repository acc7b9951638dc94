"""Handing runs to the daemon, and showing how they go there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec

from backup.cli.invocation import Invocation
from backup.cli.output import print_error, print_json, print_line
from backup.cli.progress import ProgressLine
from backup.cli.wanted import Options
from backup.config.identity import contradictions, digest_of, variable_digests
from backup.control import (
    Begun,
    Call,
    Ended,
    Moved,
    Refused,
    Reply,
    Request,
    Wrote,
    as_error,
    ask,
    connect,
)
from backup.environment import control_socket
from backup.errors import BackupError, ConfigError, DaemonError

_DONE = {0, 3}
_NO_DAEMON = "there is no daemon to hand the run to"


def hand_over(call: Invocation, names: Sequence[str], options: Options, *, wait: bool) -> bool:
    """Let the daemon run jobs, if there is one; tell whether it does.

    Args:
        call: The call.
        names: The jobs.
        options: What the call says of them, which the daemon would not know.
        wait: Whether to show how they go, and wait for their end.

    Raises:
        ConfigError: It is not to be waited for, and the daemon cannot do it.
    """
    if call.dry_run or call.reporter.is_heard:  # a supervisor has begun this very run
        return False
    reason = _reason_against(call, _said_here(call, options))
    if reason is None:
        _carry_out(call, names, wait=wait)
        return True
    if not wait:
        raise ConfigError(
            f"--no-wait hands the run to the daemon: {reason}",
            hint="without --no-wait it is run here",
        )
    if reason != _NO_DAEMON:
        call.note(f"run here and not by the daemon: {reason}")
    return False


def hello(call: Invocation) -> dict[str, Any] | None:
    """Return what the daemon says of itself, ``None`` where none listens.

    Raises:
        BackupError: It does not answer, or may not be asked.
    """
    answer = ask(socket_of(call), Request("hello"), trusted_users(call))
    return None if answer is None else answer.fields


def reload_daemon(call: Invocation) -> bool:
    """Let the daemon read its configuration anew; tell whether it listens, and so has done it.

    Raises:
        ConfigError: It refuses the configuration, and goes on by the old one.
    """
    return ask(socket_of(call), Request("reload"), trusted_users(call)) is not None


def socket_of(call: Invocation) -> Path:
    """Return where the daemon of this call's state listens."""
    return control_socket(call.settings.state_dir())


def trusted_users(call: Invocation) -> list[int]:
    """Return the users whose daemon may be believed: the state directory's owner."""
    with suppress(OSError):
        return [call.settings.state_dir().stat().st_uid]
    return []


def _said_here(call: Invocation, options: Options) -> str | None:
    """Return which options of this call only this process knows."""
    settings = call.settings
    said = {
        "--store": settings.stores,
        "--host": settings.host,
        "--key-file": settings.key_file,
        "--identity": settings.identity_file,
        "--passphrase-file": settings.passphrase_file,
        "--log-file": call.log_file,
    }
    named = [name for name, value in said.items() if value]
    if options.says_anything():
        named.append("the options of this call")
    return f"it does not know {' and '.join(named)}" if named else None


def _reason_against(call: Invocation, said_here: str | None) -> str | None:
    """Return why the daemon cannot do it, ``None`` if it can."""
    configuration = call.settings.configuration()
    if configuration is None:
        return "there is no configuration"
    try:
        daemon = hello(call)
    except BackupError as error:
        return error.message
    if daemon is None or said_here is not None:
        return _NO_DAEMON if daemon is None else said_here
    if daemon.get("digest") != digest_of(configuration):
        return "it goes by another configuration; 'auto-backup daemon reload' lets it read this one"
    others = contradictions(variable_digests(), daemon.get("variables", {}))
    if others:
        named = ", ".join(f"AUTO_BACKUP_{one}" for one in others)
        return f"{named} is not the same for it"
    return None


def _carry_out(call: Invocation, names: Sequence[str], *, wait: bool) -> None:
    told = [("--json", call.json), ("--verbose", call.verbose), ("--quiet", call.quiet)]
    options = tuple(name for name, is_said in told if is_said)
    request = Request("run", tuple(names), options)  # type: ignore[arg-type]  # those it may have
    connection = connect(socket_of(call), request, trusted_users(call))
    if connection is None:
        raise DaemonError("the daemon has ended just now", hint="try again")
    with connection:
        if wait:
            _Watch(call, names).show(connection)
        else:
            _leave(call, names, connection)


def _leave(call: Invocation, names: Sequence[str], connection: Call) -> None:
    """Tell that the daemon has taken it on; what it refuses at once is an error."""
    for reply in connection:
        if isinstance(reply, Refused):
            raise as_error(reply)
        if isinstance(reply, Begun):
            break
    if call.json:
        print_json([{"job": name, "handed_over": True} for name in names])
    elif not call.quiet:
        for name in names:
            print_line(f"{name}: handed to the daemon")


class _Watch:
    """Shows how runs go in the daemon, as if they were run here."""

    def __init__(self, call: Invocation, names: Sequence[str]) -> None:
        self._call = call
        self._several = len(names) > 1
        self._statuses: list[int] = []
        self._json = bytearray()
        self._told: list[object] = []
        self._line: ProgressLine | None = None

    def show(self, connection: Call) -> None:
        """Show it to the end; the exit status tells what became of all."""
        connection.wait_long()
        try:
            for reply in connection:
                self._take(reply)
        except KeyboardInterrupt:
            self._hide()
            self._call.note("it goes on in the daemon; 'auto-backup status' tells how far it is")
            raise
        finally:
            self._hide()
            if self._call.json:
                print_json(self._told)
        failed = [one for one in self._statuses if one not in _DONE]
        self._call.status = failed[0] if failed else max(self._statuses, default=1)

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, Moved):
            self._draw(reply)
            return
        self._hide()
        if isinstance(reply, Begun):
            if self._several and not (self._call.json or self._call.quiet):
                print_line(f"{reply.job}:")
        elif isinstance(reply, Wrote):
            self._write(reply)
        elif isinstance(reply, Ended):
            self._end(reply)
        elif isinstance(reply, Refused):
            self._refuse(reply)

    def _draw(self, moved: Moved) -> None:
        if self._line is None:
            self._line = ProgressLine(moved.what, moved.total, quiet=self._call.quiet)
            self._line.__enter__()
        self._line.at(moved.what, moved.done, moved.total)

    def _hide(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.__exit__(None, None, None)

    def _write(self, wrote: Wrote) -> None:
        """Pass on what a run wrote: it does not end because nobody listens here."""
        if wrote.stream == 1 and self._call.json:
            self._json += wrote.block
            return
        stream = sys.stdout if wrote.stream == 1 else sys.stderr
        with suppress(OSError, ValueError):
            stream.flush()
            stream.buffer.write(wrote.block)
            stream.buffer.flush()

    def _end(self, ended: Ended) -> None:
        self._statuses.append(ended.status)
        self._told += _documents(bytes(self._json)) or [
            {"job": ended.job, "outcome": ended.outcome, "exit_status": ended.status}
            | ({"error": ended.reason} if ended.reason else {})
        ]
        self._json.clear()
        if ended.outcome in {"interrupted", "timed out"}:
            self._call.note(
                f"{ended.job}: {ended.outcome}{': ' * bool(ended.reason)}{ended.reason}"
            )

    def _refuse(self, refused: Refused) -> None:
        error = as_error(refused)
        self._statuses.append(error.exit_code)
        print_error(error)
        self._told.append(
            {"job": refused.job, "error": error.message, "exit_status": error.exit_code}
        )


def _documents(text: bytes) -> list[object]:
    """Return what a run told in JSON, which is a list; nothing of what is none."""
    with suppress(msgspec.MsgspecError):
        found = msgspec.json.decode(text)
        return cast("list[object]", found) if isinstance(found, list) else [found]
    return []
