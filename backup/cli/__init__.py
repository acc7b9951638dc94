"""The command: parses, calls the library once, prints. Nothing else knows exit statuses."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from backup.cli.terminal import is_conversation

_INTERRUPTED = 130
_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The arguments without the program's name; those of this process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _mend_streams()
    if argv is None and os.getpid() == 1 and {"daemon", "run"} <= {*arguments}:
        from backup.daemon.first_process import fork_from_first  # noqa: PLC0415

        status = fork_from_first()
        if status is not None:
            return status
    try:
        return _run(arguments, alone=argv is None)
    except KeyboardInterrupt:  # while the program was being loaded
        sys.stderr.write("auto-backup: interrupted\n")
        if argv is None:
            from backup.cli.process import leave_uninterrupted  # noqa: PLC0415

            leave_uninterrupted()
        return _INTERRUPTED


def _run(arguments: list[str], *, alone: bool) -> int:
    if arguments == ["help", "all"]:
        from backup.cli.help_text import ALL  # noqa: PLC0415

        return _say(ALL)
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    # Answered before anything heavy is imported.
    if arguments == ["--version"]:
        from backup._version import PROGRAM  # noqa: PLC0415

        return _say(PROGRAM + "\n")
    if arguments in ([], ["--help"], ["-h"]) and not (arguments == [] and is_conversation()):
        from backup.cli.help_text import HELP  # noqa: PLC0415

        return _say(HELP) or (0 if arguments else _USAGE)
    from backup.cli.app import run  # noqa: PLC0415

    return run(arguments, alone=alone)


def _mend_streams() -> None:
    """Let nothing that is printed raise because of a closed stream or of its encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Keep the interpreter from failing with what is left when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0  # whoever read the output has seen enough
        sys.stderr.write(f"auto-backup: error: cannot write to standard output: {error.strerror}\n")
        return 1
    return 0
