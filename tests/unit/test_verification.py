from __future__ import annotations

import io
import os
import random
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from backup.errors import (
    DigestError,
    FooterError,
    FrameError,
    HeaderError,
    IntegrityError,
    MissingSnapshotError,
    NotASnapshotError,
    StorageError,
    TrailingBytesError,
    TruncatedError,
    UnknownSignerError,
    WrongKeyError,
)
from backup.locating import locate
from backup.manager import BackupManager, take_snapshot
from backup.manager.run import new_core
from backup.measuring import measure_snapshot
from backup.model import Entry, EntryType, SnapshotKind, path_text
from backup.restore.manager import RestoreManager
from backup.snapshot.end import Counts, EndRecord, Referred
from backup.snapshot.frame import Section
from backup.snapshot.index_builder import IndexBuilder
from backup.snapshot.names import digest_line
from backup.snapshot.recipients import FernetKey, make_slots
from backup.snapshot.writer import SnapshotWriter
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage
from backup.verification import Level, verify_snapshot

SMALL_CAP = 32 * 1024
OF_NOTHING = sha256(b"").digest()


@pytest.fixture
def storage(store):
    return LocalStorage(store)


@pytest.fixture
def identities(make_request, source):
    return make_request(source).identities


@pytest.fixture
def path(source, storage, store, make_request):
    """Return the path of a snapshot with several frames of every section."""
    for number in range(8):
        (source / f"file {number}").write_bytes(os.urandom(9000))
    (source / "large").write_bytes(os.urandom(3 * SMALL_CAP))
    (source / "large too").hardlink_to(source / "large")
    (source / "dir").mkdir()
    return store / take_snapshot(make_request(source, cap=SMALL_CAP), storage).name


@pytest.fixture
def verify(storage, store, path, identities):
    def verified(level=Level.CONTENT, **options):
        name = str(path.relative_to(store))
        return verify_snapshot(locate(storage, name), identities, level=level, **options)

    return verified


@pytest.fixture
def reader(storage, store, path, identities):
    return locate(storage, str(path.relative_to(store))).open(identities)


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x04
    path.write_bytes(data)


def without_neighbours(path):
    for suffix in (".keys", ".sha256"):
        Path(f"{path}{suffix}").unlink()


class TestAGoodSnapshot:
    def test_holds_at_both_levels(self, path, verify, reader, clock):
        proof = verify(clock=clock)
        checksum = verify(Level.CHECKSUM, clock=clock)

        assert proof.holds
        assert checksum.holds
        assert proof.file_bytes == checksum.file_bytes == path.stat().st_size
        assert proof.entries == reader.record.counts.entries
        assert proof.content_bytes == 8 * 9000 + 3 * SMALL_CAP  # names of one file count once
        assert proof.frames == len(reader.rows)
        assert (checksum.entries, checksum.frames) == (0, 0)
        assert (proof.started, proof.level, checksum.level) == (clock(), "content", "checksum")

    def test_tells_how_far_it_has_come(self, path, verify, reader):
        told = []

        verify(on_bytes=told.append)

        assert sum(told) == path.stat().st_size + sum(row.length for row in reader.rows)

    def test_holds_without_the_files_beside_it_where_contents_are_compared(self, path, verify):
        without_neighbours(path)

        assert verify().holds

    def test_validate_is_the_same_for_programs(self, tree, store, key):
        path = BackupManager(tree, store, key).create_snapshot()

        proof = RestoreManager(store, key).validate(path)

        assert proof.holds
        assert proof.name == str(Path(path).relative_to(store))

    def test_of_a_source_with_errors_holds_as_what_it_is(self, open_dir, key, as_nobody):
        with as_nobody():
            (open_dir / "source").mkdir()
            (open_dir / "source" / "closed").write_text("secret")
            (open_dir / "source" / "closed").chmod(0)
            store, state = open_dir / "store", open_dir / "state"
            BackupManager(open_dir / "source", store, key, state=state).create_snapshot()

        assert RestoreManager(store, key).validate("latest").holds

    def test_from_a_trusted_host_holds_and_from_another_one_does_not(self, verify, reader):
        assert verify(trusted=[reader.signer]).holds
        (error,) = verify(trusted=[b"\1" * 32]).errors
        assert isinstance(error, UnknownSignerError)


class TestDamage:
    """Every byte of the file is under a digest, with the files beside it or without them."""

    def test_a_flipped_bit_is_found_in_every_frame(self, path, verify, reader):
        without_neighbours(path)
        whole = path.read_bytes()

        for row in reader.rows:
            for offset in (row.offset + 1, row.offset + 4 + row.length // 2,
                           row.offset + 3 + row.length):  # fmt: skip
                flip(path, offset)
                proof = verify()
                assert not proof.holds, (row, offset)
                path.write_bytes(whole)
        assert {row.section for row in reader.rows} == {
            Section.ARCHIVE, Section.INDEX, Section.CHUNKS,
        }  # fmt: skip

    @pytest.mark.parametrize("neighbours", [True, False])
    def test_a_flipped_bit_is_found_anywhere(self, path, verify, reader, neighbours):
        Path(f"{path}.sha256").unlink()
        if not neighbours:
            Path(f"{path}.keys").unlink()
        whole = path.read_bytes()
        chance = random.Random(4)
        header, end = reader.rows[0].offset, reader.end_offset
        places = [
            *range(0, header, 11),
            *range(end, len(whole), 23),
            *range(len(whole) - 24, len(whole)),
            *(chance.randrange(len(whole)) for _ in range(60)),
        ]

        for offset in places:
            flip(path, offset)
            try:
                assert not verify().holds, offset
            except WrongKeyError:  # a damaged slot cannot be told from another key's
                assert offset < header
                assert not neighbours
            path.write_bytes(whole)

    def test_a_damaged_frame_is_told_with_the_entries_in_it(self, path, verify, reader):
        entry = next(e for e in reader.entries() if e.path.endswith(b"/file 3"))
        frame = entry.extents[0].frame
        flip(path, reader.rows[frame].offset + 50)

        errors = verify().errors

        named = [str(error) for error in errors if str(error).startswith(path_text(entry.path))]
        assert len(named) == 1
        assert f"frame {frame} is damaged" in named[0]
        assert isinstance(errors[0], DigestError)
        assert {type(error) for error in errors[1:]} == {FrameError}

    @pytest.mark.parametrize("kept", [0, 1, 10, 0.3, 0.9, -1, -24, -25])
    def test_a_file_that_was_cut_off_is_found(self, path, verify, kept):
        without_neighbours(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])

        errors = verify().errors

        assert len(errors) == 1
        assert isinstance(errors[0], TruncatedError | FooterError)

    def test_bytes_behind_the_end_are_found(self, path, verify):
        without_neighbours(path)
        path.write_bytes(path.read_bytes() + b"x")

        (error,) = verify().errors

        assert isinstance(error, TrailingBytesError | FooterError)

    def test_a_damaged_header_is_told_also_where_the_keys_file_stands_in(self, path, verify):
        Path(f"{path}.sha256").unlink()
        flip(path, 40)

        (error,) = verify().errors

        assert isinstance(error, HeaderError)
        assert "keys file" in str(error)

    def test_a_damaged_header_without_a_keys_file_is_told(self, path, verify):
        without_neighbours(path)
        flip(path, 3)

        (error,) = verify().errors

        assert isinstance(error, HeaderError)

    @pytest.mark.parametrize("data", [b"", b"something else entirely" * 100, bytes(9999)])
    def test_another_file_of_that_name_is_found(self, path, verify, data):
        without_neighbours(path)
        path.write_bytes(data)

        (error,) = verify().errors

        assert isinstance(error, NotASnapshotError | TruncatedError)

    def test_two_snapshots_under_each_others_names_are_found(
        self, source, storage, store, make_request, identities
    ):
        one, two = (take_snapshot(make_request(source), storage).name for _ in range(2))
        data = (store / one).read_bytes()
        (store / one).write_bytes((store / two).read_bytes())
        (store / two).write_bytes(data)

        for name in (one, two):
            errors = verify_snapshot(locate(storage, name), identities).errors
            assert any(isinstance(error, DigestError) for error in errors)


class TestAnEntryWithoutItsContent:
    """A snapshot may be authentic in every byte and still lack what it speaks of."""

    @pytest.mark.parametrize(
        ("fields", "holds"),
        [
            ({"size": 5}, False),
            ({"size": 5, "digest": OF_NOTHING}, False),
            ({"size": 0}, False),
            ({"size": 0, "digest": OF_NOTHING}, True),
            ({"size": 5, "error": "changed while it was read"}, True),
            ({"type": EntryType.DIRECTORY}, True),
        ],
    )
    def test_is_found_unless_it_says_so_itself(self, make_request, source, fields, holds):
        request, storage = make_request(source), MemoryStorage()
        core, data_key = new_core(request), bytes(32)
        slots = make_slots(request.recipients, data_key, core)
        written = bytearray()
        writer = SnapshotWriter(written.extend, core, slots, data_key, host_key=request.host_key)
        builder = IndexBuilder(writer)
        builder.take([Entry(**{"path": b"x", "type": EntryType.FILE} | fields)])
        writer.end_archive()
        record = {"job": "job", "host": "h", "kind": SnapshotKind.FULL, "sources": (b"x",)}
        writer.finish(EndRecord(counts=Counts(entries=1), pages=builder.write(), **record))
        storage.upload("x.enc", io.BytesIO(written))

        proof = verify_snapshot(locate(storage, "x.enc"), request.identities)

        assert proof.holds == holds
        assert all(isinstance(error, IntegrityError) for error in proof.errors)


class TestSnapshotsReferredTo:
    """A snapshot whose contents lie in another one is as sound as both."""

    @pytest.fixture
    def referring(self, path, reader, storage, store, make_request):
        """Return the snapshot that refers to ``path`` for all that it holds."""
        request = make_request("/")
        core, data_key = new_core(request), bytes(32)
        slots = make_slots(request.recipients, data_key, core)
        written = bytearray()
        writer = SnapshotWriter(written.extend, core, slots, data_key, host_key=request.host_key)
        writer.end_archive()
        base = reader.core
        record = reader.record
        writer.finish(
            EndRecord(
                job="job",
                host="testhost",
                kind=SnapshotKind.INCREMENTAL,
                sources=record.sources,
                counts=record.counts,
                pages=record.pages,
                referred=(Referred(id=base.id, core_digest=base.digest, data_key=reader.data_key),),
            )
        )
        name = f"testhost/job/job-20261120T163205Z-{core.id.hex()[:4]}-incremental.tar.xz.enc"
        receipt = storage.upload(name, io.BytesIO(written))
        line = digest_line(receipt.sha256, name.rpartition("/")[2])
        storage.upload(name + ".sha256", io.BytesIO(line))
        return name

    @pytest.fixture
    def prove(self, referring, storage, identities):
        def proven(level=Level.CHECKSUM, known=identities, **options):
            return verify_snapshot(locate(storage, referring), known, level=level, **options)

        return proven

    def test_are_compared_too(self, prove, storage, referring):
        proof = prove()

        assert (proof.holds, proof.others) == (True, 1)
        assert proof.file_bytes == storage.stat(referring).size
        assert prove(Level.CONTENT).holds

    @pytest.mark.parametrize("level", Level)
    def test_damage_in_them_is_found(self, prove, path, reader, level):
        row = next(row for row in reader.rows if row.section is Section.ARCHIVE)
        flip(path, row.offset + 100)

        (error, *_) = prove(level).errors

        assert isinstance(error, DigestError if level is Level.CHECKSUM else IntegrityError)
        assert level is Level.CONTENT or path.name in error.message

    @pytest.mark.parametrize("level", Level)
    def test_one_that_is_missing_is_found(self, prove, path, level):
        path.unlink()

        assert isinstance(prove(level).errors[0], MissingSnapshotError)

    def test_one_without_its_checksum_is_not_said_to_hold(self, prove, path):
        without_neighbours(path)

        assert [type(error) for error in prove().errors] == [DigestError]

    def test_without_a_key_nobody_can_tell_which_they_are(self, prove, path):
        path.unlink()

        proof = prove(known=[])

        assert (proof.holds, proof.others) == (True, None)

    def test_with_another_key_neither(self, prove):
        other = FernetKey.parse(Fernet.generate_key())

        assert prove(known=[other]).others is None

    def test_each_file_is_read_once_for_several_calls(self, prove, storage, referring, path, store):
        checked = {}
        told = []
        prove(checked=checked, on_bytes=told.append)
        flip(path, 2000)

        again = prove(checked=checked)
        base = str(path.relative_to(store))

        assert again.holds
        assert sum(told) == sum(size for size, _ in checked.values())
        assert sorted(name for _, name in checked) == sorted([base, referring])
        assert not prove().holds

    def test_their_share_of_the_contents_is_told(self, storage, referring, identities, path):
        figures = measure_snapshot(locate(storage, referring).open(identities))

        assert figures.elsewhere == figures.files.size == 8 * 9000 + 3 * SMALL_CAP


class TestTheFileBesideIt:
    def test_without_it_the_file_alone_proves_nothing(self, path, verify):
        Path(f"{path}.sha256").unlink()

        (error,) = verify(Level.CHECKSUM).errors

        assert isinstance(error, DigestError)
        assert "has no .sha256 file" in str(error)
        assert "--level content" in error.hint

    @pytest.mark.parametrize("level", list(Level))
    def test_one_of_another_file_is_found_at_both_levels(self, path, verify, level):
        line = Path(f"{path}.sha256")
        line.write_text("0" * 64 + line.read_text()[64:])

        (error,) = verify(level).errors

        assert isinstance(error, DigestError)
        assert "its SHA-256 differs" in str(error)

    def test_one_that_cannot_be_read_is_as_none(self, path, verify):
        Path(f"{path}.sha256").write_text("nonsense")

        assert not verify(Level.CHECKSUM).holds
        assert verify().holds

    def test_a_flipped_bit_is_found_without_a_key(self, path, storage, store):
        flip(path, path.stat().st_size // 2)

        located = locate(storage, str(path.relative_to(store)))
        proof = verify_snapshot(located, [], level=Level.CHECKSUM)

        assert not proof.holds

    def test_a_damaged_keys_file_does_not_keep_it_from_opening(self, path, verify):
        Path(f"{path}.keys").write_bytes(b"auto-backup keys 1\nnonsense")

        assert verify().holds


class TestWhatIsRaised:
    def test_another_key_is(self, path, storage, store):
        located = locate(storage, str(path.relative_to(store)))

        with pytest.raises(WrongKeyError):
            verify_snapshot(located, [FernetKey.parse(Fernet.generate_key())])

    def test_a_store_that_fails_is(self, source, make_request):
        class Failing(MemoryStorage):
            failing = False

            def read_range(self, name, offset, length):
                if self.failing and offset:
                    raise StorageError("the line is dead")
                return super().read_range(name, offset, length)

        storage = Failing()
        request = make_request(source)
        report = take_snapshot(request, storage)
        located = locate(storage, report.name)
        storage.failing = True

        with pytest.raises(StorageError, match="the line is dead"):
            verify_snapshot(located, request.identities)

    def test_no_kind_of_damage_is(self, path, verify):
        whole = path.read_bytes()
        chance = random.Random(7)

        for _ in range(60):
            data = bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(data))
                action = chance.choice(["cut", "insert", "remove", "zero", "repeat"])
                if action == "cut":
                    del data[max(at, 1) :]
                elif action == "insert":
                    data[at:at] = chance.randbytes(chance.randrange(1, 5000))
                elif action == "remove":
                    del data[at : at + chance.randrange(1, 5000)]
                elif action == "zero":
                    data[at : at + 100] = bytes(100)
                else:
                    data[at:at] = data[at : at + 7000]
            path.write_bytes(data)
            proof = verify()
            assert not proof.holds
            assert all(isinstance(error, IntegrityError) for error in proof.errors)
