"""``schedule``, ``only_if``, ``retry``, ``timeout`` and ``verify`` of a configuration."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from backup.conditions import Conditions
from backup.config.models import Configuration
from backup.config.scheduling import CHECKS, Checks
from backup.running import RETRY
from backup.tasks import Program, keep_texts, places_of, tasks_of
from backup.triggers import Retry, make_trigger

HOUR = timedelta(hours=1)


def configuration(*, defaults=None, stores=None, **keys):
    return Configuration.model_validate(
        {
            "version": 1,
            "stores": stores or {},
            "defaults": defaults or {},
            "jobs": {"shop": {"sources": ["/etc"], **keys}},
        }
    )


def job(**keys):
    return configuration(**keys).job("shop")


def tasks(**keys):
    found = tasks_of(configuration(**keys), Program(("program",), ("--config=x",)), "web1")
    return {one.name: one for one in found}


@pytest.mark.parametrize(
    "said",
    [
        {"at": "02:30", "time_zone": "Europe/Berlin", "jitter": "10 minutes"},
        {"at": ["02:30", "14:30"]},
        {"every": "6 hours"},
        {"every": "1 day", "jitter": "2 hours"},
        {"on": "monday at 03:00"},
        {"on": ["monday at 03:00", "1st at 04:00"]},
        {"cron": "30 2 * * 1-5", "time_zone": "UTC"},
    ],
)
def test_a_schedule_is_read_and_written_again(said):
    read = configuration(schedule=said)

    assert read.job("shop").schedule == make_trigger(said)
    again = Configuration.model_validate(read.model_dump(exclude_unset=True))
    assert again.job("shop").schedule == read.job("shop").schedule


@pytest.mark.parametrize("text", ["every 6 hours", "at 02:30", "on monday at 03:00", "cron @daily"])
def test_a_schedule_may_be_a_text(text):
    word, _, rest = text.partition(" ")

    assert job(schedule=text).schedule == make_trigger({word: rest})


def test_the_other_keys_are_read_and_written_again():
    read = configuration(
        only_if={"mains_power": True, "mounted": "/mnt/x", "reachable": ["a:1"]},
        retry={"times": 2, "wait": "2 hours"},
        timeout="12 hours",
        stall_after="2 hours",
        verify={"checksum": "never", "content": "1 week"},
    )

    shop = read.job("shop")
    assert shop.only_if == Conditions(mains_power=True, mounted=("/mnt/x",), reachable=("a:1",))
    assert shop.retry == Retry(times=2, wait=2 * HOUR, most=2 * HOUR)
    assert shop.timeout == 12 * HOUR
    assert shop.stall_after == 2 * HOUR
    assert shop.verify == Checks(None, 7 * 24 * HOUR)
    assert Configuration.model_validate(read.model_dump(exclude_unset=True)) == read


def test_what_is_not_said_of_verify_is_as_always():
    assert job(verify={"content": "1 week"}).verify.checksum == CHECKS.checksum
    assert job(defaults={"verify": {"content": "never"}}).verify == Checks(CHECKS.checksum, None)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"schedule": "sometimes"}, "it needs a mapping such as {every: 6 hours}"),
        ({"schedule": {"every": "6 ours"}}, "did you mean hours?"),
        ({"schedule": {"at": "25:00"}}, "25:00"),
        ({"schedule": {"every": "1 hour", "at": "02:30"}}, "both every and at"),
        ({"schedule": {"at": "02:30", "time_zone": "Europe/Berlyn"}}, "Europe/Berlin"),
        ({"only_if": {"mounted": "mnt"}}, "an absolute path"),
        ({"only_if": {"command": ["test"]}}, "absolute path"),
        ({"timeout": 12}, "timeout needs a unit"),
        ({"stall_after": "0 minutes"}, "stall_after"),
        ({"retry": {"wait": "soon"}}, "unit 'soon'"),
        ({"verify": {"checksum": "often"}}, "unit 'often'"),
    ],
)
def test_what_makes_no_sense_is_refused(keys, words):
    with pytest.raises(ValidationError, match=words):
        configuration(**keys)


class TestTasks:
    def test_a_job_and_its_upkeep(self):
        found = tasks(
            stores={"disk": {"url": "/d"}}, schedule="every 6 hours", keep={"last": 3}, timeout="1d"
        )

        assert list(found) == [
            "shop",
            "rotate/disk/shop",
            "verify/disk/shop",
            "verify/disk/shop/all",
            "verify/disk/shop/content",
        ]
        shop, rotation, *checks = found.values()
        assert (shop.when(), rotation.when()) == ("every 6 hours", "every day")
        assert [one.when() for one in checks] == ["every day", "every week", "every 30 days"]
        assert (shop.is_upkeep, rotation.is_upkeep, shop.retry) == (False, True, RETRY)
        assert shop.apart == rotation.apart

    def test_without_keep_there_is_no_rotation(self):
        assert "rotate/disk/shop" not in tasks(stores={"disk": {"url": "/d"}})
        assert "rotate/disk/shop" not in tasks(stores={"disk": {"url": "/d"}}, keep={})

    def test_what_a_store_keeps_wins(self):
        stores = {"a": {"url": "/a", "keep": {"last": 9}}, "b": {"url": "/b"}}

        found = tasks_of(
            configuration(stores=stores, defaults={"stores": ["a", "b"]}), Program(("p",)), "web1"
        )
        assert [one.name for one in found if one.name.startswith("rotate")] == ["rotate/a/shop"]

    def test_a_store_that_keeps_all_is_not_rotated_whatever_the_job_says(self):
        found = tasks(stores={"disk": {"url": "/d", "keep": {}}}, keep={"last": 1})

        assert not [name for name in found if name.startswith("rotate")]

    def test_nothing_is_verified_where_that_is_said(self):
        found = tasks(verify={"checksum": "never", "content": "never"})

        assert list(found) == ["shop"]

    def test_where_no_store_is_named_it_is_the_default_one(self):
        assert "verify/default/shop" in tasks()

    def test_a_host_that_cannot_open_its_snapshots_leaves_contents_and_rotation_to_others(self):
        said = configuration(stores={"disk": {"url": "/d"}}, keep={"last": 3})

        found = tasks_of(said, Program(("p",)), "web1", only_writes=True)

        names = [one.name for one in found]
        assert names == ["shop", "verify/disk/shop", "verify/disk/shop/all"]

    def test_stores_are_named_in_commands_and_their_urls_are_not(self):
        [place] = places_of(configuration(stores={"disk": {"url": "/d"}}), "shop", "web1")

        assert place.options() == ["--store=disk"]

    def test_conditions_hold_for_upkeep_too(self):
        found = tasks(only_if={"mounted": "/mnt/x"})

        assert {one.conditions for one in found.values()} == {Conditions(mounted=("/mnt/x",))}

    def test_when_a_run_counts_as_stalled_holds_for_upkeep_too(self):
        stores = {"disk": {"url": "/d"}}

        found = tasks(stores=stores, stall_after="2 hours").values()
        assert {one.stall_after for one in found} == {2 * HOUR}
        assert {one.stall_after for one in tasks(stores=stores).values()} == {HOUR / 2}

    def test_rules_become_options(self):
        keep = job(keep={"last": 3, "daily": 14, "within": "2 days", "tags": ["a", "b"]}).keep

        assert keep_texts(keep) == ["last=3", "daily=14", "within=2d", "tag=a", "tag=b"]
