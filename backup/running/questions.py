"""The conditions of tasks that are due: asked on threads of their own, and asked again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from backup.conditions import Conditions
from backup.running.agenda import Turn
from backup.running.task import Task

_LOG = logging.getLogger(__name__)
_HOLDS = 60.0
AGAIN = 5.0

Ask = Callable[[Conditions], str | None]
"""Answers as ``backup.conditions.reason_against`` does."""


class Waiting(NamedTuple):
    """A turn that is due and whose conditions do not hold; why not."""

    moment: datetime | None
    reason: str


@dataclass
class _Question:
    """What was asked for a moment; ``answered`` is a time of the monotonic clock."""

    moment: datetime | None
    reason: str | None = None
    answered: float | None = None

    def age(self) -> float:
        """Return for how many seconds the answer has been there."""
        return 0.0 if self.answered is None else time.monotonic() - self.answered


class Questions:
    """Which conditions hold. A question that is not answered delays nobody but who asks.

    Args:
        ask: Answers; it may take for ever.
        on_answer: Is called after each answer.
        again: After how many seconds to ask again, at the earliest.
    """

    def __init__(self, ask: Ask, on_answer: Callable[[], object], *, again: float = AGAIN) -> None:
        self._ask = ask
        self._again = again
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._asked: dict[str, _Question] = {}

    def are_open(self) -> bool:
        """Tell whether one is being asked."""
        with self._lock:
            return any(one.answered is None for one in self._asked.values())

    def waiting(self) -> dict[str, Waiting]:
        """Return why tasks wait, by their names."""
        with self._lock:
            found = {
                name: Waiting(one.moment, one.reason or "") for name, one in self._asked.items()
            }
        return {name: one for name, one in found.items() if one.reason}

    def hold(self, turn: Turn) -> bool:
        """Tell whether the conditions of a turn hold; where that is not known it is asked."""
        with self._lock:
            known = self._asked.get(turn.task.name)
            if known is not None:
                if known.answered is None or (
                    known.reason is not None and known.age() < self._again
                ):
                    return False
                if known.reason is None and known.age() < _HOLDS:
                    return True
            asked = _Question(turn.moment, None if known is None else known.reason)
            self._asked[turn.task.name] = asked
        thread = threading.Thread(target=self._answer, args=(turn.task, asked), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            asked.reason, asked.answered = "no thread can be started", time.monotonic()
        return False

    def passed(self, turns: Iterable[Turn]) -> list[tuple[Turn, Waiting]]:
        """Return the turns of tasks that waited for a moment which the next one has overtaken.

        What is known of them, and of tasks that are not due any more, is forgotten.
        """
        found = []
        with self._lock:
            left = {name: one for name, one in self._asked.items() if one.answered is not None}
            for turn in turns:
                one = left.get(turn.task.name)
                if one is not None and one.moment != turn.moment:
                    del self._asked[turn.task.name]
                    if one.reason and one.moment is not None:
                        found.append((turn, Waiting(one.moment, one.reason)))
        return found

    def forget(self, name: str) -> None:
        """Forget the answer for a task, which begins now."""
        with self._lock:
            self._asked.pop(name, None)

    def _answer(self, task: Task, question: _Question) -> None:
        try:
            reason = self._ask(task.conditions)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no yes
            reason = f"its conditions cannot be asked: {type(error).__name__}"
        with self._lock:
            question.reason, question.answered = reason, time.monotonic()
        if reason is not None:
            _LOG.info("%s waits: %s", task.name, reason)
        self._on_answer()
