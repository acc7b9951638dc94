"""Giving and taking access to stored snapshots: their keys files are replaced, ``.enc`` never.

A change is planned for people first. Doing it plans again for each snapshot, under the lock of its
job, from what lies there then. Each keys file is replaced whole: whenever this is interrupted, a
snapshot has its old keys file or the new one, and opens with either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from backup.errors import (
    BackupError,
    ConfigError,
    HeaderError,
    IntegrityError,
    SecretKeyError,
    StorageError,
)
from backup.locating import Located, locate
from backup.snapshot.header import (
    MOST_SLOTS,
    Core,
    Header,
    Slot,
    check_header,
    encode_keys_file,
    parse_keys_file,
)
from backup.snapshot.names import KEYS_SUFFIX, SUFFIX
from backup.snapshot.opening import authenticate_header, read_header
from backup.snapshot.recipients import (
    MOST_PASSPHRASE_SLOTS,
    Identity,
    Recipient,
    open_header,
)
from backup.storage.base import BaseStorage

_PASSPHRASE = "passphrase"  # noqa: S105 - the name of a slot's type


@dataclass(frozen=True)
class Change:
    """What is to become of the recipients.

    ``proofs`` are identities of those in ``add``, as far as there are any: what they do not open
    afterwards has not been done. A passphrase slot that ``replace`` opens is taken out.
    """

    add: tuple[Recipient, ...] = ()
    remove: frozenset[str] = frozenset()
    replace: Identity | None = field(default=None, repr=False)
    proofs: tuple[Identity, ...] = field(default=(), repr=False)


class Rewrap(NamedTuple):
    """What becomes of one snapshot.

    ``added`` and ``removed`` are ids of recipients. ``still_open`` are those of the removed ones
    whose slot stands in the ``.enc`` file itself, which never changes. ``refused`` says why nothing
    becomes of it.
    """

    name: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    still_open: tuple[str, ...] = ()
    refused: BackupError | None = None

    @property
    def changes(self) -> bool:
        """Whether there is something to do."""
        return bool(self.added or self.removed)


class _Opened(NamedTuple):
    located: Located
    core: Core
    data_key: bytes
    slots: tuple[Slot, ...]
    generation: int
    in_header: frozenset[str]


def plan_rewrapping(
    storage: BaseStorage, names: Sequence[str], identities: Sequence[Identity], change: Change
) -> list[Rewrap]:
    """Return what would become of each snapshot; nothing is changed.

    Raises:
        StorageError: The store does not answer.
    """
    return [_plan_one(storage, name, identities, change)[0] for name in names]


def rewrap(
    storage: BaseStorage, names: Sequence[str], identities: Sequence[Identity], change: Change
) -> Iterator[Rewrap]:
    """Replace the keys files of ``names``; yield each snapshot when it is done, and proven.

    Raises:
        LockedError: A run of the snapshot's job is at work.
        StorageError: A keys file could not be stored; the old one is in its place.
    """
    for name in names:
        with storage.lock(name.rpartition("/")[0]):
            done = rewrap_one(storage, name, identities, change)
        yield done


def rewrap_one(
    storage: BaseStorage, name: str, identities: Sequence[Identity], change: Change
) -> Rewrap:
    """Replace the keys file of one snapshot, for a caller who holds the lock of its job.

    Raises:
        StorageError: It could not be stored; the old one is in its place.
    """
    plan, opened, slots = _plan_one(storage, name, identities, change)
    if plan.changes and opened is not None:
        _replace(storage, opened, slots)
        _prove(storage, name, [*identities, *change.proofs], change, slots)
    return plan


def _plan_one(
    storage: BaseStorage, name: str, identities: Sequence[Identity], change: Change
) -> tuple[Rewrap, _Opened | None, tuple[Slot, ...]]:
    try:
        opened = _open(storage, name, identities)
        slots = _new_slots(opened, change)
        _refuse_unusable(opened, slots, identities, change)
    except StorageError:
        raise
    except BackupError as error:
        return Rewrap(name, refused=error), None, ()
    before = {slot.id for slot in opened.slots}
    after = {slot.id for slot in slots}
    removed = tuple(sorted(before - after))
    plan = Rewrap(
        name=name,
        added=tuple(sorted(after - before)),
        removed=removed,
        still_open=tuple(sorted(opened.in_header & _gone(opened, change, removed))),
    )
    return plan, opened, slots


def _gone(opened: _Opened, change: Change, removed: Sequence[str]) -> set[str]:
    """Return the ids that were meant to go, also where the keys file had them no more."""
    return {*removed, *(change.remove & opened.in_header)}


def _open(storage: BaseStorage, name: str, identities: Sequence[Identity]) -> _Opened:
    located = locate(storage, name)
    opened = authenticate_header(located.source, identities, located.keys_file)
    keys = _authentic_keys(located, opened.header.core, opened.data_key)
    header = keys or opened.header
    in_header: frozenset[str] = frozenset()
    with suppress(IntegrityError):
        in_header = frozenset(slot.id for slot in read_header(located.source).slots)
    return _Opened(
        located,
        header.core,
        opened.data_key,
        header.slots,
        0 if keys is None or keys.generation is None else keys.generation,
        in_header,
    )


def _authentic_keys(located: Located, core: Core, data_key: bytes) -> Header | None:
    """Return the keys file where its mac holds: also one that has no slot for who asks."""
    if located.keys_file is None:
        return None
    with suppress(IntegrityError):
        keys = parse_keys_file(located.keys_file)
        if keys.core.line == core.line:
            check_header(keys, data_key)
            return keys
    return None


def _new_slots(opened: _Opened, change: Change) -> tuple[Slot, ...]:
    core = opened.core
    gone = set(change.remove)
    if change.replace is not None:
        old = change.replace
        gone |= {
            slot.id
            for slot in opened.slots
            if slot.type == _PASSPHRASE and old.fits(slot) and old.unwrap(slot, core)
        }
    kept = [slot for slot in opened.slots if slot.id not in gone]
    known = {slot.id for slot in kept}
    added = [one.wrap(opened.data_key, core) for one in change.add if one.id not in known]
    return (*kept, *added)


def _refuse_unusable(
    opened: _Opened, slots: tuple[Slot, ...], identities: Sequence[Identity], change: Change
) -> None:
    """Refuse slots that nobody here could open: a snapshot never gets into that state."""
    if len(slots) > MOST_SLOTS:
        raise ConfigError(f"a snapshot can be sealed for {MOST_SLOTS} recipients at most")
    if sum(slot.type == _PASSPHRASE for slot in slots) > MOST_PASSPHRASE_SLOTS:
        raise ConfigError(
            f"a snapshot can have {MOST_PASSPHRASE_SLOTS} passphrases at most",
            hint="take one of them out first: 'auto-backup key remove ID'",
        )
    if len(slots) == len(opened.slots) and slots == opened.slots:
        return
    try:
        if not slots:
            raise SecretKeyError("nobody could open the snapshot any more")
        _opened_by(encode_keys_file(opened.core, slots, opened.data_key, 1), identities, change)
    except (SecretKeyError, IntegrityError) as error:
        raise SecretKeyError(
            "none of the recipients that would remain is proven to open the snapshot",
            hint="give a key that remains, with --key-file, --identity or --passphrase-file",
        ) from error


def _opened_by(data: bytes, identities: Sequence[Identity], change: Change) -> bytes:
    return open_header(parse_keys_file(data), [*identities, *change.proofs])


def _replace(storage: BaseStorage, opened: _Opened, slots: tuple[Slot, ...]) -> None:
    name = opened.located.name.removesuffix(SUFFIX) + KEYS_SUFFIX
    data = encode_keys_file(opened.core, slots, opened.data_key, opened.generation + 1)
    with storage.create(name, replace=True) as sink:
        sink.write(data)
        sink.commit()


def _prove(
    storage: BaseStorage,
    name: str,
    identities: Sequence[Identity],
    change: Change,
    slots: tuple[Slot, ...],
) -> None:
    """Read the new keys file from the store, and open it as the new recipients will."""
    located = locate(storage, name)
    try:
        keys = parse_keys_file(located.keys_file or b"")
        data_key = open_header(keys, identities)
        check_header(keys, data_key)
        if keys.slots != slots:
            raise HeaderError("it is not the one that was written")
        for proof in change.proofs:
            if open_header(keys, [proof]) != data_key:
                raise HeaderError("it gives a wrong data key")
    except (IntegrityError, SecretKeyError) as error:
        raise StorageError(
            f"the new keys file of {name} does not open: {error.message}",
            hint="the snapshot opens as it did when it was made; verify it, and the disk",
        ) from error
