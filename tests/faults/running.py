"""The workload of the scheduler's memory: moments are claimed, served, and tried again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from backup.run_state import RUNS_NAME, Cause, JobRuns, Outcome, RunState
from tests.faults import world as worlds
from tests.faults.world import Workload, World, files_below

FIRST = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)
SECOND = FIRST + timedelta(days=1)
THIRD = SECOND + timedelta(days=1)
JOB = "shop"


def _state(world: World, told: list[str] | None = None) -> RunState:
    tell = (lambda _: None) if told is None else told.append
    return RunState(world.state / RUNS_NAME, world.clock, tell=tell)


def _serve(state: RunState, moment: datetime) -> None:
    claim = state.claim(JOB, moment, after=state.see([JOB])[JOB].served)
    assert claim is not None
    claim.finish(Outcome.DONE)


def _serve_first(world: World) -> None:
    _serve(_state(world), FIRST)


def _serve_second(world: World) -> dict[str, Any]:
    """Serve a moment at the second try."""
    state = _state(world)
    claim = state.claim(JOB, SECOND, after=state.see([JOB])[JOB].served)
    assert claim is not None
    claim.finish(Outcome.FAILED, reason="on purpose", retry_at=SECOND)
    retry = state.claim_retry(JOB, SECOND)
    assert retry is not None
    retry.finish(Outcome.DONE)
    return {"served": SECOND.isoformat()}


def _check(world: World, outcome: worlds.Outcome, _: dict[str, bytes]) -> Iterator[str]:
    told: list[str] = []
    state = _state(world, told)
    known = state.see([JOB])[JOB]
    if not outcome.lies:
        yield from told
        yield from _truth(state, known, outcome)
    if not told:
        yield from _nothing_is_lost(world, state)
    _serve(state, THIRD)
    yield from _what_is_left(world)


def _truth(state: RunState, known: JobRuns, outcome: worlds.Outcome) -> Iterator[str]:
    """Yield where what is recorded cannot be."""
    history = state.history(JOB)
    if known.served not in {FIRST, SECOND}:
        yield f"{known.served} was never served"
    if outcome.value.get("served") and known.last_done != history[0].ended:
        yield "it was served, and that is not known"
    if known.last != history[0]:
        yield f"the last run is {history[0]}, and said to be {known.last}"
    if [run.number for run in history] != [*range(known.count, 0, -1)]:
        yield f"of {known.count} runs {history} are known"
    scheduled = [run.moment for run in history if run.cause is Cause.SCHEDULE]
    if len(scheduled) != len(set(scheduled)) or scheduled[0] != known.served:
        yield f"{scheduled} were served, the last of them {known.served}"
    if state.running():
        yield "a run goes on, and its process is gone"


def _nothing_is_lost(world: World, state: RunState) -> Iterator[str]:
    """Yield it if the second moment can now be served by nobody, or again though it was."""
    state.mark_interrupted(lambda _: SECOND)
    known = state.see([JOB])[JOB]
    if known.served == FIRST:
        _serve(state, SECOND)
    elif known.retry_at is not None:
        retry = state.claim_retry(JOB, known.retry_at)
        if retry is None:
            yield "what failed cannot be tried again"
        else:
            retry.finish(Outcome.DONE)
    done = [run for run in state.history(JOB) if run.outcome is Outcome.DONE]
    if [run.moment for run in reversed(done)] != [FIRST, SECOND]:
        yield f"done were {done}"
    if _state(world).claim(JOB, SECOND, after=FIRST) is not None:
        yield "a moment was served twice"


def _what_is_left(world: World) -> Iterator[str]:
    for name in files_below(world.state):
        if name not in {"runs.sqlite", f"runs.locks/{JOB}.lock"} and ".damaged-" not in name:
            yield f"{name} is left over"


RUNNING = {
    "run state": Workload(
        _serve_second, _serve_first, _check, below=("state",), errors=("RunStateError",)
    ),
    "first run state": Workload(
        _serve_second,
        lambda world: world.state.mkdir(parents=True),
        lambda world, outcome, _: _check_first(world, outcome),
        below=("state",),
        errors=("RunStateError",),
    ),
}


def _check_first(world: World, outcome: worlds.Outcome) -> Iterator[str]:
    told: list[str] = []
    state = _state(world, told)
    known = state.see([JOB])[JOB]
    if not outcome.lies:
        yield from told
        if outcome.value.get("served") and known.last_done is None:
            yield "it was served, and that is not known"
    state.mark_interrupted(lambda _: SECOND)
    known = state.see([JOB])[JOB]
    claim = (
        state.claim_retry(JOB, known.retry_at)
        if known.retry_at
        else state.claim(JOB, SECOND if known.served is None else THIRD, after=known.served)
    )
    if claim is None:
        yield f"nothing can be claimed: {known}"
    else:
        claim.finish(Outcome.DONE)
    yield from _what_is_left(world)
