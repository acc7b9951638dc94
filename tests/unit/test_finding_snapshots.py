from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import SnapshotNotFoundError, StorageError
from backup.listing import Placed, by_age, find_newest, find_snapshot, list_snapshots
from backup.locating import locate, locate_path
from backup.manager import take_snapshot
from backup.model import ArchiveType, SnapshotKind
from backup.snapshot.recipients import FernetKey
from backup.storage.local import LocalStorage
from backup.storage.memory import MemoryStorage

START = datetime(2026, 11, 20, 16, 32, 5, tzinfo=UTC)


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def take(storage, source, make_request, clock):
    """Return a function that takes a snapshot; an hour passes with each."""

    def taken(job="job", host="testhost", **fields):
        report = take_snapshot(make_request(source, job=job, host=host, clock=clock, **fields),
                               storage)  # fmt: skip
        clock.advance(hours=1)
        return report.name

    return taken


@pytest.fixture
def find(storage):
    return lambda wanted, host="testhost": find_snapshot(storage, wanted, host=host).name


@pytest.fixture
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def put(storage, name, data=b"something"):
    with storage.create(name) as file:
        file.write(data)
        file.commit()


class TestListing:
    def test_an_empty_store_has_no_snapshot(self, storage, tmp_path):
        assert list_snapshots(storage) == []
        assert list_snapshots(LocalStorage(tmp_path / "absent")) == []

    def test_each_is_told_as_its_header_tells_it(self, storage, take):
        name = take(archive=ArchiveType.TAR_ZST)

        (found,) = list_snapshots(storage)

        assert found.name == name
        assert (found.host, found.job, found.sequence) == ("testhost", "job", 1)
        assert (found.time, found.kind, found.archive, found.damage) == (
            START, SnapshotKind.FULL, ArchiveType.TAR_ZST, "",
        )  # fmt: skip
        assert len(found.id) == len(found.chain) == 32
        assert found.size == storage.stat(name).size

    def test_they_come_by_host_job_and_age(self, storage, take):
        b = [take("b"), take("b")]
        a = [take("a"), take("a", "other"), take("a")]

        names = [one.name for one in list_snapshots(storage)]

        assert names == [a[1], a[0], a[2], *b]

    def test_they_can_be_asked_for_by_host_and_job(self, storage, take):
        one, two = take("a"), take("b")
        three = take("a", "other")

        def names(**asked):
            return {stored.name for stored in list_snapshots(storage, **asked)}

        assert names(host="testhost") == {one, two}
        assert names(job="a") == {one, three}
        assert names(host="testhost", job="a") == {one}
        assert names(host="test") == names(job="ab") == set()

    def test_files_of_other_names_are_not_listed(self, storage, take):
        name = take()
        for other in ("notes.txt", "a.enc", "testhost/job/x.enc", name + ".keys2",
                      name.replace("testhost/", "testhost/sub/")):  # fmt: skip
            put(storage, other)

        assert [one.name for one in list_snapshots(storage)] == [name]

    @pytest.mark.parametrize("data", [b"", b"auto-backup sn", b"auto-backup snapshot 1\n{", b"x"])
    def test_a_damaged_one_is_listed_with_what_its_name_says(self, storage, take, data):
        take()
        name = "testhost/job/job-20261119T010203Z-abcd-full.tar.gz.enc"
        put(storage, name, data)

        damaged = list_snapshots(storage)[0]

        assert (damaged.name, damaged.id, damaged.sequence) == (name, "abcd", 0)
        assert damaged.time == datetime(2026, 11, 19, 1, 2, 3, tzinfo=UTC)
        assert damaged.archive is ArchiveType.TAR_GZ
        assert damaged.damage

    def test_a_header_with_an_impossible_time_is_damage_too(self, storage, take):
        name = take()
        data = storage.read(name).replace(b'"time":1795192325', b'"time":%d' % 2**62)
        put(storage, name.replace("T16", "T17"), data)

        assert [bool(one.damage) for one in list_snapshots(storage)] in ([True, False],
                                                                        [False, True])  # fmt: skip

    def test_the_sequence_decides_when_the_clock_was_set_back(self, storage, take, clock):
        first = take()
        clock.advance(days=-9)
        second, third = take(), take()

        assert [one.name for one in list_snapshots(storage)] == [first, second, third]

    def test_time_decides_between_chains(self, storage, take):
        other = FernetKey.parse(Fernet.generate_key())
        names = [take(), take(), take(recipients=[other], identities=[other])]

        assert [one.name for one in list_snapshots(storage)] == names
        assert [one.sequence for one in list_snapshots(storage)] == [1, 2, 1]

    def test_one_that_is_deleted_meanwhile_is_left_out(self, take, storage):
        class Vanishing(MemoryStorage):
            def list_files(self, prefix=""):
                for file in list(super().list_files(prefix)):
                    if file.name == gone:
                        self.delete(gone)
                    yield file

        gone, stays = take(), take()
        storage.__class__ = Vanishing

        assert [one.name for one in list_snapshots(storage)] == [stays]


class TestAges:
    MOMENTS = st.integers(0, 20).map(lambda hours: START + timedelta(hours=hours))

    @given(
        places=st.lists(
            st.builds(Placed, st.sampled_from("abc"), st.integers(1, 9), MOMENTS), unique=True
        )
    )
    def test_within_a_chain_the_sequence_decides_always(self, places):
        ages = by_age(places)

        for one in places:
            for other in places:
                if one.chain == other.chain and one.sequence < other.sequence:
                    assert ages[one] < ages[other]

    @given(chains=st.permutations(range(6)))
    def test_between_chains_of_good_clocks_time_decides(self, chains):
        places = [
            Placed(str(chain), sequence, START + timedelta(hours=10 * turn + sequence))
            for turn, chain in enumerate(chains)
            for sequence in (1, 2)
        ]

        ages = by_age(places)

        assert sorted(places, key=ages.__getitem__) == places


class TestTheNewest:
    def test_it_is_the_last_one_that_opens(self, storage, take, make_request, source):
        request = make_request(source)
        other = FernetKey.parse(Fernet.generate_key())
        take()
        mine = take()
        take(recipients=[other], identities=[other])
        put(storage, "testhost/job/job-20301119T010203Z-abcd-full.tar.gz.enc")

        header = find_newest(storage, "testhost", "job", request.identities).header

        assert header.core.sequence == 2
        assert header.core.id.hex()[:4] in mine

    def test_a_store_that_does_not_answer_is_not_taken_for_an_empty_one(
        self, take, storage, make_request, source, monkeypatch
    ):
        take()
        request = make_request(source)
        reads = []

        def answer_once(name, offset, length):
            reads.append(name)
            if len(reads) > 1:
                raise StorageError("the line is dead")
            return real(name, offset, length)

        real = storage.read_range
        monkeypatch.setattr(storage, "read_range", answer_once)

        with pytest.raises(StorageError, match="the line is dead"):
            find_newest(storage, "testhost", "job", request.identities)

    def test_a_job_without_any_has_none(self, storage, take, make_request, source):
        take()

        assert find_newest(storage, "testhost", "x", make_request(source).identities) is None


class TestFinding:
    def test_a_job_means_its_newest(self, take, find):
        take()
        name = take()

        assert find("job") == find("testhost/job") == find("job~0") == name

    def test_after_another_key_it_means_the_newest_of_the_other_key(self, take, find):
        for _ in range(3):
            take()
        other = FernetKey.parse(Fernet.generate_key())
        name = take(recipients=[other], identities=[other])

        assert find("job") == find("latest") == name

    def test_a_number_goes_back_from_the_newest(self, take, find):
        names = [take() for _ in range(4)]

        assert [find(f"job~{back}") for back in range(4)] == names[::-1]
        assert find("testhost/job~3") == names[0]

    def test_going_back_too_far_finds_nothing(self, take, find):
        take()

        for wanted in ("job~1", "job~999999", "testhost/job~1"):
            with pytest.raises(SnapshotNotFoundError, match="fits"):
                find(wanted)

    @pytest.mark.usefixtures("utc")
    def test_a_day_means_the_newest_that_is_not_later(self, take, find, clock):
        names = []
        for _ in range(3):
            names.append(take())
            clock.advance(hours=23)

        assert find("job@2026-11-20") == names[0]
        assert find("job@2026-11-21") == names[1]
        assert find("testhost/job@2027-01-01") == names[2]
        assert find("job@2026-11") == find("job@2026") == names[2]
        with pytest.raises(SnapshotNotFoundError):
            find("job@2026-11-19")

    @pytest.mark.usefixtures("utc")
    @pytest.mark.parametrize(
        ("moment", "found"),
        [("16", 0), ("16:31", None), ("16:32", 0), ("16:32:04", None), ("16:32:05", 0),
         ("17:32:04", 0), ("17:32:05", 1), ("15", None), ("23:59", 1)],
    )  # fmt: skip
    @pytest.mark.parametrize("between", [" ", "T"])
    def test_a_moment_of_a_day_is_more_exact(self, take, find, moment, found, between):
        names = [take(), take()]
        wanted = f"job@2026-11-20{between}{moment}"

        if found is None:
            with pytest.raises(SnapshotNotFoundError):
                find(wanted)
        else:
            assert find(wanted) == names[found]

    def test_days_are_those_of_the_local_zone(self, take, find, monkeypatch):
        name = take()
        monkeypatch.setenv("TZ", "XXX-12")  # twelve hours ahead: it is the 21st there
        time.tzset()
        try:
            assert find("job@2026-11-21") == name
            with pytest.raises(SnapshotNotFoundError):
                find("job@2026-11-20")
        finally:
            monkeypatch.undo()
            time.tzset()

    @pytest.mark.parametrize(
        "wanted",
        ["job@yesterday", "job@26-11-2026", "job@", "job@2026-11-2", "job~", "job~-1", "job~x",
         "job~1~1", "job@2026-11-20~1", "/job", "x/y/job", "", "~1", "@2026-11-20", "JOB", "jo",
         "latest~1", "job@2026-11-20 16:32:05.5", "job@\u0662\u0660\u0662\u0666", "job~\u0661"],
    )  # fmt: skip
    def test_what_does_not_make_sense_finds_nothing(self, take, find, wanted):
        take()

        with pytest.raises(SnapshotNotFoundError, match=r"no snapshot in .* fits"):
            find(wanted)

    def test_the_beginning_of_an_id_is_enough(self, storage, take, find):
        names = [take() for _ in range(3)]
        ids = {one.name: one.id for one in list_snapshots(storage)}

        for name in names:
            assert find(ids[name]) == find(ids[name][:12]) == name

    def test_three_characters_of_an_id_are_too_few(self, storage, take, find):
        take()

        with pytest.raises(SnapshotNotFoundError):
            find(list_snapshots(storage)[0].id[:3])

    def test_a_beginning_of_several_ids_is_ambiguous(self, storage, take, find, monkeypatch):
        numbers = iter(range(99))
        monkeypatch.setattr(
            "secrets.token_bytes",
            lambda length: b"\xab\xcd" + bytes([next(numbers)]) * (length - 2),
        )
        take()
        take("other")

        with pytest.raises(SnapshotNotFoundError, match="'abcd' fits 2 snapshots") as caught:
            find("abcd")

        assert "testhost/job" in caught.value.hint
        assert "testhost/other" in caught.value.hint

    def test_a_job_that_looks_like_an_id_is_a_job(self, take, find):
        name = take("cafe")
        take("job")

        assert find("cafe") == name

    def test_a_name_in_the_store_is_itself(self, take, find):
        name = take()
        take()

        assert find(name) == find(name.rpartition("/")[2]) == name

    def test_latest_is_the_newest_of_the_only_job(self, take, find):
        take()
        name = take()

        assert find("latest") == name

    def test_latest_of_several_jobs_is_ambiguous(self, take, find):
        take("a")
        take("b")

        with pytest.raises(SnapshotNotFoundError, match="'latest' fits 2 snapshots or jobs"):
            find("latest")

    def test_an_empty_store_says_so(self, storage, find):
        with pytest.raises(SnapshotNotFoundError, match="there is no snapshot in memory:"):
            find("latest")

    def test_what_there_is_stands_in_the_hint(self, take, find):
        take("one")
        take("two", "other")

        with pytest.raises(SnapshotNotFoundError) as caught:
            find("three")

        assert caught.value.hint == "there are: other/two, testhost/one"


class TestSeveralHosts:
    def test_a_job_is_that_of_this_host(self, take, find):
        name = take(host="testhost")
        other = take(host="other")

        assert find("job") == name
        assert find("job", host="other") == other
        assert find("other/job") == other

    def test_without_one_of_this_host_another_ones_will_do(self, take, find):
        name = take(host="other")

        assert find("job") == name

    def test_several_others_are_ambiguous(self, take, find):
        take(host="one")
        take(host="two")

        with pytest.raises(SnapshotNotFoundError, match="fits 2 snapshots or jobs"):
            find("job")

    def test_going_back_stays_with_one_host(self, take, find):
        first = take(host="testhost")
        take(host="other")
        take(host="testhost")

        assert find("job~1") == first


class TestLocating:
    def test_what_lies_beside_it_comes_along(self, storage, take):
        located = locate(storage, take())

        assert located.keys_file.startswith(b"auto-backup keys 1\n")
        assert len(located.recorded_digest) == 32

    def test_what_is_absent_is_told(self, storage, take):
        name = take()
        for suffix in (".keys", ".sha256"):
            storage.delete(name + suffix)

        located = locate(storage, name)

        assert (located.keys_file, located.recorded_digest) == (None, None)
        with pytest.raises(SnapshotNotFoundError):
            locate(storage, name + "x")

    @pytest.mark.parametrize("line", [b"", b"x", b"0" * 64, b"0" * 63 + b"g  x\n", b"\0" * 5000])
    def test_a_digest_that_cannot_be_read_is_none(self, storage, take, line):
        name = take()
        with storage.create(name + ".sha256", replace=True) as file:
            file.write(line)
            file.commit()

        assert locate(storage, name).recorded_digest is None

    def test_a_path_in_a_store_and_one_outside_give_the_same(self, tmp_path, make_request, source):
        store = tmp_path / "store"
        name = take_snapshot(make_request(source), LocalStorage(store)).name
        for suffix in ("", ".keys", ".sha256"):
            os.link(store / (name + suffix), tmp_path / f"copy.enc{suffix}")

        inside, outside = locate_path(store / name), locate_path(tmp_path / "copy.enc")

        assert inside.name == name
        assert inside.keys_file == outside.keys_file
        assert inside.recorded_digest == outside.recorded_digest
        assert inside.source.read_at(0, 100) == outside.source.read_at(0, 100)
        assert inside.source.size == outside.source.size

    def test_a_source_gives_no_more_than_there_is(self, tmp_path):
        (tmp_path / "x.enc").write_bytes(b"0123456789")

        source = locate_path(tmp_path / "x.enc").source

        assert source.read_at(0, 5) == b"01234"
        assert source.read_at(8, 100) == b"89"
        assert source.read_at(10, 1) == source.read_at(99, 1) == b""

    def test_a_path_that_is_absent_is_told(self, tmp_path):
        with pytest.raises(SnapshotNotFoundError, match="there is no file"):
            locate_path(tmp_path / "absent.enc")
