"""This tool, from the checkout that the benchmark lies in, and the list of all contenders."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.contenders import Contender, Place, Program, Step, step
from benchmarks.floors import Tar, TarGpg
from benchmarks.peers import Borg, Kopia, Restic, Rustic

CHECKOUT = Path(__file__).resolve().parent.parent
_COMMAND = (sys.executable, str(CHECKOUT / "backup.py"))


class AutoBackup(Contender):
    kind = "ours"
    programs = (Program((*_COMMAND, "--version")),)

    def __init__(self, compression: str) -> None:
        self.key = f"ours-{compression}"
        self.name = f"auto-backup, {compression}"
        self._compression = compression

    def environment(self, place: Place) -> dict[str, str]:
        return {"AUTO_BACKUP_STORE": str(place.repository)}

    def prepare(self, place: Place) -> list[Step]:
        del place
        return [step(*_COMMAND, "key", "new")]

    def first(self, place: Place) -> Step:
        chosen = ("--compression", self._compression)
        return step(*_COMMAND, "backup", "--source", place.source, *chosen)

    def restore(self, place: Place) -> Step:
        return step(*_COMMAND, "restore", "latest", "--target", place.target)

    def restore_one(self, place: Place) -> Step:
        return step(*_COMMAND, "restore", "latest", place.one, "--target", place.target)

    def verify(self, place: Place) -> Step:
        del place
        return step(*_COMMAND, "verify")


def everybody() -> list[Contender]:
    """Return all contenders, in the order of the tables."""
    return [
        AutoBackup("zstd"),
        AutoBackup("xz"),
        Restic(),
        Kopia(),
        Rustic(),
        Borg(),
        Tar("zstd"),
        Tar("xz"),
        TarGpg("xz"),
    ]
