"""A daemon killed at any moment, and signals at any moment: no run is lost, none is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from backup.run_state import Outcome
from tests.daemons import Daemons
from tests.processes import all_gone, is_alive, wait_until

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MOMENTS = 100 if DEEP else 6
POINTS = 200 if DEEP else 20
pytestmark = pytest.mark.timeout(3600 if DEEP else 300)

LATER = """
import backup.clock, backup.daemon.daemon
from datetime import timedelta
backup.daemon.daemon.Daemon.__init__.__kwdefaults__['clock'] = (
    lambda: backup.clock.system_clock() + timedelta(seconds={seconds})
)
"""


@pytest.fixture
def daemons(tmp_path):
    found = Daemons(tmp_path)
    yield found
    found.listener.close()


def at(offset):
    """Return what lets a daemon live so much later."""
    return LATER.format(seconds=offset.total_seconds())


def handles_signals(process):
    """Tell whether a daemon has come so far that it handles SIGUSR1."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGUSR1 - 1) & 1


def test_killed_during_a_run(daemons):
    daemons.takes(600)
    with daemons.running() as daemon:
        job = daemons.job_pid()
        daemon.kill()
        daemon.wait()
    assert all_gone([job])
    moment = daemons.state.jobs()["shop"].served

    daemons.takes(0)
    with daemons.running():
        assert wait_until(lambda: daemons.state.jobs()["shop"].retry_at)
        assert daemons.state.jobs()["shop"].last.outcome is Outcome.INTERRUPTED
    with daemons.running(more=at(timedelta(minutes=2))):
        assert wait_until(lambda: daemons.last_done("shop"))
    shop = daemons.state.jobs()["shop"]
    assert (shop.last.outcome, shop.served, shop.count) == (Outcome.DONE, moment, 2)


def test_killed_at_any_moment(daemons):
    chance, served = random.Random(7), None
    daemons.takes(0.3)

    def has_ended(*outcomes):
        """Tell whether this round's moment was served, and its last run has ended so."""
        shop = daemons.state.jobs().get("shop")
        return shop and shop.served != served and shop.last.outcome in outcomes

    for number in range(MOMENTS):
        offset = timedelta(hours=6.5 * number)
        with daemons.start(more=at(offset)) as daemon:
            assert wait_until(lambda one=daemon: handles_signals(one))
            time.sleep(chance.random() * 0.8)
            daemon.kill()
        assert wait_until(lambda: not daemons.state.is_running("shop"))
        with daemons.running(more=at(offset + timedelta(minutes=1))):
            assert wait_until(lambda: has_ended(Outcome.DONE, Outcome.INTERRUPTED))
        with daemons.running(more=at(offset + timedelta(minutes=10))):
            assert wait_until(lambda: has_ended(Outcome.DONE))
        count = daemons.state.jobs()["shop"].count
        with daemons.running(more=at(offset + timedelta(minutes=15))):
            daemons.listener.wait("^STATUS=next: shop", behind=len(daemons.listener.read()) - 2)
        shop = daemons.state.jobs()["shop"]
        assert (shop.last.outcome, shop.failures) == (Outcome.DONE, 0)
        assert shop.count == count  # it is not done once more
        served = shop.served
    assert not (daemons.top / "twice").exists()


def test_signals_at_any_point(daemons):
    chance = random.Random(8)
    daemons.takes(0.2)
    with daemons.running() as daemon:
        for _ in range(POINTS):
            for number in chance.choices((signal.SIGHUP, signal.SIGUSR1), k=chance.randrange(1, 5)):
                daemon.send_signal(number)
            time.sleep(chance.random() * 0.2)
        behind = len(daemons.listener.read())
        daemon.send_signal(signal.SIGHUP)
        daemons.listener.wait("^READY=1$", behind=behind)
        assert is_alive(daemon.pid)
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            daemon.send_signal(number)
        assert daemon.wait(5) == 0
    assert "Traceback" not in daemons.log.read_text()


def test_told_to_end_at_any_point(daemons):
    chance = random.Random(9)
    daemons.takes(0.2)
    for number in range(POINTS):
        with daemons.start(more=at(timedelta(hours=6.5 * number))) as daemon:
            assert wait_until(lambda one=daemon: handles_signals(one))
            time.sleep(chance.random() * 0.7)
            for one in chance.sample((signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1), k=3):
                daemon.send_signal(one)
            began = time.monotonic()
            assert daemon.wait(10) == 0, daemons.log.read_text()
            assert time.monotonic() - began < 5
        assert not daemons.state.is_running("shop")
    assert "Traceback" not in daemons.log.read_text()
    assert not (daemons.top / "twice").exists()
