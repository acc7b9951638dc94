"""The parser: commands and global options; errors become exit statuses here."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from backup._version import PROGRAM
from backup.cli.arguments import GLOBAL_OPTIONS, sort_arguments
from backup.cli.commands import register
from backup.cli.help_text import COMMANDS, HELP
from backup.cli.invocation import Invocation, says_yes
from backup.cli.output import (
    OutputClosed,
    discard_output,
    flush_output,
    print_error,
    print_line,
    print_note,
    print_text,
)
from backup.cli.process import interrupted_by_signals
from backup.cli.terminal import is_conversation
from backup.config.dotenv import use_dotenv_files
from backup.environment import variable
from backup.errors import BackupError, ConfigError
from backup.pool.own_process import keep_memory_private
from backup.reporting import own_reporter
from backup.wiring import Settings, expanded

_INTERRUPTED = 130
_USAGE = 2
_HELP = {"--help", "-h"}
_PACKAGE = Path(__file__).resolve().parents[1]
_LEFT_BEHIND = {
    "questions": "interrupted; nothing has been changed",
    "saving a job": "interrupted; no job has been saved",
    "backup": "interrupted; no unfinished snapshot is left in the store",
    "archive": "interrupted; no unfinished archive is left",
    "restore": "interrupted; each file that has been restored is whole, others are as they were",
}
_OWN_WORDS = {
    r"Value error, ": "",
    r"Input should be a valid integer.*": "it is not a whole number",
    r"\. Did you mean": "; did you mean",
    r" \(Possible options: .*\)": "",
    r"argument\(s\) \((.*)\)": r"arguments: \1",
}


def _version(*, wanted: bool) -> None:
    if wanted:
        print_line(PROGRAM)
        raise typer.Exit


def _global_options(
    context: typer.Context,
    *,
    store: Annotated[list[str] | None, typer.Option(help="Where snapshots lie.")] = None,
    host: Annotated[str | None, typer.Option(help="This machine's name in the stores.")] = None,
    job: Annotated[str | None, typer.Option(help="The job's name.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="The key.")] = None,
    config: Annotated[Path | None, typer.Option(help="The configuration.")] = None,
    identity: Annotated[Path | None, typer.Option(help="A private key that opens.")] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="A passphrase.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="State and log.")] = None,
    log_file: Annotated[Path | None, typer.Option(help="In place of backup.log.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell in JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Tell errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to what would be asked.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Tell the version.")] = False,
) -> None:
    _version(wanted=version)
    call: Invocation = context.ensure_object(Invocation)
    call.settings = Settings(
        stores=tuple(expanded(one) for one in store or ()),
        host=host,
        job=job,
        key_file=_path(key_file),
        state=_path(state_dir),
        identity_file=_path(identity),
        passphrase_file=_path(passphrase_file),
        config=_path(config),
    )
    call.json, call.quiet, call.verbose, call.dry_run = as_json, quiet, verbose, dry_run
    for remark in use_dotenv_files(call.settings.config):
        call.note(remark)
    call.log_file, call.yes = _path(log_file), yes or says_yes(variable("YES"))
    if context.invoked_subcommand is None:
        _without_command(call)


def _without_command(call: Invocation) -> None:
    """Ask a person what to do; tell anybody else what there is."""
    if not is_conversation() or call.json or call.quiet or call.yes:
        print_text(HELP)
        raise typer.Exit(_USAGE)
    from backup.cli.questions import converse  # noqa: PLC0415 - it loads more than any command

    converse(call)


def _path(given: Path | None) -> Path | None:
    return None if given is None else Path(expanded(str(given)))


def run(arguments: Sequence[str], *, alone: bool = False) -> int:
    """Run the command with ``arguments`` and return its exit status.

    Args:
        arguments: What the user typed.
        alone: Whether this process ends with the command, and so may give up rights for good.
    """
    call = Invocation(alone=alone, reporter=own_reporter())
    if alone:
        keep_memory_private()
    with interrupted_by_signals(alone=alone):
        status = _guarded(arguments, call)
        call.end_action("done" if status == 0 else "failed", exit_status=status)
        call.reporter.tell_details(call.details)
        call.reporter.close()
    return status


def _guarded(arguments: Sequence[str], call: Invocation) -> int:
    """Run the command; whatever goes wrong is told, and becomes an exit status."""
    try:
        status = _parse_and_run(sort_arguments(arguments), call)
        flush_output()
    except BackupError as error:
        status = error.exit_code
        print_error(error)
        call.end_action("failed", error=error.message, exit_status=status)
    except (KeyboardInterrupt, Abort):
        status = _INTERRUPTED
        print_note(_LEFT_BEHIND.get(call.action, "interrupted"))
        call.end_action("interrupted", exit_status=status)
    except OutputClosed:
        discard_output()
        status = call.status
    except Exception as error:  # noqa: BLE001 - no foreign traceback ever reaches a user
        status = _tell_fault(error, call) if _is_somewhere() else _tell_nowhere(call)
    return status


def _is_somewhere() -> bool:
    """Tell whether there is a current directory; somebody may have removed it."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _tell_nowhere(call: Invocation) -> int:
    """Tell that relative paths mean nothing here."""
    error = ConfigError(
        "the current directory does not exist any more", hint="change to another one: cd"
    )
    print_error(error)
    call.end_action("failed", error=error.message, exit_status=error.exit_code)
    return error.exit_code


def _parse_and_run(arguments: list[str], call: Invocation) -> int:
    if _asks_for_help(arguments):
        print_text(HELP)
        return 0
    # All global options are in front, and hold their values.
    named = next((one for one in arguments if not one.startswith("-")), None)
    command = typer.main.get_command(new_app(named))
    try:
        result = command.main(
            args=arguments, prog_name="auto-backup", standalone_mode=False, obj=call
        )
    except TyperException as error:
        _tell_usage(error, arguments)
        return error.exit_code
    if result == _INTERRUPTED:  # what the parser's library makes of Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, int) and result else call.status


def new_app(command: str | None = "") -> typer.Typer:
    """Return the parser with ``command`` alone, or where there is none of that name with all.

    ``None`` stands for a call without any command.
    """
    app = typer.Typer(
        name="auto-backup",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_global_options)
    if command is not None:
        register(app, command)
    return app


def _asks_for_help(arguments: Sequence[str]) -> bool:
    """Tell whether ``--help`` stands behind global options only."""
    first = next((one for one in arguments if one not in _HELP and not one.startswith("--")), None)
    return first is None and any(one in _HELP for one in arguments)


def _tell_usage(error: TyperException, arguments: Sequence[str]) -> None:
    """Tell what was wrong with the call, in the words of all other errors."""
    text = error.format_message().strip().rstrip(".")
    for foreign, own in _OWN_WORDS.items():
        text = re.sub(foreign, own, text)
    print_note("error: " + text[:1].lower() + text[1:])
    command = next((one for one in arguments if one in COMMANDS), "")
    print_note(_hint(error, command))


def _hint(error: Any, command: str) -> str:
    """Return what to do about a wrong call."""
    unknown = getattr(error, "option_name", None) if "No such option" in str(error) else None
    parameters = error.ctx.command.params if getattr(error, "ctx", None) else []
    known = [*GLOBAL_OPTIONS, *(option for one in parameters for option in one.opts)]
    if unknown and (close := get_close_matches(unknown, known, n=1)):
        return f"hint: did you mean {close[0]}?"
    return f"hint: see 'auto-backup {command}{' ' if command else ''}--help'"


def _tell_fault(error: Exception, call: Invocation) -> int:
    """Tell a fault of this program; return the exit status."""
    place = place_of(error)
    print_note(f"error: this is a fault of auto-backup: {place}")
    print_note("hint: please report it with the command that you gave")
    call.end_action("failed", error=place, exit_status=1)
    return 1


def place_of(error: Exception) -> str:
    """Return where a fault of this program is, for a report; no values, which may be secrets."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    frame = (own or frames)[-1]
    reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return f"{type(error).__name__}{reason} at {Path(frame.filename).name}:{frame.lineno}"
