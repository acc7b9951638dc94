"""From what a user says to objects: stores, keys, recipients."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backup.config.finding import find_configuration, times_of
from backup.environment import (
    config_path,
    default_store_dir,
    host_name,
    key_file_path,
    state_dir,
    variable,
)
from backup.errors import ConfigError, KeyMissingError, SecretKeyError
from backup.keys import (
    Keyring,
    create_key_file,
    load_host_public,
    load_identity_file,
    load_key_file,
    load_passphrase_file,
)
from backup.listing import list_jobs
from backup.public_files import load_recipients, load_signers, recipients_of
from backup.snapshot.names import check_word, slug
from backup.snapshot.recipients import FernetKey, Identity, Recipient
from backup.storage import open_storage
from backup.storage.base import BaseStorage

if TYPE_CHECKING:
    from backup.config.models import Configuration
    from backup.config.reading import Loaded

IDENTITY_NAME = "identity"
RECIPIENTS_NAME = "recipients"
SIGNERS_NAME = "trusted-signers"


class Settings(NamedTuple):
    """What the global options say; ``None`` where nothing was said.

    An option wins over the environment, the environment over the configuration, and that over the
    default.
    """

    stores: tuple[str, ...] = ()
    host: str | None = None
    job: str | None = None
    key_file: Path | None = None
    state: Path | None = None
    identity_file: Path | None = None
    passphrase_file: Path | None = None
    config: Path | None = None

    def loaded(self) -> Loaded | None:
        """Return the configuration, ``None`` where there is none.

        Raises:
            ConfigError: It cannot be read or used.
        """
        path = find_configuration(self.config)
        if path is None or path == Path(os.devnull):
            return None
        return _loaded(path, *times_of(path))

    def configuration(self) -> Configuration | None:
        """Return what the configuration says, ``None`` where there is none; see ``loaded``."""
        loaded = self.loaded()
        return None if loaded is None else loaded.configuration

    def store_urls(self) -> tuple[str, ...]:
        """Return where snapshots lie: what was named, else what the configuration has."""
        given = variable("STORE")
        named = self.stores or ((expanded(given),) if given else ())
        if named:
            return tuple(self._url(one) for one in named)
        configuration = self.configuration()
        said = () if configuration is None else configuration.usual_urls()
        return said or (str(default_store_dir()),)

    def _url(self, named: str) -> str:
        """Return the URL or path that ``named`` is, or is the name of."""
        if "/" in named or named in {os.curdir, os.pardir}:
            return named  # not asking the configuration, which may be what is broken
        configuration = self.configuration()
        return named if configuration is None else configuration.url_of(named)

    def names_store(self) -> bool:
        """Whether an option or the environment says which store."""
        return bool(self.stores or variable("STORE"))

    def open_stores(self) -> list[BaseStorage]:
        """Open all stores that were named, each of them once."""
        return open_all(self.store_urls())

    def open_store(self) -> BaseStorage:
        """Open the one store that was named; of those in the configuration the first.

        Raises:
            ConfigError: Several were named.
        """
        if len(self.stores) > 1:
            raise ConfigError("this command reads one store; name one --store")
        return open_storage(self.store_urls()[0])

    def host_name(self) -> str:
        """Return this machine's name in the stores."""
        if self.host:
            return check_word(self.host, "host")
        configuration = None if variable("HOST") else self.configuration()
        return (configuration and configuration.host) or slug(host_name())

    def own_host_name(self) -> str:
        """Return the same as if no option said another one."""
        return self._replace(host=None).host_name()

    def key_path(self) -> Path:
        """Return where the key file lies."""
        return self.key_file or self._configured_key() or key_file_path()

    def _configured_key(self) -> Path | None:
        configuration = None if variable("KEY_FILE") else self.configuration()
        return configuration.key_file if configuration else None

    def state_dir(self) -> Path:
        """Return where state lies."""
        return self.state or state_dir()

    def load_key(self) -> FernetKey:
        """Return the key in the key file; see ``load_key_file``."""
        return load_key_file(self.key_path())

    def identity_path(self) -> Path:
        """Return where the identity file lies, or would be made."""
        return self._named_identity() or config_path(IDENTITY_NAME)

    def passphrase_path(self) -> Path | None:
        """Return where the passphrase lies, ``None`` where nobody named a file."""
        return _file(self.passphrase_file, variable("PASSPHRASE_FILE"))

    def recipients_path(self) -> Path:
        """Return where the public keys lie for which this host seals."""
        return config_path(RECIPIENTS_NAME)

    def signers_path(self) -> Path:
        """Return where the public keys of trusted hosts lie."""
        return _file(None, variable("SIGNERS")) or config_path(SIGNERS_NAME)

    def named_recipients(self) -> tuple[str, ...]:
        """Return whom the environment, else the configuration says to seal for."""
        said = tuple(filter(None, (variable("RECIPIENTS") or "").split(":")))
        configuration = None if said else self.configuration()
        return said or (configuration and configuration.recipients) or ()

    def recipients_are_named(self) -> bool:
        """Whether somebody says for whom to seal, so that the list does not count."""
        return bool(self.named_recipients())

    def names_key_file(self) -> bool:
        """Whether somebody said where the key file is."""
        named = self.key_file is not None or variable("KEY_FILE") is not None
        return named or self._configured_key() is not None

    def has_key_file(self) -> bool:
        """Whether the key file is to be used: somebody named it, or it is there."""
        return self.names_key_file() or os.path.lexists(self.key_path())

    def has_identity_file(self) -> bool:
        """Whether the identity file is to be used: somebody named it, or it is there."""
        return self._named_identity() is not None or os.path.lexists(self.identity_path())

    def _named_identity(self) -> Path | None:
        return _file(self.identity_file, variable("IDENTITY"))

    def only_writes(self) -> bool:
        """Whether what this host saves is sealed for others alone, so that it cannot open it."""
        opens = self.has_key_file() or self.has_identity_file() or self.passphrase_path()
        return not opens and bool(self.public_recipients())

    def keyring(self) -> Keyring:
        """Return all that was given, or lies where it is looked for, and may open snapshots.

        Where an identity or a passphrase was named, a key file that nobody named for this call
        may be absent.

        Raises:
            SecretKeyError: Something of it cannot be used.
        """
        passphrase = self.passphrase_path()
        named = self._named_identity() is not None or passphrase is not None
        wanted = self.key_file is not None or (self.names_key_file() and not named)
        with_key = wanted or os.path.lexists(self.key_path())
        return Keyring(
            key=self.load_key() if with_key else None,
            identity=load_identity_file(self.identity_path()) if self.has_identity_file() else None,
            passphrase=None if passphrase is None else load_passphrase_file(passphrase),
        )

    def identities(self) -> list[Identity]:
        """Return what opens snapshots.

        Raises:
            SecretKeyError: There is nothing, or it cannot be used.
        """
        found = self.keyring().identities()
        if not found:
            raise KeyMissingError(
                f"there is no key file at {self.key_path()}, and nothing else that opens",
                hint="name one with --key-file, --identity or --passphrase-file,"
                " or make one with 'auto-backup key new'",
            )
        return found

    def public_recipients(self, given: Sequence[str] = ()) -> list[Recipient]:
        """Return the public keys to seal for: those given, those named, or the file's.

        Raises:
            ConfigError: What was given is no public key.
        """
        named = given or self.named_recipients()
        if not named and os.path.lexists(self.recipients_path()):
            return load_recipients(self.recipients_path(), least=0)
        return [one for text in named for one in recipients_of(text)]

    def trusted_signers(self) -> frozenset[bytes] | None:
        """Return the public keys of the trusted hosts, this one's among them.

        ``None`` where there is no list, and any host's signature is accepted.

        Raises:
            ConfigError: The list cannot be read.
        """
        path = self.signers_path()
        if not os.path.lexists(path) and variable("SIGNERS") is None:
            return None
        own = load_host_public(self.state_dir())
        return frozenset(load_signers(path)) | ({own} if own else set())

    def load_or_create_key(self, stores: Sequence[BaseStorage]) -> tuple[FernetKey, bool]:
        """Return the key, and whether it has been made just now.

        A key is made only at the default place, and only for stores that hold nothing yet: where
        somebody named a file, or has snapshots, a new key would hide that the right one is missing.

        Raises:
            KeyMissingError: There is no key, and none may be made.
        """
        path = self.key_path()
        if self.has_key_file():
            return self.load_key(), False
        for store in stores:
            if list_jobs(store):  # also where all of it is in the trash
                raise KeyMissingError(
                    f"there is no key file at {path}, and {store} holds snapshots that need one",
                    hint="put your copy of the key there or name it with --key-file;"
                    " 'auto-backup key new' makes a new one",
                )
        with suppress(SecretKeyError):
            return create_key_file(path), True
        return self.load_key(), False  # another run was quicker


def open_all(urls: Sequence[str]) -> list[BaseStorage]:
    """Open stores by URL or path, each of them once."""
    return list({store.url: store for store in map(open_storage, urls)}.values())


@lru_cache(maxsize=4)
def _loaded(path: Path, *_: int) -> Loaded:
    from backup.config.reading import load_configuration  # noqa: PLC0415 - it costs start-up time

    return load_configuration(path)


def _file(given: Path | None, from_variable: str | None) -> Path | None:
    return given or (Path(from_variable).expanduser() if from_variable else None)


def expanded(path: str) -> str:
    """Return ``path`` with its ``~`` expanded, which no shell does in ``--store=~/snapshots``.

    What exists under that very name is meant.
    """
    return path if os.path.lexists(path) else os.path.expanduser(path)  # noqa: PTH111 - never raises
