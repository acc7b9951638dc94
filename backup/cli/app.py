"""The parser: commands and global options; errors become exit statuses here."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from backup._version import PROGRAM
from backup.cli import get_back, key_commands, look, prove, take
from backup.cli.arguments import sort_arguments
from backup.cli.help_text import COMMANDS, HELP
from backup.cli.invocation import Invocation
from backup.cli.output import print_error, print_line, print_note
from backup.errors import BackupError
from backup.wiring import Settings

_INTERRUPTED = 130
_USAGE = 2

app = typer.Typer(
    name="auto-backup",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
take.register(app)
look.register(app)
get_back.register(app)
prove.register(app)
app.add_typer(key_commands.app, name="key", help="Make and look at keys.")


def _version(*, wanted: bool) -> None:
    if wanted:
        print_line(PROGRAM)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    *,
    store: Annotated[list[str] | None, typer.Option(help="Where snapshots lie.")] = None,
    host: Annotated[str | None, typer.Option(help="This machine's name in the stores.")] = None,
    job: Annotated[str | None, typer.Option(help="The job's name.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="The key.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="State and log.")] = None,
    log_file: Annotated[Path | None, typer.Option(help="In place of backup.log.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell in JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Tell errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Tell the version.")] = False,
) -> None:
    _version(wanted=version)
    call: Invocation = context.ensure_object(Invocation)
    call.settings = Settings(tuple(store or ()), host, job, key_file, state_dir)
    call.json, call.quiet, call.verbose, call.dry_run = as_json, quiet, verbose, dry_run
    call.log_file = log_file
    if context.invoked_subcommand is None:
        print_line(HELP.rstrip())
        raise typer.Exit(_USAGE)


def run(arguments: Sequence[str]) -> int:
    """Run the command with ``arguments`` and return its exit status."""
    call = Invocation()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = _parse_and_run(sort_arguments(arguments), call)
        sys.stdout.flush()
    except BackupError as error:
        status = error.exit_code
        print_error(error)
        call.end_action("failed", error=error.message, exit_status=status)
    except (KeyboardInterrupt, Abort):
        status = _INTERRUPTED
        print_note("interrupted; nothing that looks finished has been left behind")
        call.end_action("interrupted", exit_status=status)
    except BrokenPipeError:
        # Whoever read the output has seen enough; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = call.status
    except Exception as error:  # noqa: BLE001 - no foreign traceback ever reaches a user
        status = 1
        _tell_fault(error, call)
    call.end_action("done" if status == 0 else "failed", exit_status=status)
    return status


def _parse_and_run(arguments: list[str], call: Invocation) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(
            args=arguments, prog_name="auto-backup", standalone_mode=False, obj=call
        )
    except TyperException as error:
        _tell_usage(error, arguments)
        return error.exit_code
    return result if isinstance(result, int) and result else call.status


def _tell_usage(error: TyperException, arguments: Sequence[str]) -> None:
    """Tell what was wrong with the call, in the words of all other errors."""
    text = error.format_message().strip().rstrip(".")
    print_note("error: " + text[:1].lower() + text[1:])
    command = next((one for one in arguments if one in COMMANDS), "")
    print_note(f"hint: see 'auto-backup {command}{' ' if command else ''}--help'")


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _tell_fault(error: Exception, call: Invocation) -> None:
    """Tell a fault of this program: its place for a report, no values, which may be secrets."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119 - for display
    print_note(f"error: this is a fault of auto-backup: {type(error).__name__} at {place}")
    print_note("hint: please report it with the command that you gave")
    call.end_action("failed", error=f"{type(error).__name__} at {place}", exit_status=1)
