"""The command: parses, calls the library once, prints. Nothing else knows exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The arguments without the program's name; those of this process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Answered before anything heavy is imported.
    if arguments == ["--version"]:
        from backup._version import PROGRAM  # noqa: PLC0415

        return _say(PROGRAM + "\n")
    if arguments in ([], ["--help"], ["-h"], ["help"]):
        from backup.cli.help_text import HELP  # noqa: PLC0415

        status = _say(HELP)
        return status if arguments else 2
    from backup.cli.app import run  # noqa: PLC0415

    return run(arguments)


def _say(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
