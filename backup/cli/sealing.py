"""What ``backup`` seals with: the key file, public keys, a passphrase; or a new key."""

from __future__ import annotations

from collections.abc import Sequence

from backup.cli.invocation import Invocation
from backup.cli.output import print_note
from backup.manager.sealing import Sealing
from backup.storage.base import BaseStorage


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
        _, is_new = settings.load_or_create_key(stores)
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


def _tell_new_key(call: Invocation) -> None:
    """Tell once, also to those who want quiet: nobody else can ever tell it."""
    print_note(f"a new key has been made: {call.settings.key_path()}")
    print_note("keep a copy of that file elsewhere, off this machine.")
    print_note("without it nobody, you included, can ever read these snapshots.")
