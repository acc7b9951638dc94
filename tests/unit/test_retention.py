from __future__ import annotations

import itertools
import os
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import ConfigError, InvalidArgumentError
from backup.retention import (
    NOTHING_GOES,
    Candidate,
    RetentionPolicy,
    Verdict,
    make_policy,
    parse_duration,
    parse_keep,
    plan_retention,
)

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
pytestmark = pytest.mark.timeout(7200 if DEEP else 600)
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC, BERLIN, ZoneInfo("America/St_Johns"), ZoneInfo("Australia/Lord_Howe")]
START = datetime(2026, 11, 20, 12, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
COUNTED = ("hourly", "daily", "weekly", "monthly", "yearly")


def snapshot(time, number=0, **fields):
    known = {"name": f"h/j/{number:06}", "id": f"{number:032x}", "chain": "c", "sequence": number}
    return Candidate(**known | {"time": time} | fields)


def timeline(*times, **fields):
    return [snapshot(time, number, **fields) for number, time in enumerate(times, 1)]


def daily(count, start=START):
    return timeline(*(start + timedelta(days=day) for day in range(count)))


def plan(policy, snapshots, now=FAR, zone=UTC, **fields):
    fields = {"most": 10**9} | fields
    return plan_retention(policy, snapshots, now, zone=zone, **fields)


def kept(policy, snapshots, *arguments, **fields):
    decided = plan(policy, snapshots, *arguments, **fields)
    return [one.name for one in decided.decisions if one.verdict is not Verdict.DELETE]


def reasons(*arguments, **fields):
    return [one.reason for one in plan(*arguments, **fields).decisions]


def names(snapshots):
    return [one.name for one in snapshots]


# The oracle: asks of each snapshot alone whether a rule keeps it, by comparing it with every other
# one, and writes calendars as text. It shares nothing with the plan but the words.


def period(word, time, zone):
    local = time.astimezone(zone)
    if word == "hourly":
        return local.strftime("%Y-%m-%d %H ") + f"{10**6 - local.utcoffset().total_seconds():.0f}"
    form = {"daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m", "yearly": "%Y"}[word]
    return local.strftime(form)


def is_newer(one, other, everything):
    """Tell whether ``one`` is newer: by its chain's order, or by the times chains had reached."""

    def reached(which):
        return max(
            each.time
            for each in everything
            if each.chain == which.chain
            and (each.sequence, each.time) <= (which.sequence, which.time)
        )

    return (reached(one), one.sequence, one.name) > (reached(other), other.sequence, other.name)


def oracle_keeps(policy, one, everything, zone, proven):
    newer = [other for other in everything if is_newer(other, one, everything)]
    older = [other for other in everything if other not in newer and other is not one]
    if not newer or (policy.last and len(newer) < policy.last):
        return True
    if one.id in proven and not any(other.id in proven for other in newer):
        return True
    if policy.within and all(other.time - one.time <= policy.within for other in everything):
        return True
    if set(policy.tags) & set(one.tags):
        return True
    for word in COUNTED:
        count = getattr(policy, word)
        if not count:
            continue
        own = period(word, one.time, zone)
        later = {period(word, other.time, zone) for other in everything} - {own}
        there = len(later) + 1
        later = {other for other in later if other > own}
        alone = not any(period(word, other.time, zone) == own for other in newer)
        if (alone and len(later) < count) or (not older and there < count):
            return True
    return False


def check(policy, everything, zone, proven=()):
    """Compare plan and oracle; return how many decisions were compared."""
    decided = plan(policy, everything, zone=zone, proven=dict.fromkeys(proven, START))
    for decision in decided.decisions:
        (one,) = (other for other in everything if other.name == decision.name)
        expected = oracle_keeps(policy, one, everything, zone, proven)
        assert (decision.verdict is Verdict.KEEP) == expected, (policy, one, decision, everything)
    return len(decided.decisions)


# Moments around all that calendars do: hours, days, weeks, months and years begin, summer time ends
# and begins (Berlin), and one that comes twice.
MOMENTS = [
    datetime(2025, 12, 28, 22, 30, tzinfo=UTC),
    datetime(2025, 12, 31, 22, 59, tzinfo=UTC),
    datetime(2025, 12, 31, 23, 1, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 30, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
]
POLICIES = [
    RetentionPolicy(**dict(pairs))
    for width in (1, 2)
    for words in itertools.combinations(COUNTED, width)
    for pairs in itertools.product(*[[(word, count) for count in (1, 2, 4)] for word in words])
] + [
    RetentionPolicy(last=1),
    RetentionPolicy(last=3, daily=2),
    RetentionPolicy(within=timedelta(hours=1)),
    RetentionPolicy(within=timedelta(days=90), yearly=2),
    RetentionPolicy(last=1, tags=("release",)),
]

POLICY = st.builds(
    RetentionPolicy,
    last=st.integers(1, 5),
    within=st.none() | st.timedeltas(timedelta(minutes=1), timedelta(days=400)),
    tags=st.just(()) | st.just(("release",)),
    **{word: st.none() | st.integers(1, 6) for word in COUNTED},
)


STEPS = [0, 1, 7, 30, 60, 90, 720, 1440, 10080, 43200, 600000]


@st.composite
def timelines(draw, most=40, steps=(*STEPS, -45, -3000)):
    """Draw snapshots of up to three chains, with gaps, equal times and clocks that go back."""
    made = []
    for chain in "abc"[: draw(st.integers(1, 3))]:
        at = datetime(2026, draw(st.sampled_from([3, 6, 10])), 20, 12, tzinfo=UTC)
        for number in range(1, draw(st.integers(0, most // 2)) + 1):
            step = draw(
                st.sampled_from([0, 1, 7, 30, 60, 90, 720, 1440, 10080, 43200, 600000, -45])
            )
            at += timedelta(minutes=step)
            tags = draw(st.sampled_from([(), (), ("release",), ("other",)]))
            name = f"h/j/{draw(st.integers(0, 9))}{chain}{number:03}"
            made.append(snapshot(at, number, name=name, id=name, chain=chain, tags=tags))
    return made


class TestAgainstAnOracle:
    def test_every_subset_of_moments_by_every_policy(self):
        """Wrong decisions: 0."""
        decided = 0
        chance = random.Random(20261120)
        subsets = [
            [snapshot(MOMENTS[place], place + 1) for place in places]
            for size in range(1, 9)
            for places in itertools.combinations(range(len(MOMENTS)), size)
        ]
        for policy in POLICIES:
            chosen = subsets if DEEP else chance.sample(subsets, 100)
            for everything in chosen:
                ids = [one.id for one in everything]
                proofs = [(), ids[:1], ids[-1:], ids[::2], ids[1::2]]
                for zone in ZONES if DEEP else ZONES[1:2]:
                    for proven in proofs if DEEP else [proofs[len(ids) % 5]]:
                        decided += check(policy, everything, zone, proven)
        assert decided > (5_000_000 if DEEP else 40_000)

    @given(policy=POLICY, everything=timelines(), zone=st.sampled_from(ZONES), data=st.data())
    def test_long_timelines(self, policy, everything, zone, data):
        proven = {one.id for one in everything if data.draw(st.booleans())}

        check(policy, everything, zone, proven)


class TestWhatHolds:
    @given(policy=POLICY, everything=timelines(), zone=st.sampled_from(ZONES))
    def test_each_snapshot_gets_one_decision_with_a_reason(self, policy, everything, zone):
        decided = plan(policy, everything, zone=zone)

        assert sorted(one.name for one in decided.decisions) == sorted(names(everything))
        assert all(one.reason for one in decided.decisions)
        assert set(decided.deletions) == {
            one.name for one in decided.decisions if one.verdict is Verdict.DELETE
        }

    @given(policy=POLICY, everything=timelines())
    def test_doing_it_twice_is_the_same_as_doing_it_once(self, policy, everything):
        stay = set(kept(policy, everything))

        assert not plan(policy, [one for one in everything if one.name in stay]).deletions

    @given(policy=POLICY, everything=timelines(steps=STEPS), data=st.data())
    def test_a_list_that_lacks_some_costs_none_that_the_whole_list_keeps(
        self, policy, everything, data
    ):
        proven = {one.id: START for one in everything if data.draw(st.booleans())}
        seen = [one for one in everything if data.draw(st.booleans())]

        whole = set(kept(policy, everything, proven=proven))

        assert whole & set(names(seen)) <= set(kept(policy, seen, proven=proven))

    @given(policy=POLICY, everything=timelines(), seed=st.integers())
    def test_the_order_of_the_list_does_not_matter(self, policy, everything, seed):
        shuffled = random.Random(seed).sample(everything, len(everything))

        assert plan(policy, shuffled) == plan(policy, everything)

    @given(everything=timelines())
    def test_without_a_policy_nothing_goes(self, everything):
        assert not plan(NOTHING_GOES, everything).deletions

    @given(policy=POLICY, everything=timelines(), most=st.integers(0, 5))
    def test_no_more_than_so_many_go_and_the_rest_waits(self, policy, everything, most):
        all_of_them = plan(policy, everything).deletions

        decided = plan(policy, everything, most=most)

        later = [one.name for one in decided.decisions if one.verdict is Verdict.LATER]
        assert decided.deletions == all_of_them[:most]
        assert set(later) == set(all_of_them[most:])

    @given(policy=POLICY, everything=timelines(), data=st.data())
    def test_what_stays_and_what_waits_never_refers_to_what_goes(self, policy, everything, data):
        linked = []
        for one in everything:
            earlier = [other.id for other in linked]
            refers = data.draw(st.lists(st.sampled_from(earlier), max_size=2)) if earlier else []
            linked.append(snapshot(one.time, one.sequence, name=one.name, id=one.id,
                                   chain=one.chain, refers_to=tuple(refers)))  # fmt: skip
        order = plan(policy, linked).deletions
        needs = {one.name: set(one.refers_to) for one in linked}
        ids = {one.name: one.id for one in linked}

        for stopped in range(len(order) + 1):
            gone = {ids[name] for name in order[:stopped]}
            assert not any(needs[name] & gone for name in needs if name not in order[:stopped])


class TestRules:
    def test_the_last_ones_stay_and_each_decision_has_its_reason(self):
        assert reasons(RetentionPolicy(last=2), daily(3)) == [
            "no rule keeps it", "last 2/2", "newest, last 1/2",
        ]  # fmt: skip

    def test_of_a_day_the_newest_stays_and_days_without_any_do_not_count(self):
        everything = timeline(*(START + timedelta(hours=hours) for hours in (0, 3, 240, 900, 905)))

        assert kept(RetentionPolicy(daily=3), everything) == names(everything[i] for i in (1, 2, 4))

    def test_the_oldest_stands_in_until_there_are_enough_years(self):
        policy = RetentionPolicy(last=1, yearly=2)

        assert reasons(policy, daily(21))[0] == "oldest, until there are 2 yearly"
        assert kept(policy, daily(21)) == names(daily(21)[i] for i in (0, 20))
        year_later = daily(400)
        by_year = [one for one in year_later if one.time.date().isoformat() == "2026-12-31"]
        assert kept(policy, year_later) == names([*by_year, year_later[-1]])

    def test_an_hour_that_comes_twice_counts_twice(self):
        everything = timeline(*(datetime(2026, 10, 25, hour, 10, tzinfo=UTC) for hour in (0, 1)))

        assert everything[0].time.astimezone(BERLIN).hour == 2
        assert everything[1].time.astimezone(BERLIN).hour == 2
        assert kept(RetentionPolicy(hourly=2), everything, zone=BERLIN) == names(everything)

    @pytest.mark.parametrize("month", [3, 10])
    def test_one_at_half_past_one_each_night_is_one_a_day_when_clocks_change(self, month):
        nights = [datetime(2026, month, day, 1, 30, tzinfo=BERLIN) for day in range(20, 32)]

        everything = timeline(*(night.astimezone(UTC) for night in nights))

        assert kept(RetentionPolicy(daily=12), everything, zone=BERLIN) == names(everything)

    def test_ages_count_from_the_newest_snapshot_so_that_a_machine_that_was_off_loses_nothing(self):
        everything = daily(30)
        policy = RetentionPolicy(within=timedelta(days=29))

        assert not plan(policy, everything, now=START + timedelta(days=3000)).deletions

    def test_a_tag_keeps(self):
        old = snapshot(START, 1, tags=("x", "release"))
        everything = [old, *daily(9, START + timedelta(days=1))[1:]]

        assert kept(RetentionPolicy(last=1, tags=("release",)), everything) == names(
            [old, everything[-1]]
        )

    def test_in_a_chain_its_order_counts_and_not_the_clock(self):
        everything = timeline(START, START - timedelta(days=400), START - timedelta(days=399))

        assert kept(RetentionPolicy(last=1), everything) == names(everything[2:])

    def test_a_day_that_the_clock_had_wrong_once_does_not_swallow_the_days_after_it(self):
        wrong = START + timedelta(days=300)
        everything = timeline(START, wrong, *(START + timedelta(days=day) for day in range(1, 8)))

        assert kept(RetentionPolicy(daily=9), everything) == names(everything)


class TestTwoYearsOfDailySnapshots:
    POLICY = RetentionPolicy(daily=7, weekly=4, monthly=12)

    def test_what_is_left_is_what_the_documents_say(self):
        store, deleted = [], 0
        first = datetime(2025, 1, 1, 2, 30, tzinfo=BERLIN)
        for day in range(730):
            night = (first + timedelta(days=day)).astimezone(UTC)
            store.append(snapshot(night, day + 1))
            gone = set(plan(self.POLICY, store, now=night, zone=BERLIN).deletions)
            store = [one for one in store if one.name not in gone]
            deleted += len(gone)
            assert len(store) <= 7 + 4 + 12 + 1

        left = [one.time.astimezone(BERLIN).date().isoformat() for one in store]
        months = [
            "2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30",
            "2026-07-31", "2026-08-31", "2026-09-30", "2026-10-31", "2026-11-30",
        ]  # fmt: skip
        weeks = ["2026-12-13", "2026-12-20"]
        assert left == months + weeks + [f"2026-12-{day}" for day in range(25, 32)]
        assert deleted == 730 - len(left)


class TestWhatDoesNotCount:
    def test_a_snapshot_from_the_future_pushes_none_out(self):
        everything = [*daily(3), *(snapshot(FAR, n, chain="forged") for n in range(50, 60))]
        now = everything[2].time + timedelta(hours=2)

        decided = plan(RetentionPolicy(last=3, daily=2), everything, now=now)

        assert not decided.deletions
        assert [one.counts for one in decided.decisions] == [True] * 3 + [False] * 10
        assert decided.decisions[-1].reason == "dated later than now"

    def test_an_hour_ahead_is_a_clock_that_is_a_little_wrong(self):
        everything = daily(2)
        now = everything[1].time

        assert plan(RetentionPolicy(last=1), everything, now=now - timedelta(hours=1)).deletions
        assert not plan(
            RetentionPolicy(last=1), everything, now=now - timedelta(minutes=61)
        ).deletions

    def test_what_cannot_be_read_stays_and_pushes_none_out(self):
        everything = [*daily(2), snapshot(START + timedelta(days=5), 9, unreadable="damaged: x")]

        decided = plan(RetentionPolicy(last=2), everything)

        assert not decided.deletions
        assert decided.decisions[-1][2:] == ("damaged: x", False)

    def test_what_cannot_be_read_and_is_not_full_holds_all_from_before_it(self):
        doubtful = snapshot(START + timedelta(days=2), 9, unreadable="damaged: x", may_refer=True)
        everything = [*daily(6), doubtful]

        decided = plan(RetentionPolicy(last=1), everything)

        assert set(decided.deletions) == set(names(daily(6)[3:5]))
        assert decided.verdict_of(everything[0].name) is Verdict.PACK
        assert decided.decisions[0].reason == "000009, which cannot be read, may refer to it"

    def test_copies_of_a_snapshot_count_once(self):
        everything = [*daily(2), *(snapshot(START + timedelta(days=1), 2, name=f"h/j/x{n}")
                                   for n in range(5))]  # fmt: skip

        decided = plan(RetentionPolicy(last=2), everything)

        assert not decided.deletions
        assert decided.decisions[-1].reason == "a copy of 000002"

    def test_an_incomplete_one_goes_when_a_later_one_is_whole_and_counts_never(self):
        first, second, third, fourth = daily(4)
        half = {"incomplete": True}
        everything = [first, snapshot(second.time, 2, **half), third,
                      snapshot(fourth.time, 4, **half)]  # fmt: skip

        decided = plan(RetentionPolicy(last=2), everything)

        assert decided.deletions == (second.name,)
        assert [one.reason for one in decided.decisions] == [
            "last 2/2", "incomplete, and a later one is whole", "newest, last 1/2",
            "incomplete, and the newest",
        ]  # fmt: skip


class TestFloors:
    def test_the_newest_proven_one_stays(self):
        everything = daily(9)
        proven = {everything[i].id: START for i in (1, 4)}

        assert kept(RetentionPolicy(last=2), everything, proven=proven) == names(
            everything[i] for i in (4, 7, 8)
        )

    def test_the_newest_without_errors_stays_whatever_could_not_be_read_since(self):
        first, second, *later = daily(6)
        everything = [first, second, *(snapshot(one.time, one.sequence, has_errors=True)
                                       for one in later)]  # fmt: skip

        decided = plan(RetentionPolicy(last=2), everything)

        assert decided.deletions == (first.name, *names(later[:2]))
        assert decided.decisions[1].reason == "newest without errors"

    def test_what_a_kept_one_refers_to_becomes_a_pack(self):
        base, middle, last = daily(3)
        last = snapshot(last.time, 3, refers_to=(base.id,))

        decided = plan(RetentionPolicy(last=1), [base, middle, last])

        assert decided.decisions[0] == (base.name, Verdict.PACK, "00000000 refers to it", True)
        assert decided.deletions == (middle.name,)

    def test_the_oldest_go_first(self):
        assert plan(RetentionPolicy(last=1), daily(5), most=2).deletions == tuple(names(daily(2)))

    def test_who_refers_goes_before_what_it_refers_to(self):
        one, two, three, four = daily(4)
        two = snapshot(two.time, 2, refers_to=(one.id,))
        three = snapshot(three.time, 3, refers_to=(one.id, two.id))

        decided = plan(RetentionPolicy(last=1), [one, two, three, four])

        assert decided.deletions == (three.name, two.name, one.name)

    def test_less_than_no_deletions_are_refused(self):
        with pytest.raises(InvalidArgumentError, match="cannot delete -1 snapshots"):
            plan(RetentionPolicy(last=1), [], most=-1)


class TestSayingWhatToKeep:
    def test_words_and_numbers(self):
        policy = parse_keep(["last=3, daily=14,weekly=8", "within=30d,tag=v1,tag=v2"])

        assert policy == RetentionPolicy(
            last=3, daily=14, weekly=8, within=timedelta(days=30), tags=("v1", "v2")
        )
        assert make_policy(
            {"last": 3, "daily": 14, "weekly": 8, "within": "30 days", "tags": ["v1", "v2"]}
        ) == policy  # fmt: skip

    def test_nothing_said_keeps_all(self):
        assert not parse_keep([])
        assert not make_policy({})
        assert parse_keep(["last=1"])

    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            ("dayly=3", "'dayly' is not something that can be kept", "did you mean daily"),
            ("zzz=3", "'zzz' is not something", "what can be said: last, hourly"),
            ("tags=v1,last=1", "'tags' is not something that can be kept", "did you mean tag"),
            ("last=0", "at least 1 snapshot is kept, not 0", "leave last out"),
            ("daily=0", "daily needs a number from 1", "leave daily out"),
            ("daily=-1", "daily needs a number from 1", "leave daily out"),
            ("daily=1e3", "daily needs a whole number, not '1e3'", "write it as"),
            ("daily=٣", "daily needs a whole number", "write it as"),
            ("daily=", "'daily=' does not say what to keep", "write it as"),
            ("daily", "'daily' does not say what to keep", "write it as"),
            ("", "'' does not say what to keep", "write it as"),
            ("daily=3,daily=4", "daily is told twice: 3 and 4", ""),
            ("within=3", "'3' is not a duration", "30 days"),
            ("within=1y", "'y' in '1y' is not a unit", "365d"),
            ("within=2months", "'months' in '2months' is not a unit", "365d"),
            ("within=30m", "'m' in '30m' is not a unit", "hours"),
            ("within=0d", "'0d' is not between 1 hour and", ""),
            ("within=-3d", "'-3d' is not a duration", ""),
            ("tag=v1", "a policy of tags alone would delete", "last=1"),
            ("last=1,tag=a b", "'a b' cannot be a tag", "one word"),
        ],
    )
    def test_what_is_unknown_or_senseless_is_refused(self, text, message, hint):
        with pytest.raises(ConfigError) as caught:
            parse_keep([text])

        assert message in caught.value.message
        assert hint in (caught.value.hint or "")

    @pytest.mark.parametrize("value", [True, 1.5, "3", [1]])
    def test_a_count_in_a_mapping_is_a_whole_number(self, value):
        with pytest.raises(ConfigError, match="daily needs a whole number"):
            make_policy({"daily": value})

    @pytest.mark.parametrize("value", [[], 3, [""], [3], "a,b"])
    def test_tags_in_a_mapping_are_words(self, value):
        with pytest.raises(ConfigError, match="tag"):
            make_policy({"last": 1, "tags": value})

    @pytest.mark.parametrize(
        ("text", "hours"),
        [("1h", 1), ("12 hours", 12), ("30d", 720), ("1 day", 24), ("30 days", 720), ("2w", 336),
         ("8 weeks", 1344)],
    )  # fmt: skip
    def test_durations(self, text, hours):
        assert parse_duration(text) == timedelta(hours=hours)
