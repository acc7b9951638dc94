"""Progress with time left: drawn on a terminal, and told to who supervises the run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from backup.cli.output import safe_text, size_text
from backup.reporting import Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

_WIDEST = 18


class ProgressLine:
    """A line on stderr that tells how far long work has come; silent in a pipe or when quiet.

    Args:
        what: What is being done.
        total: How many bytes there are, ``None`` where nobody knows.
        quiet: Whether to stay silent on a terminal too.
        reporter: Tells the supervisor the same, terminal or not.
    """

    def __init__(
        self,
        what: str,
        total: float | None,
        *,
        quiet: bool = False,
        reporter: Reporter | None = None,
    ) -> None:
        self._what = what
        self._total = total
        self._done = 0.0
        self._drawn = sys.stderr.isatty() and not quiet
        self._reporter = reporter or Reporter()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @property
    def is_shown(self) -> bool:
        """Whether anybody sees it."""
        return self._drawn or self._reporter.is_heard

    def __enter__(self) -> Self:
        if self._drawn:
            self._start()
        self._reporter.tell(self._what, self._done, self._total)
        return self

    def _start(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only terminals need it
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
        from rich.table import Column  # noqa: PLC0415

        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[told]}", markup=False, table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._add_task()

    def _add_task(self) -> None:
        if self._progress is not None:
            what = safe_text(self._what)
            shown = what if len(what) <= _WIDEST else what[: _WIDEST - 1] + "…"
            self._task = self._progress.add_task(shown, total=self._total, told="")

    def begin(self, what: str, total: float | None) -> None:
        """Tell that something else is being done now."""
        self._what, self._total, self._done = what, total, 0.0
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)
        self._add_task()
        self._reporter.tell(what, 0, total)

    def at(self, what: str, done: float, total: float | None) -> None:
        """Tell how far it is, and what is being done, which may be something else now."""
        if (what, total) != (self._what, self._total):
            self.begin(what, total)
        self.set(done)

    def set(self, done: float) -> None:
        """Tell that ``done`` bytes are done in all."""
        self._done = done
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)
            self._progress.update(self._task, told=_told(self._progress.tasks[0]))
        self._reporter.tell(self._what, done, self._total)

    def add(self, more: float) -> None:
        """Tell that ``more`` bytes are done."""
        self.set(self._done + more)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the line away while something else is written."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def say(self, text: str) -> None:
        """Show a line of text above, where there is a line at all."""
        if self._progress is not None:
            self._progress.console.print(f"auto-backup: {text}", markup=False, highlight=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reporter.flush()
        if self._progress is not None:
            self._progress.stop()


def _told(task: Task) -> str:
    """Return how far, how fast, how long still: ``1.0 GiB of 2.0 GiB  90.1 MiB/s  0:11 left``."""
    if task.total is None:
        return size_text(task.completed)
    words = [f"{size_text(min(task.completed, task.total))} of {size_text(task.total)}"]
    if task.completed >= task.total:
        return f"{words[0]}  finishing"
    if task.speed:
        words.append(f"{size_text(task.speed)}/s")
    if task.time_remaining is not None:
        minutes, seconds = divmod(int(task.time_remaining), 60)
        words.append(f"{minutes}:{seconds:02} left")
    return "  ".join(words)
