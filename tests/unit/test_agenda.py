"""What is due: a pure function of tasks, of what is known of them, and of the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from backup.run_state import Cause, JobRuns
from backup.running import CallWork, Task, plan
from backup.running.agenda import when_to_retry
from backup.triggers import Retry, make_trigger

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def task(name="shop", **options):
    known = {"trigger": make_trigger({"every": "6 hours"}), "begin": lambda *_: CallWork(print)}
    return Task(name=name, **known | options)


def known(name="shop", **fields):
    return {name: JobRuns(job=name, **{"first_seen": NOON - 48 * HOUR} | fields)}


def turn(one, runs=None, now=NOON, seed="host"):
    return plan([one], runs or {}, now, UTC, seed)[0]


class TestWhatIsDue:
    def test_a_new_task_of_an_interval_is(self):
        assert turn(task()).is_due(NOON)

    def test_unless_it_waits_for_its_first_interval(self):
        first = turn(task(at_once=False), known(first_seen=NOON))

        assert not first.is_due(NOON)
        assert first.begins == NOON + 6 * HOUR

    def test_a_new_task_of_a_time_waits_for_that(self):
        at = task(trigger=make_trigger({"at": "02:30"}))

        assert turn(at).begins == datetime(2026, 11, 21, 2, 30, tzinfo=UTC)

    def test_a_time_that_passed_since_it_was_first_seen_is_due(self):
        at = task(trigger=make_trigger({"at": "02:30"}))
        missed = turn(at, known())

        assert missed.is_due(NOON)
        assert missed.moment == datetime(2026, 11, 20, 2, 30, tzinfo=UTC)

    def test_what_was_served_is_not_due_again(self):
        served = turn(task(), known(served=NOON - HOUR))

        assert not served.is_due(NOON)
        assert served.begins == NOON + 5 * HOUR

    def test_three_days_off_are_one_moment(self):
        late = turn(task(), known(served=NOON - 72 * HOUR - timedelta(minutes=1)))

        assert late.moment == NOON - timedelta(minutes=1)

    def test_with_jitter_it_begins_later_and_always_at_the_same_time(self):
        late = task(trigger=make_trigger({"every": "6 hours", "jitter": "1 hour"}))
        runs = known(served=NOON - 6 * HOUR)
        begins = turn(late, runs).begins

        assert NOON < begins < NOON + HOUR
        assert turn(late, runs, NOON + timedelta(minutes=1)).begins == begins
        assert turn(late, runs, seed="other").begins != begins
        assert turn(late, runs, NOON + HOUR).moment == NOON

    def test_a_paused_task_is_not_due_and_tells_when_it_would_be(self):
        paused = turn(task(), known(paused_since=NOON))

        assert not paused.is_due(NOON)
        assert paused.begins is not None

    def test_those_that_began_to_wait_first_come_first(self):
        runs = known("a", served=NOON - 7 * HOUR) | known("b", served=NOON - 8 * HOUR)
        turns = plan([task("a"), task("b"), task("c", trigger=None)], runs, NOON, UTC, "")

        assert [one.task.name for one in turns] == ["b", "a", "c"]


class TestAfterAnother:
    ROTATION = task("rotate", trigger=None, follows="shop")

    def test_it_is_due_once_that_has_ended_well(self):
        done = known(last_done=NOON - HOUR) | known("rotate", served=NOON - 2 * HOUR)

        assert turn(self.ROTATION, done).moment == NOON - HOUR
        served = done | known("rotate", served=NOON - HOUR)
        assert turn(self.ROTATION, served).moment is None
        assert not turn(self.ROTATION, served).is_due(NOON)

    def test_it_is_not_due_for_what_ended_before_anybody_knew_it(self):
        done = known(last_done=NOON - HOUR) | known("rotate", first_seen=NOON)

        assert turn(self.ROTATION, done).moment is None


class TestRetries:
    def test_a_retry_is_due_at_its_time(self):
        runs = known(served=NOON - HOUR, retry_at=NOON + timedelta(minutes=4))
        again = turn(task(), runs)

        assert (again.cause, again.begins) == (Cause.RETRY, NOON + timedelta(minutes=4))
        assert not again.is_due(NOON)
        assert again.is_due(NOON + timedelta(minutes=4))

    def test_its_next_moment_comes_before_it(self):
        runs = known(served=NOON - 6 * HOUR, retry_at=NOON)

        assert turn(task(), runs).cause is Cause.SCHEDULE

    def test_waits_grow_and_end_before_the_next_moment(self):
        one, runs = task(), known(served=NOON)["shop"]

        waits = [when_to_retry(one, runs, n, NOON, UTC, interrupted=False) for n in range(1, 5)]
        assert waits == [
            NOON + timedelta(minutes=1),
            NOON + timedelta(minutes=4),
            NOON + timedelta(minutes=16),
            None,
        ]
        late = NOON + 6 * HOUR - timedelta(seconds=30)
        assert when_to_retry(one, runs, 1, late, UTC, interrupted=False) is None

    def test_an_interrupted_run_is_made_up_for_once_without_any_retries_too(self):
        never, runs = task(retry=Retry(times=0)), known(served=NOON)["shop"]

        assert when_to_retry(never, runs, 1, NOON, UTC, interrupted=False) is None
        assert when_to_retry(never, runs, 1, NOON, UTC, interrupted=True) is not None
        assert when_to_retry(never, runs, 2, NOON, UTC, interrupted=True) is None


@pytest.mark.parametrize("said", [{"every": "15 minutes"}, {"cron": "30 2 * * 1-5"}])
def test_a_thousand_jobs_are_quick(said):
    tasks = [task(f"job-{n}", trigger=make_trigger(said)) for n in range(1000)]
    runs = {one.name: replace(known()["shop"], job=one.name) for one in tasks}
    began = time.process_time()

    assert len(plan(tasks, runs, NOON, UTC, "host")) == 1000
    assert time.process_time() - began < 2
