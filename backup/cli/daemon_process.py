"""The process of the daemon: what it is made of, and how it is started and detached."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from backup.cli.app import place_of
from backup.cli.invocation import Invocation
from backup.cli.output import print_note
from backup.config.dotenv import use_dotenv_files
from backup.config.survey import in_container
from backup.daemon.daemon import Daemon
from backup.daemon.detaching import Surroundings
from backup.daemon.listening import Place
from backup.daemon.logs import LOG_NAME, log_to_file, log_to_stderr
from backup.daemon.notify import VARIABLES, Notifier
from backup.daemon.opening import Open, Opened, objection_of_program
from backup.daemon.pid_file import PID_NAME, PidFile
from backup.daemon.signals import Signals, exit_at_once
from backup.environment import (
    GROUP,
    SYSTEM_STATE,
    control_socket,
    environment_with,
    group_id,
    known_defaults,
    local_zone,
    of_others,
    set_defaults,
    settle,
    take_out,
)
from backup.errors import BackupError, ConfigError
from backup.tasks import this_program

_LOG = logging.getLogger(__name__)
_HOW = "_AUTO_BACKUP_DAEMON"  # tells a process that was started as the daemon how that was
_DETACH, _DETACHED = "detach:", "detached"
_STARTING = 30.0
_READY, _FAILED = b"ready ", b"failed "
_BLOCK = 4096


def pid_path(call: Invocation) -> Path:
    """Return where the daemon's process id lies."""
    return call.settings.state_dir().absolute() / PID_NAME


def surroundings() -> Surroundings:
    """Return what this process knows of where it is."""
    return Surroundings(
        pid=os.getpid(),
        parent=os.getppid(),
        exec_pid=of_others("SYSTEMD_EXEC_PID"),
        is_notified=bool(of_others("NOTIFY_SOCKET")),
        in_container=in_container() or bool(of_others("container")),
    )


def opening(call: Invocation, here: Path) -> Open:
    """Return what reads the configuration that a call means.

    Args:
        call: The call.
        here: The directory that it was made in: ``.env`` there counts.
    """

    def open_() -> Opened:
        before = known_defaults()
        try:
            remarks = use_dotenv_files(call.settings.config, here)
            settle(here)
            loaded = call.settings.loaded()
            if loaded is None:
                raise ConfigError(
                    "there is no configuration",
                    hint="name one with --config FILE, or make one with 'auto-backup config init'",
                )
            host, only_writes = call.settings.host_name(), call.settings.only_writes()
        except BaseException:
            set_defaults(before)
            raise
        return Opened(loaded, known_defaults(), host, only_writes, tuple(remarks))

    return open_


def own_options(call: Invocation) -> list[str]:
    """Return the global options of a call, as another process gets them."""
    settings = call.settings
    files = {
        "--config": settings.config,
        "--state-dir": settings.state,
        "--key-file": settings.key_file,
        "--identity": settings.identity_file,
        "--passphrase-file": settings.passphrase_file,
        "--log-file": call.log_file,
    }
    found = [f"{name}={path.absolute()}" for name, path in files.items() if path is not None]
    found += [f"--host={settings.host}"] if settings.host else []
    words = {"--quiet": call.quiet, "--verbose": call.verbose}
    return found + [name for name, is_said in words.items() if is_said]


def run_daemon(call: Invocation) -> None:
    """Be the daemon until a signal ends it.

    Raises:
        ConfigError: There is no configuration to work by.
        LockedError: There is a daemon already.
    """
    signals = Signals(exit_at_once)
    how = take_out([_HOW]).get(_HOW, "")
    notifier = Notifier(take_out(VARIABLES), os.getpid())
    here = Path.cwd()
    settle(here)
    pid_file = PidFile(pid_path(call))
    pid_file.take()
    options = own_options(call)
    # What runs get: where the state lies does not change as long as this process lives.
    of_runs = [one for one in options if not one.startswith(("--config=", "--state-dir="))]
    daemon = Daemon(
        opening(call, here),
        pid_file.path.parent,
        signals=signals,
        notifier=notifier,
        zone=local_zone(),
        place=_place(pid_file.path.parent),
        options=(*of_runs, f"--state-dir={pid_file.path.parent}"),
        objection=lambda: objection_of_program(tuple(options), here),
        take_over=lambda: _become_program_on_disk(options, here, pid_file, notifier, how),
        is_main=os.getppid() != 1 or not in_container(),
        is_place_there=pid_file.is_there,
    )
    with ExitStack() as closing:
        closing.callback(signals.close)
        starter = closing.enter_context(_placed(how, pid_file, signals))
        with _telling(starter):
            _start_log(call, pid_file.path.with_name(LOG_NAME), how)
            daemon.run(lambda: _say(starter, _READY + str(os.getpid()).encode()))


def _place(state: Path) -> Place:
    """Return where to listen: at the machine's socket also for members of its group."""
    path = control_socket(state)
    return Place(path, group_id(GROUP) if state == SYSTEM_STATE else None)


@contextmanager
def _placed(how: str, pid_file: PidFile, signals: Signals) -> Iterator[int | None]:
    """Stay in front, or detach; yield the descriptor of who waits to hear how that went."""
    if not how.startswith(_DETACH):
        if how == _DETACHED:
            os.chdir("/")
        with pid_file:
            yield None
        return
    from daemon import DaemonContext  # noqa: PLC0415 - only those who detach need it

    starter = int(how.removeprefix(_DETACH))
    context = DaemonContext(
        umask=0o077,
        working_directory="/",
        pidfile=pid_file,
        files_preserve=[starter, pid_file.fileno(), *signals.filenos()],
        signal_map=dict.fromkeys((signal.SIGTTIN, signal.SIGTTOU), signal.SIG_IGN),
        detach_process=True,
    )
    with context:
        os.set_inheritable(starter, False)
        yield starter


@contextmanager
def _telling(starter: int | None) -> Iterator[None]:
    """Tell who waits, and the log, of an error: nobody sees standard error any more."""
    try:
        yield
    except Exception as error:
        status, text = 1, f"this is a fault of auto-backup: {place_of(error)}"
        if isinstance(error, BackupError):
            status, text = error.exit_code, error.message
        _LOG.error("%s", text)
        _say(starter, _FAILED + f"{status} {text}".encode())
        raise


def _say(starter: int | None, text: bytes) -> None:
    if starter is not None:
        with suppress(OSError):
            os.write(starter, text + b"\n")
            os.close(starter)


def _start_log(call: Invocation, path: Path, how: str) -> None:
    level = logging.DEBUG if call.verbose else logging.WARNING if call.quiet else logging.INFO
    if not how:
        log_to_stderr(of_others("JOURNAL_STREAM"), level)
        return
    try:
        log_to_file(path, level)
    except OSError as error:
        raise BackupError(f"cannot write the log {path}: {error.strerror}") from error


def _become_program_on_disk(
    options: list[str], here: Path, pid_file: PidFile, notifier: Notifier, how: str
) -> str:
    """Replace this process's program, keeping its id and its pid file; return why it cannot be."""
    marks = {_HOW: _DETACHED} if how else {}
    try:
        directory = here if here.is_dir() else Path("/")
        command = this_program(options, directory).call("daemon", "run")
        os.set_inheritable(pid_file.fileno(), True)
        os.execve(command[0], command, environment_with(notifier.variables | marks))  # noqa: S606
    except (OSError, BackupError) as error:
        os.set_inheritable(pid_file.fileno(), False)
        return getattr(error, "message", None) or type(error).__name__


def start_daemon(call: Invocation) -> int | None:
    """Start a daemon that detaches itself; return its process id once it works.

    ``None``: it has failed and said why; ``call.status`` is its exit status.

    Raises:
        BackupError: It has failed, or is not ready in time.
    """
    ours, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            this_program(own_options(call)).call("daemon", "run"),
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[theirs],
            env=environment_with({_HOW: f"{_DETACH}{theirs}"}),
        )
        os.close(theirs)
        said = _hear(ours)
    finally:
        os.close(ours)
    log = pid_path(call).with_name(LOG_NAME)
    if said is None:
        raise BackupError(
            f"the daemon has not become ready in {_STARTING:g} s", hint=f"its log is {log}"
        )
    status = process.wait()
    if said.startswith(_READY):
        return int(said.removeprefix(_READY))
    if said.startswith(_FAILED):
        number, _, text = said.removeprefix(_FAILED).decode(errors="replace").partition(" ")
        print_note(f"error: {text.strip()}")
        status = int(number)
    elif status == 0:
        raise BackupError("the daemon has ended before it was ready", hint=f"its log is {log}")
    call.status = status if status > 0 else 1
    return None


def _hear(pipe: int) -> bytes | None:
    """Return what the daemon says, nothing if it ends without; ``None`` if it takes too long."""
    deadline, said = time.monotonic() + _STARTING, b""
    while b"\n" not in said:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        block = os.read(pipe, _BLOCK)
        if not block:
            break
        said += block
    return said
