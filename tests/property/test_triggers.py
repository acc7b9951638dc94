"""When jobs are due, compared with a clock that is looked at minute by minute."""

from __future__ import annotations

import os
import random
import time
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.triggers import delayed, due, make_trigger, next_run

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",  # never, 5:45 ahead
    "Africa/Casablanca",  # for Ramadan
]
# Days around which clocks are put forward or back, and some on which they are not.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("America/Santiago", "2026-04-05"),  # at midnight
    ("America/Santiago", "2026-09-06"),
    ("Atlantic/Azores", "2026-03-29"),
    ("Atlantic/Azores", "2026-10-25"),  # back to the day before
    ("Pacific/Apia", "2011-12-30"),  # a day that there was not
    ("Asia/Kathmandu", "2026-03-29"),
    ("UTC", "2026-02-28"),
]
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Said:
    """What a schedule says, and whether a clock that shows ``wall`` shows such a time.

    Args:
        said: The mapping.
        fits: The answer for a day and a time.
        hourly: Whether it goes by every hour that there is.
    """

    def __init__(self, said, fits, *, hourly=False):
        self.trigger = make_trigger(said)
        self.said = said
        self.fits = fits
        self.hourly = hourly

    def __repr__(self):
        return f"Said({self.said})"

    def moments(self, looks):
        """Return those of ``looks`` that are moments of this schedule."""
        found = []
        for moment, wall, is_first, skipped in looks:
            if self.hourly:
                fits = self.fits(wall)
            else:
                fits = (is_first and self.fits(wall)) or any(map(self.fits, skipped))
            if fits:
                found.append(moment)
        return found


def looks(start, end, zone, step=MINUTE):
    """Look at a clock step by step.

    Yields the moment, what the clock shows, whether for the first time, and what it passed over.
    """
    moment, shown = start, (start - step).astimezone(zone)
    while moment < end:
        due_next = shown.replace(tzinfo=None) + step
        shown = moment.astimezone(zone)
        wall = shown.replace(tzinfo=None, fold=0)
        yield moment, wall, not shown.fold, [*walls(due_next, wall, step)]
        moment += step


def walls(wall, end, step):
    while wall < end:
        yield wall
        wall += step


@cache
def two_years(name):
    return [*looks(START, END + 7 * DAY, ZoneInfo(name), QUARTER)]


times = st.tuples(st.integers(0, 23), st.sampled_from([0, 1, 15, 29, 30, 45, 59]))


def at_times(chosen):
    texts = [f"{hour:02}:{minute:02}" for hour, minute in chosen]
    return Said({"at": texts}, lambda wall: (wall.hour, wall.minute) in chosen)


def on_days(days, chosen):
    names = ", ".join(WEEKDAYS[day] for day in days)
    texts = [f"{names} at {hour}:{minute:02}" for hour, minute in chosen]
    return Said(
        {"on": texts},
        lambda wall: wall.weekday() in days and (wall.hour, wall.minute) in chosen,
    )


def on_last_day(chosen):
    def fits(wall):
        return (wall + DAY).day == 1 and (wall.hour, wall.minute) in chosen

    return Said({"on": [f"last day at {hour}:{minute:02}" for hour, minute in chosen]}, fits)


def on_first(day, chosen):
    def fits(wall):
        is_first = wall.day <= 7 and wall.weekday() == day
        return is_first and (wall.hour, wall.minute) in chosen

    texts = [f"first {WEEKDAYS[day]} at {hour}:{minute:02}" for hour, minute in chosen]
    return Said({"on": texts}, fits)


def by_cron(step, hours):
    def fits(wall):
        return wall.minute % step == 0 and (hours is None or wall.hour in hours)

    field = "*" if hours is None else ",".join(map(str, hours))
    return Said({"cron": f"*/{step} {field} * * *"}, fits, hourly=hours is None)


some_times = st.lists(times, min_size=1, max_size=3, unique=True)
some_days = st.lists(st.integers(0, 6), min_size=1, max_size=6, unique=True)
schedules = st.one_of(
    st.builds(at_times, some_times),
    st.builds(on_days, some_days, some_times),
    st.builds(on_last_day, some_times),
    st.builds(on_first, st.integers(0, 6), some_times),
    st.builds(
        by_cron,
        st.sampled_from([1, 7, 15, 20, 30, 60]),
        st.none() | st.lists(st.integers(0, 23), min_size=1, max_size=5, unique=True).map(sorted),
    ),
)


@cache
def change_near(name, day):
    """Return when clocks are put elsewhere around a day; its noon if they are not."""
    noon = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    minutes = [noon + number * MINUTE for number in range(-36 * 60, 36 * 60)]
    offsets = [one.astimezone(ZoneInfo(name)).utcoffset() for one in minutes]
    changed = [one for one, (a, b) in zip(minutes[1:], pairwise(offsets), strict=True) if a != b]
    return changed[0] if changed else noon


@st.composite
def places(draw):
    """Return a zone, a moment some days before its clocks are put elsewhere, and one about then."""
    name, day = draw(st.sampled_from(CHANGES))
    change = change_near(name, day)
    near = st.integers(-7200, 7200) | st.integers(-120, 120).map(lambda minutes: minutes * 60)
    now = change + timedelta(seconds=draw(near | st.integers(-86400, 86400)))
    return ZoneInfo(name), change.replace(minute=0) - 3 * DAY, now


class TestAgainstAClockThatIsLookedAt:
    @given(schedules, places())
    def test_the_next_moment_is_the_first_one_that_it_shows(self, schedule, place):
        zone, _, now = place
        end = now + 2 * DAY
        moments = schedule.moments(looks(now.replace(second=0), end, zone))

        found = next_run(schedule.trigger, now, now, zone)

        expected = next((moment for moment in moments if moment > now), None)
        assert found == expected if expected else found >= end

    @given(schedules, places())
    def test_of_missed_moments_the_latest_one_is_due(self, schedule, place):
        zone, start, now = place
        moments = schedule.moments(looks(start, now + MINUTE, zone))
        missed = [moment for moment in moments if moment <= now]
        last = start - timedelta(seconds=1)

        found = due(schedule.trigger, last, now, zone)

        assert found == (missed[-1] if missed else None)

    @given(schedules, places())
    def test_a_zone_of_its_own_wins_over_the_machine_s(self, schedule, place):
        zone, _, now = place
        own = make_trigger({**schedule.said, "time_zone": zone.key})

        assert next_run(own, now, now, ZoneInfo("Asia/Tokyo")) == next_run(
            schedule.trigger, now, now, zone
        )


class Life:
    """A scheduler over a long time: it sleeps, is restarted, and its clock jumps.

    ``runs`` holds the moments that were served, each with the time at which that was.
    """

    def __init__(self, trigger, zone, start):
        self.trigger, self.zone = trigger, zone
        self.now = self.last = start
        self.set_back = None
        self.runs = []

    def next(self):
        """Return the next moment, after a look at whether the clock was set back."""
        is_ahead = self.last > self.now
        self.set_back = min(self.set_back or self.now, self.now) if is_ahead else None
        return next_run(self.trigger, self.last, self.now, self.zone, set_back=self.set_back)

    def look(self):
        moment = self.next()
        if moment > self.now:
            return None
        self.last, self.set_back = moment, None
        self.runs.append((moment, self.now))
        return moment


YEARS = [
    {"at": ["02:30"]},
    {"on": "sunday at 02:15"},
    {"at": ["02:00", "03:00", "00:00"]},
    {"on": "last day at 01:30"},
    {"cron": "*/15 * * * *" if DEEP else "15 * * * *"},
    {"cron": "30 */2 * * *"},
]
FITS = [
    lambda wall: (wall.hour, wall.minute) == (2, 30),
    lambda wall: wall.weekday() == 6 and (wall.hour, wall.minute) == (2, 15),
    lambda wall: wall.minute == 0 and wall.hour in {0, 2, 3},
    lambda wall: (wall + DAY).day == 1 and (wall.hour, wall.minute) == (1, 30),
    lambda wall: DEEP or wall.minute == 15,
    lambda wall: wall.minute == 30 and wall.hour % 2 == 0,
]
TWO_YEARS = [
    Said(said, fits, hourly=said == YEARS[4]) for said, fits in zip(YEARS, FITS, strict=True)
][0 if DEEP else 2 :]


@pytest.mark.parametrize("name", ZONES)
class TestTwoYears:
    @pytest.mark.parametrize("schedule", TWO_YEARS, ids=str)
    def test_with_sleep_and_restarts_none_is_missed_doubled_or_early(self, name, schedule):
        zone = ZoneInfo(name)
        moments = schedule.moments(two_years(name))
        for seed in range(20 if DEEP else 1):
            chance = random.Random(f"{name} {schedule} {seed}")
            life = Life(schedule.trigger, zone, START)
            served = bisect_right(moments, START)
            while life.now < END:
                if chance.random() < 0.02:  # asleep, or switched off
                    life.now += timedelta(seconds=chance.randrange(60, 5 * 86400))
                else:
                    rest = life.next() - life.now
                    life.now += min(rest, timedelta(seconds=chance.randrange(1, 10 * 86400)))
                passed = bisect_right(moments, life.now)
                expected = moments[passed - 1] if passed > served else None
                served = passed

                assert life.look() == expected
                assert life.look() is None, "one run, however many were missed"

            assert len(life.runs) > 20

    @pytest.mark.parametrize("schedule", TWO_YEARS, ids=str)
    def test_a_clock_that_jumps_neither_blocks_nor_doubles(self, name, schedule):
        zone = ZoneInfo(name)
        for seed in range(20 if DEEP else 2):
            chance = random.Random(f"{name} {schedule} {seed}")
            life = Life(schedule.trigger, zone, START)
            for _ in range(40):
                life.now += timedelta(seconds=chance.choice([1, -1]) * jump(chance))
                before = len(life.runs)
                life.look()
                assert len(life.runs) <= before + 1
                first = next_run(schedule.trigger, life.now, life.now, zone)
                second = next_run(schedule.trigger, first, first, zone)
                wanted = life.next()
                assert wanted <= second, "two moments are the longest wait"
                while life.now < wanted:  # looked at again and again
                    assert life.look() is None
                    rest = wanted - life.now
                    life.now += max(min(rest, timedelta(minutes=1)), chance.random() * rest)
                assert life.look() == wanted

            assert all(sooner[0] != later[0] for sooner, later in pairwise(life.runs))
            assert all(moment <= now for moment, now in life.runs)


def jump(chance):
    """Return some seconds, minutes, days or years."""
    return chance.randrange(1, chance.choice([5, 7200, 10 * 86400, 10 * 365 * 86400]))


spans = st.integers(1, 3 * 24 * 60)


class TestEvery:
    @given(spans, st.lists(st.integers(1, 10 * 86400), min_size=1, max_size=60))
    def test_runs_stay_a_whole_number_of_intervals_apart(self, minutes, steps):
        life = Life(make_trigger({"every": f"{minutes} minutes"}), UTC, START)
        interval = timedelta(minutes=minutes)
        for step in steps:
            life.now += timedelta(seconds=step)
            before = life.last
            life.look()

            assert (life.last - START) % interval == timedelta(0)
            assert life.now - interval < life.last <= life.now
            assert life.last >= before
            assert life.look() is None

    @given(spans, st.integers(-10 * 365 * 86400, 10 * 365 * 86400))
    def test_a_clock_that_jumps_means_two_intervals_at_most(self, minutes, seconds):
        trigger = make_trigger({"every": f"{minutes} minutes"})
        now = START + timedelta(seconds=seconds)

        found = next_run(trigger, START, now, UTC)

        assert found <= now + 2 * timedelta(minutes=minutes)
        assert found != START

    @pytest.mark.parametrize("name", ZONES)
    def test_it_is_real_time_in_every_zone(self, name):
        life = Life(make_trigger({"every": "6 hours"}), ZoneInfo(name), START)
        while life.now < END:
            life.now = life.next()
            assert life.look() - START == len(life.runs) * timedelta(hours=6)


class TestJitter:
    @given(spans, st.text(max_size=20), st.integers(0, 10**9))
    def test_a_delay_is_the_same_always_and_within_its_limit(self, minutes, seed, seconds):
        jitter = timedelta(minutes=minutes)
        moment = START + timedelta(seconds=seconds)

        found = delayed(moment, jitter, seed)

        assert moment <= found < moment + jitter
        assert found == delayed(moment.astimezone(ZoneInfo("Asia/Tokyo")), jitter, seed)

    @pytest.mark.parametrize("over", ["jobs", "moments"])
    def test_delays_are_spread_evenly(self, over):
        count, parts = 6000, 12
        share = [0] * parts
        for number in range(count):
            seed = f"web1/{number}" if over == "jobs" else "web1/shop"
            moment = START if over == "jobs" else START + number * DAY
            delay = delayed(moment, timedelta(hours=1), seed) - moment
            share[delay // timedelta(minutes=5)] += 1

        # With even chances a part is off by more than 5 deviations once in a million.
        expected = count / parts
        assert all(abs(one - expected) < 5 * expected**0.5 for one in share)


def test_a_thousand_jobs_are_looked_at_quickly():
    triggers = [
        make_trigger(said)
        for number in range(200)
        for said in (
            {"at": f"{number % 24:02}:{number % 60:02}", "time_zone": "Europe/Berlin"},
            {"on": "last friday at 03:00", "time_zone": "America/New_York"},
            {"every": f"{number + 1} minutes"},
            {"cron": "*/5 * * * *"},
            {"cron": "0 4 29 2 *", "time_zone": "Australia/Lord_Howe"},
        )
    ]
    begun = time.process_time()
    for trigger in triggers:
        next_run(trigger, START, START + 30 * DAY, ZoneInfo("Europe/Berlin"))

    assert len(triggers) == 1000
    assert time.process_time() - begun < 5
