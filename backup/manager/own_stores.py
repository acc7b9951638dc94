"""Keeping stores out of the sources that are saved into them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from backup.errors import ConfigError
from backup.model import path_text
from backup.sources.roots import Root
from backup.sources.tree import contains
from backup.storage.base import BaseStorage


def refuse_stores(roots: Sequence[Root], stores: Sequence[BaseStorage]) -> None:
    """Refuse to save a store into itself, which would leave out all there is.

    Raises:
        ConfigError: One of ``roots`` is a store, or lies in one.
    """
    for place in filter(None, (store.local_root() for store in stores)):
        path = os.fsencode(os.path.realpath(place)).lstrip(b"/")
        identity = _identity(place)
        for root in roots:
            if contains(path, root.path) or (identity and identity in _above(root.path)):
                raise ConfigError(
                    f"the source {path_text(root.path)} is the store {place}, or lies in it",
                    hint="name another --store, or what the store is to hold",
                )


def directories_of(stores: Sequence[BaseStorage]) -> list[tuple[int, int]]:
    """Return (device, inode) of the local directories of ``stores``."""
    found = []
    for root in filter(None, (store.local_root() for store in stores)):
        identity = _identity(root)
        if identity is not None:
            found.append(identity)
    return found


def _above(path: bytes) -> Iterator[tuple[int, int]]:
    """Yield the numbers of ``path`` and of all directories above: mounts give one several names."""
    while True:
        identity = _identity(b"/" + path)
        if identity is not None:
            yield identity
        if not path:
            return
        path = path.rpartition(b"/")[0]


def _identity(path: Path | bytes) -> tuple[int, int] | None:
    with suppress(OSError):
        status = os.stat(path)  # noqa: PTH116 - its numbers are what counts
        return status.st_dev, status.st_ino
    return None
