"""The two threads that see to it that somebody looks what is due.

The library ``schedule`` is the heartbeat, and no more: it reads the wall clock by itself, and one
job of it that raises or hangs would starve the others. What it calls puts a word into a queue; the
other thread looks.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from backup.clock import Clock
from backup.errors import BackupError
from backup.running.agenda import LOOK_AGAIN

_LOG = logging.getLogger(__name__)
_BEAT = 1
_JOINING = 0.2

_BEATS, _WAKES, _STOPS = "beat", "wake", "stop"


def _do_nothing() -> None:
    return


class Heart:
    """Looks when it is time, when it is woken, and every 30 seconds, whatever the clock says.

    Args:
        look: Looks what is due, and returns when to look again.
        clock: Tells the time.
        on_beat: Is called about each second by the thread that looks; not while a look hangs.
    """

    def __init__(
        self,
        look: Callable[[], datetime],
        clock: Clock,
        on_beat: Callable[[], object] = _do_nothing,
    ) -> None:
        self._look = look
        self._clock = clock
        self._on_beat = on_beat
        self._words: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._look_at: datetime | None = None
        self._looked = 0.0
        self._threads = [
            threading.Thread(target=work, name=f"auto-backup {name}", daemon=True)
            for name, work in (("heartbeat", self._beat), ("scheduler", self._listen))
        ]

    def start(self) -> None:
        """Begin, once, with a look."""
        for thread in self._threads:
            thread.start()
        self.wake()

    def wake(self) -> None:
        """Have somebody look now."""
        self._words.put(_WAKES)

    def stop(self) -> None:
        """Look no more; a look that goes on is not waited for long."""
        self._stopping.set()
        self._words.put(_STOPS)
        for thread in self._threads:
            thread.join(_JOINING)

    def _beat(self) -> None:
        import schedule  # noqa: PLC0415 - only those who schedule need it

        heart = schedule.Scheduler()
        heart.every(_BEAT).seconds.do(self._words.put, _BEATS)
        while not self._stopping.wait(_BEAT):
            heart.run_pending()
            if (heart.idle_seconds or 0) > 2 * _BEAT:  # the clock was set back
                heart.run_all()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            heard = {self._words.get()}
            with suppress(queue.Empty):
                while True:
                    heard.add(self._words.get_nowait())
            if not self._stopping.is_set() and (_WAKES in heard or self._is_time()):
                self._look_and_note()
            if not self._stopping.is_set() and _BEATS in heard:
                self._tell_beat()

    def _tell_beat(self) -> None:
        try:
            self._on_beat()
        except Exception as error:  # noqa: BLE001 - the heart goes on beating
            _LOG.error("cannot tell that it is alive: %s", type(error).__name__)

    def _is_time(self) -> bool:
        is_late = time.monotonic() - self._looked >= LOOK_AGAIN.total_seconds()
        return is_late or self._look_at is None or self._clock() >= self._look_at

    def _look_and_note(self) -> None:
        try:
            self._look_at = self._look()
        except BackupError as error:
            self._go_on_after(error.message)
        except Exception as error:  # noqa: BLE001 - the heart goes on beating
            self._go_on_after(type(error).__name__)
        self._looked = time.monotonic()

    def _go_on_after(self, what: str) -> None:
        _LOG.error("cannot look what is due: %s", what)
        self._look_at = self._clock() + LOOK_AGAIN
