"""Lists of public keys that people keep: whom to seal for, and which hosts to trust.

Both are text, one key a line; empty lines and those that begin with ``#`` do not count.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from backup.errors import ConfigError, InvalidArgumentError, SecretKeyError
from backup.keys import IDENTITY_START, load_identity_file, load_key_file, refuse_secret_argument
from backup.private_files import LONGEST, write_private
from backup.snapshot.recipients import Recipient

RECIPIENT_START = "auto-backup-recipient-"
_PUBLIC_KEY = re.compile(r"([0-9a-f]{64})(?:\s+(\S.*))?")


def parse_recipient(text: str) -> Recipient:
    """Return the public key that ``text`` encodes, or raise ``InvalidArgumentError``."""
    from backup.snapshot.hpke import HpkeRecipient  # noqa: PLC0415 - heavy, and few need it

    return HpkeRecipient.parse(text)


def load_recipients(path: Path, *, least: int = 1) -> list[Recipient]:
    """Return the public keys in the file ``path``, at least ``least``.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    found = []
    for number, line in _lines(path):
        if line.startswith(IDENTITY_START):
            raise SecretKeyError(
                f"{path} holds a private key, not public ones",
                hint=f"give this host the public key alone: the file {path}.pub beside it",
            )
        try:
            found.append(parse_recipient(line))
        except InvalidArgumentError as error:
            raise ConfigError(f"line {number} of {path}: {error.message}") from None
    if len(found) < least:
        raise ConfigError(f"there is no public key in {path}")
    return found


def recipients_of(given: str) -> list[Recipient]:
    """Return whom ``given`` means: a public key as text, or a file of them.

    Raises:
        ConfigError: It is neither.
        SecretKeyError: It is a private key.
    """
    refuse_secret_argument(given)
    if given.strip().startswith(RECIPIENT_START):
        return [parse_recipient(given)]
    return load_recipients(Path(given).expanduser())


def recipients_to_add(given: str) -> list[Recipient]:
    """Return whom ``given`` means: as ``recipients_of``, or a key file, or an identity file.

    Raises:
        ConfigError: It is none of these.
        SecretKeyError: The file with the secret cannot be used.
    """
    refuse_secret_argument(given)
    path = Path(given).expanduser()
    start = b"" if given.strip().startswith(RECIPIENT_START) else _content(path)
    if IDENTITY_START.encode() in start:
        return [load_identity_file(path).recipient()]
    if start and RECIPIENT_START.encode() not in start:
        return [load_key_file(path)]
    return recipients_of(given)


def append_recipient(path: Path, recipient: Recipient) -> bool:
    """Add a public key to the file ``path``, made where it is missing; tell whether it was new.

    Raises:
        ConfigError: The file holds something else.
        StorageError: It cannot be written.
    """
    from backup.snapshot.hpke import HpkeRecipient  # noqa: PLC0415 - heavy, and few need it

    if not isinstance(recipient, HpkeRecipient):
        raise ConfigError("a list of recipients holds public keys only")
    before = b""
    if os.path.lexists(path):
        before = _content(path)
        if recipient.id in {one.id for one in load_recipients(path, least=0)}:
            return False
    _append(path, before, f"# id {recipient.id}\n{recipient.text()}")
    return True


def remove_recipient(path: Path, recipient_id: str) -> bool:
    """Take a public key out of the file ``path``; tell whether it was there.

    Raises:
        ConfigError: The file holds something else.
        StorageError: It cannot be written.
    """
    if not os.path.lexists(path):
        return False
    kept, found = [], False
    for line in _content(path).decode().splitlines():
        text = line.strip()
        is_key = bool(text) and not text.startswith("#")
        if (is_key and parse_recipient(text).id == recipient_id) or text == f"# id {recipient_id}":
            found = found or is_key
            continue
        kept.append(line)
    if found:
        write_private(path, "".join(f"{line}\n" for line in kept).encode(), replace=True)
    return found


def load_signers(path: Path) -> dict[bytes, str]:
    """Return the public keys of trusted hosts in the file ``path``, with their names.

    A line is the key in 64 hexadecimal characters, and a name.

    Raises:
        ConfigError: The file cannot be read, or holds something else.
    """
    signers = {}
    for number, line in _lines(path):
        found = _PUBLIC_KEY.fullmatch(line)
        if found is None:
            raise ConfigError(
                f"line {number} of {path} is not the public key of a host",
                hint="a line is 64 hexadecimal characters, as 'key show' tells them, and a name",
            )
        signers[bytes.fromhex(found[1])] = found[2] or ""
    return signers


def append_signer(path: Path, public: bytes, name: str) -> bool:
    """Add a trusted host to the file ``path``; tell whether it was new.

    Raises:
        ConfigError: The file holds something else.
        StorageError: It cannot be written.
    """
    before = b""
    if os.path.lexists(path):
        if public in load_signers(path):
            return False
        before = _content(path)
    _append(path, before, f"{public.hex()} {name}".rstrip())
    return True


def _append(path: Path, before: bytes, text: str) -> None:
    end = b"" if before[-1:] in {b"", b"\n"} else b"\n"
    write_private(path, before + end + text.encode() + b"\n", replace=True)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_content(path).decode("utf-8", "replace").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            _refuse_if_changeable(path, os.fstat(file.fileno()))
            return file.read(LONGEST)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _refuse_if_changeable(path: Path, status: os.stat_result) -> None:
    """Refuse a list that another user can change: snapshots would be sealed for them, too."""
    if not stat.S_ISREG(status.st_mode):
        return
    foreign = status.st_uid not in {0, os.geteuid()}
    if foreign or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"others can change {path} (mode {stat.S_IMODE(status.st_mode):04o},"
            f" owner {status.st_uid})",
            hint=f"look at what is in it, then: chmod go-w {path}"
            + (f"; chown {os.geteuid()} {path}" if foreign else ""),
        )
