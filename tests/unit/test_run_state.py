from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from backup.errors import LockedError, RunStateError
from backup.run_state import RUNS_NAME, Cause, Outcome, RunState, run_state
from backup.run_state.schema import SCHEMA

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.fixture
def told():
    return []


@pytest.fixture
def state(tmp_path, clock, told):
    return RunState(tmp_path / "state" / RUNS_NAME, clock, tell=told.append, wait=0.2)


@pytest.fixture
def again(state, clock):
    """Return the same file as another process has it."""
    return RunState(state.path, clock, wait=0.2)


@pytest.fixture
def shop(state):
    """Return a function that tells what is known of the job ``shop``."""
    return lambda: state.see(["shop"])["shop"]


@pytest.fixture
def serve(state, shop, clock):
    """Return a function that claims a run of ``shop`` for this very moment."""
    return lambda: state.claim("shop", clock(), after=shop().served)


@pytest.fixture
def leave(state, clock):
    """Return a function that begins a run in a process which is then killed."""

    def go(how="claim('shop', clock(), after=None)", process=None):
        code = (
            "import os, sys\n"
            "from datetime import datetime\n"
            "from pathlib import Path\n"
            "from backup.run_state import RunState\n"
            "clock = lambda: datetime.fromisoformat(sys.argv[2])\n"
            f"own = os.getpid(); os.getpid = lambda: {process} or own\n"
            f"claim = RunState(Path(sys.argv[1]), clock).{how}\n"
            "assert claim is not None\n"
            "os.kill(own, 9)\n"
        )
        command = [sys.executable, "-c", code, str(state.path), clock().isoformat()]
        assert subprocess.run(command, check=False).returncode == -9

    return go


class TestWhatIsKnown:
    def test_nothing_at_first_and_no_file_is_made_by_asking(self, state):
        assert state.jobs() == {}
        assert state.history("shop") == []
        assert state.running() == []
        assert not state.is_running("shop")
        assert state.mark_interrupted() == []
        state.forget("shop")
        assert not state.path.parent.exists()

    def test_since_when_a_job_is_known(self, state, clock):
        first = clock()
        state.see(["shop"])
        clock.advance(days=1)

        known = state.see(["shop", "mail"])

        assert known["shop"].first_seen == known["shop"].last_moment == first
        assert known["mail"].first_seen == clock()
        assert known["mail"].served is None

    def test_a_run_from_its_beginning_to_its_end(self, state, serve, shop, clock):
        moment = clock()
        claim = serve()
        assert (claim.job, claim.moment, claim.tries) == ("shop", moment, 0)
        assert shop().served == shop().last_moment == moment
        assert [run.process for run in state.running()] == [os.getpid()]

        clock.advance(minutes=5)
        run = claim.finish(Outcome.DONE, details={"snapshot": "ab12", "bytes": 10**13})

        assert run.ended - run.started == 5 * MINUTE
        assert (run.number, run.cause, run.outcome) == (1, Cause.SCHEDULE, Outcome.DONE)
        assert run.details == {"snapshot": "ab12", "bytes": 10**13}
        assert state.history("shop") == [run]
        assert shop().last == run
        assert shop().last_done == clock()
        assert state.running() == []

    def test_the_history_is_of_one_job_newest_first(self, state, serve, clock):
        state.claim_by_hand("mail").finish(Outcome.DONE)
        for _ in range(3):
            clock.advance(hours=1)
            serve().finish(Outcome.DONE)

        assert [run.number for run in state.history("shop")] == [3, 2, 1]
        assert [run.number for run in state.history("shop", 2)] == [3, 2]

    def test_5_000_runs_keep_the_file_small(self, tmp_path, clock, monkeypatch):
        # That each is durable is for other tests; here it would take a minute.
        connect = sqlite3.connect

        def quickly(*arguments, **options):
            found = connect(*arguments, **options, factory=Quick)
            found.execute("PRAGMA synchronous = OFF")
            return found

        class Quick(sqlite3.Connection):
            def execute(self, statement, *rest):
                return super().execute(statement.replace("EXTRA", "OFF"), *rest)

        monkeypatch.setattr(sqlite3, "connect", quickly)
        state = RunState(tmp_path / RUNS_NAME, clock, kept=50)
        sizes = []
        for number in range(5000):
            clock.advance(minutes=1)
            state.claim_by_hand("shop").finish(Outcome.DONE, details={"snapshot": f"{number:032x}"})
            sizes.append(state.path.stat().st_size)

        assert max(sizes) <= 2 * sizes[200]
        assert [run.number for run in state.history("shop")] == [*range(5000, 4950, -1)]


class TestExactlyOne:
    def test_a_moment_is_served_once(self, state, again, clock, shop):
        before = shop().served
        claim = state.claim("shop", clock(), after=before)
        assert again.claim("shop", clock(), after=before) is None, "it runs"
        claim.finish(Outcome.DONE)

        assert again.claim("shop", clock(), after=before) is None, "it was served"
        assert again.claim("shop", clock() + DAY, after=claim.moment) is not None

    def test_a_job_runs_once_at_a_time_for_whatever_reason(self, state, again, clock):
        with state.claim_by_hand("shop"):
            assert again.is_running("shop")
            assert again.claim_by_hand("shop") is None
            assert again.claim("shop", clock(), after=None) is None
            assert again.claim_by_hand("mail") is not None

        assert again.claim("shop", clock(), after=None) is not None

    def test_what_was_not_claimed_is_not_recorded(self, state, again, clock, shop):
        with state.claim_by_hand("shop"):
            known = shop()
            again.claim("shop", clock(), after=None)
            assert shop() == known

    def test_a_run_by_hand_serves_no_moment(self, state, shop, serve, clock):
        serve().finish(Outcome.DONE)
        known = shop()
        clock.advance(hours=1)

        run = state.claim_by_hand("shop").finish(Outcome.DONE)

        assert run.moment is None
        assert shop().served == known.served

    def test_it_is_so_for_threads_too(self, state, clock):
        claims, together = [], threading.Barrier(8)

        def go():
            together.wait()
            claims.append(RunState(state.path, clock).claim("shop", clock(), after=None))

        threads = [threading.Thread(target=go) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(claims) == 8
        assert len([claim for claim in claims if claim is not None]) == 1

    def test_a_lock_that_is_looked_at_does_not_refuse_a_run(self, state, shop):
        shop()
        over = threading.Event()

        def look():
            while not over.wait(0.001):
                state.is_running("shop")

        looking = threading.Thread(target=look)
        looking.start()
        try:
            for _ in range(40):
                state.claim_by_hand("shop").finish(Outcome.DONE)
        finally:
            over.set()
            looking.join()


class TestFailures:
    def test_they_are_counted_until_one_ends_well(self, shop, serve, clock):
        for outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED):
            clock.advance(days=1)
            serve().finish(outcome, reason="the disk is gone")
        assert shop().failures == 3
        assert shop().last.reason == "the disk is gone"
        assert shop().last_done is None

        clock.advance(days=1)
        serve().finish(Outcome.INCOMPLETE)
        assert shop().failures == 0
        assert shop().last_done == clock()

    def test_one_that_was_skipped_is_neither(self, shop, serve, clock):
        serve().finish(Outcome.FAILED)
        clock.advance(days=1)
        serve().finish(Outcome.SKIPPED, reason="on battery", retry_at=clock() + MINUTE)

        assert shop().failures == 1
        assert shop().last_done is None
        assert shop().retry_at == clock() + MINUTE

    def test_it_is_tried_again_once_for_the_same_moment(self, state, again, shop, serve, clock):
        claim = serve()
        claim.finish(Outcome.FAILED, retry_at=clock() + MINUTE)
        wanted = shop().retry_at
        assert (wanted, shop().tries) == (clock() + MINUTE, 1)

        retry = state.claim_retry("shop", wanted)
        assert (retry.moment, retry.tries, retry.run.cause) == (claim.moment, 1, Cause.RETRY)
        retry.finish(Outcome.FAILED)

        assert again.claim_retry("shop", wanted) is None
        assert (shop().tries, shop().retry_at) == (2, None)

    def test_the_next_moment_begins_to_count_anew(self, shop, serve, clock):
        serve().finish(Outcome.FAILED, retry_at=clock() + DAY)
        clock.advance(hours=6)

        claim = serve()

        assert claim.tries == 0
        assert shop().retry_at is None
        claim.finish(Outcome.FAILED)
        assert (shop().tries, shop().failures) == (1, 2)

    def test_one_by_hand_leaves_the_retry_unless_it_ends_well(self, state, shop, serve, clock):
        wanted = clock() + MINUTE
        serve().finish(Outcome.FAILED, retry_at=wanted)
        state.claim_by_hand("shop").finish(Outcome.FAILED)
        assert (shop().retry_at, shop().tries, shop().failures) == (wanted, 1, 2)

        state.claim_by_hand("shop").finish(Outcome.DONE)
        assert (shop().retry_at, shop().tries, shop().failures) == (None, 0, 0)

    def test_a_block_that_is_left_early_counts_as_interrupted(self, state, shop, serve):
        with pytest.raises(ZeroDivisionError), serve():
            1 / 0  # noqa: B018 - raises

        assert shop().last.outcome is Outcome.INTERRUPTED
        assert not state.is_running("shop")


class TestProcessesThatAreGone:
    def test_their_runs_are_found_and_tried_again(self, state, leave, shop, clock):
        moment = clock()
        leave()
        assert state.running() == []
        assert shop().unended is not None
        clock.advance(minutes=1)

        (run,) = state.mark_interrupted(lambda known: clock() + known.tries * MINUTE)

        assert (run.outcome, run.ended) == (Outcome.INTERRUPTED, clock())
        assert run.reason == "its process ended without a word"
        assert shop().last == state.history("shop")[0] == run
        assert (shop().failures, shop().retry_at) == (1, clock() + MINUTE)
        assert state.mark_interrupted() == []
        retry = state.claim_retry("shop", shop().retry_at)
        assert retry.moment == moment

    def test_one_that_is_alive_is_left_alone(self, state, again, shop):
        with state.claim_by_hand("shop"):
            assert again.mark_interrupted() == []
            assert len(again.running()) == 1
            assert shop().last.outcome is None

    def test_one_by_hand_is_not_tried_again(self, state, leave, shop):
        leave("claim_by_hand('shop')")

        assert len(state.mark_interrupted(lambda known: known.first_seen)) == 1
        assert shop().retry_at is None

    def test_the_next_run_finds_them_too(self, state, leave, shop, clock):
        leave()
        clock.advance(days=1)

        state.claim("shop", clock(), after=shop().served).finish(Outcome.DONE)

        outcomes = [run.outcome for run in state.history("shop")]
        assert outcomes == [Outcome.DONE, Outcome.INTERRUPTED]

    def test_a_moment_that_cannot_be_claimed_leaves_them_to_be_tried_again(
        self, state, leave, shop, clock
    ):
        leave()
        assert state.claim("shop", clock(), after=None) is None

        assert shop().unended is not None
        assert len(state.mark_interrupted(lambda known: known.first_seen)) == 1
        assert shop().retry_at is not None

    def test_a_process_id_that_somebody_else_has_by_now_confuses_nobody(self, state, leave, shop):
        leave(process=os.getpid())

        assert shop().unended.process == os.getpid(), "a process that is alive"
        assert state.running() == []
        assert len(state.mark_interrupted()) == 1

    def test_a_process_that_was_given_the_lock_keeps_it(self, state, again, serve, shop):
        claim = serve()
        child = subprocess.Popen(["sleep", "60"], pass_fds=[claim.fileno()])
        try:
            claim.finish(Outcome.TIMED_OUT)

            assert again.is_running("shop")
            assert again.claim_by_hand("shop") is None
            assert again.running() == [], "it has told its end"
        finally:
            child.kill()
            child.wait()
        assert again.claim_by_hand("shop") is not None

    def test_a_child_that_was_forked_by_whatever_runs_does_not(self, state, again, serve):
        claim = serve()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        try:
            claim.finish(Outcome.DONE)
            assert again.claim_by_hand("shop") is not None
        finally:
            os.close(reading)
            os.close(writing)
            os.waitpid(child, 0)

    def test_a_claim_that_is_forgotten_about_is_let_go(self, state, again, serve):
        claim = serve()
        assert again.is_running("shop")
        del claim

        assert not again.is_running("shop")
        assert len(again.mark_interrupted()) == 1


class TestPauses:
    def test_a_paused_job_is_not_claimed_but_by_hand(self, state, shop, clock):
        assert state.pause("shop")
        assert not state.pause("shop")
        clock.advance(days=1)

        assert shop().paused_since == clock() - DAY
        assert state.claim("shop", clock(), after=None) is None
        assert state.claim_by_hand("shop").finish(Outcome.DONE)

        assert state.resume("shop")
        assert not state.resume("shop")
        assert state.claim("shop", clock(), after=None) is not None

    def test_nor_is_it_tried_again(self, state, shop, serve, clock):
        serve().finish(Outcome.FAILED, retry_at=clock() + MINUTE)
        state.pause("shop")

        assert state.claim_retry("shop", shop().retry_at) is None
        assert shop().retry_at is not None


class TestAClockThatWasSetBack:
    def test_it_is_noticed_and_remembered_until_it_is_put_right(self, state, shop, serve, clock):
        serve().finish(Outcome.DONE)
        assert shop().set_back is None
        clock.advance(days=-3650)
        noticed = clock()
        assert shop().set_back == noticed
        clock.advance(days=1)
        assert shop().set_back == noticed
        clock.advance(days=-2)
        assert shop().set_back == clock()

        clock.advance(days=3660)
        assert shop().set_back is None

    def test_a_run_begins_anew(self, state, shop, serve, clock):
        serve().finish(Outcome.DONE)
        clock.advance(days=-3650)
        assert shop().set_back is not None

        serve().finish(Outcome.DONE)

        assert shop().served == clock()
        assert shop().set_back is None


class TestForgetting:
    def test_nothing_is_left_of_the_job(self, state, serve, shop):
        serve().finish(Outcome.DONE)
        state.see(["mail"])

        state.forget("shop")

        assert list(state.jobs()) == ["mail"]
        assert state.history("shop") == []
        assert list(state.path.with_suffix(".locks").iterdir()) == []

    def test_not_while_it_runs(self, state, again, serve):
        with serve(), pytest.raises(LockedError, match="shop is running"):
            again.forget("shop")

    def test_who_waits_for_a_lock_that_was_forgotten_gets_the_new_one(self, state, serve, shop):
        path = state.path.with_suffix(".locks") / "shop.lock"
        serve().finish(Outcome.DONE)
        with path.open() as old:
            state.forget("shop")
            fcntl.flock(old, fcntl.LOCK_EX)

            assert state.claim_by_hand("shop") is not None


class TestTheFile:
    def test_it_is_for_its_owner_alone(self, state, serve):
        serve().finish(Outcome.DONE)

        paths = [state.path, *state.path.with_suffix(".locks").iterdir()]
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
        assert stat.S_IMODE(state.path.with_suffix(".locks").stat().st_mode) == 0o700

    @pytest.mark.parametrize("job", ["../../etc/passwd", "a/b", ".", "..", "a\nb", "ü", "a b"])
    def test_no_name_leads_elsewhere(self, state, job):
        state.claim_by_hand(job).finish(Outcome.DONE)

        (lock,) = state.path.with_suffix(".locks").iterdir()
        assert lock.is_file()
        assert sorted(one.name for one in state.path.parent.iterdir()) == [
            "runs.locks",
            "runs.sqlite",
        ]

    def test_a_name_that_is_too_long_is_refused(self, state):
        with pytest.raises(RunStateError, match="is too long"):
            state.claim_by_hand("x" * 300)

    @pytest.mark.parametrize("change", ["user_version = 2", "application_id = 7"])
    def test_a_newer_one_and_a_foreign_one_are_refused_and_left_alone(
        self, state, serve, told, change
    ):
        serve().finish(Outcome.DONE)
        with closing(sqlite3.connect(state.path)) as found:
            found.execute(f"PRAGMA {change}")
        before = state.path.read_bytes()

        for call in (state.jobs, lambda: state.claim_by_hand("shop")):
            with pytest.raises(RunStateError, match=r"not a record of runs|schema 2") as raised:
                call()
            assert "move it away" in raised.value.hint

        assert state.path.read_bytes() == before
        assert told == []
        assert not state.is_running("shop"), "nothing keeps the lock"

    def test_an_older_schema_is_copied_before_it_is_changed(self, state, serve, clock, monkeypatch):
        serve().finish(Outcome.DONE)
        steps = {1: ["ALTER TABLE runs ADD COLUMN extra TEXT"]}
        monkeypatch.setattr(run_state, "SCHEMA", replace(SCHEMA, version=2, steps=steps))

        assert list(RunState(state.path, clock).jobs()) == ["shop"]

        assert state.path.with_name("runs.sqlite.schema-1").exists()

    def test_what_can_only_be_read_is_read(self, open_dir, as_nobody, clock):
        path = open_dir / "state" / RUNS_NAME
        RunState(path, clock).claim_by_hand("shop").finish(Outcome.DONE)
        path.chmod(0o644)
        path.parent.chmod(0o755)
        with as_nobody():
            state = RunState(path, clock)

            assert list(state.jobs()) == ["shop"]
            assert len(state.history("shop")) == 1
            with pytest.raises(RunStateError):
                state.claim_by_hand("shop")
            with pytest.raises(RunStateError):
                state.pause("shop")

    def test_one_that_is_busy_is_told_after_a_while(self, state, serve):
        serve().finish(Outcome.DONE)
        with closing(sqlite3.connect(state.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")

            with pytest.raises(RunStateError, match="another process is writing"):
                state.claim_by_hand("shop")

        assert state.claim_by_hand("shop") is not None

    def test_locks_that_do_not_work_are_told(self, state, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(RunStateError, match="cannot lock") as raised:
            state.claim_by_hand("shop")
        assert "local disk" in raised.value.hint


class TestAFullDisk:
    @pytest.fixture
    def full(self, monkeypatch):
        """Return a function that lets no database grow from then on."""
        connect = sqlite3.connect

        class Full(sqlite3.Connection):
            def execute(self, statement, *rest):
                if statement.startswith(("INSERT", "DELETE")):
                    raise_full(self)
                return super().execute(statement, *rest)

        def raise_full(found):
            found.executescript("PRAGMA max_page_count = 1; CREATE TABLE filler AS SELECT 1")

        def on_a_full_disk(*arguments, **options):
            return connect(*arguments, **options, factory=Full)

        return lambda: monkeypatch.setattr(sqlite3, "connect", on_a_full_disk)

    def test_a_run_is_not_begun(self, state, serve, shop, full, monkeypatch):
        serve().finish(Outcome.DONE)
        known = shop()
        full()
        with pytest.raises(RunStateError, match="the disk is full"):
            serve()
        monkeypatch.undo()

        assert shop() == known
        assert not state.is_running("shop")

    def test_an_end_that_was_not_recorded_can_be_told_again(
        self, state, serve, shop, full, monkeypatch
    ):
        claim = serve()
        full()
        with pytest.raises(RunStateError, match="the disk is full"):
            claim.finish(Outcome.DONE)
        monkeypatch.undo()
        assert state.is_running("shop")

        claim.finish(Outcome.DONE)

        assert shop().last.outcome is Outcome.DONE
        assert not state.is_running("shop")


class TestDamage:
    def test_it_is_set_aside_told_and_begun_anew(self, state, serve, shop, told, clock):
        serve().finish(Outcome.DONE)
        state.path.write_bytes(b"x" * 9000)
        clock.advance(days=1)

        assert shop().first_seen == clock()
        assert shop().served is None
        assert len(told) == 1
        assert "the record of runs was damaged and is begun anew" in told[0]
        assert state.path.with_name("runs.sqlite.damaged-20261121T163205Z").exists()

    def test_a_run_that_goes_on_meanwhile_keeps_its_lock_and_tells_its_end(
        self, state, again, serve, shop, clock
    ):
        serve().finish(Outcome.DONE)
        clock.advance(days=1)
        claim = serve()
        state.path.write_bytes(b"x" * 9000)

        assert again.claim("shop", clock(), after=None) is None
        claim.finish(Outcome.FAILED, retry_at=clock() + MINUTE)

        assert (shop().served, shop().count, shop().retry_at) == (
            claim.moment,
            2,
            clock() + MINUTE,
        )

    def test_a_flipped_byte_anywhere_gives_what_was_written_or_nothing(
        self, state, serve, clock, told
    ):
        for _ in range(3):
            clock.advance(hours=1)
            serve().finish(Outcome.DONE)
        good, known = state.path.read_bytes(), state.jobs()
        step = 7 if os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep" else 97
        outcomes = {"same": 0, "anew": 0, "refused": 0}
        for at in range(0, len(good), step):
            shutil.rmtree(state.path.parent)
            state.path.parent.mkdir()
            state.path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
            told.clear()
            try:
                found = state.jobs()
                state.claim_by_hand("shop").finish(Outcome.DONE)
            except RunStateError:
                outcomes["refused"] += 1
                continue
            outcomes["anew" if told else "same"] += 1
            assert found == known or (told and not found)
        assert outcomes["anew"] > 3
        assert outcomes["refused"] < outcomes["same"]
