"""Where backups are kept."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import cast

from backup.errors import ConfigError
from backup.storage.base import (
    BaseStorage,
    ProofStrength,
    Receipt,
    StorageWriter,
    StoredFile,
    check_name,
)

__all__ = [
    "BaseStorage",
    "ProofStrength",
    "Receipt",
    "StorageWriter",
    "StoredFile",
    "check_name",
    "open_storage",
]

# Imported when needed: some backends load large libraries.
_BACKENDS = {
    "file": ("backup.storage.local", "LocalStorage"),
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_storage(url: str | Path) -> BaseStorage:
    """Open the storage at ``url``.

    Args:
        url: A URL such as ``file:///mnt/backup``, or the path of a local directory.

    Raises:
        ConfigError: It is neither.
    """
    text = str(url)
    match = _SCHEME.match(text) if isinstance(url, str) else None
    if match is None:
        return _open("file", _file_url(text))
    return _open(match[1], text)


def _open(scheme: str, url: str) -> BaseStorage:
    try:
        module, name = _BACKENDS[scheme]
    except KeyError as error:
        known = ", ".join(f"{scheme}://" for scheme in sorted(_BACKENDS))
        raise ConfigError(
            f"there is no storage for URLs that begin with {scheme}://",
            hint=f"use the path of a directory, or one of {known}",
        ) from error
    return cast("BaseStorage", getattr(import_module(module), name).from_url(url))


def _file_url(path: str) -> str:
    if not path or "\0" in path:
        raise ConfigError(f"{path!r} is not the path of a directory")
    return Path(path).absolute().as_uri()
