"""Whether a job is well: each reason against it, from facts alone; then from what lies on disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from backup.catalog import Catalog, KnownProof, SnapshotFacts
from backup.config.scheduling import Checks
from backup.health import Health, JobHealth, StoreHealth, Watched, examine, lasting
from backup.health.gathering import Now
from backup.health.judging import GRACE, Upkeep, levels, reasons_against
from backup.health.records import Progress
from backup.model import ArchiveType, SnapshotKind
from backup.run_state import Cause, JobRuns, Outcome, Run, RunState
from backup.running import Task
from backup.triggers import make_trigger

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
CHECKS = {"checksum": DAY, "content": 30 * DAY}
DISK = StoreHealth(
    store="disk",
    url="file:///disk",
    snapshots=3,
    stored=3000,
    newest=NOW - HOUR,
    snapshot="ab12",
    contents=1000,
    checksum=NOW - HOUR,
    content=NOW - DAY,
)
WELL = JobHealth(
    job="docs",
    when="every 6 hours",
    last=NOW - HOUR,
    outcome="done",
    last_done=NOW - HOUR,
    next=NOW + 5 * HOUR,
    stores=(DISK,),
)
KNOWN = JobRuns(job="docs", first_seen=NOW - 100 * DAY, last_done=NOW - HOUR)


def run_of(outcome=None, reason="", cause=Cause.SCHEDULE):
    ended = None if outcome is None else NOW - HOUR
    return Run(
        job="docs",
        number=3,
        cause=cause,
        started=NOW - 2 * HOUR,
        process=1,
        ended=ended,
        outcome=outcome,
        reason=reason,
    )


def failed(times=1, reason="no room"):
    return replace(KNOWN, failures=times, last=run_of(Outcome.FAILED, reason))


def reasons(job=WELL, known=KNOWN, upkeep=(), checks=CHECKS):
    return list(reasons_against(job, known, upkeep, checks, NOW))


class TestReasons:
    def test_nothing_is_said_against_a_job_that_is_well(self):
        assert reasons() == []

    def test_a_run_that_failed_is_told_with_its_reason(self):
        assert reasons(known=failed()) == ["failed: no room"]

    def test_failures_in_a_row_are_counted(self):
        assert reasons(known=failed(3)) == ["failed 3 times: no room"]

    def test_how_it_failed_last_is_told_of_several_failures(self):
        known = replace(KNOWN, failures=3, last=run_of(Outcome.TIMED_OUT, "longer than 1 hour"))
        said = "failed 3 times, timed out the last time: longer than 1 hour"
        assert reasons(known=known) == [said]

    def test_a_run_that_took_too_long_is_told_as_such(self):
        known = replace(KNOWN, failures=1, last=run_of(Outcome.TIMED_OUT, "longer than 1 hour"))
        assert reasons(known=known) == ["timed out: longer than 1 hour"]

    def test_a_job_that_failed_is_not_well_while_it_is_tried_again(self):
        job = replace(WELL, running_since=NOW)
        known = replace(KNOWN, failures=2, last=run_of())
        assert reasons(job, known) == ["failed 2 times, and runs again"]

    def test_a_good_run_by_hand_after_failures_ends_them(self):
        assert reasons(known=replace(KNOWN, failures=0, last=run_of(Outcome.DONE))) == []

    def test_a_job_that_is_due_for_a_while_is_told(self):
        late = replace(WELL, next=NOW - GRACE - timedelta(hours=2))
        assert reasons(late) == ["due for 2 hours"]

    def test_a_job_that_is_due_just_now_is_well(self):
        assert reasons(replace(WELL, next=NOW - GRACE)) == []

    def test_a_job_that_runs_is_not_late(self):
        assert reasons(replace(WELL, next=NOW - DAY, running_since=NOW - HOUR)) == []

    def test_a_job_that_waits_too_long_is_told_with_what_it_waits_for(self):
        waits = replace(WELL, next=NOW - 3 * HOUR, waits_for="no mains power")
        assert reasons(waits) == ["due for 3 hours, and waits: no mains power"]

    def test_a_paused_job_is_not_well_and_not_late(self):
        paused = replace(WELL, paused_since=NOW - 2 * DAY, next=None)
        assert reasons(paused) == ["paused for 2 days"]

    def test_a_run_that_has_stalled_comes_first(self):
        at = Progress(what="docs", still_for=3600, is_stalled=True)
        job = replace(WELL, running_since=NOW - DAY, progress=at)
        told = reasons(job, replace(KNOWN, failures=1, last=run_of()))
        assert told == ["its run has not moved a byte for 1 hour", "failed, and runs again"]

    def test_a_run_of_which_nobody_tells_whether_it_moves_may_take_a_day(self):
        assert reasons(replace(WELL, running_since=NOW - DAY)) == []
        assert reasons(replace(WELL, running_since=NOW - 3 * DAY)) == [
            "runs for 3 days, and nobody tells whether it moves"
        ]
        moves = Progress(what="docs", still_for=5)
        assert reasons(replace(WELL, running_since=NOW - 3 * DAY, progress=moves)) == []

    def test_damage_is_told_before_all_else(self):
        store = replace(DISK, damaged=("a.enc", "b.enc"))
        told = reasons(replace(WELL, stores=(store,)), failed())
        assert told[0] == "damaged in disk: a.enc and 1 more"

    def test_a_job_without_a_snapshot_is_not_well(self):
        bare = StoreHealth(store="disk", url="file:///disk")
        job = replace(WELL, stores=(bare,), last_done=None)
        assert reasons(job) == ["there is no snapshot yet"]

    def test_a_catalog_that_knows_no_snapshot_of_a_job_that_ran_is_told(self):
        bare = StoreHealth(store="disk", url="file:///disk")
        assert reasons(replace(WELL, stores=(bare,))) == ["no snapshot of it is known here"]

    @pytest.mark.parametrize(
        ("errors", "told"),
        [(1, "1 entry of the source"), (2000, "2,000 entries of the source")],
    )
    def test_what_could_not_be_read_is_told(self, errors, told):
        job = replace(WELL, stores=(replace(DISK, errors=errors),))
        assert reasons(job) == [f"{told} could not be read"]

    def test_what_could_not_be_read_is_told_also_where_the_snapshot_cannot_be_opened(self):
        job = replace(WELL, outcome=str(Outcome.INCOMPLETE))
        assert reasons(job) == ["some of the source could not be read"]

    def test_a_store_that_has_not_got_the_newest_snapshot_is_told(self):
        usb = replace(DISK, store="usb", newest=NOW - 3 * DAY)
        bare = StoreHealth(store="tape", url="file:///tape")
        assert reasons(replace(WELL, stores=(DISK, usb, bare))) == [
            "usb has not got the newest snapshot",
            "tape has no snapshot of it",
        ]

    @pytest.mark.parametrize(("age", "is_late"), [(61, False), (62, True)])
    def test_a_proof_counts_for_twice_its_interval_and_a_day(self, age, is_late):
        store = replace(DISK, content=NOW - age * DAY)
        told = reasons(replace(WELL, stores=(store,)))
        assert told == (["content not proven for 62 days in disk"] if is_late else [])

    def test_a_content_that_was_never_proven_is_told_when_there_was_time_for_it(self):
        job = replace(WELL, stores=(replace(DISK, content=None),))
        assert reasons(job) == ["content not proven yet in disk"]
        assert reasons(job, replace(KNOWN, first_seen=NOW - 10 * DAY)) == []

    def test_what_is_never_to_be_proven_is_not_asked_for(self):
        job = replace(WELL, stores=(replace(DISK, content=None, checksum=None),))
        assert reasons(job, checks={"checksum": None, "content": None}) == []

    def test_a_host_that_cannot_open_snapshots_does_not_prove_their_contents(self):
        assert levels(Checks(), is_readable=False) == {"checksum": DAY, "content": None}

    def test_upkeep_that_failed_is_told(self):
        upkeep = [Upkeep("rotation in disk", failed()), Upkeep("verification in disk", KNOWN)]
        assert reasons(upkeep=upkeep) == ["rotation in disk failed: no room"]


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(0), "less than a minute"),
        (timedelta(seconds=61), "1 minute"),
        (timedelta(hours=2, minutes=59), "2 hours"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(days=2), "2 days"),
    ],
)
def test_a_length_of_time_is_told_in_one_unit(time, words):
    assert lasting(time) == words


class TestWhatLiesOnDisk:
    @pytest.fixture
    def state(self, tmp_path, clock):
        return RunState(tmp_path / "runs.sqlite", clock)

    @pytest.fixture
    def catalog(self, tmp_path, clock):
        return Catalog(tmp_path / "catalog.sqlite", clock=clock)

    @pytest.fixture
    def look(self, state, catalog, clock):
        def look(**going):
            return examine(
                [Watched("docs", {"disk": "file:///disk"}, CHECKS)],
                tasks(),
                state,
                catalog,
                host="web1",
                now=clock.now,
                zone=UTC,
                going=Now(**going),
            ).jobs[0]

        return look

    def test_nothing_is_known_on_a_new_machine(self, look, tmp_path):
        job = look()
        assert job.reasons == ("there is no snapshot yet",)
        assert (job.last, job.outcome, job.newest) == (None, "", None)
        assert list(tmp_path.iterdir()) == []

    def test_the_newest_snapshot_and_the_sum_of_all_are_told(self, look, catalog, clock):
        first, last = facts("a", clock.now - DAY), facts("b", clock.now, sequence=2)
        catalog.record([first, last])
        store = look().newest
        assert (store.snapshots, store.stored, store.snapshot) == (2, 200, "b" * 32)
        assert (store.contents, store.newest) == (5000, clock.now)

    def test_what_lies_in_the_trash_does_not_count(self, look, catalog, clock):
        catalog.record([facts("a", clock.now - DAY), facts("b", clock.now, sequence=2)])
        catalog.set_trashed("file:///disk", name_of("b"), clock.now)
        assert (look().newest.snapshots, look().newest.snapshot) == (1, "a" * 32)

    def test_the_newest_proof_of_each_level_is_told(self, look, catalog, clock):
        catalog.record([facts("a", clock.now - DAY)])
        catalog.record_proof(proof("a", "content", clock.now - 5 * HOUR))
        catalog.record_proof(proof("a", "checksum", clock.now - 9 * HOUR))
        store = look().newest
        assert (store.checksum, store.content) == (clock.now - 5 * HOUR,) * 2

    def test_a_proof_that_does_not_hold_is_damage(self, look, catalog, clock):
        catalog.record([facts("a", clock.now - DAY)])
        catalog.record_proof(proof("a", "checksum", clock.now, holds=False))
        assert look().reasons[0] == f"damaged in disk: {name_of('a')}"

    def test_a_run_that_goes_on_is_told_with_how_far_it_is(self, look, state, clock):
        at = Progress(what="docs", done=5, total=10)
        with state.claim_by_hand("docs"):
            clock.advance(minutes=5)
            job = look(progress={"docs": at})
        assert job.running_since == clock.now - timedelta(minutes=5)
        assert job.progress == at

    def test_a_run_whose_process_is_gone_is_interrupted(self, look, state):
        state.claim_by_hand("docs").close()
        job = look()
        assert (job.outcome, job.running_since) == ("interrupted", None)

    def test_it_is_not_well_then_also_before_anybody_has_recorded_that(self, look, state, catalog):
        catalog.record([facts("a", NOW)])
        state.claim_by_hand("docs").finish(Outcome.DONE)
        state.claim_by_hand("docs").close()
        assert look().reasons == ("interrupted: its process ended without a word",)
        assert state.jobs()["docs"].failures == 0

    def test_upkeep_whose_process_is_gone_has_failed(self, look, state, catalog, clock):
        catalog.record([facts("a", clock.now)])
        state.claim_by_hand("verify/disk/docs/content").close()
        assert look().reasons == (
            "verification in disk (content) failed: its process ended without a word",
        )

    def test_upkeep_that_failed_counts_against_its_job(self, look, state, catalog, clock):
        catalog.record([facts("a", clock.now)])
        state.claim_by_hand("verify/disk/docs/content").finish(Outcome.FAILED, reason="no key")
        state.claim_by_hand("verify/disk/other").finish(Outcome.FAILED, reason="else")
        assert look().reasons == ("verification in disk (content) failed: no key",)

    def test_a_catalog_that_cannot_be_used_is_remarked(self, state, tmp_path, clock):
        (tmp_path / "catalog").mkdir()
        found = examine(
            [Watched("docs", {"disk": "file:///disk"}, CHECKS)],
            tasks(),
            state,
            Catalog(tmp_path / "catalog", clock=clock),
            host="web1",
            now=clock.now,
            zone=UTC,
        )
        assert "without the catalog" in found.remarks[0]
        assert found.jobs[0].stores[0].newest is None

    def test_secrets_in_urls_are_not_told(self, state, catalog, clock):
        watched = Watched("docs", {"far": "sftp://ann:secret@far/x"}, CHECKS)
        found = examine([watched], tasks(), state, catalog, host="web1", now=clock.now, zone=UTC)
        assert "secret" not in msgspec.json.encode(found).decode()

    def test_all_of_it_goes_through_the_socket_unchanged(self, look, catalog, clock):
        catalog.record([facts("a", clock.now)])
        at = Progress(what="docs", done=5, total=10)
        health = Health(host="web1", time=clock.now, jobs=(look(progress={"docs": at}),))
        again = msgspec.convert(msgspec.json.decode(msgspec.json.encode(health)), Health)
        assert again == health


def tasks():
    def begin(*_):
        raise AssertionError

    every = make_trigger({"every": "6 hours"})
    return [
        Task(name="docs", begin=begin, trigger=every),
        Task(name="verify/disk/docs/content", begin=begin, trigger=every, is_upkeep=True),
        Task(name="verify/disk/other", begin=begin, trigger=every, is_upkeep=True),
    ]


def name_of(letter):
    return f"docs/docs-{letter}.enc"


def facts(letter, time, sequence=1):
    return SnapshotFacts(
        store="file:///disk",
        name=name_of(letter),
        id=letter * 32,
        host="web1",
        job="docs",
        chain="c",
        sequence=sequence,
        time=time,
        kind=SnapshotKind.FULL,
        archive=ArchiveType.TAR_XZ,
        size=100,
        modified=time,
        core_digest="",
        bytes=5000,
    )


def proof(letter, level, finished, *, holds=True):
    return KnownProof(
        store="file:///disk",
        name=name_of(letter),
        id=letter * 32,
        level=level,
        started=finished,
        finished=finished,
        holds=holds,
    )
