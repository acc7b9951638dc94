from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from backup.errors import ConfigError, InvalidArgumentError
from backup.triggers import (
    NO_RETRY,
    Retry,
    Trigger,
    at,
    cron,
    delayed,
    describe,
    due,
    every,
    is_retry_due,
    make_trigger,
    next_run,
    on,
    parse_span,
    retry_at,
    span_text,
)
from tests.checkout import ROOT

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
NOW = datetime(2026, 11, 20, 16, 32, 5, tzinfo=UTC)  # a Friday


def berlin(text, fold=0):
    """Return the moment at which clocks in Berlin show ``text``."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def moments(trigger, start, count, zone=BERLIN):
    """Return the first ``count`` moments after ``start``, as clocks in Berlin show them."""
    found, moment = [], start
    for _ in range(count):
        moment = next_run(trigger, moment, moment, zone)
        found.append(f"{moment.astimezone(BERLIN):%Y-%m-%d %H:%M}")
    return found


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ({"every": "6 hours"}, "every 6 hours"),
            ({"every": "15 minutes"}, "every 15 minutes"),
            ({"every": "1 day"}, "every day"),
            ({"every": "day"}, "every day"),
            ({"every": "90m"}, "every 90 minutes"),
            ({"every": "6h"}, "every 6 hours"),
            ({"every": "1d"}, "every day"),
            ({"every": "2 Weeks"}, "every 2 weeks"),
            ({"every": "24h"}, "every day"),
            ({"every": timedelta(hours=2)}, "every 2 hours"),
            ({"at": "02:30"}, "daily at 02:30"),
            ({"at": "2:30"}, "daily at 02:30"),
            ({"at": ["02:30", "14:30"]}, "daily at 02:30 and 14:30"),
            ({"at": "02:30, 10:30 and 18:30"}, "daily at 02:30, 10:30 and 18:30"),
            ({"on": "monday at 03:00"}, "on monday at 03:00"),
            ({"on": "Mon  at 03:00"}, "on mon at 03:00"),
            ({"on": ["monday at 03:00", "1st at 04:00"]}, "on monday at 03:00; 1st at 04:00"),
            ({"cron": "30 2 * * 1-5"}, "cron 30 2 * * 1-5"),
            ({"cron": " @daily "}, "cron @daily"),
            (
                {"at": "02:30", "time_zone": "Europe/Berlin", "jitter": "10 minutes"},
                "daily at 02:30 Europe/Berlin, up to 10 minutes later",
            ),
        ],
        ids=str,
    )
    def test_people_read_it_back(self, said, expected):
        assert describe(make_trigger(said)) == expected

    @pytest.mark.parametrize(
        ("said", "message", "hint"),
        [
            ({"every": "6 houres"}, "unit 'houres'", "did you mean hours?"),
            ({"every": "6 xyz"}, "unit 'xyz'", "minutes, hours, days and weeks"),
            ({"every": 6}, "needs a unit beside 6", "6 hours"),
            ({"every": None}, "not None", "6 hours"),
            ({"every": "hours 6"}, "not 'hours 6'", "6 hours"),
            ({"every": "-6 hours"}, "not '-6 hours'", "6 hours"),
            ({"every": "1 month"}, "cannot count months", "1st at 02:30"),
            ({"every": "30s"}, "unit 's'", "minutes"),
            ({"every": "30 seconds"}, "cannot count seconds", "1 minute"),
            ({"every": "0 minutes"}, "between 1 minute and", None),
            ({"every": "999999999 weeks"}, "between 1 minute and", None),
            ({"every": timedelta(seconds=90)}, "whole minutes", None),
            ({"every": "monday"}, "a time, not a day", "on: monday at"),
            ({"at": 150}, "not 150", "in quotes"),
            ({"at": "24:00"}, "'24:00' is not a time", "00:00 to 23:59"),
            ({"at": "2.30"}, "'2.30' is not a time", "00:00 to 23:59"),
            ({"at": []}, "not []", "in quotes"),
            ({"at": ["02:30", 5]}, "not 5", "in quotes"),
            ({"on": "munday at 03:00"}, "'munday' is not a day", "did you mean"),
            ({"on": "xyz at 03:00"}, "'xyz' is not a day", "monday at 03:00"),
            ({"on": "monday"}, "a day and a time, not 'monday'", "monday at 03:00"),
            ({"on": "31st at 03:00"}, "not every month has a 31st", "last day"),
            ({"on": "0th at 03:00"}, "has a 0th", "1st to 28th"),
            ({"on": "monday at 3 pm"}, "'3 pm' is not a time", "23:59"),
            ({"on": None}, "not None", "in quotes"),
            ({"cron": "0 0 30 2 *"}, "never comes", None),
            ({"cron": "0 0 31 4,6 *"}, "never comes", None),
            ({"cron": "0 0 * *"}, "has 4", "minute, hour"),
            ({"cron": "0 0 0 * * *"}, "has 6", "minute, hour"),
            ({"cron": "61 * * * *"}, "has a minute", "30 2"),
            ({"cron": "0 0 * * 9"}, "has a day of week", "30 2"),
            ({"cron": "@dayly"}, "'@dayly'", "did you mean @daily?"),
            ({"cron": "@reboot"}, "@reboot is no time", "missed"),
            ({"cron": 5}, "not 5", "30 2"),
            ({"at": "02:30", "time_zone": "Berlin"}, "'Berlin'", "did you mean Europe/Berlin?"),
            ({"at": "02:30", "time_zone": "Europe/Berln"}, "zone", "mean Europe/Berlin?"),
            ({"at": "02:30", "time_zone": "europe/berlin "}, "zone", "mean Europe/Berlin?"),
            ({"at": "02:30", "time_zone": "../../etc/passwd"}, "no time zone", "Europe/Berlin"),
            ({"at": "02:30", "time_zone": "Europe"}, "no time zone", None),
            ({"at": "02:30", "time_zone": 3}, "not 3", None),
            ({"every": "1 day", "time_zone": "UTC"}, "goes by no clock", "leave time_zone out"),
            ({"every": "5m", "jitter": "5m"}, "shorter than 5 minutes", None),
            ({"at": ["02:30", "02:40"], "jitter": "15m"}, "shorter than 10 minutes", None),
            ({"at": "02:30", "jitter": 10}, "jitter needs a unit", "15 minutes"),
            ({"at": "02:30", "every": "1 day"}, "both every and at", "say one of"),
            ({}, "none of every, at, on, cron", "say one of"),
            ({"time_zone": "UTC"}, "none of every", "say one of"),
            ({"evry": "6 hours"}, "'evry'", "did you mean every?"),
            ({"xyz": "6 hours"}, "'xyz'", "say one of"),
            ({True: "monday at 03:00"}, "'True'", "say one of"),
            ("6 hours", "a mapping, not '6 hours'", "say one of"),
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused_with_what_to_say(self, said, message, hint):
        with pytest.raises(InvalidArgumentError, match=re.escape(message)) as raised:
            make_trigger(said)

        assert isinstance(raised.value, ConfigError)
        assert hint is None or hint in (raised.value.hint or "")
        assert len(raised.value.message) < 200

    def test_it_is_said_by_programs_in_the_same_words(self):
        assert every("6 hours") == make_trigger({"every": "6 hours"})
        assert at("02:30") == every("day").at("02:30") == make_trigger({"at": "02:30"})
        assert on("monday at 03:00") == make_trigger({"on": "monday at 03:00"})
        assert cron("@daily") == make_trigger({"cron": "@daily"})
        whole = make_trigger({"at": "02:30", "time_zone": "Europe/Berlin", "jitter": "10 minutes"})
        assert at("02:30").in_time_zone("Europe/Berlin").with_jitter("10 minutes") == whole

    def test_only_each_day_has_a_time_of_the_day(self):
        with pytest.raises(InvalidArgumentError, match="every 6 hours has no time of the day"):
            every("6 hours").at("02:30")

    @pytest.mark.parametrize("text", ["1 minute", "59 minutes", "36 hours", "3 days", "2 weeks"])
    def test_spans_are_written_as_they_are_read(self, text):
        assert span_text(parse_span(text, "every")) == text


class TestDays:
    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ("monday at 03:00", ["11-23 03:00", "11-30 03:00"]),
            ("mon, thursday at 03:00", ["11-23 03:00", "11-26 03:00"]),
            ("mon and thu at 03:00", ["11-23 03:00", "11-26 03:00"]),
            ("sundays at 03:00 and 15:00", ["11-22 03:00", "11-22 15:00"]),
            ("weekdays at 22:00", ["11-20 22:00", "11-23 22:00"]),
            ("weekends at 22:00", ["11-21 22:00", "11-22 22:00"]),
            ("every day at 22:00", ["11-20 22:00", "11-21 22:00"]),
            ("mon-wed at 22:00", ["11-23 22:00", "11-24 22:00"]),
            ("saturday to monday at 22:00", ["11-21 22:00", "11-22 22:00", "11-23 22:00"]),
            ("1st at 04:00", ["12-01 04:00", "01-01 04:00"]),
            ("1st, 15th at 04:00", ["12-01 04:00", "12-15 04:00"]),
            ("last day at 04:00", ["11-30 04:00", "12-31 04:00", "01-31 04:00", "02-28 04:00"]),
            ("first sunday at 04:00", ["12-06 04:00", "01-03 04:00"]),
            ("last friday at 04:00", ["11-27 04:00", "12-25 04:00"]),
        ],
    )
    def test_they_come_when_people_expect_them(self, said, expected):
        found = moments(on(said), NOW, len(expected))

        assert [one[5:] for one in found] == expected

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("30 2 * * 1-5", ["11-23 02:30", "11-24 02:30"]),
            ("*/20 * * * *", ["11-20 17:40", "11-20 18:00"]),
            ("0 4 L * *", ["11-30 04:00", "12-31 04:00"]),
            ("0 4 29 2 *", ["02-29 04:00", "02-29 04:00"]),
            ("0 4 13 * 5", ["11-27 04:00", "12-04 04:00", "12-11 04:00", "12-13 04:00"]),
            ("@hourly", ["11-20 18:00", "11-20 19:00"]),
            ("@weekly", ["11-22 00:00", "11-29 00:00"]),
            ("@yearly", ["01-01 00:00", "01-01 00:00"]),
        ],
    )
    def test_cron_lines_are_those_of_crontabs(self, line, expected):
        assert [one[5:] for one in moments(cron(line), NOW, len(expected))] == expected


class TestNext:
    def test_a_job_that_never_ran_is_due_at_once_if_it_runs_every_so_often(self):
        assert next_run(every("6 hours"), None, NOW, UTC) == NOW
        assert due(every("6 hours"), None, NOW, UTC) == NOW

    def test_a_job_that_never_ran_waits_for_its_time(self):
        assert next_run(at("02:30"), None, NOW, UTC) == datetime(2026, 11, 21, 2, 30, tzinfo=UTC)
        assert due(at("02:30"), None, NOW, UTC) is None

    def test_the_time_comes(self):
        moment = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)

        assert due(at("02:30"), NOW, moment - timedelta(microseconds=1), UTC) is None
        assert due(at("02:30"), NOW, moment, UTC) == moment
        assert due(at("02:30"), moment, moment, UTC) is None

    def test_every_counts_from_the_last_moment_whenever_that_was_served(self):
        trigger = every("6 hours")
        late = NOW + 6 * HOUR + 47 * MINUTE

        assert next_run(trigger, NOW, late, UTC) == NOW + 6 * HOUR
        assert next_run(trigger, NOW + 6 * HOUR, late, UTC) == NOW + 12 * HOUR

    def test_three_days_off_are_one_run(self):
        back = NOW + 3 * DAY
        latest = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)

        assert due(at("02:30"), NOW, back, UTC) == latest
        assert due(at("02:30"), latest, back, UTC) is None
        assert due(every("6 hours"), NOW, back, UTC) == back
        assert due(every("6 hours"), NOW, back + HOUR, UTC) == back
        assert due(every("6 hours"), back, back + HOUR, UTC) is None

    def test_moments_are_in_utc_and_any_zone_may_be_asked_in(self):
        found = next_run(at("02:30"), NOW.astimezone(BERLIN), NOW.astimezone(BERLIN), BERLIN)

        assert found == berlin("2026-11-21T02:30")
        assert found.tzinfo is UTC

    def test_its_own_zone_counts_before_the_machine_s(self):
        trigger = at("02:30").in_time_zone("Asia/Tokyo")

        found = next_run(trigger, NOW, NOW, BERLIN)

        assert found.astimezone(ZoneInfo("Asia/Tokyo")).hour == 2


class TestWhenClocksChange:
    def test_a_later_time_of_the_repeated_hour_has_been_when_an_earlier_one_comes_again(self):
        served, now = berlin("2026-10-24T02:45"), berlin("2026-10-25T02:15", fold=1)

        assert due(at("02:45"), served, now, BERLIN) == berlin("2026-10-25T02:45")

    def test_what_was_missed_before_the_gap_is_due_after_it(self):
        served, now = berlin("2026-03-29T00:59"), berlin("2026-03-29T03:10")

        assert due(cron("59 * * * *"), served, now, BERLIN) == berlin("2026-03-29T01:59")

    def test_what_was_missed_in_the_repeated_hour_is_due(self):
        served, now = berlin("2026-10-25T02:30"), berlin("2026-10-25T03:10")

        assert due(cron("30 * * * *"), served, now, BERLIN) == berlin("2026-10-25T02:30", fold=1)


class TestAClockThatWasSetBack:
    TRIGGER = at("02:30")
    SERVED = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)

    def test_by_seconds_brings_no_second_run(self):
        now = self.SERVED - timedelta(seconds=2)

        assert next_run(self.TRIGGER, self.SERVED, now, UTC) == self.SERVED + DAY
        assert next_run(self.TRIGGER, self.SERVED, self.SERVED, UTC) == self.SERVED + DAY

    def test_by_years_it_blocks_nothing(self):
        noticed = datetime(2016, 5, 1, 12, tzinfo=UTC)
        wanted = datetime(2016, 5, 2, 2, 30, tzinfo=UTC)

        def found(now):
            return next_run(self.TRIGGER, self.SERVED, now, UTC, set_back=noticed)

        assert found(noticed) == wanted
        assert due(self.TRIGGER, self.SERVED, noticed, UTC) is None
        assert found(wanted - MINUTE) == wanted
        assert found(wanted) == wanted
        assert found(wanted + 7 * DAY + HOUR) == wanted + 7 * DAY
        assert next_run(self.TRIGGER, wanted, wanted, UTC) == wanted + DAY

    def test_and_put_right_again_all_is_as_it_was(self):
        now = self.SERVED + HOUR

        assert due(self.TRIGGER, self.SERVED, now, UTC, set_back=NOW - 3650 * DAY) is None

    def test_forward_by_years_is_one_run(self):
        now = self.SERVED + 3650 * DAY

        moment = due(self.TRIGGER, self.SERVED, now, UTC)

        assert now - DAY < moment <= now
        assert due(self.TRIGGER, moment, now, UTC) is None


class TestRetries:
    RULE = Retry(times=3, wait=MINUTE, factor=4, most=10 * MINUTE)

    def test_each_wait_is_longer_up_to_a_limit_and_so_many_times(self):
        waits = [retry_at(failures, NOW, self.RULE) for failures in range(1, 5)]

        assert waits == [NOW + MINUTE, NOW + 4 * MINUTE, NOW + 10 * MINUTE, None]

    def test_without_a_failure_there_is_none(self):
        assert retry_at(0, NOW, self.RULE) is None
        assert retry_at(1, NOW, NO_RETRY) is None

    def test_the_next_moment_is_not_reached(self):
        assert retry_at(2, NOW, self.RULE, NOW + 5 * MINUTE) == NOW + 4 * MINUTE
        assert retry_at(2, NOW, self.RULE, NOW + 4 * MINUTE) is None

    def test_a_hundred_times_with_any_factor_do_not_overflow(self):
        rule = Retry(times=100, wait=MINUTE, factor=1e6, most=DAY)

        assert retry_at(100, NOW, rule) == NOW + DAY

    def test_it_is_due_when_its_time_has_come_or_the_clock_was_set_back(self):
        assert not is_retry_due(None, NOW, self.RULE)
        assert not is_retry_due(NOW + MINUTE, NOW, self.RULE)
        assert is_retry_due(NOW, NOW, self.RULE)
        assert is_retry_due(NOW, NOW - 3650 * DAY, self.RULE)

    @pytest.mark.parametrize(
        "values",
        [
            {"times": -1},
            {"times": 101},
            {"factor": 0.5},
            {"factor": float("nan")},
            {"wait": timedelta(0)},
            {"wait": HOUR, "most": MINUTE},
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_refused(self, values):
        with pytest.raises(InvalidArgumentError):
            Retry(**values)


class TestJitter:
    def test_without_it_nothing_is_delayed(self):
        assert delayed(NOW, timedelta(0), "web1/shop") == NOW

    def test_jobs_and_hosts_differ(self):
        seeds = ["web1/shop", "web2/shop", "web1/mail"]

        assert len({delayed(NOW, HOUR, seed) for seed in seeds}) == 3


def table(heading):
    """Return the rows of the table below a heading of docs/SCHEDULING.md."""
    text = (ROOT / "docs" / "SCHEDULING.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len(rows) > 1, heading
    return rows[1:]


def said_in(cell):
    """Return the mapping of `at: "02:30"`, `cron: "@daily"` and the like."""
    word, _, value = cell.strip("`").partition(": ")
    return {word: value.strip('"')}


class TestTheDocument:
    def test_the_retries_are_as_told(self):
        waits = [retry_at(one, NOW, Retry()) for one in (1, 2, 3, 4)]
        told = "tried again 3 times, after 1, 4 and 16 minutes"

        assert waits == [NOW + MINUTE, NOW + 4 * MINUTE, NOW + 16 * MINUTE, None]
        assert told in (ROOT / "docs" / "SCHEDULING.md").read_text()

    @pytest.mark.parametrize("row", table("What can be said"), ids=lambda row: row[0])
    def test_each_example_is_read_as_it_is_told(self, row):
        examples, meaning, first = row
        for example in examples.split("<br>"):
            trigger = make_trigger(said_in(example))
            assert isinstance(trigger, Trigger)
            assert moments(trigger, berlin("2026-11-20T17:00"), 1) == [first], example
        assert meaning

    @pytest.mark.parametrize("row", table("When clocks change"), ids=lambda row: row[0] + row[1])
    def test_the_days_on_which_clocks_change_are_as_told(self, row):
        example, day, told = row
        runs = []
        moment, end = berlin(f"{day}T00:00") - MINUTE, berlin(f"{day}T05:00")
        while (moment := next_run(make_trigger(said_in(example)), moment, moment, BERLIN)) < end:
            runs.append(f"{moment.astimezone(BERLIN):%H:%M %Z}")
        assert ", ".join(runs) == told
