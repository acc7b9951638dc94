from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.catalog import Catalog
from backup.errors import CatalogError, IntegrityError, SecretKeyError, StorageError
from backup.locating import locate, locate_path
from backup.manager import BackupManager, take_snapshot
from backup.manager.backup_manager import delete_snapshot
from backup.remembering import NEVER, remember_proof, remember_taken
from backup.snapshot.names import SUFFIX, TRASH_SUFFIX
from backup.snapshot.recipients import FernetKey
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage
from backup.surveying import rebuild, survey
from backup.verification import Level, verify_snapshot
from tests.conftest import FrozenClock


class Counting(MemoryStorage):
    """Counts how often a file's bytes are asked for."""

    reads = 0

    def read_range(self, name, offset, length):
        self.reads += 1
        return super().read_range(name, offset, length)


@pytest.fixture
def storage(clock):
    return Counting(clock=clock)


@pytest.fixture
def catalog(tmp_path, clock):
    return Catalog(tmp_path / "catalog.sqlite", clock=clock)


@pytest.fixture
def take(storage, source, make_request, clock, catalog):
    """Return a function that takes a snapshot, which is recorded; an hour passes with each."""

    def taken(*, recorded=True, **fields):
        (source / "file").write_text("content")
        request = make_request(source, clock=clock, **fields)
        report = take_snapshot(request, storage)
        if recorded:
            remember(catalog, storage, request, report)
        clock.advance(hours=1)
        return report

    return taken


def remember(catalog, storage, request, report):
    remember_taken(
        catalog,
        storage,
        report.name,
        request.identities,
        strength=str(report.strength),
        started=report.started,
        finished=report.finished,
    )


@pytest.fixture
def look(storage, catalog, make_request, clock):
    def looked(**options):
        known = {
            "identities": make_request().identities,
            "catalog": catalog,
            "own_host": "testhost",
            "now": clock(),
        }
        return survey(storage, **known | options)

    return looked


class TestWhatIsRecorded:
    def test_of_a_snapshot_just_taken(self, take, catalog, storage, source, make_request):
        report = take(tags=("monthly",))

        known = catalog.snapshots(storage.url)[report.name]
        facts = known.facts
        assert (facts.id, facts.host, facts.job) == (report.id.hex(), "testhost", "job")
        assert (facts.sequence, facts.size, facts.sha256) == (1, report.size, report.sha256.hex())
        assert (facts.entries, facts.files, facts.bytes, facts.errors) == (2, 1, 7, 0)
        assert facts.sources == (str(source),)
        assert facts.tags == ("monthly",)
        reader = locate(storage, report.name).open(make_request().identities)
        assert facts.core_digest == reader.core.digest.hex()
        assert facts.signer == reader.signer.hex()
        (proof,) = catalog.proofs(storage.url)[report.name]
        assert (proof.level, proof.holds, proof.strength) == ("checksum", True, "read-back")
        assert proof.id == facts.id
        assert list(catalog.proven(storage.url, "testhost", "job")) == [facts.id]

    def test_of_one_that_this_host_cannot_read_what_stands_in_clear(
        self, take, catalog, storage, make_request
    ):
        report = take(recorded=False)
        remember(catalog, storage, make_request(identities=[]), report)

        facts = catalog.snapshots(storage.url)[report.name].facts
        assert (facts.id, facts.sequence) == (report.id.hex(), 1)
        assert (facts.entries, facts.opened_by) == (0, "")

    @pytest.mark.parametrize("level", Level)
    def test_of_a_proof(self, take, catalog, storage, make_request, level):
        report = take()
        located = locate(storage, report.name)

        proof = verify_snapshot(located, make_request().identities, level=level)
        remember_proof(catalog, located, proof)

        known = catalog.proofs(storage.url)[report.name][-1]
        assert (known.level, known.holds, known.id) == (str(level), True, report.id.hex())
        assert known.entries == (2 if level is Level.CONTENT else 0)

    def test_of_a_failed_proof_also_where_the_header_cannot_be_read(
        self, source, store, make_request, clock, catalog
    ):
        (source / "file").write_text("content")
        storage = LocalStorage(store)
        request = make_request(source)
        report = take_snapshot(request, storage)
        remember(catalog, storage, request, report)
        (store / report.name).write_bytes(b"nothing of it")
        located = locate(storage, report.name)

        remember_proof(catalog, located, verify_snapshot(located, request.identities))

        assert catalog.proven(storage.url, "testhost", "job") == {}
        assert [one.holds for one in catalog.proofs(storage.url)[report.name]] == [True, False]

    def test_nothing_of_a_file_that_lies_in_no_store(self, source, key, catalog, make_request):
        (source / "file").write_text("content")
        path = BackupManager(source, source / "s", key)._encrypt_file(source / "file")
        located = locate_path(Path(path))
        remember_proof(catalog, located, verify_snapshot(located, make_request().identities))

        assert not catalog.path.exists()


class TestNotReadingAgain:
    def test_what_was_opened_once_is_not_read_again(self, take, look, storage):
        for _ in range(3):
            take()
        first = look()
        storage.reads = 0

        second = look()

        assert storage.reads == 0
        assert [one._replace(proof=None) for one in second.seen] == [
            one._replace(proof=None) for one in first.seen
        ]
        assert all(one.facts is not None for one in second.seen)
        assert second == look(catalog=None)._replace(seen=second.seen)

    def test_it_tells_what_it_tells_without_a_catalog(self, take, look):
        for number in range(3):
            take(job=f"job{number % 2}", tags=(str(number),))
        look()

        def facts(found):
            return [(one.stored, one.facts, one.error) for one in found.seen]

        assert facts(look()) == facts(look(catalog=None))

    def test_a_file_that_changed_is_read_again(self, take, look, storage, clock):
        report = take()
        look()
        data = bytearray(storage.read_range(report.name, 0, report.size))
        data[-30] ^= 1
        with storage.create(report.name, replace=True) as file:
            file.write(data)
            file.commit()

        (one,) = look().seen

        assert one.facts is None
        assert isinstance(one.error, IntegrityError)

    def test_a_file_that_was_written_just_now_is_read_once_more(self, take, look, storage, clock):
        take(recorded=False)
        clock.advance(hours=-1)
        clock.advance(seconds=1)
        look()
        storage.reads = 0
        clock.advance(seconds=10)

        look()
        assert storage.reads > 0
        storage.reads = 0
        look()
        assert storage.reads == 0

    def test_another_key_does_not_get_what_the_first_one_opened(self, take, look):
        take()
        look()
        other = FernetKey.parse(Fernet.generate_key())

        (one,) = look(identities=[other]).seen
        (sealed,) = look(identities=[]).seen

        assert one.facts is None
        assert isinstance(one.error, SecretKeyError)
        assert (sealed.facts, sealed.error) == (None, None)
        assert look().seen[0].facts is not None

    def test_looking_only_at_some_leaves_what_is_known_of_the_others(
        self, take, look, catalog, storage
    ):
        take(job="one")
        take(job="two")

        look(job="one")

        assert len(catalog.snapshots(storage.url)) == 2
        assert look(job="one").gone == []


class TestWhatIsGone:
    def test_it_is_told_until_somebody_says_that_it_is_so(
        self, take, look, storage, catalog, make_request
    ):
        reports = [take() for _ in range(3)]
        look()
        for report in reports[:2]:
            delete_snapshot(storage, report.name)

        for _ in range(2):
            assert [one.facts.id for one in look().gone] == [one.id.hex() for one in reports[:2]]
        rebuild(catalog, storage, make_request().identities, now=reports[0].finished)
        assert look().gone == []

    def test_what_was_deleted_here_is_not(self, take, look, storage, catalog):
        report = take()
        delete_snapshot(storage, report.name)
        catalog.forget(storage.url, report.name)

        assert look().gone == []

    def test_what_lies_in_the_trash_is_not(self, take, look, storage, catalog, clock):
        report = take()
        catalog.set_trashed(storage.url, report.name, clock())
        delete_snapshot(storage, report.name)

        assert look().gone == []

    def test_other_hosts_delete_their_own(self, take, look, storage, catalog):
        report = take(host="elsewhere")
        delete_snapshot(storage, report.name)

        assert look().gone == []
        assert catalog.snapshots(storage.url) == {}

    def test_one_that_came_out_of_the_trash_is_known_again(
        self, take, look, storage, catalog, clock
    ):
        report = take()
        look()
        catalog.set_trashed(storage.url, report.name, clock())

        look()

        marker = report.name.removesuffix(SUFFIX) + TRASH_SUFFIX
        assert storage.stat(marker) is None
        assert catalog.snapshots(storage.url)[report.name].trashed is None

    def test_when_it_was_last_seen_is_known_to_the_hour(self, take, look, storage, catalog, clock):
        report = take()
        look()
        clock.advance(days=3)
        look()
        seen = clock()
        clock.advance(minutes=59)
        look()

        assert catalog.snapshots(storage.url)[report.name].last_seen == seen


class TestWithoutACatalog:
    def test_one_that_cannot_be_used_is_told_and_the_store_is_listed(
        self, take, look, storage, catalog
    ):
        report = take()
        catalog.path.write_bytes(b"")
        catalog.path.unlink()
        catalog.path.mkdir()

        found = look()

        assert [one.stored.name for one in found.seen] == [report.name]
        assert found.seen[0].facts is not None
        assert isinstance(found.problem, CatalogError)

    def test_a_directory_where_nothing_can_be_written_needs_none(
        self, take, look, open_dir, as_nobody, clock
    ):
        take()
        with as_nobody():
            found = look(catalog=Catalog(open_dir.parent / "nope" / "c.sqlite", clock=clock))
        closed = open_dir / "closed"
        closed.mkdir(mode=0o500)
        with as_nobody():
            found = look(catalog=Catalog(closed / "c.sqlite", clock=clock))

        assert found.problem is None
        assert found.seen[0].facts is not None
        assert list(closed.iterdir()) == []

    def test_a_store_that_cannot_be_listed_takes_nothing_away(self, take, catalog, make_request):
        report = take()

        class Broken(MemoryStorage):
            def list_files(self, prefix=""):
                raise StorageError("it does not answer")

        with pytest.raises(StorageError):
            rebuild(catalog, Broken(), make_request().identities, now=FrozenClock()())

        assert report.name in catalog.snapshots("memory:")


class TestRebuilding:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
    @given(
        steps=st.lists(
            st.sampled_from(["take", "take other", "delete", "look", "prove", "rebuild"]),
            max_size=8,
        )
    )
    def test_what_is_read_from_the_store_is_what_was_recorded(
        self, steps, tmp_path_factory, make_request
    ):
        top, clock = tmp_path_factory.mktemp("rebuilding"), FrozenClock()
        (top / "source").mkdir()
        (top / "source" / "file").write_text("content")
        storage = LocalStorage(top / "store")
        catalog = Catalog(top / "catalog.sqlite", clock=clock)
        identities = make_request().identities
        alive = []
        for step in steps:
            clock.advance(hours=1)
            if step.startswith("take"):
                job = "other" if step == "take other" else "job"
                request = make_request(
                    top / "source", job=job, clock=clock, tags=(str(len(alive)),)
                )
                report = take_snapshot(request, storage)
                remember(catalog, storage, request, report)
                alive.append(report.name)
            elif step == "delete" and alive:
                name = alive.pop(0)
                delete_snapshot(storage, name)
                catalog.forget(storage.url, name)
            elif step == "prove" and alive:
                located = locate(storage, alive[-1])
                proof = verify_snapshot(located, identities, clock=clock)
                remember_proof(catalog, located, proof)
            elif step == "look":
                found = survey(
                    storage, identities, catalog=catalog, own_host="testhost", now=clock()
                )
                assert (found.gone, found.problem) == ([], None)
            elif step == "rebuild":
                rebuild(catalog, storage, identities, now=clock())
        anew = Catalog(top / "anew.sqlite", clock=clock)
        rebuild(anew, storage, identities, now=clock())

        recorded, read = (self.facts(one, storage) for one in (catalog, anew))
        assert recorded == read
        assert sorted(recorded) == sorted(alive)
        before = catalog.proofs(storage.url)
        rebuild(catalog, storage, identities, now=clock() + timedelta(hours=1))
        assert catalog.proofs(storage.url) == before

    def facts(self, catalog, storage):
        """Return what is known, without when a file was last changed, which depends on when."""
        known = catalog.snapshots(storage.url).items()
        return {name: replace(one.facts, modified=NEVER) for name, one in known}


class TestForPrograms:
    def test_what_the_manager_takes_and_deletes_is_recorded(self, tree, store, key, tmp_path):
        manager = BackupManager(tree, store, key, keep=2, state=tmp_path / "state")
        paths = [manager.create_snapshot() for _ in range(3)]

        catalog = Catalog(tmp_path / "state" / "catalog.sqlite")
        known = catalog.snapshots(store.as_uri())

        assert sorted(known) == sorted(os.path.relpath(path, store) for path in paths[1:])
        assert all(one.facts.entries for one in known.values())

    def test_a_catalog_that_cannot_be_written_fails_nothing(
        self, tree, store, key, tmp_path, caplog
    ):
        (tmp_path / "state" / "catalog.sqlite").mkdir(parents=True)

        path = BackupManager(tree, store, key, state=tmp_path / "state").create_snapshot()

        assert os.path.exists(path)  # noqa: PTH110 - a path as text is what it gives
        assert "not recorded in the catalog" in caplog.text
