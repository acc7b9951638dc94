from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from backup.catalog import Catalog, KnownProof, SnapshotFacts
from backup.catalog import catalog as catalog_module
from backup.catalog.schema import SCHEMA
from backup.database.file import move_aside, opened
from backup.errors import CatalogError
from backup.model import ArchiveType, SnapshotKind
from tests.checkout import ROOT
from tests.cli import environment

STORE = "file:///mnt/disk"
OTHER = "file:///mnt/other"


@pytest.fixture
def told():
    return []


@pytest.fixture
def catalog(tmp_path, clock, told):
    return Catalog(tmp_path / "state" / "catalog.sqlite", clock=clock, tell=told.append, wait=0.2)


@pytest.fixture
def facts(clock):
    """Return a function that gives the facts of a snapshot, with what else is said."""

    def make(number=1, **fields):
        known = {
            "store": STORE,
            "name": f"web1/job/job-{number}.enc",
            "id": f"{number:032x}",
            "host": "web1",
            "job": "job",
            "chain": "c" * 32,
            "sequence": number,
            "time": clock(),
            "kind": SnapshotKind.FULL,
            "archive": ArchiveType.TAR_XZ,
            "size": 1000 + number,
            "modified": clock(),
            "core_digest": "d" * 64,
        }
        return SnapshotFacts(**known | fields)

    return make


@pytest.fixture
def proof(clock):
    def make(number=1, **fields):
        known = {
            "store": STORE,
            "name": f"web1/job/job-{number}.enc",
            "id": f"{number:032x}",
            "level": "content",
            "started": clock(),
            "finished": clock(),
            "holds": True,
        }
        return KnownProof(**known | fields)

    return make


class TestWhatIsKnown:
    def test_nothing_at_first_and_no_file_is_made_by_asking(self, catalog):
        assert catalog.snapshots(STORE) == {}
        assert catalog.proofs(STORE) == {}
        assert catalog.stores() == []
        assert catalog.newest_known(STORE, "web1", "job") is None
        catalog.forget(STORE, "web1/job/job-1.enc")
        assert not catalog.path.parent.exists()

    def test_all_that_was_recorded(self, catalog, facts, clock):
        full = facts(
            sha256="a" * 64,
            entries=3,
            files=2,
            bytes=10**13,
            errors=1,
            sources=("/home/ann", "/etc/\\xff"),
            tags=("monthly",),
            signer="e" * 64,
            opened_by="key",
        )
        catalog.record([full])

        (known,) = catalog.snapshots(STORE).values()

        assert known == (full, clock(), clock(), None)
        assert catalog.stores() == [STORE]

    def test_since_when_and_until_when_it_was_seen(self, catalog, facts, clock):
        first = clock()
        catalog.record([facts(1), facts(2)])
        clock.advance(days=1)
        catalog.record([facts(1)])
        catalog.touch(STORE, ["web1/job/job-2.enc", "web1/job/unknown.enc"])

        known = catalog.snapshots(STORE)

        assert len(known) == 2
        assert {one.first_seen for one in known.values()} == {first}
        assert {one.last_seen for one in known.values()} == {clock()}

    def test_host_and_job_choose(self, catalog, facts):
        catalog.record(
            [
                facts(1),
                facts(2, name="web1/b/x.enc", job="b"),
                facts(3, name="web2/b/x.enc", host="web2", job="b"),
                facts(4, store=OTHER),
            ]
        )

        assert len(catalog.snapshots(STORE)) == 3
        assert len(catalog.snapshots(STORE, host="web1")) == 2
        assert len(catalog.snapshots(STORE, job="b")) == 2
        assert list(catalog.snapshots(STORE, host="web2", job="b")) == ["web2/b/x.enc"]
        assert sorted(catalog.stores()) == [STORE, OTHER]

    def test_the_newest_is_told_by_sequence_within_a_chain_and_by_time_between(
        self, catalog, facts, clock
    ):
        earlier = clock() - timedelta(days=2)
        catalog.record([facts(1), facts(2, time=earlier), facts(7, time=earlier, chain="b" * 32)])

        assert catalog.newest_known(STORE, "web1", "job").facts.sequence == 2

        catalog.set_trashed(STORE, "web1/job/job-2.enc", clock())
        assert catalog.newest_known(STORE, "web1", "job").facts.sequence == 1

    def test_what_lies_in_the_trash_is_known_as_that(self, catalog, facts, clock):
        catalog.record([facts()])
        catalog.set_trashed(STORE, facts().name, clock())
        assert catalog.snapshots(STORE)[facts().name].trashed == clock()

        catalog.set_trashed(STORE, facts().name, None)
        assert catalog.snapshots(STORE)[facts().name].trashed is None

    def test_what_is_forgotten_is_gone_with_its_proofs_and_nothing_else(
        self, catalog, facts, proof
    ):
        catalog.record([facts(1), facts(2), facts(1, store=OTHER)])
        catalog.record_proof(proof(1))
        catalog.record_proof(proof(2))

        catalog.forget(STORE, facts(1).name)

        assert list(catalog.snapshots(STORE)) == [facts(2).name]
        assert list(catalog.proofs(STORE)) == [facts(2).name]
        assert len(catalog.snapshots(OTHER)) == 1

    def test_replacing_keeps_what_is_still_the_same(self, catalog, facts, proof, clock):
        catalog.record([facts(1), facts(2), facts(3), facts(4, store=OTHER)])
        for number in (1, 2, 3):
            catalog.record_proof(proof(number))
        first = clock()
        clock.advance(days=1)

        catalog.replace(STORE, [facts(1), facts(2, id="f" * 32), facts(5)])

        known = catalog.snapshots(STORE)
        assert [one.facts.sequence for one in known.values()] == [1, 2, 5]
        assert [one.first_seen for one in known.values()] == [first, clock(), clock()]
        assert list(catalog.proofs(STORE)) == [facts(1).name]
        assert len(catalog.snapshots(OTHER)) == 1


class TestProofs:
    def test_of_each_level_the_newest_good_and_the_newest_bad_one_stay(self, catalog, proof, clock):
        for holds in (True, True, False, False):
            for level in ("checksum", "content"):
                clock.advance(hours=1)
                catalog.record_proof(proof(level=level, holds=holds, entries=9))

        proofs = catalog.proofs(STORE)[proof().name]

        assert [(one.level, one.holds) for one in proofs] == [
            ("checksum", True),
            ("content", True),
            ("checksum", False),
            ("content", False),
        ]
        assert proofs[-1].finished == clock()
        assert {one.entries for one in proofs} == {9}

    def test_proven_tells_when_by_id(self, catalog, facts, proof, clock):
        catalog.record([facts(1), facts(2), facts(3)])
        first = clock()
        catalog.record_proof(proof(1))
        clock.advance(hours=1)
        catalog.record_proof(proof(1, level="checksum"))
        catalog.record_proof(proof(2, level="checksum"))

        assert catalog.proven(STORE, "web1", "job") == {
            facts(1).id: clock(),
            facts(2).id: clock(),
        }
        assert catalog.proven(STORE, "web1", "job", level="content") == {facts(1).id: first}
        assert catalog.proven(STORE, "web1", "other") == {}

    def test_one_that_failed_is_not_proven_until_as_much_holds_again(
        self, catalog, facts, proof, clock
    ):
        def proven():
            return list(catalog.proven(STORE, "web1", "job"))

        catalog.record([facts(1)])
        catalog.record_proof(proof(1))
        clock.advance(hours=1)
        catalog.record_proof(proof(1, holds=False, errors=2))
        assert proven() == []
        clock.advance(hours=1)
        catalog.record_proof(proof(1, level="checksum"))
        assert proven() == []
        clock.advance(hours=1)
        catalog.record_proof(proof(1))
        assert proven() == [facts(1).id]

    def test_a_proof_of_another_snapshot_under_that_name_does_not_count(
        self, catalog, facts, proof, clock
    ):
        catalog.record([facts(1)])
        catalog.record_proof(proof(1, id="f" * 32))

        assert catalog.proven(STORE, "web1", "job") == {}

    def test_what_lies_in_the_trash_is_not_proven(self, catalog, facts, proof, clock):
        catalog.record([facts(1)])
        catalog.record_proof(proof(1))
        catalog.set_trashed(STORE, facts(1).name, clock())

        assert catalog.proven(STORE, "web1", "job") == {}


class TestTheFile:
    def test_what_a_killed_process_left_of_its_making_goes(self, catalog, facts):
        catalog.path.parent.mkdir()
        left = catalog.path.with_name(f"{catalog.path.name}.new")
        left.touch()
        os.link(left, catalog.path)

        catalog.record([facts()])

        assert [one.name for one in catalog.path.parent.iterdir()] == [catalog.path.name]
        assert len(catalog.snapshots(STORE)) == 1

    def test_it_is_for_its_owner_alone(self, catalog, facts):
        catalog.record([facts()])
        assert stat.S_IMODE(catalog.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(catalog.path.parent.stat().st_mode) == 0o700

        catalog.path.chmod(0o644)
        catalog.record([facts()])
        assert stat.S_IMODE(catalog.path.stat().st_mode) == 0o600

    def test_nothing_else_is_left_beside_it(self, catalog, facts):
        catalog.record([facts()])

        assert [one.name for one in catalog.path.parent.iterdir()] == ["catalog.sqlite"]

    def test_an_empty_file_is_taken(self, catalog, facts):
        catalog.path.parent.mkdir()
        catalog.path.touch()

        catalog.record([facts()])

        assert len(catalog.snapshots(STORE)) == 1

    @pytest.mark.parametrize("change", ["user_version = 2", "application_id = 7"])
    def test_a_newer_one_and_a_foreign_one_are_refused_and_left_alone(
        self, catalog, facts, told, change
    ):
        catalog.record([facts()])
        with closing(sqlite3.connect(catalog.path)) as found:
            found.execute(f"PRAGMA {change}")
        before = catalog.path.read_bytes()

        for call in (lambda: catalog.snapshots(STORE), lambda: catalog.record([facts(2)])):
            with pytest.raises(CatalogError, match=r"is not a catalog|has schema 2") as raised:
                call()
            assert "move it away" in raised.value.hint

        assert catalog.path.read_bytes() == before
        assert told == []

    def test_an_older_schema_is_copied_before_it_is_changed(self, catalog, facts, monkeypatch):
        catalog.record([facts()])
        before = catalog.path.read_bytes()
        steps = {1: ["ALTER TABLE proofs ADD COLUMN extra TEXT"]}
        monkeypatch.setattr(catalog_module, "SCHEMA", replace(SCHEMA, version=2, steps=steps))

        assert len(Catalog(catalog.path).snapshots(STORE)) == 1

        copy = catalog.path.with_name("catalog.sqlite.schema-1")
        with closing(sqlite3.connect(copy)) as found, closing(sqlite3.connect(catalog.path)) as new:
            assert found.execute("PRAGMA user_version").fetchone() == (1,)
            assert found.execute("SELECT count(*) FROM snapshots").fetchone() == (1,)
            assert new.execute("PRAGMA user_version").fetchone() == (2,)
            assert "extra" in new.execute("SELECT sql FROM sqlite_master").fetchall()[1][0]
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert len(before) == len(copy.read_bytes())

    def test_a_directory_that_cannot_be_written_is_read_all_the_same(
        self, open_dir, as_nobody, facts, clock
    ):
        path = open_dir / "state" / "catalog.sqlite"
        Catalog(path, clock=clock).record([facts()])
        path.chmod(0o644)
        path.parent.chmod(0o755)
        with as_nobody():
            catalog = Catalog(path, clock=clock)

            assert not catalog.is_writable()
            assert len(catalog.snapshots(STORE)) == 1
            with pytest.raises(CatalogError):
                catalog.record([facts(2)])

    def test_one_that_is_busy_is_told_after_a_while(self, catalog, facts):
        catalog.record([facts()])
        with closing(sqlite3.connect(catalog.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")

            with pytest.raises(CatalogError, match="another process is writing"):
                catalog.record([facts(2)])

        catalog.record([facts(2)])
        assert len(catalog.snapshots(STORE)) == 2

    def test_a_full_disk_is_told_and_leaves_what_was(self, catalog, facts, monkeypatch):
        catalog.record([facts()])
        connect = sqlite3.connect

        def on_a_full_disk(*arguments, **options):
            found = connect(*arguments, **options)
            found.execute("PRAGMA max_page_count = 5")
            return found

        monkeypatch.setattr(sqlite3, "connect", on_a_full_disk)
        with pytest.raises(CatalogError, match="the disk is full"):
            catalog.record([facts(number) for number in range(2, 400)])
        monkeypatch.undo()

        assert list(catalog.snapshots(STORE)) == [facts().name]


class TestDamage:
    @pytest.fixture
    def good(self, catalog, facts, proof):
        catalog.record([facts(number) for number in range(1, 9)])
        catalog.record_proof(proof(1))
        return catalog.path.read_bytes()

    def test_a_flipped_byte_anywhere_gives_what_was_written_or_nothing(
        self, catalog, facts, good, told
    ):
        expected = catalog.snapshots(STORE)
        step = 7 if os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep" else 97
        outcomes = {"same": 0, "anew": 0, "refused": 0}
        for at in range(0, len(good), step):
            shutil.rmtree(catalog.path.parent)
            catalog.path.parent.mkdir()
            catalog.path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
            told.clear()
            try:
                found = catalog.snapshots(STORE)
                catalog.record([facts(100)])
            except CatalogError:
                outcomes["refused"] += 1
                continue
            if told:
                outcomes["anew"] += 1
                assert len(told) == 1
                kept = told[0].rpartition(" ")[2]
                assert os.path.lexists(kept)
            else:
                outcomes["same"] += 1
                # A flipped bit in a time at which it was seen is the only thing that may pass.
                assert {k: v.facts for k, v in found.items()}.items() <= {
                    k: v.facts for k, v in expected.items()
                }.items()
            # Damage in what only a write looks at may come to light after it.
            assert facts(100).name in catalog.snapshots(STORE) or len(told) == 1
        assert outcomes["anew"] > 10
        assert outcomes["refused"] < outcomes["anew"]

    @pytest.mark.parametrize("kept", [50, 100, 4096, 5000, 8192])
    def test_one_that_is_cut_is_begun_anew(self, catalog, facts, good, told, kept):
        catalog.path.write_bytes(good[:kept])

        catalog.record([facts(100)])

        assert facts(100).name in catalog.snapshots(STORE)
        assert len(told) == 1

    def test_the_damaged_ones_are_kept(self, catalog, facts, good, told):
        for _ in range(2):
            catalog.path.write_bytes(b"x" * 9000)
            catalog.record([facts(100)])

        stem = "catalog.sqlite.damaged-20261120T163205Z"
        names = {one.name for one in catalog.path.parent.iterdir()}
        assert names == {"catalog.sqlite", stem, f"{stem}-2"}
        assert told[0].endswith(stem)
        assert (catalog.path.parent / stem).read_bytes() == b"x" * 9000

    def test_a_journal_goes_with_its_file_and_is_never_applied_to_another_one(self, tmp_path):
        for name in ("c", "c-journal"):
            (tmp_path / name).write_text(name)

        kept = move_aside(tmp_path / "c", "old")

        assert kept == tmp_path / "c.old"
        assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {
            "c.old": "c",
            "c.old-journal": "c-journal",
        }


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from backup.catalog import Catalog, SnapshotFacts
from backup.model import ArchiveType, SnapshotKind

catalog = Catalog(Path(sys.argv[1]), wait=60)
first, count = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for number in range(first, first + count):
    moment = datetime.fromtimestamp(number, UTC)
    catalog.record([SnapshotFacts(
        store="s", name=f"{number:06}", id=f"{number:032x}", host="h", job="j", chain="c",
        sequence=number, time=moment, kind=SnapshotKind.FULL, archive=ArchiveType.TAR,
        size=1, modified=moment, core_digest="d")])
    print(number, flush=True)
"""


def writer(path, first, count):
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(count)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


class TestSeveralThreads:
    def test_all_find_a_catalog_that_one_of_them_is_making(self, tmp_path):
        for number in range(30):
            path, errors, together = tmp_path / f"{number}.sqlite", [], threading.Barrier(6)

            def look(path=path, errors=errors, together=together):
                together.wait()
                try:
                    with opened(path, SCHEMA, read_only=False, wait=10):
                        pass
                except Exception as error:  # noqa: BLE001 - told below
                    errors.append(error)

            threads = [threading.Thread(target=look) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert errors == []


class TestSeveralProcesses:
    def test_four_at_once_lose_nothing(self, catalog):
        processes = [writer(catalog.path, 1000 * number, 12) for number in range(4)]
        errors = [process.communicate(timeout=120)[1] for process in processes]

        assert errors == [b""] * 4
        assert len(catalog.snapshots("s")) == 48

    @pytest.mark.parametrize("after", [1, 3, 6])
    def test_one_that_is_killed_leaves_all_that_it_had_recorded(self, catalog, told, after):
        with writer(catalog.path, 0, 10_000) as process:
            lines = [process.stdout.readline() for _ in range(after + 1)]
            process.send_signal(signal.SIGKILL)
            process.stdout.close()
            process.stderr.close()

        known = catalog.snapshots("s")

        assert lines[0] == b"ready\n"
        assert {f"{int(line):06}" for line in lines[1:]} <= known.keys()
        assert list(known) == [f"{number:06}" for number in range(len(known))]
        assert told == []
