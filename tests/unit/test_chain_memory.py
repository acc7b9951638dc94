"""What a host that cannot read remembers, also when it ends at the wrong moment."""

from __future__ import annotations

import stat

import pytest

from backup.errors import StorageError
from backup.manager import take_snapshot
from backup.manager.chain_memory import ChainMemory
from backup.snapshot.hpke import HpkeIdentity
from backup.storage.memory import MemoryStorage

PAIR = HpkeIdentity.generate()


class Ended(BaseException):
    """The process has ended here."""


class EndingStorage(MemoryStorage):
    """Ends the process before or after a snapshot becomes visible."""

    ends = ""

    def _put(self, name, content, *, replace):
        if name.endswith(".enc") and self.ends == "before":
            raise Ended
        super()._put(name, content, replace=replace)
        if name.endswith(".enc") and self.ends == "after":
            raise Ended


@pytest.fixture
def storage():
    return EndingStorage()


@pytest.fixture
def take(source, make_request, tmp_path, storage):
    """Return a function that takes a snapshot as a host does that cannot read it."""
    (source / "file").write_text("dear reader")
    host_key = make_request(source).host_key
    memory = ChainMemory(tmp_path / "state", host_key)

    def take(ends="", **fields):
        storage.ends = ends
        request = make_request(
            source, recipients=[PAIR.recipient()], identities=[], memory=memory, **fields
        )
        return take_snapshot(request, storage)

    return take


def test_a_run_that_ended_just_before_its_snapshot_was_seen_left_no_gap(take):
    first = take()
    with pytest.raises(Ended):
        take(ends="before")

    assert (first.sequence, take().sequence) == (1, 2)


def test_a_run_that_ended_just_after_its_snapshot_was_seen_is_followed(take):
    with pytest.raises(Ended):
        take(ends="after")
    with pytest.raises(Ended):
        take(ends="after")

    assert take().sequence == 3


def test_a_run_that_ends_after_another_that_ended_does_not_lose_the_last(take):
    take()
    for _ in range(3):
        with pytest.raises(Ended):
            take(ends="before")

    assert take().sequence == 2


def test_each_job_is_remembered_for_itself(take):
    take()
    take()

    assert take(job="other").sequence == 1
    assert take().sequence == 3


def test_a_state_directory_that_takes_nothing_costs_no_snapshot(take, tmp_path):
    (tmp_path / "state").write_text("a file")

    assert take().sequence == 1
    assert take().sequence == 1


def test_its_files_are_for_their_owner_only(take, tmp_path):
    take()

    (file,) = (tmp_path / "state" / "chains").rglob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"file" not in file.read_bytes().split(b"\n")[0].split(b'"last"')[1]


def test_a_store_that_does_not_answer_begins_no_second_chain(take, storage, monkeypatch):
    with pytest.raises(Ended):
        take(ends="after")

    def refuse(_):
        raise StorageError("no answer")

    monkeypatch.setattr(storage, "stat", refuse)
    with pytest.raises(StorageError, match="no answer"):
        take()
    monkeypatch.undo()

    assert take().sequence == 2
