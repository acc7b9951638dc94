"""Giving and taking access: keys files change, snapshots never, and somebody can always read."""

from __future__ import annotations

import itertools

import pytest
from cryptography.fernet import Fernet

from backup.errors import ConfigError, LockedError, SecretKeyError, StorageError, WrongKeyError
from backup.locating import locate
from backup.manager import take_snapshot
from backup.manager.rewrapping import Change, plan_rewrapping, rewrap
from backup.snapshot.header import parse_keys_file
from backup.snapshot.hpke import HpkeIdentity
from backup.snapshot.names import KEYS_SUFFIX, SUFFIX
from backup.snapshot.recipients import (
    Argon2Cost,
    FernetKey,
    PassphraseIdentity,
    PassphraseRecipient,
)
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage

CHEAP = Argon2Cost(memory=64, time=1, lanes=1)
OTHER = FernetKey.parse(Fernet.generate_key())
PAIR = HpkeIdentity.generate()


class Interrupted(Exception):  # noqa: N818 - it is no error, but the end of a process
    """The process has ended here."""


class EndingStorage(MemoryStorage):
    """A store under a process that ends before its nth step."""

    def __init__(self):
        super().__init__()
        self.left = None

    def step(self):
        if self.left is not None:
            if self.left == 0:
                raise Interrupted
            self.left -= 1

    def create(self, name, *, replace=False):
        self.step()
        writer = super().create(name, replace=replace)
        really = writer._publish

        def publish():
            self.step()
            really()
            self.step()

        writer._publish = publish
        return writer

    def read_range(self, name, offset, length):
        self.step()
        return super().read_range(name, offset, length)


@pytest.fixture
def owner(key):
    return FernetKey.parse(key)


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def names(storage, source, make_request):
    """Return the names of two snapshots in ``storage``."""
    return fill(storage, source, make_request)


def fill(storage, source, make_request, **fields):
    (source / "file").write_text("dear reader")
    request = make_request(source, **fields)
    return [take_snapshot(request, storage).name for _ in range(2)]


def change(storage, names, identities, **fields):
    return list(rewrap(storage, names, identities, Change(**fields)))


def opens(storage, name, *identities):
    try:
        reader = locate(storage, name).open(identities)
    except WrongKeyError:
        return False
    return next(reader.entries()) is not None


def keys_of(storage, name):
    return parse_keys_file(storage.read(name.removesuffix(SUFFIX) + KEYS_SUFFIX))


def ids_of(storage, name):
    return [slot.id for slot in keys_of(storage, name).slots]


RECIPIENTS = {
    "a key file": (OTHER, OTHER),
    "a public key": (PAIR.recipient(), PAIR),
    "a passphrase": (PassphraseRecipient("open", cost=CHEAP), PassphraseIdentity("open")),
}


class TestAdding:
    @pytest.mark.parametrize("kind", RECIPIENTS)
    def test_who_is_added_opens_the_snapshots_and_others_still_do(
        self, storage, names, owner, kind
    ):
        recipient, identity = RECIPIENTS[kind]
        assert not any(opens(storage, name, identity) for name in names)

        done = change(storage, names, [owner], add=(recipient,), proofs=(identity,))

        assert [one.added for one in done] == [(recipient.id,)] * 2
        assert all(opens(storage, name, identity) for name in names)
        assert all(opens(storage, name, owner) for name in names)

    def test_the_snapshots_themselves_never_change(self, storage, names, owner):
        before = {name: storage.read(name) for name in names}

        change(storage, names, [owner], add=(OTHER,))
        change(storage, names, [owner], remove=frozenset({OTHER.id}))

        assert {name: storage.read(name) for name in names} == before

    def test_the_generation_counts_up(self, storage, names, owner):
        first = keys_of(storage, names[0]).generation

        change(storage, names[:1], [owner], add=(OTHER,))
        change(storage, names[:1], [OTHER], add=(PAIR.recipient(),))

        assert (first, keys_of(storage, names[0]).generation) == (0, 2)
        assert keys_of(storage, names[1]).generation == 0

    def test_who_has_access_already_changes_nothing(self, storage, names, owner):
        change(storage, names, [owner], add=(OTHER,))
        before = {file.name: storage.read(file.name) for file in storage.list_files()}

        done = change(storage, names, [owner], add=(OTHER,))

        assert not any(one.changes for one in done)
        assert {file.name: storage.read(file.name) for file in storage.list_files()} == before

    def test_planning_changes_nothing(self, storage, names, owner):
        before = {file.name: storage.read(file.name) for file in storage.list_files()}

        plan = plan_rewrapping(storage, names, [owner], Change(add=(OTHER,)))

        assert [one.added for one in plan] == [(OTHER.id,)] * 2
        assert {file.name: storage.read(file.name) for file in storage.list_files()} == before

    def test_what_does_not_open_is_refused_and_the_rest_done(
        self, storage, names, source, make_request, owner
    ):
        theirs = fill(
            storage, source, make_request, recipients=[PAIR.recipient()], identities=[], job="x"
        )

        done = change(storage, [*theirs, *names], [owner], add=(OTHER,))

        assert [isinstance(one.refused, WrongKeyError) for one in done] == [True] * 2 + [False] * 2
        assert not opens(storage, theirs[0], OTHER)
        assert opens(storage, names[1], OTHER)

    @pytest.mark.parametrize("damage", ["missing", "cut", "changed", "of another snapshot"])
    def test_a_keys_file_that_is_no_good_is_made_anew(self, storage, names, owner, damage):
        keys = [name.removesuffix(SUFFIX) + KEYS_SUFFIX for name in names]
        good = storage.read(keys[0])
        bad = {
            "missing": None,
            "cut": good[:-1],
            "changed": good[:-1] + bytes([good[-1] ^ 1]),
            "of another snapshot": storage.read(keys[1]),
        }[damage]
        storage.delete(keys[0])
        if bad is not None:
            with storage.create(keys[0]) as file:
                file.write(bad)
                file.commit()

        change(storage, names[:1], [owner], add=(OTHER,))

        assert ids_of(storage, names[0]) == [owner.id, OTHER.id]
        assert opens(storage, names[0], OTHER)

    def test_a_damaged_header_does_not_keep_from_it(self, tmp_path, source, make_request, owner):
        storage = LocalStorage(tmp_path / "store")
        name = fill(storage, source, make_request)[0]
        path = storage.path_of(name)
        path.write_bytes(b"\0" * 60 + path.read_bytes()[60:])

        change(storage, [name], [owner], add=(OTHER,))

        assert opens(storage, name, OTHER)

    def test_a_run_that_is_at_work_is_not_disturbed(self, storage, names, owner):
        with storage.lock("testhost/job"), pytest.raises(LockedError):
            change(storage, names, [owner], add=(OTHER,))

        assert not opens(storage, names[0], OTHER)

    def test_more_than_32_recipients_are_refused(self, storage, names, owner):
        many = tuple(FernetKey.parse(Fernet.generate_key()) for _ in range(32))

        (refused,) = change(storage, names[:1], [owner], add=many)

        assert isinstance(refused.refused, ConfigError)
        assert ids_of(storage, names[0]) == [owner.id]

    def test_a_fifth_passphrase_is_refused_as_readers_try_four(self, storage, names, owner):
        some = tuple(PassphraseRecipient(f"word {n}", cost=CHEAP) for n in range(5))

        (refused,) = change(storage, names[:1], [owner], add=some)
        (fine,) = change(storage, names[:1], [owner], add=some[:4])

        assert "4 passphrases at most" in refused.refused.message
        assert len(fine.added) == 4
        assert opens(storage, names[0], PassphraseIdentity("word 3"))


class TestRemoving:
    def test_who_came_later_opens_nothing_any_more(self, storage, names, owner):
        change(storage, names, [owner], add=(OTHER,))

        done = change(storage, names, [owner], remove=frozenset({OTHER.id}))

        assert [(one.removed, one.still_open) for one in done] == [((OTHER.id,), ())] * 2
        assert not any(opens(storage, name, OTHER) for name in names)
        assert all(opens(storage, name, owner) for name in names)

    def test_whom_a_snapshot_was_made_for_still_opens_it_and_that_is_told(
        self, storage, names, owner
    ):
        change(storage, names, [owner], add=(OTHER,))

        done = change(storage, names, [owner, OTHER], remove=frozenset({owner.id}))
        again = change(storage, names, [OTHER], remove=frozenset({owner.id}))

        assert [one.still_open for one in [*done, *again]] == [(owner.id,)] * 4
        assert [one.removed for one in [*done, *again]] == [(owner.id,)] * 2 + [()] * 2
        assert ids_of(storage, names[0]) == [OTHER.id]
        assert opens(storage, names[0], owner)

    def test_whoever_opens_by_the_header_alone_gives_on_what_the_keys_file_says(
        self, storage, names, owner
    ):
        change(storage, names, [owner], add=(OTHER,))
        change(storage, names, [owner, OTHER], remove=frozenset({owner.id}))

        change(storage, names, [owner], add=(PAIR.recipient(),), proofs=(PAIR,))

        assert ids_of(storage, names[0]) == [OTHER.id, PAIR.recipient().id]

    def test_the_last_recipient_is_never_taken(self, storage, names, owner):
        done = change(storage, names, [owner], remove=frozenset({owner.id}))

        assert all(isinstance(one.refused, SecretKeyError) for one in done)
        assert ids_of(storage, names[0]) == [owner.id]

    def test_nor_one_without_which_nobody_here_is_proven_to_read(self, storage, names, owner):
        change(storage, names, [owner], add=(OTHER,))

        (refused,) = change(storage, names[:1], [owner], remove=frozenset({owner.id}))
        (done,) = change(storage, names[:1], [owner, OTHER], remove=frozenset({owner.id}))

        assert "none of the recipients that would remain" in refused.refused.message
        assert done.removed == (owner.id,)


class TestChangingAPassphrase:
    def test_the_old_one_goes_when_the_new_one_comes(self, storage, names, owner):
        old, new = PassphraseIdentity("old"), PassphraseIdentity("new")
        change(storage, names, [owner], add=(PassphraseRecipient("old", cost=CHEAP),))
        added = PassphraseRecipient("new", cost=CHEAP)

        done = change(storage, names, [old], add=(added,), replace=old, proofs=(new,))

        assert [(len(one.added), len(one.removed)) for one in done] == [(1, 1)] * 2
        assert all(opens(storage, name, new) for name in names)
        assert not any(opens(storage, name, old) for name in names)
        assert all(opens(storage, name, owner) for name in names)


class TestInterruptions:
    def test_whenever_it_ends_each_snapshot_has_the_old_or_the_new_keys_file(
        self, source, make_request, owner
    ):
        for steps in itertools.count():
            storage = EndingStorage()
            names = fill(storage, source, make_request)
            old = [ids_of(storage, name) for name in names]
            storage.left = steps
            try:
                change(storage, names, [owner], add=(OTHER,), proofs=(OTHER,))
            except Interrupted:
                ended = True
            else:
                ended = False
            storage.left = None

            for name, before in zip(names, old, strict=True):
                assert ids_of(storage, name) in (before, [*before, OTHER.id])
                assert opens(storage, name, owner)
                assert opens(storage, name, OTHER) == (OTHER.id in ids_of(storage, name))
            change(storage, names, [owner], add=(OTHER,), proofs=(OTHER,))
            assert all(opens(storage, name, OTHER) for name in names)
            if not ended:
                break

        assert steps > 10

    def test_a_store_that_keeps_something_else_is_found_out(self, source, make_request, owner):
        class Forgetful(MemoryStorage):
            def _put(self, name, content, *, replace):
                super()._put(name, content[:-1] + b"?" if replace else content, replace=replace)

        storage = Forgetful()
        names = fill(storage, source, make_request)

        with pytest.raises(StorageError, match=r"the new keys file of .* does not open"):
            change(storage, names, [owner], add=(OTHER,), proofs=(OTHER,))

        assert opens(storage, names[0], owner)
