"""A snapshot that is to be taken, as options say it or a job of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backup.cli.excluding import Excludes
from backup.model import ArchiveType, ExcludeRules
from backup.storage.base import BaseStorage


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A snapshot to take, as options say it or a job of the configuration.

    Args:
        sources: Directories and files.
        stores: The first one is written to, the others get copies.
        archive: The type of its archive.
        excludes: What to leave out.
        level: The compression level, ``None`` for the usual one.
        workers: How many processes, ``None`` for what the machine allows.
        recipients: Public keys to seal for in place of those that are named elsewhere.
        tags: Words to keep with it.
        job: The job's name, empty where it is to be made of the sources.
        names: What the stores are called, where they have names.
    """

    sources: Sequence[Path]
    stores: list[BaseStorage]
    archive: ArchiveType
    excludes: Excludes
    level: int | None = None
    workers: int | None = None
    recipients: Sequence[str] = ()
    tags: tuple[str, ...] = ()
    job: str = ""
    names: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the options of ``backup`` say for jobs of the configuration, which say the rest."""

    excludes: Excludes
    compression: str | None = None
    level: int | None = None
    workers: int | None = None
    recipients: Sequence[str] = ()
    tags: tuple[str, ...] = ()

    def says_anything(self) -> bool:
        """Whether any of them was given."""
        return self != Options(excludes=Excludes(ExcludeRules(), ()))
