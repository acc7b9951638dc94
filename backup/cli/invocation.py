"""What the global options say, as every command gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import typer

from backup.cli.action_log import LOG_NAME, ActionLog
from backup.cli.output import print_note
from backup.errors import ConfigError
from backup.restore import RestoreManager
from backup.snapshot.recipients import Identity
from backup.wiring import Settings

SNAPSHOT = typer.Argument(
    metavar="SNAPSHOT", help="An id, JOB, JOB~1, JOB@2026-11-20, latest, or a file's path."
)


@dataclass
class Invocation:
    """One call of the command; ``status`` is what it exits with when nothing raises."""

    settings: Settings = field(default_factory=Settings)
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    dry_run: bool = False
    log_file: Path | None = None
    status: int = 0
    _log: ActionLog | None = None

    def note(self, text: str) -> None:
        """Tell something that is not data, unless the user wants quiet."""
        if not self.quiet:
            print_note(text)

    def start_action(self, action: str, **fields: object) -> None:
        """Begin a line pair in the log; a log that cannot be opened is told, and no more."""
        path = self.log_file or self.settings.state_dir() / LOG_NAME
        try:
            self._log = ActionLog(path)
        except OSError as error:
            self.note(f"cannot write the log {path}: {error.strerror}")
            return
        self._log.start(action, **fields)

    def end_action(self, status: str, **fields: object) -> None:
        """End the line pair; only the first call counts."""
        if self._log is not None:
            self._log.end(status, **fields)
            self._log.close()
            self._log = None

    def reader(self) -> RestoreManager:
        """Return what reads the one store that was named, with the key."""
        return self.reader_with([self.settings.load_key()])

    def reader_with(self, identities: Sequence[Identity]) -> RestoreManager:
        """Return what reads the one store that was named."""
        if len(self.settings.stores) > 1:
            raise ConfigError("this command reads one store; name one --store")
        return RestoreManager(self.settings.open_store(), identities=identities)


def invocation(context: typer.Context) -> Invocation:
    """Return the invocation of ``context``."""
    return cast("Invocation", context.obj)
