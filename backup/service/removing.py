"""From what is there to the steps that take a service away again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backup.errors import ConfigError
from backup.service.crontab import has_lines, without_lines
from backup.service.marking import Found, judge
from backup.service.places import UNIT, Places
from backup.service.steps import Command, Remove, Step


def refuse_changed(found: Mapping[Path, Found], *, agreed: bool) -> None:
    """Refuse files that somebody has changed, unless it is agreed that they go.

    Raises:
        ConfigError: There is one.
    """
    for path, what in found.items():
        if what is Found.CHANGED and not agreed:
            raise ConfigError(
                f"somebody has changed {path}",
                hint="it has not been touched; --yes gives the changes up",
            )


def refuse_foreign(found: Mapping[Path, Found]) -> None:
    """Refuse to take the place of files that were not made here.

    Raises:
        ConfigError: There is one.
    """
    for path, what in found.items():
        if what is Found.FOREIGN:
            raise ConfigError(
                f"{path} is not from 'auto-backup service install'",
                hint="it has not been touched; look at it, and move it away where it is not needed",
            )


def judge_files(paths: tuple[Path, ...]) -> dict[Path, Found]:
    """Tell what lies at ``paths``."""
    return {one: judge(_text(one)) for one in paths}


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def removal_steps(
    places: Places,
    found: Mapping[Path, Found],
    crontab: str,
    *,
    has_systemd: bool,
) -> list[Step]:
    """Return the steps that take away what is there of ours, and nothing else.

    Args:
        places: Where it lies.
        found: What lies at each of these places.
        crontab: The user's crontab.
        has_systemd: Whether systemd runs, and has to be told.
    """
    mine = [path for path, what in found.items() if what in {Found.OURS, Found.CHANGED}]
    steps: list[Step] = []
    for unit, option in ((places.unit, ()), (places.user_unit, ("--user",))):
        if unit in mine and has_systemd:
            end = ("systemctl", *option, "disable", "--now", UNIT)
            steps.append(Command(end, "stop the service"))
    steps += [Remove(path) for path in mine]
    for unit, option in ((places.unit, ()), (places.user_unit, ("--user",))):
        if unit in mine and has_systemd:
            reload = ("systemctl", *option, "daemon-reload")
            steps.append(Command(reload, "let systemd forget the unit"))
    if has_lines(crontab):
        rest = without_lines(crontab)
        steps.append(Command(("crontab", "-"), "change your crontab", rest))
    return steps
