"""From what a user says to objects: stores, keys, recipients."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from backup.environment import default_store_dir, host_name, key_file_path, state_dir, variable
from backup.errors import ConfigError, KeyMissingError
from backup.keys import create_key_file, load_key_file
from backup.listing import list_snapshots
from backup.snapshot.names import check_word, slug
from backup.snapshot.recipients import FernetKey
from backup.storage import open_storage
from backup.storage.base import BaseStorage


class Settings(NamedTuple):
    """What the global options say; ``None`` where nothing was said.

    An option wins over the environment, the environment over the default.
    """

    stores: tuple[str, ...] = ()
    host: str | None = None
    job: str | None = None
    key_file: Path | None = None
    state: Path | None = None

    def store_urls(self) -> tuple[str, ...]:
        """Return the stores by name, URL or path; the default one where none was named."""
        given = variable("STORE")
        return self.stores or (expanded(given) if given else str(default_store_dir()),)

    def uses_default_store(self) -> bool:
        """Whether nobody said which store."""
        return not self.stores and variable("STORE") is None

    def open_stores(self) -> list[BaseStorage]:
        """Open all stores that were named, each of them once."""
        return list({store.url: store for store in map(open_storage, self.store_urls())}.values())

    def open_store(self) -> BaseStorage:
        """Open the one store that was named.

        Raises:
            ConfigError: Several were named.
        """
        if len(self.stores) > 1:
            raise ConfigError("this command reads one store; name one --store")
        return open_storage(self.store_urls()[0])

    def host_name(self) -> str:
        """Return this machine's name in the stores."""
        return check_word(self.host, "host") if self.host else slug(host_name())

    def key_path(self) -> Path:
        """Return where the key file lies."""
        return self.key_file or key_file_path()

    def state_dir(self) -> Path:
        """Return where state lies."""
        return self.state or state_dir()

    def load_key(self) -> FernetKey:
        """Return the key in the key file; see ``load_key_file``."""
        return load_key_file(self.key_path())

    def load_or_create_key(self, stores: Sequence[BaseStorage]) -> tuple[FernetKey, bool]:
        """Return the key, and whether it has been made just now.

        A key is made only at the default place, and only for stores that hold nothing yet: where
        somebody named a file, or has snapshots, a new key would hide that the right one is missing.

        Raises:
            KeyMissingError: There is no key, and none may be made.
        """
        path = self.key_path()
        named = self.key_file is not None or variable("KEY_FILE") is not None
        if os.path.lexists(path) or named:
            return self.load_key(), False
        for store in stores:
            if list_snapshots(store):
                raise KeyMissingError(
                    f"there is no key file at {path}, and {store} holds snapshots that need one",
                    hint="put your copy of the key there or name it with --key-file;"
                    " 'auto-backup key new' makes a new one",
                )
        return create_key_file(path), True


def expanded(path: str) -> str:
    """Return ``path`` with its ``~`` expanded, which no shell does in ``--store=~/snapshots``.

    What exists under that very name is meant.
    """
    return path if os.path.lexists(path) else os.path.expanduser(path)  # noqa: PTH111 - never raises
