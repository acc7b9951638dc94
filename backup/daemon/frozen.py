"""Frozen copies of the configuration: what runs read is what the daemon has loaded.

A run is a process of its own that reads the configuration itself. A file that is broken, or half
written, when it begins must not be what it reads; so it is given a copy. The copies have the names
of the files; the variables of all ``.env`` files that counted are in one, and since runs begin in
that directory no other one counts.
"""

from __future__ import annotations

import errno
import shutil
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backup.child_run import OnOutput
from backup.config.dotenv import NAME as DOTENV
from backup.config.dotenv import read_dotenv
from backup.config.finding import FOLDER
from backup.environment import PREFIX, Default
from backup.errors import BackupError, ConfigError
from backup.owners import give_to_owner
from backup.private_files import write_private
from backup.running import Task, Work
from backup.storage.directories import close_directory, open_directory

if TYPE_CHECKING:
    from backup.config.reading import Loaded

FOLDER_NAME = "configuration-in-use"


class FrozenCopy:
    """A copy of a configuration's files, which is there as long as runs read it.

    Args:
        directory: Where it lies.
        config: The copy of the file that was named or found.
    """

    def __init__(self, directory: Path, config: Path) -> None:
        self.directory = directory
        self.config = config
        self._lock = threading.Lock()
        self._works: list[weakref.ref[Work]] = []

    def reading(self, task: Task) -> Task:
        """Return the task, the runs of which read this copy."""

        def begin(lock: int | None, on_output: OnOutput | None) -> Work:
            work = task.begin(lock, on_output)
            with self._lock:
                self._works.append(weakref.ref(work))
            return work

        return replace(task, begin=begin)

    def is_read(self) -> bool:
        """Tell whether a run that reads it goes on."""
        with self._lock:
            self._works = [one for one in self._works if _goes_on(one)]
            return bool(self._works)

    def delete(self) -> None:
        """Delete it."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _goes_on(reference: weakref.ref[Work]) -> bool:
    work = reference()
    return work is not None and not work.is_gone()


class FrozenCopies:
    """The copies below a state directory.

    Args:
        state: The state directory.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER_NAME
        self._kept: list[FrozenCopy] = []

    def clear(self) -> None:
        """Delete what daemons before this one have left; only who is the daemon may."""
        with suppress(OSError):  # a link would lead elsewhere who makes copies behind it
            self._folder.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)

    def make(self, loaded: Loaded, variables: Mapping[str, Default]) -> FrozenCopy:
        """Return a copy of the files that were loaded.

        Args:
            loaded: The configuration.
            variables: What ``.env`` files set that counted.

        Raises:
            ConfigError: The files say something else by now, or cannot be copied.
        """
        try:
            directory = self._new_directory()
        except OSError as error:
            raise ConfigError(f"cannot copy to {self._folder}: {error.strerror}") from error
        copy = FrozenCopy(directory, directory / loaded.path.name)
        try:
            _fill(copy, loaded, variables)
            _check(copy, loaded, variables)
        except BaseException:
            copy.delete()
            raise
        self._kept.append(copy)
        return copy

    def keep_only(self, current: FrozenCopy) -> None:
        """Delete the copies, but the current one, that no run reads any more."""
        for one in [one for one in self._kept if one is not current and not one.is_read()]:
            one.delete()
            self._kept.remove(one)

    def _new_directory(self) -> Path:
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
            _give(self._folder)
        if self._folder.is_symlink():  # put there since ``clear``
            raise NotADirectoryError(errno.ENOTDIR, "it is a link")
        number = 1
        while True:
            try:
                (found := self._folder / str(number)).mkdir(mode=0o700)
            except FileExistsError:  # of another user, who may have been the daemon before
                number += 1
            else:
                return found


def _give(folder: Path) -> None:
    """Let the folder be the owner's of the state, who may be the daemon next."""
    made, parent = open_directory(folder, ()), open_directory(folder.parent, ())
    try:
        give_to_owner(made, parent)
    finally:
        close_directory(made)
        close_directory(parent)


def _fill(copy: FrozenCopy, loaded: Loaded, variables: Mapping[str, Default]) -> None:
    try:
        for file in loaded.files:
            below = copy.directory if file == loaded.path else copy.directory / FOLDER
            _write(below / file.name, file.read_bytes())
        lines = (f"{PREFIX}{name}={_quoted(one.value)}\n" for name, one in variables.items())
        _write(copy.directory / DOTENV, "".join(lines).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise ConfigError(
            f"cannot copy the configuration to {copy.directory}: {error.strerror}"
        ) from error


def _write(path: Path, content: bytes) -> None:
    """Write a file that belongs to this user: root believes no other one."""
    try:
        write_private(path, content)
    except BackupError as error:
        raise ConfigError(error.message, hint=error.hint) from error


def _quoted(value: str) -> str:
    """Return a value as ``.env`` files have it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _check(copy: FrozenCopy, loaded: Loaded, variables: Mapping[str, Default]) -> None:
    """Refuse a copy that does not say the same: the files were changed meanwhile."""
    from backup.config.reading import examine  # noqa: PLC0415 - pydantic costs start-up time

    copied = examine(copy.config).loaded
    values = {name: one.value for name, one in read_dotenv(copy.directory / DOTENV).values.items()}
    said = {name: one.value for name, one in variables.items()}
    if copied is None or copied.configuration != loaded.configuration or values != said:
        raise ConfigError(
            f"the files of the configuration {loaded.path} are being changed", hint="try again"
        )
