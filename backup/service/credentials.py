"""Secrets that systemd hands to the service: which, and under which names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from backup.environment import PREFIX

ENCRYPTED = ".cred"
"""What a file's name ends with that 'systemd-creds encrypt' has made of it, beside it."""

_NAMES = {"KEY_FILE": "key", "IDENTITY": "identity", "PASSPHRASE_FILE": "passphrase"}


class Credential(NamedTuple):
    """A secret: what it is called, its file, and the variable that says where it is."""

    name: str
    path: Path
    variable: str
    encrypted: bool = False


def credentials_of(secrets: Mapping[str, Path | None]) -> Iterator[Credential]:
    """Yield what is handed over.

    Args:
        secrets: The files, by the variables that name them without their prefix. One that is
            encrypted beside its file, with ``.cred`` behind its name, is taken in its place.
    """
    for variable, name in _NAMES.items():
        path = secrets.get(variable)
        if path is not None:
            encrypted = path.with_name(path.name + ENCRYPTED)
            found = encrypted.exists()
            yield Credential(name, encrypted if found else path, PREFIX + variable, found)
