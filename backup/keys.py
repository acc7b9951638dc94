"""Key files, identity files, passphrase files, the key with which a host signs; what one has."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography.fernet import Fernet

from backup.errors import InvalidArgumentError, KeyMissingError, SecretKeyError
from backup.private_files import read_private, write_private
from backup.snapshot.recipients import FernetKey, Identity, PassphraseIdentity
from backup.snapshot.signing import HostKey

if TYPE_CHECKING:
    from backup.snapshot.hpke import HpkeIdentity

HOST_KEY_NAME = "host-signing-key"
PUBLIC_SUFFIX = ".pub"
IDENTITY_START = "auto-backup-identity-"
_LONGEST_PASSPHRASE = 4096


def load_key_file(path: Path) -> FernetKey:
    """Return the key in the key file ``path``; blanks and line breaks in it do not count.

    Raises:
        KeyMissingError: There is no such file.
        SecretKeyError: It cannot be read, others may read it, or it holds no Fernet key.
    """
    content = _read(
        path, "key file", "name one with --key-file, or make one with 'auto-backup key new'"
    )
    try:
        return FernetKey.parse(b"".join(content.split()))
    except InvalidArgumentError as error:
        is_identity = IDENTITY_START.encode() in content
        raise SecretKeyError(
            f"{path} is not a key file: {error.message}",
            hint="it is an identity file: name it with --identity" if is_identity else None,
        ) from None


def load_identity_file(path: Path) -> HpkeIdentity:
    """Return the identity in the identity file ``path``, the private half of a public key.

    Raises:
        KeyMissingError: There is no such file.
        SecretKeyError: It cannot be read, others may read it, or it holds no identity.
    """
    from backup.snapshot.hpke import HpkeIdentity  # noqa: PLC0415 - heavy, and few need it

    refuse_secret_argument(str(path))
    content = _read(
        path, "identity file", "'auto-backup key new --public' makes one, and its public key"
    )
    try:
        return HpkeIdentity.parse(_only_line(content))
    except InvalidArgumentError as error:
        raise SecretKeyError(f"{path} is not an identity file: {error.message}") from None


def load_passphrase_file(path: Path) -> str:
    """Return the passphrase in ``path``: all of it but the line break at its end.

    Raises:
        KeyMissingError: There is no such file.
        SecretKeyError: It cannot be read, others may read it, or it holds no passphrase.
    """
    content = _read(path, "passphrase file", "it is a file with the passphrase as its only line")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise SecretKeyError(f"the passphrase in {path} is not UTF-8") from None
    return check_passphrase(text.rstrip("\r\n"), f"the passphrase in {path}")


def check_passphrase(text: str, what: str) -> str:
    """Return ``text`` where it may be a passphrase.

    Raises:
        SecretKeyError: It is empty, too long, or has several lines.
    """
    if not text.strip():
        raise SecretKeyError(f"{what} is empty")
    if len(text) > _LONGEST_PASSPHRASE:
        raise SecretKeyError(f"{what} is longer than {_LONGEST_PASSPHRASE} characters")
    if any(one in text for one in "\r\n\0"):
        raise SecretKeyError(f"{what} has more than one line")
    return text


def refuse_secret_argument(text: str) -> None:
    """Refuse a private key where a file or a public key belongs; it is not shown again.

    Raises:
        SecretKeyError: It is one.
    """
    if text.lstrip().startswith(IDENTITY_START):
        raise SecretKeyError(
            "a private key does not belong on a command line, where others can read it",
            hint="this one may be known by now: make a new one with 'auto-backup key new --public'",
        )


def _read(path: Path, what: str, hint: str) -> bytes:
    try:
        return read_private(path)
    except FileNotFoundError:
        raise KeyMissingError(f"there is no {what} at {path}", hint=hint) from None
    except OSError as error:
        raise SecretKeyError(f"cannot read the {what} {path}: {error.strerror}") from error


def _only_line(content: bytes) -> str:
    """Return the only line that is neither empty nor a comment."""
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise InvalidArgumentError("it has not exactly one line that is no comment")
    return lines[0]


def create_key_file(path: Path) -> FernetKey:
    """Make a new key, durable in ``path`` with mode 0600, and return it.

    Raises:
        SecretKeyError: A file is there already, and stays as it is.
        StorageError: It cannot be written.
    """
    text = Fernet.generate_key()
    write_new_secret(path, text + b"\n", "keep it")
    return FernetKey.parse(text)


def create_identity_file(path: Path) -> HpkeIdentity:
    """Make a new identity in ``path``, and its public key in ``path`` with ``.pub`` behind.

    Raises:
        SecretKeyError: One of the files is there already; nothing has been changed.
        StorageError: They cannot be written.
    """
    from backup.snapshot.hpke import HpkeIdentity  # noqa: PLC0415 - heavy, and few need it

    identity = HpkeIdentity.generate()
    recipient = identity.recipient()
    head = f"# auto-backup public key, id {recipient.id}: give it to the hosts that are to save\n"
    public = path.with_name(path.name + PUBLIC_SUFFIX)
    secret = (
        f"# auto-backup identity, id {recipient.id}: opens what is sealed for this public key:\n"
        f"# {recipient.text()}\n# Keep it secret, and off the hosts that save.\n{identity.text()}\n"
    )
    write_new_secret(public, f"{head}{recipient.text()}\n".encode(), "keep it")
    try:
        write_new_secret(path, secret.encode(), "keep it")
    except BaseException:
        public.unlink(missing_ok=True)  # without its private half it would seal for nobody
        raise
    return identity


def write_new_secret(path: Path, content: bytes, why: str) -> None:
    """Write ``content`` to a file that must not exist yet, for its owner alone.

    Raises:
        SecretKeyError: There is a file already, and it stays as it is.
        StorageError: It cannot be written.
    """
    try:
        write_private(path, content)
    except FileExistsError:
        raise SecretKeyError(
            f"there is a file at {path} already; it has not been touched",
            hint=f"snapshots may need what is in it: {why}, and name another path",
        ) from None


def load_or_create_host_key(state_dir: Path) -> HostKey:
    """Return the key with which this host signs, made on first use.

    Raises:
        SecretKeyError: The file cannot be read, or is damaged.
        StorageError: It cannot be written.
    """
    path = state_dir / HOST_KEY_NAME
    try:
        return _load_host_key(path)
    except FileNotFoundError:
        key = HostKey.generate()
    try:
        write_private(path, base64.urlsafe_b64encode(key.secret) + b"\n", state=state_dir)
    except FileExistsError:  # another run was quicker
        return _load_host_key(path)
    return key


def load_host_public(state_dir: Path) -> bytes | None:
    """Return the public key by which readers know this host, ``None`` before its first use.

    Raises:
        SecretKeyError: The signing key's file cannot be read, or is damaged.
    """
    try:
        return _load_host_key(state_dir / HOST_KEY_NAME).public
    except FileNotFoundError:
        return None


def _load_host_key(path: Path) -> HostKey:
    try:
        return HostKey(FernetKey.parse(read_private(path, state=path.parent)).secret)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SecretKeyError(f"cannot read {path}: {error.strerror}") from error
    except InvalidArgumentError as error:
        raise SecretKeyError(
            f"{path} is not a signing key",
            hint="move it away, and a new one is made: readers that trust the old one will ask",
        ) from error


class Keyring(NamedTuple):
    """What one user has to open snapshots with."""

    key: FernetKey | None = None
    identity: HpkeIdentity | None = None
    passphrase: str | None = None

    def named(self) -> list[tuple[str, Identity]]:
        """Return each identity with what people call it; the quickest first."""
        found: list[tuple[str, Identity]] = []
        if self.key is not None:
            found.append(("key file", self.key))
        if self.identity is not None:
            found.append(("identity", self.identity))
        if self.passphrase is not None:
            found.append(("passphrase", PassphraseIdentity(self.passphrase)))
        return found

    def identities(self) -> list[Identity]:
        """Return what opens snapshots."""
        return [identity for _, identity in self.named()]
