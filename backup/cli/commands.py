"""Which module has which command. Only that of the command that is called is imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol, cast

import typer

_MODULES = {
    "backup": "take",
    "archive": "archive",
    "snapshots": "snapshots",
    "ls": "look",
    "cat": "look",
    "find": "search",
    "diff": "comparing",
    "stats": "measuring",
    "why": "why",
    "restore": "get_back",
    "decrypt": "get_back",
    "verify": "prove",
    "rotate": "keep",
    "undelete": "trash",
    "catalog": "catalog_commands",
    "config": "config_commands",
    "key": "key_commands",
    "daemon": "daemon_commands",
    "schedule": "schedule_commands",
    "status": "status",
    "history": "status",
    "service": "service_commands",
}


class _Commands(Protocol):
    def register(self, app: typer.Typer) -> None: ...


def register(app: typer.Typer, command: str) -> None:
    """Add the module of ``command`` to ``app``; where there is no such command, all of them.

    All of them tell somebody who mistyped what there is.
    """
    for name in _modules_of(command):
        module = cast("_Commands", import_module(f"backup.cli.{name}"))
        module.register(app)


def _modules_of(command: str) -> Iterator[str]:
    known = _MODULES.get(command)
    yield from [known] if known else dict.fromkeys(_MODULES.values())
