"""What a restore is asked for, beside the paths and the target."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from backup.errors import InvalidArgumentError


class Overwrite(StrEnum):
    """What becomes of what exists already where an entry belongs."""

    ALWAYS = "always"
    IF_CHANGED = "if-changed"
    IF_NEWER = "if-newer"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How to restore; the defaults overwrite nothing and delete nothing.

    ``overwrite`` of ``None`` refuses a restore that meets something. ``delete`` removes, below the
    restored directories, what the snapshot does not have. ``strip`` leading components are taken
    off every path. ``in_place`` restores to the paths of the sources, ``system`` also what
    ``system_files`` leaves alone. ``stores`` are directories into which nothing is restored and
    from which nothing is deleted; ``own`` are files of this program, which stay if they exist.

    Raises:
        InvalidArgumentError: Two of them do not go together.
    """

    overwrite: Overwrite | None = None
    delete: bool = False
    strip: int = 0
    in_place: bool = False
    system: bool = False
    stores: tuple[Path, ...] = ()
    own: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.strip < 0:
            raise InvalidArgumentError(f"--strip {self.strip} is less than nothing")
        if self.strip and self.in_place:
            raise InvalidArgumentError(
                "--strip does not go with --in-place, which has the paths as they were",
                hint="name another place with --target",
            )


NO_OPTIONS = RestoreOptions()
