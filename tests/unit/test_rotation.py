from __future__ import annotations

import os
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet

from backup.catalog import CATALOG_NAME, Catalog
from backup.errors import LockedError, MissingSnapshotError, SnapshotNotFoundError, StorageError
from backup.listing import find_newest, find_snapshot, list_snapshots, list_trash
from backup.manager import BackupManager, take_snapshot
from backup.manager.rotation import RotationRequest, rotate_jobs
from backup.manager.trash import delete_snapshot, put_into_trash, take_out_of_trash
from backup.model import ID_BYTES, SnapshotKind
from backup.restore import RestoreManager
from backup.retention import NOTHING_GOES, RetentionPolicy, Verdict
from backup.snapshot.end import EndRecord, Referred
from backup.snapshot.header import make_core
from backup.snapshot.names import SnapshotName
from backup.snapshot.recipients import FernetKey, make_slots
from backup.snapshot.trash_marker import TrashMarker, encode_marker, parse_marker
from backup.snapshot.writer import SnapshotWriter
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage


class PowerCutError(Exception):
    """The machine is gone in the middle of what it did."""


class FailingStorage(MemoryStorage):
    """Counts what is asked of it, and ends at a given call, before or after it is done."""

    calls, ends_at, after = 0, 0, False

    def _asked(self, do):
        self.calls += 1
        ends = self.calls == self.ends_at
        if ends and not self.after:
            raise PowerCutError
        done = do()
        if ends:
            raise PowerCutError
        return done

    def delete(self, name):
        return self._asked(lambda: super(FailingStorage, self).delete(name))

    def _put(self, name, content, *, replace):
        return self._asked(lambda: super(FailingStorage, self)._put(name, content, replace=replace))

    def list_files(self, prefix=""):
        return iter(self._asked(lambda: list(super(FailingStorage, self).list_files(prefix))))

    def read_range(self, name, offset, length):
        return self._asked(lambda: super(FailingStorage, self).read_range(name, offset, length))


@pytest.fixture
def storage(clock):
    return FailingStorage(clock=clock)


@pytest.fixture
def secret(key):
    return FernetKey.parse(key)


@pytest.fixture
def take(storage, source, make_request, clock):
    """Return a function that takes snapshots, a day apart, and gives their names."""

    def taken(count=1, job="job", into=None, **fields):
        found = []
        for _ in range(count):
            clock.advance(days=1)
            request = make_request(source, job=job, clock=clock, **fields)
            found.append(take_snapshot(request, into or storage).name)
        return found

    return taken


@pytest.fixture
def rotate(storage, secret, clock):
    """Return a function that rotates; the first job's outcome comes back."""

    def rotated(on=None, change=True, jobs=None, **fields):
        known = {"policy": RetentionPolicy(last=2), "identities": [secret], "host": "verifier"}
        request = RotationRequest(**known | {"clock": clock} | fields)
        return next(iter(list(rotate_jobs(on or storage, request, change=change, jobs=jobs))), None)

    return rotated


@pytest.fixture
def link(storage, take, make_request, clock, source):
    """Return a function that stores a base, another one, and one that refers to the base."""

    def linked():
        base, other = take(2)
        request = make_request(source, clock=clock)
        newest = find_newest(storage, "testhost", "job", request.identities)
        reader = RestoreManager(storage, identities=request.identities).open(base)
        clock.advance(days=1)
        return base, other, incremental(storage, request, newest, reader)

    return linked


def names(storage):
    return [one.name for one in list_snapshots(storage)]


def trash(storage):
    return [one.snapshot.name for one in list_trash(storage)]


def files(storage):
    return sorted(file.name for file in storage.list_files("testhost/"))


def put(storage, name, content):
    with storage.create(name, replace=True) as file:
        file.write(content)
        file.commit()


def mark(storage, name, clock, **fields):
    put_into_trash(storage, name, TrashMarker(**{"time": clock(), "reason": "test"} | fields))


def marker_name(name):
    return name.removesuffix(".enc") + ".enc.trash"


class TestRotating:
    @pytest.fixture(params=["memory", "local"])
    def store(self, request, storage, tmp_path, clock):
        return storage if request.param == "memory" else LocalStorage(tmp_path / "s", clock=clock)

    def test_what_no_rule_keeps_goes_into_the_trash_and_nothing_is_lost(self, store, take, rotate):
        taken = take(5, into=store)
        before = files(store)

        rotation = rotate(on=store)

        assert rotation.trashed == taken[:3]
        assert names(store) == taken[3:]
        assert trash(store) == taken[:3]
        assert files(store) == sorted([*before, *map(marker_name, taken[:3])])

    def test_a_plan_changes_nothing(self, store, take, rotate):
        take(5, into=store)
        before = files(store)

        rotation = rotate(on=store, change=False)

        assert len(rotation.plan.deletions) == 3
        assert (rotation.trashed, files(store)) == ([], before)

    def test_each_job_has_its_own_newest(self, storage, take, rotate):
        a, b = take(3, job="a"), take(1, job="b")

        rotate(policy=RetentionPolicy(last=1))

        assert names(storage) == [a[2], b[0]]

    def test_jobs_can_be_chosen(self, storage, take, rotate):
        a, b = take(3, job="a"), take(3, job="b")

        rotate(jobs=[("testhost", "b")])

        assert names(storage) == [*a, *b[1:]]

    def test_without_a_policy_nothing_goes_nor_is_purged(self, storage, take, rotate, clock):
        taken = take(3)
        rotate(policy=RetentionPolicy(last=1))
        clock.advance(days=100)

        rotation = rotate(policy=NOTHING_GOES)

        assert (rotation.trashed, rotation.purged) == ([], [])
        assert trash(storage) == taken[:2]

    def test_no_more_than_so_many_go_in_a_run_of_all_jobs(self, storage, take, rotate):
        take(5, job="a")
        take(5, job="b")

        rotate(most=4)

        assert len(trash(storage)) == 4
        assert sum("/a/" in name for name in trash(storage)) == 3

    def test_tags_keep(self, storage, take, rotate):
        tagged, *_ = [*take(1, tags=("release",)), *take(3)]

        rotate(policy=RetentionPolicy(last=1, tags=("release",)))

        assert names(storage)[0] == tagged
        assert len(names(storage)) == 2

    def test_the_newest_proven_one_stays(self, storage, take, rotate, clock):
        taken = take(5)
        proven = list_snapshots(storage)[1].id

        rotate(proven={proven: clock()})

        assert names(storage) == [taken[1], *taken[3:]]

    def test_the_marker_tells_who_when_and_why(self, storage, take, rotate, clock):
        take(3)

        rotate()

        (trashed,) = list_trash(storage)
        assert trashed.marker == TrashMarker(
            time=clock(), reason="no rule keeps it", program=trashed.marker.program, host="verifier"
        )
        assert trashed.marker.program.startswith("auto-backup ")


class TestWhatIsNotBelieved:
    def test_a_snapshot_that_does_not_open_is_neither_counted_nor_deleted(
        self, storage, take, rotate
    ):
        good = take(2)
        other = FernetKey.parse(Fernet.generate_key())
        foreign = take(3, recipients=[other], identities=[other])

        rotation = rotate()

        assert rotation.trashed == []
        assert names(storage) == [*good, *foreign]
        assert {one.reason for one in rotation.plan.decisions if not one.counts} == {
            "sealed for another key"
        }

    @pytest.mark.parametrize("at", [3, 40, -30, -3])
    def test_a_damaged_one_is_neither_counted_nor_deleted(self, storage, take, rotate, at):
        taken = take(4)
        content = bytearray(storage.read(taken[3]))
        content[at] ^= 255
        put(storage, taken[3], bytes(content))
        put(storage, taken[3] + ".keys", b"damaged too")

        rotation = rotate()

        assert rotation.trashed == taken[:1]
        assert [one.verdict for one in rotation.plan.decisions if not one.counts] == [Verdict.KEEP]

    def test_one_of_another_job_is_not_counted_here(self, storage, take, rotate):
        mine = take(2, job="mine")
        for name in take(3, job="other"):
            there = name.replace("/other/other-", "/mine/mine-")
            put(storage, there, storage.read(name))

        rotation = rotate(jobs=[("testhost", "mine")])

        assert rotation.trashed == []
        assert set(mine) < set(rotation.snapshots)
        assert [one.reason for one in rotation.plan.decisions if not one.counts] == [
            "belongs to testhost/other"
        ] * 3

    def test_copies_under_later_names_push_none_out(self, storage, take, rotate):
        first, second = take(2)
        for day in range(10, 20):
            put(storage, second.replace("202611", f"2027{day % 3 + 10}").replace("T16", f"T{day}"),
                storage.read(second))  # fmt: skip

        assert rotate().trashed == []
        assert {first, second} <= set(names(storage))

    def test_one_from_the_future_pushes_none_out(self, storage, take, rotate, clock):
        taken = take(3)
        clock.advance(days=900)
        later = take(5)
        clock.advance(days=-905)

        rotation = rotate()

        assert rotation.trashed == taken[:1]
        assert set(later) <= set(names(storage))

    def test_without_any_identity_nothing_is_deleted(self, storage, take, rotate):
        taken = take(4)

        assert rotate(identities=[]).trashed == []
        assert names(storage) == taken


class TestRefusing:
    def test_a_job_that_is_being_worked_on_is_left_alone_and_others_are_not(
        self, storage, take, secret, clock
    ):
        take(3, job="a")
        take(3, job="b")
        request = RotationRequest(
            policy=RetentionPolicy(last=1), identities=[secret], host="h", clock=clock
        )

        with storage.lock("testhost/a"):
            first, second = rotate_jobs(storage, request)

        assert isinstance(first.error, LockedError)
        assert (first.trashed, len(second.trashed)) == ([], 2)

    def test_a_run_at_work_in_a_directory_keeps_rotation_out(self, tmp_path, rotate, take):
        store = LocalStorage(tmp_path / "s")
        taken = take(3, into=store)

        with LocalStorage(tmp_path / "s").lock("testhost/job"):
            rotation = rotate(on=store)

        assert isinstance(rotation.error, LockedError)
        assert names(store) == taken

    def test_a_snapshot_that_is_being_taken_keeps_rotation_out(  # noqa: PLR0917 - fixtures
        self, tmp_path, source, make_request, clock, take, rotate
    ):
        store = LocalStorage(tmp_path / "s")
        taken, met = take(3, into=store), []

        def meanwhile(_):
            met.append(rotate(on=LocalStorage(tmp_path / "s")))

        last = take_snapshot(make_request(source, clock=clock), store, on_progress=meanwhile).name

        assert met
        assert all(isinstance(one.error, LockedError) for one in met)
        assert names(store) == [*taken, last]
        assert rotate(on=store).trashed == taken[:2]

    def test_a_listing_that_lacks_what_was_there_stops_the_job(self, storage, take, rotate):
        taken = take(5)
        known = {"testhost/job": [one.id for one in list_snapshots(storage)]}
        storage.delete(taken[4])

        rotation = rotate(known=known)

        assert isinstance(rotation.error, StorageError)
        assert "does not list 1 of the snapshots of testhost/job" in rotation.error.message
        assert rotation.trashed == []

    def test_what_lies_in_the_trash_is_not_missing(self, storage, take, rotate):
        take(5)
        known = {"testhost/job": [one.id for one in list_snapshots(storage)]}
        rotate(known=known)

        assert rotate(known=known).error is None

    def test_a_listing_that_fails_stops_the_job(self, storage, take, rotate):
        take(5)

        class Unlisted(type(storage)):
            def list_files(self, prefix=""):
                found = list(super().list_files(prefix))
                yield from found[:4]
                if prefix:
                    raise StorageError("the connection is gone")

        storage.__class__ = Unlisted
        rotation = rotate()

        assert rotation.error.message == "the connection is gone"
        assert (rotation.trashed, len(storage._files) > 14) == ([], True)

    def test_a_snapshot_that_needs_a_missing_one_stops_the_job(self, link, storage, rotate):
        base, _, _ = link()
        storage.delete(base)

        rotation = rotate()

        assert isinstance(rotation.error, MissingSnapshotError)
        assert rotation.trashed == []


def incremental(storage, request, newest, base):
    clock = request.clock

    core = make_core(
        snapshot_id=b"\7" * ID_BYTES,
        chain=newest.header.core.chain,
        sequence=newest.sequence + 1,
        time=int(clock().timestamp()),
        archive=request.archive,
        previous=newest.header.core.digest,
    )
    name = SnapshotName("testhost", "job", clock(), "0707", SnapshotKind.INCREMENTAL, core.archive)
    with storage.create(str(name)) as sink:
        slots = make_slots(request.recipients, b"k" * 32, core)
        writer = SnapshotWriter(sink.write, core, slots, b"k" * 32, host_key=request.host_key,
                                level=None)  # fmt: skip
        writer.end_archive()
        writer.finish(EndRecord(
            job="job", host="testhost", kind=SnapshotKind.INCREMENTAL, sources=base.record.sources,
            counts=base.record.counts,
            referred=(Referred(id=base.core.id, core_digest=base.core.digest),),
        ))  # fmt: skip
        sink.commit()
    return str(name)


class TestTheTrash:
    def test_it_can_be_undone(self, storage, take, rotate, secret):
        taken = take(4)
        rotate()

        for name in taken[:2]:
            take_out_of_trash(storage, name)

        assert names(storage) == taken
        assert RestoreManager(storage, identities=[secret]).validate(taken[0]).holds

    def test_it_is_purged_after_its_time_and_not_before(self, storage, take, rotate, clock):
        taken = take(4)
        rotate()
        clock.advance(days=6, hours=23)
        assert rotate().purged == []
        assert len(rotate().waiting) == 2

        clock.advance(hours=1)
        rotation = rotate()

        assert rotation.purged == taken[:2]
        left = {name + suffix for name in taken[2:] for suffix in ("", ".keys", ".sha256")}
        assert files(storage) == sorted(left)

    def test_nothing_finds_what_is_in_it(self, storage, take, rotate, secret):
        taken = take(4)
        old = list_snapshots(storage)[0].id
        rotate()

        assert names(storage) == taken[2:]
        assert find_snapshot(storage, "job~1").name == taken[2]
        with pytest.raises(SnapshotNotFoundError) as caught:
            find_snapshot(storage, old[:8])
        assert f"'auto-backup undelete {old[:8]}' brings it back" in caught.value.hint

    def test_its_files_open_by_their_path(self, tmp_path, tree, take, rotate, secret):
        store = LocalStorage(tmp_path / "s")
        first, *_ = take(3, into=store)
        rotate(on=store)

        manager = RestoreManager(store, identities=[secret])

        assert manager.validate(str(tmp_path / "s" / first)).holds

    def test_no_number_of_a_chain_is_given_twice(self, storage, take, clock, secret):
        taken = take(4)
        for name in taken[2:]:
            mark(storage, name, clock)

        take()

        last = list_snapshots(storage)[-1]
        assert last.sequence == 5
        assert find_newest(storage, "testhost", "job", [secret]).located.name == last.name

    def test_where_all_is_in_it_a_new_chain_begins(self, storage, take, clock, secret):
        (only,) = take()
        chain = list_snapshots(storage)[0].chain
        mark(storage, only, clock)

        assert find_newest(storage, "testhost", "job", [secret]) is None
        take()
        assert list_snapshots(storage)[0].chain != chain

    def test_what_a_snapshot_refers_to_is_found_in_it_and_never_purged(
        self, storage, link, rotate, clock, secret
    ):
        base, other, name = link()
        mark(storage, base, clock)
        clock.advance(days=30)

        rotation = rotate(policy=RetentionPolicy(last=1))

        assert rotation.error is None
        assert rotation.trashed == [other]
        assert rotation.purged == []
        assert trash(storage) == [base, other]
        assert names(storage) == [name]
        opened = RestoreManager(storage, identities=[secret])
        found = opened.locate(name).find(opened.open(name).record.referred[0])
        assert found.read_at(0, 20) == b"auto-backup snapshot"

    def test_it_goes_after_all_that_refer_to_it(self, storage, take, link, rotate, clock):
        base, other, name = link()
        take()
        policy = RetentionPolicy(last=1)
        assert rotate(policy=policy).trashed == [name, base, other]
        take_out_of_trash(storage, name)
        mark(storage, name, clock, time=clock() + timedelta(days=3))
        clock.advance(days=8)

        assert rotate(policy=policy).purged == [other]
        clock.advance(days=8)
        assert set(rotate(policy=policy).purged) == {base, name}


class TestMarkersOfOthers:
    """Whoever can write to a store can make a marker, and hide snapshots; no more than that."""

    def test_what_the_policy_keeps_is_hidden_told_and_never_purged(
        self, storage, take, rotate, clock
    ):
        taken = take(4)
        for name in taken[2:]:
            put(storage, marker_name(name), b'{"format":1,"time":"1970-01-01T00:00:00Z"}')
        clock.advance(days=400)

        rotation = rotate()

        assert rotation.purged == []
        assert [one.snapshot.name for one, _ in rotation.held] == taken[2:]
        assert [why.reason for _, why in rotation.held] == ["last 2/2", "newest, last 1/2"]

    def test_an_old_date_in_it_does_not_shorten_the_time(self, storage, take, rotate, clock):
        first, *_ = take(3)
        put(storage, marker_name(first), b'{"format":1,"time":"1970-01-01T00:00:00Z"}')

        assert rotate().purged == []
        clock.advance(days=7)
        assert rotate().purged == [first]

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"\xff", b'{"format":2,"time":"2026-11-20T00:00:00Z"}', b'{"time":7}',
         b'{"time":"2026-11-20T00:00:00"}', b"[" * 3000, b" " * 100_000, b"null",
         b'{"time":"0001-01-01T00:00:00+20:00"}'],
    )  # fmt: skip
    def test_one_that_cannot_be_read_counts_from_when_it_came(
        self, storage, take, rotate, clock, content
    ):
        first, *_ = take(3)
        put(storage, marker_name(first), content)

        (trashed,) = list_trash(storage)
        assert (trashed.marker, trashed.since) == (None, clock())
        clock.advance(days=7)
        assert rotate().purged == [first]

    def test_a_marker_says_again_what_was_written(self, clock):
        marker = TrashMarker(time=clock(), reason="ä", program="p", host="h")

        assert parse_marker(encode_marker(marker)) == marker


class TestRunsThatEndInBetween:
    def test_at_any_call_nothing_half_deleted_is_listed_and_the_next_run_finishes(
        self, storage, take, rotate, clock, secret
    ):
        taken = take(5)
        rotate(policy=RetentionPolicy(last=4))
        clock.advance(days=7)
        start = dict(storage._files)
        storage.calls = 0
        rotate()
        calls, end = storage.calls, set(files(storage))
        assert calls > 20

        for at in range(1, calls + 1):
            for after in (False, True):
                storage._files = dict(start)
                storage.calls, storage.ends_at, storage.after = 0, at, after
                with pytest.raises(PowerCutError):
                    rotate()
                storage.ends_at = 0
                assert set(taken[3:]) <= set(names(storage)) <= set(taken[1:])
                for name in [*names(storage), *trash(storage)]:
                    assert {name + suffix for suffix in ("", ".keys", ".sha256")} <= set(
                        files(storage)
                    )
                assert rotate().error is None
                assert set(files(storage)) == end

    def test_the_next_snapshot_clears_away_what_is_left_too(self, storage, take, clock):
        first, _ = take(2)
        mark(storage, first, clock)
        storage.delete(first)
        clock.advance(hours=2)

        take()

        assert not [name for name in files(storage) if name.startswith(first)]

    def test_deleting_what_is_deleted_does_nothing(self, storage, take):
        first, second = take(2)
        delete_snapshot(storage, first)
        delete_snapshot(storage, first)

        assert names(storage) == [second]


class TestRotatingOfAManager:
    def test_it_waits_for_a_run_of_the_same_job(self, tree, store, key, clock):
        manager = BackupManager(tree, store, key, clock=clock)
        first, second = manager.create_snapshot(), manager.create_snapshot()

        with LocalStorage(store).lock("testhost/source"), pytest.raises(LockedError):
            manager._rotate_backups(1)

        assert manager._rotate_backups(1) == [first]
        assert RestoreManager(store, key).validate(second).holds

    def test_a_run_of_another_job_does_not_keep_it_waiting(self, tree, store, key, clock):
        manager = BackupManager(tree, store, key, clock=clock)
        first, _ = manager.create_snapshot(), manager.create_snapshot()

        (store / "testhost" / "other").mkdir()
        with LocalStorage(store).lock("testhost/other"):
            assert manager._rotate_backups(1) == [first]

    def test_a_snapshot_is_made_though_rotating_has_to_wait(self, tree, store, key, clock):
        BackupManager(tree, store, key, job="other", clock=clock).create_snapshot()
        manager = BackupManager(tree, store, key, keep=1, clock=clock)

        with LocalStorage(store).lock("testhost/other"):
            path = manager.create_snapshot()

        assert RestoreManager(store, key).validate(path).holds
        assert len(names(LocalStorage(store))) == 2

    def test_one_that_ends_while_it_deletes_leaves_nothing_to_be_missed(  # noqa: PLR0917 - fixtures
        self, tree, store, key, clock, monkeypatch, tmp_path
    ):
        manager = BackupManager(tree, store, key, state=tmp_path / "state", clock=clock)
        for _ in range(2):
            manager.create_snapshot()
        unlink = os.unlink

        def unlink_at_last(path, **where):
            unlink(path, **where)
            if str(path).endswith(".enc"):
                raise KeyboardInterrupt

        monkeypatch.setattr(os, "unlink", unlink_at_last)
        with pytest.raises(KeyboardInterrupt):
            manager._rotate_backups(1)

        storage = LocalStorage(store)
        known = Catalog(tmp_path / "state" / CATALOG_NAME).snapshots(storage.url)
        assert list(known) == names(storage)

    def test_it_leaves_the_trash_alone(self, tree, store, key, clock):
        manager = BackupManager(tree, store, key, clock=clock)
        paths = [manager.create_snapshot() for _ in range(3)]
        storage = LocalStorage(store)
        mark(storage, paths[0].removeprefix(f"{store}/"), clock)

        assert manager._rotate_backups(1) == paths[1:2]
        assert len(list_trash(storage)) == 1
