"""Copying a finished snapshot to a further store, byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from backup.clock import Clock, system_clock
from backup.errors import DigestError, StorageError
from backup.locating import Located, locate
from backup.manager.committing import clear_away, commit_with
from backup.manager.recovery_files import place_recovery_files
from backup.snapshot.names import DIGEST_SUFFIX, KEYS_SUFFIX, SUFFIX, digest_line
from backup.storage.base import BaseStorage

_BLOCK = 4 * 1024 * 1024
OnCopied = Callable[[int, int], object]
"""Is told how many bytes have been written, and how many of them read back."""


def _tell_nobody(_written: int, _proven: int) -> None:
    return


def copy_snapshot(
    source: BaseStorage,
    name: str,
    target: BaseStorage,
    *,
    clock: Clock = system_clock,
    on_copied: OnCopied = _tell_nobody,
) -> None:
    """Copy the snapshot ``name`` and what lies beside it; prove that it arrived.

    Args:
        source: The store that has it.
        name: Its name there.
        target: Where to.
        clock: Tells the time.
        on_copied: Is told how many bytes have been written, and how many read back.

    Raises:
        LockedError: A run of this job is at work in ``target``.
        DigestError: What was read is not what had been stored; the copy is not kept.
        StorageError: One of the stores refuses; nothing that looks finished is left.
    """
    located = locate(source, name)
    place = name.rpartition("/")[0]
    with target.lock(place) as alone:
        clear_away(target, place, clock(), alone=alone)
        _copy_alone(located, source, target, on_copied)
    with suppress(StorageError):  # a convenience; verify tells where it is missing
        place_recovery_files(target)


def _copy_alone(
    located: Located, source: BaseStorage, target: BaseStorage, on_copied: OnCopied
) -> None:
    name = located.name
    with target.create(name) as sink:
        at = 0
        while block := located.source.read_at(at, _BLOCK):
            sink.write(block)
            at += len(block)
            on_copied(at, 0)
        receipt = sink.seal(lambda proven: on_copied(at, proven))
        if located.recorded_digest not in {None, receipt.sha256}:
            raise DigestError(f"{name} in {source} is not the file that was stored")
        stem = name.removesuffix(SUFFIX)
        beside = {stem + DIGEST_SUFFIX: digest_line(receipt.sha256, name.rpartition("/")[2])}
        if located.keys_file is not None:
            beside[stem + KEYS_SUFFIX] = located.keys_file
        commit_with(target, sink, name, beside)
