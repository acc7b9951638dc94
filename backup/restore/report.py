"""What a restore did, as it tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from backup.errors import IntegrityError

WITHOUT_INDEX = (
    "the index is damaged, the archive need not be: 'auto-backup decrypt SNAPSHOT | tar x' (with J,"
    " z, j or --zstd by its name) gets out what it holds"
)


@dataclass(kw_only=True)
class RestoreReport:
    """What a restore did.

    ``entries`` have been restored, of which ``files`` were files of ``size`` bytes together;
    ``replaced`` and ``mended`` of them took the place of something, or gave it its metadata back.
    ``kept`` were left as they are, ``compared`` bytes of them having been read. ``left`` were not
    restored, as the plan says, and ``deleted`` names are gone. ``damaged`` was not restored because
    stored bytes are not those that were saved; ``problems`` is what could not be restored as it
    was, each with its reason. ``confined`` tells whether the kernel kept this process from writing
    anywhere else.
    """

    entries: int = 0
    files: int = 0
    size: int = 0
    replaced: int = 0
    mended: int = 0
    kept: int = 0
    compared: int = 0
    left: int = 0
    deleted: int = 0
    damaged: list[IntegrityError] = field(default_factory=list)
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    confined: bool = False


OnRestored = Callable[[RestoreReport, bytes], None]
