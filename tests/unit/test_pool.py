"""What a pool gives: all results, in order, however the jobs are done."""

from __future__ import annotations

import os
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup import errors
from backup.errors import BackupError, WorkerError
from backup.pool.pool import Pool
from backup.pool.slots import SlotSize
from tests.pool_work import FACTORY, SIZE, encode, make_pool, results, take
from tests.processes import descendants

OWN_ERRORS = sorted(
    name
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, BackupError)
)


@pytest.fixture
def pool():
    with make_pool() as pool:
        yield pool


@pytest.fixture(scope="module")
def lasting():
    """Return a pool that serves all examples of a property."""
    with make_pool(workers=3, slots=5) as pool:
        yield pool


class TestOrder:
    def test_results_come_in_the_order_of_the_jobs_however_long_each_takes(self):
        chance = random.Random(1)
        jobs = [(number, "sleep", chance.choice((0, 0.001, 0.02))) for number in range(60)]

        with make_pool(workers=3, slots=8) as pool:
            found = list(results(pool, jobs))

        assert [one.number for one in found] == list(range(60))
        assert len({one.process for one in found} - {os.getpid()}) == 3

    @given(
        st.lists(
            st.sampled_from(
                [
                    ("nothing",),
                    ("sleep", 0.002),
                    ("give", 60_000),
                    ("give", 65_500, 7),
                    ("give", 90_000),
                    ("nothing", bytes(5000)),
                ]
            ),
            max_size=20,
        )
    )
    def test_so_they_do_whatever_of_it_fits_into_a_slot(self, lasting, kinds):
        jobs = [(number, *kind) for number, kind in enumerate(kinds)]

        found = list(results(lasting, jobs))

        assert [one.number for one in found] == list(range(len(kinds)))
        sizes = [kind[1] if kind[0] == "give" else 0 for kind in kinds]
        assert [len(one.body) for one in found] == sizes

    def test_several_workers_work_at_a_time(self, pool, tmp_path):
        pool.submit(encode(0, "wait_for", str(tmp_path / "second")))
        pool.submit(encode(1, "nothing"))
        pool.submit(encode(2, "nothing"))
        (tmp_path / "second").touch()

        first, second, third = take(pool), take(pool), take(pool)

        assert first.process not in {second.process, os.getpid()}
        assert os.getpid() not in {second.process, third.process}

    def test_every_worker_is_given_the_set_up(self):
        with make_pool(b"a secret") as pool:
            bodies = {one.body for one in results(pool, [(n, "set_up") for n in range(9)])}

        assert bodies == {b"a secret"}

    def test_a_result_is_good_until_the_next_call(self, pool):
        for number in range(6):
            pool.submit(encode(number, "give", 60_000, number + 1))
        for number in range(6):
            _, body = pool.next()
            assert body[0] == number + 1
            time.sleep(0.02)  # the others go on meanwhile
            assert body == bytes([number + 1]) * 60_000


class TestBackPressure:
    def test_a_pool_is_full_when_each_of_its_slots_has_a_job(self, pool):
        for number in range(SIZE.slots):
            assert not pool.is_full
            pool.submit(encode(number, "nothing"))

        assert pool.is_full
        assert pool.pending == SIZE.slots
        take(pool)
        assert not pool.is_full
        pool.submit(encode(9, "nothing"))
        assert pool.is_full

    @pytest.mark.parametrize("size", [0, 5000, 200_000])
    def test_no_more_jobs_are_held_however_many_there_are(self, pool, size):
        most = 0
        for number in range(100):
            pool.submit(encode(number, "nothing", bytes(size)))
            most = max(most, pool.pending)
            while pool.is_full:
                take(pool)

        assert most == SIZE.slots

    def test_a_pool_that_waits_for_more_jobs_than_it_has_slots_for_begins_before(self):
        with make_pool(slots=2, worth=5) as pool:
            found = list(results(pool, [(number, "nothing") for number in range(9)]))

        assert [one.number for one in found] == list(range(9))
        assert os.getpid() not in {one.process for one in found}


class TestWhatDoesNotFit:
    @pytest.mark.parametrize(
        "job", [("nothing", bytes(5000)), ("give", 70_000)], ids=["a job", "a result"]
    )
    def test_into_a_slot_is_done_by_the_calling_process(self, pool, job):
        jobs = [(0, "nothing"), (1, *job), (2, "nothing"), (3, *job)]

        found = list(results(pool, jobs))

        assert [one.number for one in found] == [0, 1, 2, 3]
        own = [one.process == os.getpid() for one in found]
        assert own == [False, True, False, True]

    def test_what_just_fits_is_not(self, pool):
        room = SIZE.slot.result - len(encode(0, os.getpid()))
        filled = SIZE.slot.job - len(encode(0, "nothing", bytes(300))) + 300
        jobs = [(0, "give", room), (1, "nothing", bytes(filled))]
        assert len(encode(*jobs[1])) == SIZE.slot.job

        found = list(results(pool, jobs))

        assert len(found[0].body) == room
        assert os.getpid() not in {one.process for one in found}


class TestErrors:
    @pytest.mark.parametrize("name", OWN_ERRORS)
    @pytest.mark.parametrize("hint", [None, "do this"])
    def test_of_the_work_come_back_as_they_were(self, lasting, name, hint):
        lasting.submit(encode(0, "refuse", name, "what failed", hint))

        with pytest.raises(BackupError) as caught:
            lasting.next()

        assert type(caught.value) is getattr(errors, name)
        assert (caught.value.message, caught.value.hint) == ("what failed", hint)

    def test_come_at_their_turn_and_the_rest_is_done(self, pool):
        pool.submit(encode(0, "sleep", 0.05))
        pool.submit(encode(1, "refuse", "SourceError", "no", None))
        pool.submit(encode(2, "nothing"))

        assert take(pool).number == 0
        with pytest.raises(errors.SourceError):
            pool.next()
        assert take(pool).number == 2

    def test_of_others_become_one_of_ours(self, pool):
        pool.submit(encode(0, "fail", "ZeroDivisionError", "by zero"))

        with pytest.raises(WorkerError) as caught:
            pool.next()

        assert caught.value.message == "a worker process failed: ZeroDivisionError: by zero"
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)

    def test_by_lack_of_memory_come_with_what_to_do(self, pool):
        pool.submit(encode(0, "fail", "MemoryError", ""))

        with pytest.raises(WorkerError, match="ran out of memory") as caught:
            pool.next()

        assert "fewer --workers" in caught.value.hint

    @pytest.mark.parametrize("kind", ["ValueError", "SourceError"])
    def test_may_speak_of_names_that_are_no_text(self, pool, kind):
        pool.submit(encode(0, "refuse_oddly", kind))

        with pytest.raises(BackupError, match=r"cannot read \\udcff"):
            pool.next()

    def test_that_do_not_fit_into_a_slot_come_from_the_calling_process(self, pool):
        pool.submit(encode(0, "nothing"))
        with make_pool(slot=SlotSize(200_000, 1000)) as small:
            small.submit(encode(0, "refuse", "SourceError", "x" * 5000, None))
            with pytest.raises(errors.SourceError, match=r"x{5000}"):
                small.next()


class TestAlone:
    def test_one_worker_is_the_calling_process(self):
        before = descendants(os.getpid())
        with make_pool(workers=1) as pool:
            found = []
            for one in results(pool, [(number, "nothing") for number in range(9)]):
                found.append(one)
                assert descendants(os.getpid()) == before

        assert {one.process for one in found} == {os.getpid()}

    def test_it_does_each_job_when_it_is_asked_for(self):
        with make_pool(workers=1) as pool:
            pool.submit(encode(0, "nothing"))
            assert pool.is_full

    def test_less_than_is_worth_a_process_is_done_without(self):
        before = descendants(os.getpid())
        with make_pool(worth=4) as pool:
            for number in range(3):
                pool.submit(encode(number, "nothing"))
            assert descendants(os.getpid()) == before
            found = [take(pool) for _ in range(3)]

        assert {one.process for one in found} == {os.getpid()}

    def test_from_there_on_workers_do_all_of_it(self):
        with make_pool(worth=4) as pool:
            for number in range(4):
                pool.submit(encode(number, "nothing"))
            found = [take(pool) for _ in range(4)]

        assert [one.number for one in found] == [0, 1, 2, 3]
        assert os.getpid() not in {one.process for one in found}

    def test_a_foreign_factory_is_named_by_its_module(self):
        with Pool(FACTORY, b"here", SIZE._replace(workers=1)) as pool:
            pool.submit(encode(0, "set_up"))
            assert take(pool).body == b"here"
