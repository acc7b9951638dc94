"""The side of a pool that hands jobs out and takes results in."""

from __future__ import annotations

import subprocess
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from backup import errors
from backup.errors import BackupError, WorkerError
from backup.pool.crew import Crew, Killed
from backup.pool.messages import Failure, SetUp, Status, Work
from backup.pool.slots import Slots, SlotSize
from backup.pool.worker import find_factory

_MOST_TRIES = 2


class PoolSize(NamedTuple):
    """How large a pool is.

    ``workers``: processes; with one there is none beside the caller's own. ``slots``: jobs that may
    be under way or waiting to be taken. ``slot``: bytes a job and its result may have. ``worth``:
    so many jobs are worth starting processes; fewer are done by the caller's own.
    """

    workers: int
    slots: int
    slot: SlotSize
    worth: int = 2


class Result(NamedTuple):
    """What a job gave; good until the next call of any method of the pool."""

    head: bytes | memoryview
    body: bytes | bytearray | memoryview


class _Job:
    """A job under way: its bytes until they lie in a slot, and where they do."""

    __slots__ = ("answer", "data", "length", "slot", "tries")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = len(data)
        self.slot = -1
        self.tries = 0
        self.answer: tuple[Status, int, int] | None = None


class Pool:
    """Does jobs in worker processes, and gives the results in the order of the jobs.

    While it is full nothing may be submitted: that is what bounds the memory, however far the
    caller is ahead. Where no process can be started the caller's own does all jobs.

    Args:
        factory: ``package.module:function``, which makes the work; see ``messages.Factory``.
        data: What that function is given, in every worker.
        size: How large the pool is.
    """

    def __init__(self, factory: str, data: bytes, size: PoolSize) -> None:
        self._factory = factory
        self._data = data
        self._size = size
        self._alone = size.workers <= 1
        self._own_work: Work | None = None
        self._crew: Crew | None = None
        self._slots: Slots | None = None
        self._free: list[int] = []
        self._jobs: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._held = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """How many results are still to be taken."""
        return len(self._jobs)

    @property
    def is_full(self) -> bool:
        """Whether a result has to be taken before another job can be submitted."""
        return len(self._jobs) >= (1 if self._alone else self._size.slots)

    def submit(self, data: bytes) -> None:
        """Accept a job; the pool must not be full."""
        self._release()
        job = _Job(data)
        self._jobs.append(job)
        if self._crew is not None:
            self._place(job)
        elif not self._alone and len(self._jobs) >= min(self._size.worth, self._size.slots):
            self._start()
        self._hand_out()

    def next(self) -> Result:
        """Return the result of the oldest job that is pending.

        Raises:
            BackupError: What the work raised.
            WorkerError: The process that did it was killed twice, or has failed.
        """
        self._release()
        job = self._jobs[0]
        while job.answer is None and self._crew is not None:
            self._take_in(self._crew)
        self._jobs.popleft()
        if job.answer is None or job.answer[0] is Status.TOO_LARGE:
            return self._do(job)
        return self._result(job, job.answer)

    def close(self, *, patience: float = 0.0) -> None:
        """End all workers.

        Args:
            patience: For how many seconds a worker may still finish the job that it has begun.
        """
        crew, self._crew = self._crew, None
        slots, self._slots = self._slots, None
        self._alone = True
        self._jobs.clear()
        self._waiting.clear()
        try:
            if self._own_work is not None:
                self._own_work.close()
        finally:
            try:
                if crew is not None:
                    crew.end(patience)
            finally:
                if slots is not None:
                    slots.close()

    def _start(self) -> None:
        try:
            self._slots = Slots(self._size.slots, self._size.slot)
            set_up = SetUp(self._factory, self._data, self._size.slots, *self._size.slot)
            self._crew = Crew(set_up, self._slots.file, self._size.workers)
        except (OSError, ValueError, subprocess.SubprocessError):
            self._work_alone()
            return
        self._free = list(range(self._size.slots))
        for job in self._jobs:
            self._place(job)

    def _place(self, job: _Job) -> None:
        """Put a job into a slot; what does not fit there is done by this process."""
        if self._slots is None or job.length > self._slots.size.job:
            return
        job.slot = self._free.pop()
        self._slots.job(job.slot)[: job.length] = job.data
        job.data = b""
        self._waiting.append(job)

    def _hand_out(self) -> None:
        while self._crew is not None and self._waiting and self._crew.has_room:
            job = self._waiting.popleft()
            self._crew.give(job.slot, job.length)

    def _take_in(self, crew: Crew) -> None:
        """Wait for the next thing to happen: answers, or the end of a worker."""
        job = self._jobs[0]
        if job.slot < 0:
            job.answer = (Status.TOO_LARGE, 0, 0)
            return
        by_slot = {job.slot: job for job in self._jobs}
        for slot, answer in crew.answers():
            by_slot[slot].answer = answer
        killed = crew.killed()
        for one in killed:
            self._put_back(one, by_slot)
        if killed and not crew.fill_up():
            self._work_alone()
        self._hand_out()

    def _put_back(self, killed: Killed, by_slot: dict[int, _Job]) -> None:
        """Let others do the jobs of a worker that was killed, unless that happened before."""
        for slot in killed.begun:
            by_slot[slot].tries += 1
            if by_slot[slot].tries >= _MOST_TRIES:
                raise _lost(killed)
        jobs = [by_slot[slot] for slot in (*killed.begun, *killed.queued)]
        self._waiting.extendleft(reversed(jobs))

    def _work_alone(self) -> None:
        """Go on without workers, with the jobs that they have not done."""
        crew, self._crew = self._crew, None
        self._alone = True
        self._waiting.clear()
        if crew is not None:
            crew.end(0)

    def _do(self, job: _Job) -> Result:
        if self._own_work is None:
            self._own_work = find_factory(self._factory)(self._data)
        data = memoryview(job.data)
        if job.slot >= 0 and self._slots is not None:
            self._held = job.slot
            data = self._slots.job(job.slot)[: job.length]
        return Result(*self._own_work.run(data))

    def _result(self, job: _Job, answer: tuple[Status, int, int]) -> Result:
        status, head, body = answer
        self._held = job.slot
        if self._slots is None:  # it went with the workers; answers do not outlive it
            raise WorkerError("a worker's result is gone")
        room = self._slots.result(job.slot)
        if status is not Status.DONE:
            raise _as_error(status, msgspec.msgpack.decode(room[:head], type=Failure))
        return Result(room[:head], room[head : head + body])

    def _release(self) -> None:
        if self._held >= 0:
            self._free.append(self._held)
            self._held = -1


def _lost(killed: Killed) -> WorkerError:
    return WorkerError(
        f"a worker process {killed.how}, the second one at the same work",
        hint="if the machine ran out of memory, use fewer --workers",
    )


def _as_error(status: Status, failure: Failure) -> BackupError:
    kind = getattr(errors, failure.kind, None)
    if status is Status.FAILED and isinstance(kind, type) and issubclass(kind, BackupError):
        return kind(failure.message, hint=failure.hint)
    if failure.kind == MemoryError.__name__:
        return WorkerError("a worker process ran out of memory", hint="use fewer --workers")
    return WorkerError(f"a worker process failed: {failure.kind}: {failure.message}")
