"""What ``backup`` seals with: the key file, public keys, a passphrase; or a new key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from backup.cli.invocation import Invocation
from backup.cli.output import print_note
from backup.errors import StorageError
from backup.listing import list_jobs
from backup.manager.sealing import Sealing
from backup.storage.base import BaseStorage
from backup.wiring import Settings, open_all


def prepare_sealing(
    call: Invocation, stores: Sequence[BaseStorage], recipients: Sequence[str]
) -> Sealing:
    """Return what snapshots are sealed with.

    A key is made only where there is nobody else to seal for: on a host that was given a public
    key, it would be one more secret that nobody asked for.

    Raises:
        ConfigError: A recipient is no public key.
        SecretKeyError: There is no key, and none may be made, or something cannot be used.
    """
    settings = call.settings
    public = settings.public_recipients(recipients)
    if settings.has_key_file() or not (public or settings.passphrase_path()):
        others = [] if settings.has_key_file() else _configured_in_use(settings)
        _, is_new = settings.load_or_create_key([*stores, *others])
        if is_new:
            _tell_new_key(call)
    keyring = settings.keyring()
    # An identity of somebody else would open nothing that is taken now.
    identity = keyring.identity
    if identity is not None and identity.recipient() not in public:
        keyring = keyring._replace(identity=None)
    if public:
        ids = [one.id for one in ([keyring.key] if keyring.key else []) + public]
        call.note(f"sealed for {', '.join(ids)}" + (", not for this host" * (not keyring.named())))
    return Sealing(keyring.key, tuple(public), keyring.passphrase, tuple(keyring.identities()))


def _configured_in_use(settings: Settings) -> list[BaseStorage]:
    """Return the stores of the configuration that hold snapshots, as far as they answer.

    A new key for an empty store would hide that the one for the others is missing.
    """
    configuration = settings.configuration()
    stores = configuration.stores.values() if configuration is not None else ()
    found = []
    for store in open_all([one.url for one in stores]):
        with suppress(StorageError):
            found += [store] if list_jobs(store) else []
    return found


def _tell_new_key(call: Invocation) -> None:
    """Tell once, also to those who want quiet: nobody else can ever tell it."""
    print_note(f"a new key has been made: {call.settings.key_path()}")
    print_note("keep a copy of that file elsewhere, off this machine.")
    print_note("without it nobody, you included, can ever read these snapshots.")
