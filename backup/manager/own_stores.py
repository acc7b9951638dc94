"""Keeping stores out of the sources that are saved into them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from backup.errors import ConfigError
from backup.model import path_text
from backup.sources.roots import Root
from backup.storage.base import BaseStorage


def refuse_stores(roots: Sequence[Root], stores: Sequence[BaseStorage]) -> None:
    """Refuse to save a store into itself, which would leave out all there is.

    Raises:
        ConfigError: One of ``roots`` is a store, or lies in one.
    """
    for place in filter(None, (store.local_root() for store in stores)):
        path = os.fsencode(os.path.realpath(place)).lstrip(b"/")
        for root in roots:
            if (root.path + b"/").startswith(path + b"/"):
                raise ConfigError(
                    f"the source {path_text(root.path)} is the store {place}, or lies in it",
                    hint="name another --store, or what the store is to hold",
                )


def directories_of(stores: Sequence[BaseStorage]) -> list[tuple[int, int]]:
    """Return (device, inode) of the local directories of ``stores``."""
    found = []
    for root in filter(None, (store.local_root() for store in stores)):
        with suppress(OSError):
            status = os.stat(root)  # noqa: PTH116 - its numbers are what counts
            found.append((status.st_dev, status.st_ino))
    return found
