"""Begins what is due, each run on a thread of its own, and records how it ends.

A run that hangs holds its own thread and nothing else. A question of ``only_if`` is asked on a
thread of its own too: a dead name server delays the task that asks, and no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo

from backup.child_run import OnOutput
from backup.clock import Clock, system_clock
from backup.conditions import NO_CONDITIONS, Asker
from backup.errors import BackupError
from backup.reporting import OnReport
from backup.run_state import FAILURES, Cause, Claim, JobRuns, Outcome, Run, RunState
from backup.running.active import Active, Going
from backup.running.agenda import LOOK_AGAIN, Turn, plan, when_to_retry
from backup.running.questions import AGAIN, Ask, Questions, Waiting
from backup.running.task import Task
from backup.running.work import End

_LOG = logging.getLogger(__name__)
_PATIENCE = 1800.0
_MARK_EVERY = 20.0
_KILLING = 1.5

OnEnd = Callable[[Task, Run], object]


def _ignore(*_: object) -> None:
    return


class Runner:
    """Runs tasks when they are due; ``look`` decides, and is called by one thread at a time.

    Args:
        tasks: Returns the tasks, at each look.
        state: The record of runs, shared with other processes.
        zone: The machine's time zone.
        seed: What tells this machine apart from others with the same tasks.
        clock: Tells the time.
        most_at_once: So many runs at once. One that takes longer than ``patience`` does not count:
            it may hang, and the others shall not wait for it.
        patience: In seconds.
        ask: Answers whether conditions hold; see ``reason_against``.
        ask_again: After how many seconds it is asked again, at the earliest.
        wake: Is called when ``look`` should be called again.
        on_end: Is told of each run that has ended.
    """

    def __init__(
        self,
        tasks: Callable[[], Sequence[Task]],
        state: RunState,
        *,
        zone: tzinfo,
        seed: str = "",
        clock: Clock = system_clock,
        most_at_once: int = 2,
        patience: float = _PATIENCE,
        ask: Ask | None = None,
        ask_again: float = AGAIN,
        wake: Callable[[], object] = _ignore,
        on_end: OnEnd = _ignore,
    ) -> None:
        self._tasks = tasks
        self._state = state
        self._zone = zone
        self._seed = seed
        self._clock = clock
        self._most = most_at_once
        self._patience = patience
        self._wake = wake
        self._on_end = on_end
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._active: dict[str, Active] = {}
        self._asker = Asker()
        self._questions = Questions(ask or self._asker, self._answered, again=ask_again)
        self._marked = float("-inf")
        self._stops = False

    def look(self) -> datetime:
        """Begin what is due; return when to look again.

        Raises:
            BackupError: The record of runs cannot be used, so nothing more can begin.
        """
        self._settle()
        self.watch()
        turns, now = self._turns()
        passed = self._questions.passed(turns)
        for turn, waited in passed:
            self._skip(turn, waited)
        if passed:
            turns, now = self._turns()
        for turn in turns:
            if turn.is_due(now):
                self._take_up(turn)
        later = [one.begins for one in turns if one.begins is not None and one.begins > now]
        return min([*later[:1], now + LOOK_AGAIN])

    def agenda(self) -> list[Turn]:
        """Return when each task is next, the first one at the front; nothing is recorded."""
        known = self._state.jobs()
        return plan(self._tasks(), known, self._clock(), self._zone, self._seed)

    def waiting(self) -> dict[str, Waiting]:
        """Return the tasks that are due and wait for a condition, with the reason."""
        return self._questions.waiting()

    def running(self) -> list[str]:
        """Return the names of the tasks that run here."""
        with self._lock:
            return sorted(self._active)

    def going(self) -> list[Going]:
        """Return what is known of the runs that go on here, by their names."""
        return sorted((one.going() for one in self._all()), key=lambda one: one.name)

    def watch(self) -> None:
        """Log which runs have stalled, and which move again, each once; ``look`` does it too."""
        for one in self._all():
            one.watch()

    def begin_by_hand(
        self, task: Task, on_output: OnOutput | None = None, on_report: OnReport | None = None
    ) -> Claim | None:
        """Begin a run now, whatever the schedule says; ``None`` if the task runs already."""
        claim = self._state.claim_by_hand(task.name)
        if claim is not None:
            self._begin(Active(task, claim, on_output, on_report))
        return claim

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing runs and no question is open; tell whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_busy(), seconds)

    def stop(self, seconds: float = 5.0) -> bool:
        """Begin nothing more, end all runs, and wait; tell whether all of them have ended.

        Commands are asked to end, and killed in time; functions cannot be ended.
        """
        grace = max(seconds - _KILLING, seconds / 2)
        with self._lock:
            self._stops = True
        self._asker.stop(grace)
        for one in self._all():
            one.work.stop(grace)
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._active or self._asker.is_busy()), seconds
            )

    def go_on(self) -> None:
        """Begin runs again, after ``stop``."""
        with self._lock:
            self._stops = False
        self._asker.go_on()

    def _is_busy(self) -> bool:
        runs = any(not one.is_given_up for one in self._active.values())
        return runs or self._questions.are_open()

    def _answered(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._wake()

    def _turns(self) -> tuple[list[Turn], datetime]:
        tasks = self._tasks()
        if time.monotonic() - self._marked >= _MARK_EVERY:
            by_name = {one.name: one for one in tasks}
            for run in self._state.mark_interrupted(lambda known: self._again(by_name, known)):
                _LOG.warning("%s: %s", run.job, run.reason)
            self._marked = time.monotonic()
        known = self._state.see(one.name for one in tasks)
        now = self._clock()  # not sooner: what is new was first seen just now
        return plan(tasks, known, now, self._zone, self._seed), now

    def _again(self, tasks: dict[str, Task], known: JobRuns) -> datetime | None:
        task, now = tasks.get(known.job), self._clock()
        if task is None:
            return None
        return when_to_retry(task, known, known.tries, now, self._zone, interrupted=True)

    def _take_up(self, turn: Turn) -> None:
        task = turn.task
        if self._is_kept_waiting(task):
            return
        if task.conditions != NO_CONDITIONS and not self._questions.hold(turn):
            return
        claim = self._claim(turn)
        if claim is not None:
            self._questions.forget(task.name)
            self._begin(Active(task, claim))

    def _is_kept_waiting(self, task: Task) -> bool:
        """Tell whether others that run now come first."""
        with self._lock:
            if self._stops or task.name in self._active:
                return True
            others = [one for one in self._active.values() if not one.is_given_up]
            if task.apart and any(one.task.apart == task.apart for one in others):
                return True
            late = time.monotonic() - self._patience
            return sum(one.began > late for one in others) >= self._most

    def _claim(self, turn: Turn) -> Claim | None:
        if turn.cause is Cause.RETRY and turn.begins is not None:
            return self._state.claim_retry(turn.task.name, turn.begins)
        if turn.moment is None:
            return None
        return self._state.claim(turn.task.name, turn.moment, after=turn.known.served)

    def _skip(self, turn: Turn, waited: Waiting) -> None:
        """Record a moment that has passed without its conditions; the next one counts from it."""
        served = turn.known.served
        if waited.moment is not None and (served is None or served < waited.moment):
            claim = self._state.claim(turn.task.name, waited.moment, after=served)
            if claim is not None:
                self._tell(turn.task, claim.finish(Outcome.SKIPPED, reason=waited.reason))

    def _begin(self, active: Active) -> None:
        task = active.task
        with self._lock:
            self._active[task.name] = active
        if self._stops:
            active.work.stop(0)
        _LOG.info("%s begins", task.name)
        name = f"auto-backup {task.name}"
        thread = threading.Thread(target=self._carry_out, args=(active,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            active.end = End(Outcome.FAILED, "no thread can be started")
            self._conclude(active)

    def _carry_out(self, active: Active) -> None:
        end = active.carry_out()
        if not end.is_gone:
            _LOG.error("%s: %s", active.task.name, end.reason)
            with self._changed:
                active.is_given_up = True
                self._changed.notify_all()
        else:
            self._conclude(active)
        self._wake()

    def _settle(self) -> None:
        """Record the ends of processes that are gone at last, and what could not be recorded."""
        for one in self._all():
            if one.is_given_up and one.work.is_gone():
                self._conclude(one)

    def _all(self) -> list[Active]:
        with self._lock:
            return list(self._active.values())

    def _conclude(self, active: Active) -> None:
        """Record the end of a run; where that fails it is tried at the next look."""
        end = active.end or End(Outcome.FAILED)
        try:
            run = active.claim.finish(
                end.outcome,
                reason=end.reason,
                details=end.details,
                retry_at=self._retry_at(active, end),
            )
        except BackupError as error:
            _LOG.error("%s: its end is not recorded: %s", active.task.name, error.message)
            active.is_given_up = True
            return
        self._tell(active.task, run)
        with self._changed:
            self._active.pop(active.task.name, None)
            self._changed.notify_all()

    def _retry_at(self, active: Active, end: End) -> datetime | None:
        if end.outcome not in FAILURES or active.claim.moment is None:
            return None
        run, task = active.claim.run, active.task
        known = JobRuns(job=task.name, first_seen=run.started, served=active.claim.moment)
        interrupted = end.outcome is Outcome.INTERRUPTED
        now, tries = self._clock(), active.claim.tries + 1
        return when_to_retry(task, known, tries, now, self._zone, interrupted=interrupted)

    def _tell(self, task: Task, run: Run) -> None:
        _LOG.info("%s: %s%s", run.job, run.outcome, f": {run.reason}" if run.reason else "")
        try:
            self._on_end(task, run)
        except Exception as error:  # noqa: BLE001 - who listens is not part of the run
            _LOG.warning("cannot tell of %s: %s", run.job, type(error).__name__)
