"""``daemon run``, ``start``, ``stop``, ``reload``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import print_json, print_line
from backup.errors import BackupError, ConfigError

if TYPE_CHECKING:
    from backup.daemon.pid_file import Holder

app = typer.Typer(rich_markup_mode=None)
_ENDING, _KILLED = 8.0, 3.0
_NOT_RUNNING = "the daemon is not running"


def register(program: typer.Typer) -> None:
    """Add the commands to ``program``."""
    program.add_typer(app, name="daemon", help="Run jobs when they are due.")


@app.callback()
def _group() -> None:
    """Run jobs when they are due, for as long as the machine runs."""


@app.command("run", epilog=MORE)
def run(context: typer.Context) -> None:
    """Run jobs when they are due, staying in front: for systemd, containers, terminals."""
    from backup.cli.daemon_process import run_daemon  # noqa: PLC0415 - costs start-up time

    call = invocation(context)
    if call.dry_run:
        _refuse_configuration(call)
        print_line("the daemon would run")
        return
    run_daemon(call)


@app.command("start", epilog=MORE)
def start(context: typer.Context) -> None:
    """Start the daemon, detached from this terminal; it is up, or has failed, when this ends."""
    from backup.cli.daemon_process import pid_path, start_daemon, surroundings  # noqa: PLC0415
    from backup.daemon.detaching import reason_against_detaching  # noqa: PLC0415
    from backup.daemon.logs import LOG_NAME  # noqa: PLC0415

    call = invocation(context)
    reason = reason_against_detaching(surroundings())
    if reason is not None:
        raise ConfigError(reason, hint="'auto-backup daemon run' stays in front")
    if call.dry_run:
        _refuse_configuration(call)
        print_line("the daemon would be started")
        return
    log = pid_path(call).with_name(LOG_NAME)
    number = start_daemon(call)
    if number is None:
        return
    if call.json:
        print_json({"pid": number, "log": str(log)})
    elif not call.quiet:
        print_line(f"the daemon runs: process {number}, log {log}")
        call.note("'auto-backup daemon stop' ends it")


@app.command("stop", epilog=MORE)
def stop(context: typer.Context) -> None:
    """End the daemon, and what it runs; what is cut off is done again at its next start."""
    call = invocation(context)
    holder = _find(context, call)
    if holder is None:
        _tell(call, _NOT_RUNNING, pid=None)
        return
    if call.dry_run:
        print_line(f"the daemon (process {holder.pid}) would be ended")
        return
    holder.signal(signal.SIGTERM)
    if not holder.wait(_ENDING):
        call.note(f"the daemon has not ended in {_ENDING:g} s, and is killed")
        holder.signal(signal.SIGKILL)
        if not holder.wait(_KILLED):
            raise BackupError(f"the daemon (process {holder.pid}) cannot be killed")
    _tell(call, f"the daemon (process {holder.pid}) has ended", pid=holder.pid)


@app.command("reload", epilog=MORE)
def reload(context: typer.Context) -> None:
    """Let the daemon read its configuration anew; its log tells whether it could use it."""
    call = invocation(context)
    holder = _find(context, call)
    if holder is None:
        raise BackupError(_NOT_RUNNING, hint="'auto-backup daemon start' starts it")
    if call.dry_run:
        print_line(f"the daemon (process {holder.pid}) would be told")
        return
    from backup.cli.handing_over import reload_daemon  # noqa: PLC0415 - costs start-up time

    if reload_daemon(call):
        text = f"the daemon (process {holder.pid}) goes by the configuration as it is now"
    else:
        holder.signal(signal.SIGHUP)
        text = f"the daemon (process {holder.pid}) has been told; its log says what came of it"
    _tell(call, text, pid=holder.pid)


def _find(context: typer.Context, call: Invocation) -> Holder | None:
    from backup.cli.daemon_process import pid_path  # noqa: PLC0415
    from backup.daemon.pid_file import find_holder  # noqa: PLC0415

    holder = find_holder(pid_path(call))
    if holder is not None:
        context.call_on_close(holder.close)
    return holder


def _refuse_configuration(call: Invocation) -> None:
    """Refuse a configuration that the daemon would refuse."""
    from backup.cli.daemon_process import opening  # noqa: PLC0415
    from backup.daemon.opening import refuse_unscheduled  # noqa: PLC0415

    refuse_unscheduled(opening(call, Path.cwd())().loaded)


def _tell(call: Invocation, text: str, *, pid: int | None) -> None:
    if call.json:
        print_json({"pid": pid, "text": text})
    elif not call.quiet:
        print_line(text)
