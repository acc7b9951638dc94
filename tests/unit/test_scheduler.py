"""Jobs that run when they are due, on threads of their own, whatever the others do."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from backup.conditions import Conditions
from backup.environment import local_zone
from backup.errors import ConfigError, SourceError
from backup.manager import BackupManager
from backup.run_state import RUNS_NAME, Cause, Outcome, RunState
from backup.running import CommandWork, Heart, Runner, Task
from backup.scheduler import Scheduler
from backup.triggers import Retry, make_trigger
from tests.processes import wait_until

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def state(tmp_path, clock):
    return RunState(tmp_path / RUNS_NAME, clock)


@pytest.fixture
def make(tmp_path, clock):
    """Return a function that makes a scheduler, which is stopped when the test is over."""
    made = []

    def scheduler(jobs, **options):
        made.append(Scheduler(jobs, state=tmp_path, clock=clock, **options))
        return made[-1]

    yield scheduler
    for one in made:
        one.stop()


class Bell:
    """A job that counts its runs."""

    def __init__(self, work=lambda: None):
        self.count = 0
        self._work = work

    def __call__(self):
        self.count += 1
        self._work()

    def rings(self, times=1, seconds=5.0):
        return bool(wait_until(lambda: self.count >= times, seconds))


def settled(scheduler):
    scheduler.wake()
    time.sleep(0.1)
    assert scheduler.wait(5)


class TestWhenItRuns:
    def test_at_once_and_then_after_each_interval(self, make, clock):
        job = Bell()
        scheduler = make({"job": job}).every("6 hours").start()
        assert job.rings()

        clock.advance(hours=5, minutes=59)
        settled(scheduler)
        assert job.count == 1
        clock.advance(minutes=1)
        scheduler.wake()
        assert job.rings(2)

    def test_its_heart_beats_by_itself(self, make, clock):
        job = Bell()
        make({"job": job}).every("6 hours").start()
        assert job.rings()

        clock.advance(hours=6)
        assert job.rings(2)

    def test_three_days_off_bring_one_run(self, make, clock):
        job = Bell()
        make({"job": job}).every("1 hour").start()
        assert job.rings()

        clock.advance(days=3)
        assert job.rings(2)
        settled(make({"job": job}).every("1 hour").start())
        assert job.count == 2

    def test_a_restart_does_not_run_it_again(self, make):
        job = Bell()
        scheduler = make({"job": job}).every("1 hour").start()
        assert job.rings()
        assert scheduler.wait(5)
        assert scheduler.stop()

        settled(scheduler.start())
        settled(make({"job": job}).every("1 hour").start())
        assert job.count == 1

    def test_two_schedulers_run_it_once(self, make, clock):
        job = Bell(lambda: time.sleep(0.01))
        both = [make({"job": job}).every("1 hour") for _ in range(2)]
        for number in range(8):
            for one in both:
                one.start()
                one.wake()
            assert job.rings(number + 1)
            for one in both:
                settled(one)
            assert job.count == number + 1
            clock.advance(hours=1)

    def test_the_clock_set_back_does_not_keep_it_from_running(self, make, clock):
        job = Bell()
        scheduler = make({"job": job}).every("1 hour").start()
        assert job.rings()

        clock.advance(days=-400)
        settled(scheduler)
        clock.advance(hours=3)
        scheduler.wake()
        assert job.rings(2)

    def test_words_of_all_triggers(self, make, clock):
        scheduler = make({"job": print}).every("day").at("02:30").on("monday at 03:00")
        scheduler.cron("@hourly").every("90 minutes", jitter="5 minutes")

        whens = {one.task.name: one.task.when() for one in scheduler.agenda()}
        assert whens == {
            "job": "daily at 02:30",
            "job on monday at 03:00": "on monday at 03:00",
            "job cron @hourly": "cron @hourly",
            "job every 90 minutes": "every 90 minutes, up to 5 minutes later",
        }

    def test_of_several_jobs_one_can_be_meant(self, make):
        scheduler = make({"a": print, "b": print}).every("1 hour", job="a").at("02:30")

        assert {one.task.name for one in scheduler.agenda()} == {
            "a", "a daily at 02:30", "b",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda one: one.every("6 ours"),
            lambda one: one.at("25:00"),
            lambda one: one.every("1 hour", job="other"),
            lambda one: one.every("1 hour", only_if={"mount": "/x"}),
            lambda one: one.start(),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, make, wrong):
        with pytest.raises(ConfigError):
            wrong(make({"job": print}))

    def test_a_manager_without_jobs_is_refused(self, make):
        with pytest.raises(ConfigError, match="no jobs"):
            make({})


class TestJobsThatGoWrong:
    def test_one_that_raises_is_recorded_and_delays_no_other(self, make, clock, state):
        def fail():
            raise SourceError("cannot read /x")

        def exit_():
            sys.exit(3)

        good = Bell()
        jobs = {"bad": Bell(fail), "exit": Bell(exit_), "good": good}
        scheduler = make(jobs).every("1 hour", retry=Retry(times=0)).start()
        assert good.rings()
        settled(scheduler)

        last = {name: one.last for name, one in state.jobs().items()}
        assert (last["bad"].outcome, last["bad"].reason) == (Outcome.FAILED, "cannot read /x")
        assert last["exit"].reason == "it raised SystemExit"
        assert last["good"].outcome is Outcome.DONE
        clock.advance(hours=1)
        scheduler.wake()
        assert good.rings(2)

    def test_what_a_foreign_error_says_is_not_written_down(self, make, state):
        def fail():
            raise ValueError("password=hunter2")

        scheduler = make({"bad": fail}).every("1 hour").start()
        assert wait_until(lambda: state.jobs().get("bad") and state.jobs()["bad"].failures)

        assert scheduler.wait(5)
        assert state.jobs()["bad"].last.reason == "it raised ValueError"

    def test_one_that_hangs_delays_no_other(self, make, clock):
        hangs, good = threading.Event(), Bell()
        scheduler = make({"a": hangs.wait, "good": good}).every("1 hour").start()
        for number in range(5):
            assert good.rings(number + 1)
            assert scheduler.running() in (["a"], ["a", "good"])
            clock.advance(hours=1)
            scheduler.wake()
        hangs.set()

    def test_those_that_hang_do_not_hold_the_places_of_others_for_ever(self, clock, state):
        hangs, good = threading.Event(), Bell()
        tasks = [_task("a", hangs.wait), _task("b", hangs.wait), _task("good", good)]
        runner = Runner(lambda: tasks, state, zone=None, clock=clock, patience=0.3)

        runner.look()
        assert runner.running() == ["a", "b"]
        time.sleep(0.4)
        runner.look()
        assert good.rings()
        hangs.set()
        assert runner.wait(5)

    def test_it_is_tried_again_with_growing_waits(self, make, clock, state):
        fails = Bell(lambda: 1 / 0)
        scheduler = make({"job": fails}).every("6 hours").start()
        for tries, minutes in enumerate((1, 4, 16), start=1):
            assert fails.rings(tries)
            settled(scheduler)
            clock.advance(minutes=minutes, seconds=-1)
            settled(scheduler)
            assert fails.count == tries
            clock.advance(seconds=1)
            scheduler.wake()
        assert fails.rings(4)
        settled(scheduler)
        clock.advance(hours=5)
        settled(scheduler)
        assert fails.count == 4
        assert [one.cause for one in state.history("job")] == [Cause.RETRY] * 3 + [Cause.SCHEDULE]


class TestConditions:
    def test_a_job_waits_for_them_and_is_skipped_when_its_next_moment_comes(self, clock, state):
        answers, job = ["not on mains power"], Bell()
        task = _task("job", job, conditions=Conditions(mains_power=True))
        runner = Runner(
            lambda: [task],
            state,
            zone=None,
            clock=clock,
            ask=lambda _: answers[-1] or None,
            ask_again=0.01,
        )
        _look(runner)
        assert runner.waiting()["job"].reason == "not on mains power"
        clock.advance(minutes=59)
        _look(runner)
        assert state.history("job") == []

        clock.advance(minutes=1)
        _look(runner)
        (skipped,) = state.history("job")
        assert (skipped.outcome, skipped.reason) == (Outcome.SKIPPED, "not on mains power")
        answers.append("")
        time.sleep(0.01)
        assert wait_until(lambda: (_look(runner), job.count)[1])
        assert job.count == 1
        assert runner.waiting() == {}

    def test_a_question_that_hangs_delays_no_other(self, clock, state):
        hangs, good = threading.Event(), Bell()
        tasks = [
            _task("job", print, conditions=Conditions(mains_power=True)),
            _task("good", good),
        ]
        runner = Runner(
            lambda: tasks, state, zone=None, clock=clock, ask=lambda _: hangs.wait(), most_at_once=1
        )
        runner.look()

        assert good.rings()
        threads = threading.active_count()
        runner.look()
        assert threading.active_count() <= threads
        hangs.set()

    def test_an_error_of_asking_is_no_yes(self, clock, state):
        job = Bell()
        task = _task("job", job, conditions=Conditions(mains_power=True))
        runner = Runner(lambda: [task], state, zone=None, clock=clock, ask=lambda _: 1 / 0)

        _look(runner)
        _look(runner)
        assert runner.waiting()["job"].reason == "its conditions cannot be asked: ZeroDivisionError"
        assert job.count == 0

    def test_real_ones(self, make, state, clock, tmp_path):
        job = Bell()
        asked = {"command": ["/usr/bin/test", "-e", str(tmp_path / "x")]}
        scheduler = make({"job": job}).every("1 hour", only_if=asked)
        task = scheduler.agenda()[0].task
        runner = Runner(lambda: [task], state, zone=None, clock=clock, ask_again=0.01)
        _look(runner)
        assert runner.waiting()["job"].reason == "/usr/bin/test says no: exit status 1"

        (tmp_path / "x").touch()
        time.sleep(0.02)
        _look(runner)
        assert job.count == 1


class TestCommands:
    def test_one_that_cannot_be_ended_delays_no_other_and_stays_running(self, clock, state):
        class Stuck(CommandWork):
            gone = False

            def run(self, on_report):
                return super().run(on_report)._replace(is_gone=False)

            def is_gone(self):
                return Stuck.gone

        def begin(lock, _):
            return Stuck(["/bin/sleep", "600"], lock=lock, timeout=timedelta(seconds=0.1))

        good = Bell()
        stuck = Task(name="stuck", begin=begin, trigger=make_trigger({"every": "1 hour"}))
        runner = Runner(
            lambda: [stuck, _task("good", good)], state, zone=None, clock=clock, most_at_once=1
        )
        runner.look()
        assert wait_until(lambda: runner.wait(0) and (runner.look(), good.count)[1])
        assert runner.wait(5)
        assert runner.running() == ["stuck"]
        assert [one.job for one in state.running()] == ["stuck"]
        clock.advance(hours=2)
        runner.look()
        assert good.rings(2)
        assert state.jobs()["stuck"].count == 1

        Stuck.gone = True
        runner.look()
        assert state.jobs()["stuck"].last.outcome in {Outcome.TIMED_OUT, Outcome.INTERRUPTED, None}
        assert runner.wait(5)

    def test_stop_ends_them_within_five_seconds(self, make):
        def begin(lock, _):
            return CommandWork(["/bin/sleep", "600"], lock=lock)

        task = Task(name="job", begin=begin, trigger=make_trigger({"every": "1 hour"}))
        scheduler = make([task]).start()
        assert wait_until(scheduler.running)
        began = time.monotonic()

        assert scheduler.stop()
        assert time.monotonic() - began < 5

    def test_stop_does_not_wait_long_for_a_function_that_hangs(self, clock, state):
        hangs = threading.Event()
        runner = Runner(lambda: [_task("job", hangs.wait)], state, zone=None, clock=clock)
        runner.look()
        assert runner.running() == ["job"]

        assert not runner.stop(0.1)
        clock.advance(days=1)
        runner.look()
        hangs.set()
        assert runner.wait(5)
        runner.look()
        assert state.jobs()["job"].count == 1  # nothing begins any more


class TestTheHeart:
    def test_it_goes_on_when_the_wall_clock_is_set_back(self, clock, monkeypatch):
        looks = Bell()

        def look():
            looks()
            return clock() + MINUTE

        heart = Heart(look, clock)
        heart.start()
        try:
            assert looks.rings()
            time.sleep(1.2)
            monkeypatch.setenv("TZ", "X+5")  # what time it is to a program, five hours less
            time.tzset()
            clock.advance(minutes=1)
            assert looks.rings(2)
        finally:
            heart.stop()
            monkeypatch.undo()
            time.tzset()

    def test_a_look_that_fails_is_followed_by_others(self, clock):
        looks = Bell(lambda: 1 / 0)
        heart = Heart(looks, clock)
        heart.start()
        try:
            assert looks.rings()
            heart.wake()
            assert looks.rings(2)
        finally:
            heart.stop()

    def test_the_machine_has_a_zone(self, monkeypatch, tmp_path):
        july = datetime(2026, 7, 1)  # noqa: DTZ001 - what a clock on the wall shows
        monkeypatch.setenv("TZ", "Europe/Berlin")
        assert local_zone().utcoffset(july) == timedelta(hours=2)
        monkeypatch.delenv("TZ")
        assert local_zone(tmp_path / "none") is UTC


class TestOfAManager:
    def test_it_takes_snapshots_and_verifies_them(self, source, store, key, clock):
        (source / "file").write_text("content")
        manager = BackupManager(source, store, key, clock=clock)
        scheduler = Scheduler(manager, clock=clock).every("6 hours").start()
        assert wait_until(lambda: list(store.rglob("*.enc")), 20)
        assert scheduler.wait(20)

        (proof,) = scheduler.verify()
        assert proof.holds
        (path,) = store.rglob("*.enc")
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        (proof,) = scheduler.verify()
        assert not proof.holds
        assert scheduler.stop()

    def test_they_are_verified_by_themselves_too(self, request, source, store, clock, make):
        key, state = map(request.getfixturevalue, ("key", "state"))
        (source / "file").write_text("content")
        manager = BackupManager(source, store, key, job="job", clock=clock)
        path = manager.create_snapshot()
        with open(path, "ab") as file:  # noqa: PTH123 - as short as can be
            file.write(b"x")
        scheduler = make(manager).at("02:30").start()
        check = f"verify/{manager.name}"
        assert wait_until(lambda: check in state.jobs())

        clock.advance(days=1)
        scheduler.wake()
        assert wait_until(lambda: state.jobs()[check].failures, 20)
        assert state.jobs()[check].last.reason.startswith("1 of ")

    def test_jobs_alone_have_nothing_to_verify(self, make):
        with pytest.raises(ConfigError, match="no snapshots to verify"):
            make({"job": print}).verify()


@pytest.mark.timeout(1800)
def test_thousands_of_runs_leave_nothing_behind(clock, state):
    task = _task("job", lambda: None)
    runner = Runner(lambda: [task], state, zone=None, clock=clock)
    measured = []
    for number in range(5000 if DEEP else 500):
        _look(runner)
        clock.advance(hours=1)
        if number == 100:
            measured = [_memory(), _descriptors(), threading.active_count()]

    assert state.jobs()["job"].count == (5000 if DEEP else 500)
    memory, descriptors, threads = measured
    assert _memory() - memory <= 2 * 1024 * 1024
    assert (_descriptors(), threading.active_count()) == (descriptors, threads)


def _task(name, function, **options):
    trigger = make_trigger({"every": "1 hour"})
    scheduler = Scheduler({name: function}).every("1 hour")
    begin = scheduler.agenda()[0].task.begin
    return Task(name=name, begin=begin, trigger=trigger, **options)


def _look(runner):
    """Look until nothing new begins: an answer is used by the look behind it."""
    runner.look()
    assert runner.wait(5)
    runner.look()
    assert runner.wait(5)


def _memory():
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
