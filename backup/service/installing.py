"""From what is known of a machine to the steps that install a service there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backup.service.crontab import cron_file, with_lines
from backup.service.facts import StoreFact
from backup.service.fitness import Service, has_to_be_given, store_problem
from backup.service.marking import marked
from backup.service.places import NAME, UNIT, USER, Places
from backup.service.steps import Command, Step, Write
from backup.service.unit import Needs, Profile, unit_text

_SYSUSERS = """\
u {user} - "Auto-Backup" /var/lib/{name}
"""
_FOR_GROUP, _ENTER = 0o040, 0o010
_FOR_ALL, _ALL_ENTER = 0o004, 0o001


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A file or directory of the configuration, with its mode."""

    path: Path
    mode: int
    group: str = ""

    def is_readable_by(self, group: str, *, is_directory: bool) -> bool:
        """Tell whether all may read it, or a group to which it belongs."""
        for_all = _FOR_ALL | (_ALL_ENTER if is_directory else 0)
        of_group = _FOR_GROUP | (_ENTER if is_directory else 0)
        by_group = self.group == group and self.mode & of_group == of_group
        return self.mode & for_all == for_all or by_group


@dataclass(frozen=True, kw_only=True)
class State:
    """The state's directory as it is, and what was remembered elsewhere before.

    ``owner`` is ``None`` where there is none yet; ``copies`` are files and directories.
    """

    owner: int | None = None
    copies: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a service of the system is to be installed.

    Args:
        places: Where its files go.
        service: As whom it runs.
        is_there: Whether its unit is there already.
        sysusers: The command that makes users of files, ``None`` where there is none.
        files: The files of the configuration.
        directories: The directories in which they lie.
        stores: The local stores.
        state: The state.
    """

    places: Places
    service: Service
    is_there: bool = False
    sysusers: str | None = None
    files: tuple[ConfigFile, ...] = ()
    directories: tuple[ConfigFile, ...] = ()
    stores: tuple[StoreFact, ...] = ()
    state: State = State()


def system_steps(site: Site, needs: Needs) -> list[Step]:
    """Return the steps that install a unit of the system, and start it."""
    as_reader = site.service.profile is Profile.READER
    steps: list[Step] = [_control("stop", "stop the service that is there")] * site.is_there
    if as_reader:
        steps += _user(site)
    steps += _state(site)
    if as_reader:
        steps += _configuration(site)
    steps += _stores(site)
    steps.append(Write(site.places.unit, unit_text(site.service.profile, needs)))
    return [*steps, *starting()]


def starting(*, of_user: bool = False) -> list[Step]:
    """Return the commands that let systemd know a unit, start it now and at each boot."""
    option = ("--user",) * of_user
    return [
        Command(("systemctl", *option, "daemon-reload"), "let systemd read the unit"),
        Command(("systemctl", *option, "enable", UNIT), "have the service started at each boot"),
        Command(("systemctl", *option, "restart", UNIT), "start the service"),
    ]


def user_steps(places: Places, needs: Needs) -> list[Step]:
    """Return the steps that install a unit of the user's own manager, and start it."""
    unit = Write(places.user_unit, unit_text(Profile.USER, needs))
    return [unit, *starting(of_user=True)]


def cron_steps(
    places: Places,
    command: tuple[str, ...],
    *,
    lock: Path,
    flock: str | None,
    crontab: str | None,
) -> list[Step]:
    """Return the steps by which cron runs what is due.

    Args:
        places: Where the system's file goes.
        command: What is run.
        lock: What keeps a second one from starting while one is at work.
        flock: The command that takes it, ``None`` where there is none: no job ever runs twice at
            once, but then processes wait for each other.
        crontab: The user's crontab, ``None`` for a file of the system.
    """
    words = command if flock is None else (flock, "-n", str(lock), *command)
    made = ("install", "-d", "-m", "0700", str(lock.parent))
    steps: list[Step] = [] if lock.parent.is_dir() else [Command(made, "make the state's place")]
    if crontab is None:
        return [*steps, Write(places.cron, cron_file(words))]
    given = with_lines(crontab, words)
    return [*steps, Command(("crontab", "-"), "change your crontab", given)]


def _control(word: str, why: str) -> Command:
    return Command(("systemctl", word, UNIT), why)


def _user(site: Site) -> Iterator[Step]:
    """Yield what makes the user: systemd's way, or where that is missing the older one."""
    file = site.places.sysusers
    if site.sysusers is not None:
        yield Write(file, marked(_SYSUSERS.format(user=USER, name=NAME)))
        yield Command((site.sysusers, str(file)), f"make the user {USER}")
    elif site.service.user is None:
        options = ("--system", "--user-group", "--home-dir", f"/var/lib/{NAME}")
        shell = ("--shell", "/usr/sbin/nologin")
        yield Command(("useradd", *options, *shell, USER), f"make the user {USER}")


def _owner(site: Site) -> tuple[str, int | None]:
    return (USER, site.service.user) if site.service.profile is Profile.READER else ("root", 0)


def _state(site: Site) -> Iterator[Step]:
    """Yield what makes the state's directory, with what root has remembered so far."""
    name, number = _owner(site)
    place = str(site.places.state)
    owners = ("-o", name, "-g", name)
    if site.state.owner is None:
        make = ("install", "-d", *owners, "-m", "0700", place)
        yield Command(make, "make the directory of the state")
    for one in site.state.copies:
        copy = ("cp", "--archive", str(one), place)
        yield Command(copy, "keep this host's signing key and what it remembers")
    is_theirs = site.state.owner is not None and site.state.owner == number
    if site.state.copies or not (site.state.owner is None or is_theirs):
        yield _give(site.places.state, name, "give the state to the service's user")


def _give(path: Path, owner: str, why: str) -> Command:
    return Command(("chown", "--recursive", "--no-dereference", f"{owner}:{owner}", str(path)), why)


def _configuration(site: Site) -> Iterator[Step]:
    """Yield what lets the service's user read the configuration, and no one else."""
    rows = [(one, True) for one in site.directories] + [(one, False) for one in site.files]
    for one, is_directory in rows:
        if one.is_readable_by(USER, is_directory=is_directory):
            continue
        why = f"let {USER} read the configuration"
        yield Command(("chgrp", USER, str(one.path)), why)
        yield Command(("chmod", "g+rx" if is_directory else "g+r", str(one.path)), why)


def _stores(site: Site) -> Iterator[Step]:
    """Yield what makes stores that are missing, and gives root's to the service's user."""
    name, _ = _owner(site)
    for fact in site.stores:
        if not fact.exists and fact.parent:
            make = ("install", "-d", "-o", name, "-g", name, "-m", "0700", str(fact.path))
            yield Command(make, "make the store")
        elif has_to_be_given(fact, site.service) and not store_problem(fact, site.service):
            yield _give(fact.path, name, f"give the store to {USER}")
