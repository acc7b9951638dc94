"""The key file, and the key with which a host signs."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from cryptography.fernet import Fernet

from backup.errors import InvalidArgumentError, KeyMissingError, SecretKeyError, StorageError
from backup.snapshot.recipients import FernetKey
from backup.snapshot.signing import HostKey

HOST_KEY_NAME = "host-signing-key"
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LONGEST = 4096


def load_key_file(path: Path) -> FernetKey:
    """Return the key in the key file ``path``.

    Raises:
        KeyMissingError: There is no such file.
        SecretKeyError: It cannot be read, others may read it, or it holds no Fernet key.
    """
    try:
        return FernetKey.parse(_read_secret(path))
    except FileNotFoundError:
        raise KeyMissingError(
            f"there is no key file at {path}",
            hint="name one with --key-file, or make one with 'auto-backup key new'",
        ) from None
    except OSError as error:
        raise SecretKeyError(f"cannot read the key file {path}: {error.strerror}") from error
    except InvalidArgumentError as error:
        raise SecretKeyError(f"{path} is not a key file: {error.message}") from error


def _read_secret(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & _FOR_OTHERS:
            raise SecretKeyError(
                f"the secret in {path} can be read by others (mode {stat.S_IMODE(mode):04o})",
                hint=f"chmod 600 {path}",
            )
        return file.read(_LONGEST)


def create_key_file(path: Path) -> FernetKey:
    """Make a new key, durable in ``path`` with mode 0600, and return it.

    Raises:
        SecretKeyError: A file is there already, and stays as it is.
        StorageError: It cannot be written.
    """
    text = Fernet.generate_key()
    try:
        _write_secret(path, text + b"\n")
    except FileExistsError:
        raise SecretKeyError(
            f"there is a file at {path} already; it has not been touched",
            hint="snapshots may need that key: keep it, and name another path",
        ) from None
    return FernetKey.parse(text)


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
        _write_secret(path, base64.urlsafe_b64encode(key.secret) + b"\n")
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
        return HostKey(FernetKey.parse(_read_secret(path)).secret)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SecretKeyError(f"cannot read {path}: {error.strerror}") from error
    except InvalidArgumentError as error:
        raise SecretKeyError(
            f"{path} is not a signing key",
            hint="move it away, and a new one is made: readers that trust the old one will ask",
        ) from error


def _write_secret(path: Path, content: bytes) -> None:
    """Write a new file whole, durable and private, or not at all."""
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the directory of {path}: {error.strerror}") from error
    try:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        try:
            os.link(partial, path)  # unlike a rename, never replaces
        finally:
            partial.unlink()
        _sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
