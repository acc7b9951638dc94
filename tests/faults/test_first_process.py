"""``daemon run`` as the first process of a container: a process namespace of its own."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from needs import needs

from tests.daemons import Daemons
from tests.processes import all_gone, children, descendants, wait_until

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def daemons(tmp_path):
    needs(shutil.which("unshare"), "unshare is not installed")
    needs(os.geteuid() == 0, "a namespace of processes needs root")
    found = Daemons(tmp_path)
    yield found
    found.listener.close()


def state_of(process):
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def sleepers(process):
    """Return the children of a process that are the command sleep."""
    commands = {one: Path(f"/proc/{one}/cmdline").read_bytes() for one in children(process)}
    return [one for one, command in commands.items() if command.startswith(b"sleep")]


def first_of(process):
    """Return the first process of the namespace that ``unshare`` has made."""
    (first,) = wait_until(lambda: children(process.pid))
    return first


def test_it_passes_signals_on_and_ends_in_time(daemons):
    daemons.takes(600)
    with daemons.running(before=UNSHARE) as process:
        assert wait_until((daemons.top / "pid").exists)
        first = first_of(process)
        behind = len(daemons.listener.read())
        os.kill(first, signal.SIGHUP)
        daemons.listener.wait("^READY=1$", behind=behind)
        os.kill(first, signal.SIGUSR1)
        assert wait_until(lambda: "runs: shop;" in daemons.log.read_text())
        all_of_them = [first, *descendants(first)]
        assert len(all_of_them) >= 3

        began = time.monotonic()
        os.kill(first, signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5
    assert all_gone(all_of_them)
    assert "SIGTERM: the daemon ends" in daemons.log.read_text()


def test_orphans_are_buried(daemons):
    (daemons.top / "shell").write_text("for n in 1 2 3 4 5; do (setsid sleep 0.$n &); done\n")
    with daemons.running(before=UNSHARE) as process:
        first = first_of(process)
        assert wait_until(daemons.ran)
        time.sleep(1)
        assert [one for one in descendants(first) if state_of(one) == "Z"] == []
        assert wait_until(lambda: len(children(first)) == 1)
        os.kill(first, signal.SIGTERM)
        assert process.wait(10) == 0


def test_what_is_left_ends_with_it(daemons):
    (daemons.top / "shell").write_text("(setsid sleep 300 &)\n")
    with daemons.running(before=UNSHARE) as process:
        first = first_of(process)
        assert wait_until(daemons.ran)
        (left,) = wait_until(lambda: sleepers(first))
        os.kill(first, signal.SIGTERM)
        assert process.wait(10) == 0
    assert all_gone([left])


def test_its_status_is_that_of_the_daemon(daemons):
    daemons.config.write_text("jobs: [")
    with daemons.start(before=UNSHARE) as process:
        assert process.wait(20) == 2


def test_a_daemon_that_is_killed_is_no_good_end(daemons):
    with daemons.running(before=UNSHARE) as process:
        (daemon,) = children(first_of(process))
        os.kill(daemon, signal.SIGKILL)
        assert process.wait(10) == 128 + signal.SIGKILL
