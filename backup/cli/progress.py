"""Progress with time left, drawn on a terminal only."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from backup.cli.output import safe_text, size_text

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

_WIDEST = 16


class ProgressLine:
    """A line on stderr that tells how far long work has come; silent in a pipe or when quiet.

    Args:
        what: What is being done.
        total: How many bytes there are, ``None`` where nobody knows.
        quiet: Whether to stay silent on a terminal too.
    """

    def __init__(self, what: str, total: int | None, *, quiet: bool = False) -> None:
        self._what = what
        self._total = total
        self._shown = sys.stderr.isatty() and not quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @property
    def is_shown(self) -> bool:
        """Whether anybody sees it."""
        return self._shown

    def __enter__(self) -> Self:
        if self._shown:
            self._start()
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
        what = safe_text(self._what)
        shown = what if len(what) <= _WIDEST else what[: _WIDEST - 1] + "…"
        self._task = self._progress.add_task(shown, total=self._total, told="")

    def expect(self, total: int) -> None:
        """Tell how many bytes there are in all."""
        self._update(total=total)

    def set(self, done: float) -> None:
        """Tell that ``done`` bytes are done in all."""
        self._update(completed=done)

    def add(self, more: float) -> None:
        """Tell that ``more`` bytes are done."""
        self._update(advance=more)

    def say(self, text: str) -> None:
        """Show a line of text above, where there is a line at all."""
        if self._progress is not None:
            self._progress.console.print(f"auto-backup: {text}", markup=False, highlight=False)

    def _update(self, **change: float) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, **change)  # type: ignore[arg-type]
            told = _told(self._progress.tasks[0])
            self._progress.update(self._task, told=told)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
