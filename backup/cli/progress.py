"""Progress with time left, drawn on a terminal only."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


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
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(self._what, total=self._total)

    def expect(self, total: int) -> None:
        """Tell how many bytes there are in all."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total)

    def set(self, done: int) -> None:
        """Tell that ``done`` bytes are done in all."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def add(self, more: int) -> None:
        """Tell that ``more`` bytes are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, more)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
