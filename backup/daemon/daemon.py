"""The daemon: a runner, a heart, and a main thread that waits for signals."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

from backup._version import PROGRAM
from backup.catalog import CATALOG_NAME, Catalog
from backup.child_run import OnOutput
from backup.clock import Clock, system_clock
from backup.daemon.answers import Answers
from backup.daemon.frozen import FrozenCopies
from backup.daemon.listening import Listening, Place
from backup.daemon.notify import Notifier
from backup.daemon.opening import InUse, Open, use
from backup.daemon.signals import ENDING, Signals, exit_after
from backup.daemon.stacks import tell_stacks
from backup.daemon.status import StatusLine, stalled_of
from backup.daemon.upgrade import NewerRecord, Upgrade, UpgradeWatch
from backup.errors import BackupError, LockedError, RunStateError
from backup.reporting import OnReport
from backup.run_state import RUNS_NAME, Claim, RunState
from backup.running import LOOK_AGAIN, Heart, Runner, Task

_LOG = logging.getLogger(__name__)
_STOPPING = 4.0
_AT_LAST = 4.8


class Daemon:
    """Runs what is due until it is told to end; ``run`` is for the main thread, the rest for any.

    Args:
        open_: Reads the configuration, at the beginning and when it is to be read anew.
        state_dir: The state directory, of which this process is the daemon already.
        signals: Hears signals.
        notifier: Tells a service manager.
        options: What all commands get, besides ``--config``.
        zone: The machine's time zone.
        clock: Tells the time.
        place: Where it listens.
        watch: Notices that another program is on disk.
        objection: Tells why that cannot take over, ``None`` if it can.
        take_over: Lets it take over; returns only where that is not possible.
        is_main: Whether this is the process that a service manager should supervise.
        is_place_there: Tells whether the state directory is still that of which it is the daemon.

    Raises:
        ConfigError: The configuration cannot be used.
    """

    def __init__(
        self,
        open_: Open,
        state_dir: Path,
        *,
        signals: Signals,
        notifier: Notifier,
        zone: tzinfo,
        options: tuple[str, ...] = (),
        clock: Clock = system_clock,
        place: Place | None = None,
        watch: UpgradeWatch | None = None,
        objection: Callable[[], str | None] = lambda: None,
        take_over: Callable[[], str] = lambda: "nobody said how",
        is_main: bool = True,
        is_place_there: Callable[[], bool] = lambda: True,
    ) -> None:
        self._open = open_
        self._options = options
        self._signals = signals
        self._notifier = notifier
        self._clock = clock
        self._take_over = take_over
        self._is_main = is_main
        self._is_place_there = is_place_there
        self._copies = FrozenCopies(state_dir)
        self._changing = threading.RLock()
        self._ends = threading.Event()
        self._is_safe = threading.Event()
        self._problem = ""
        self._copies.clear()
        self._in_use = use(open_(), self._copies, options)
        self.state = RunState(state_dir / RUNS_NAME, clock, tell=_LOG.warning)
        self._has_newer_record = NewerRecord(self.state.is_newer)
        catalog = Catalog(state_dir / CATALOG_NAME, clock=clock, tell=_LOG.warning)
        self._answers = Answers(self, catalog, clock, zone)
        self.runner = Runner(
            lambda: list(self._in_use.tasks.values()),
            self.state,
            zone=zone,
            seed=self._in_use.opened.host,
            clock=clock,
            wake=self.wake,
            on_end=self._answers.handovers.ended,
        )
        self._line = StatusLine(self.runner, clock, zone, lambda: stalled_of(self.runner.going()))
        self._listening = Listening(self._answers, place)
        self._heart: Heart | None = None  # begun by ``run``: no thread survives a fork
        self._upgrade = Upgrade(
            watch or UpgradeWatch(),
            objection=objection,
            is_idle=self._is_idle,
            take_over=self._reach_safe_point,
        )

    @property
    def in_use(self) -> InUse:
        """The configuration by which it works."""
        return self._in_use

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks by their names; another mapping after each ``reload``."""
        return self._in_use.tasks

    @property
    def is_ending(self) -> bool:
        """Whether no run may begin any more: it ends, or waits to be replaced."""
        return self._ends.is_set() or self._upgrade.is_waited_for

    def run(self, on_ready: Callable[[], object] = lambda: None) -> None:
        """Work until a signal or ``stop`` ends it.

        Args:
            on_ready: Is called once it works.

        Raises:
            RunStateError: Its state directory is gone: another daemon may run the same by now.
        """
        self._tell_configuration(f"{PROGRAM}: the daemon begins")
        self._start_heart()
        self._listening.start()
        self._notifier.ready(main=self._is_main)
        self._notifier.status(self.status())
        on_ready()
        try:
            self._serve()
        finally:
            self._end()
        if not self._is_place_there():
            raise RunStateError(f"{self.state.path.parent} is not the daemon's directory any more")

    def stop(self) -> None:
        """End within 5 seconds; returns at once."""
        self._ends.set()
        self._signals.wake()

    def wake(self) -> None:
        """Look now what is due."""
        heart = self._heart
        if heart is not None:
            heart.wake()

    def begin_by_hand(
        self, task: Task, on_output: OnOutput | None = None, on_report: OnReport | None = None
    ) -> Claim | None:
        """Begin a run now, whatever the schedule says; ``None`` if the task runs already.

        Raises:
            LockedError: The daemon is ending, or is about to be replaced.
        """
        with self._changing:  # or the copy that the task reads might be deleted meanwhile
            if self.is_ending:
                raise LockedError("the daemon is ending, and begins no run")
            return self.runner.begin_by_hand(task, on_output, on_report)

    def reload(self) -> tuple[str, ...]:
        """Read the configuration anew; where it cannot be used, the old one goes on.

        Runs that go on end as they began.

        Returns:
            What is wrong with it; nothing where it is used from now on.
        """
        with self._changing:
            self._notifier.reloading()
            problems = self._reload()
            self._line.forget()
            self._notifier.ready(main=self._is_main)
        self._notifier.status(self.status())
        self.wake()
        return problems

    def status(self) -> str:
        """Return how it goes, in a line."""
        waits = "no run begins: another program waits to take over"
        return self._line.text(waits if self._upgrade.is_waited_for else self.problem)

    @property
    def problem(self) -> str:
        """What is wrong with the daemon itself, nothing where nothing is."""
        return self._problem or self._upgrade.problem

    def _reload(self) -> tuple[str, ...]:
        try:
            self._in_use = use(self._open(), self._copies, self._options)
        except BackupError as error:
            problems = getattr(error, "problems", ()) or (error.message,)
            for one in problems:
                _LOG.error("the configuration: %s", one)
            _LOG.error("it is not used; the one before goes on")
            self._problem = f"the changed configuration is refused: {problems[0]}"
            return tuple(problems)
        self._problem = ""
        self._tell_configuration("the configuration has been read anew")
        return ()

    def _tell_configuration(self, what: str) -> None:
        opened = self._in_use.opened
        scheduled = [one for one in self.tasks.values() if not one.is_upkeep and one.trigger]
        names = ", ".join(one.name for one in scheduled)
        _LOG.info("%s (process %d): %s; jobs: %s", what, os.getpid(), opened.loaded.path, names)
        for remark in opened.remarks:
            _LOG.warning("%s", remark)

    def _start_heart(self) -> None:
        self._heart = Heart(self._look, self._clock, self._beat)
        self._heart.start()

    def _stop_heart(self) -> None:
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.stop()

    def _look(self) -> datetime:
        if self.is_ending:
            return self._clock() + LOOK_AGAIN
        self._line.forget()
        return self.runner.look()

    def _beat(self) -> None:
        self._notifier.beat()
        if not self._is_place_there():
            self.stop()
            return
        if self._changing.acquire(blocking=False):
            try:
                self._copies.keep_only(self._in_use.copy)
            finally:
                self._changing.release()
        self._notifier.status(self.status())
        self._upgrade.beat(now=self._has_newer_record())

    def _is_idle(self) -> bool:
        """Tell whether no run would be cut off; a process that cannot be killed is none."""
        return self.runner.wait(0) or not self.runner.running()

    def _reach_safe_point(self) -> None:
        self._is_safe.set()
        self._signals.wake()

    def _serve(self) -> None:
        while True:
            for number in self._signals.wait():
                if number in ENDING:
                    _LOG.info("%s: the daemon ends", number.name)
                    return
                if number == signal.SIGHUP:
                    self.reload()
                elif number == signal.SIGUSR1:
                    tell_stacks(self.runner.running())
            if self._ends.is_set():
                return
            if self._is_safe.is_set():
                self._become_another()

    def _become_another(self) -> None:
        self._is_safe.clear()
        if not (self._upgrade.is_waited_for and self._is_idle()):
            return
        self._stop_heart()
        if self._signals.hold():
            _LOG.info("the program on disk takes over")
            self._notifier.reloading()
            self._upgrade.refuse(self._take_over())
            self._notifier.ready(main=self._is_main)
        self._signals.release()
        self._start_heart()

    def _end(self) -> None:
        """End in time, whatever hangs: what is left of runs ends with this process."""
        self._ends.set()
        exit_after(_AT_LAST)
        self._notifier.stopping()
        self._notifier.status("ending")
        self._listening.stop()
        self._stop_heart()
        if not self.runner.stop(_STOPPING):
            _LOG.warning("still running, and ended with the daemon: %s", self.runner.running())
        elif self._is_place_there():  # else they may be another daemon's
            self._copies.clear()
        _LOG.info("the daemon has ended")
