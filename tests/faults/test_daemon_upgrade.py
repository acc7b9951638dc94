"""A daemon whose program is replaced while it runs: a copied checkout, and the real command."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backup.daemon.pid_file import PID_NAME, is_held
from tests.checkout import ROOT
from tests.cli import environment
from tests.daemons import CONFIG, Daemons
from tests.processes import is_alive, wait_until

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("key_file")]

CALL = "import sys; sys.path.insert(0, {app!r}); from backup.cli import main; sys.exit(main())"

# The command 'backup' takes as long as a file is there.
WAIT = """
import os, time
while os.path.exists({flag!r}):
    time.sleep(0.02)
"""


@pytest.fixture
def app(tmp_path):
    """Return a copy of the package, another version of which is to come."""
    path = tmp_path / "app"
    shutil.copytree(ROOT / "backup", path / "backup", ignore=shutil.ignore_patterns("__pycache__"))
    watch = path / "backup" / "daemon" / "upgrade.py"
    watch.write_text(re.sub(r"(?m)^(EVERY|STABLE) = .*", r"\1 = 1.0", watch.read_text()))
    with (path / "backup" / "cli" / "take.py").open("a") as file:
        file.write(WAIT.format(flag=str(tmp_path / "flag")))
    return path


@pytest.fixture
def daemons(tmp_path):
    found = Daemons(tmp_path)
    (tmp_path / "source").mkdir()
    found.config.write_text(
        CONFIG.replace("[/etc]", f"['{tmp_path}/source'], stores: [disk]").replace(
            "jobs:", f"stores: {{disk: {{url: '{tmp_path}/store'}}}}\njobs:"
        )
    )
    yield found
    found.listener.close()
    if is_held(found.state_dir / PID_NAME):
        os.kill(found.pid(), signal.SIGKILL)


def program(app):
    return sys.executable, "-c", CALL.format(app=str(app))


def running(daemons, app):
    return daemons.running(command=program(app))


def install(app, content):
    """Put another version in place of the old one."""
    new = app / "backup" / "new"
    new.write_text(content)
    new.replace(app / "backup" / "_version.py")


NEW = 'VERSION = "9.9"\nPROGRAM = "auto-backup 9.9"\n'


def test_the_new_program_takes_over_when_nothing_runs(daemons, app):
    flag = daemons.top / "flag"
    flag.touch()
    with running(daemons, app) as process:
        assert wait_until(lambda: daemons.state.is_running("shop"))
        behind = len(daemons.listener.read())
        install(app, NEW)
        daemons.listener.wait("^STATUS=no run begins.*; running: shop", behind=behind)
        assert "9.9" not in daemons.log.read_text()
        flag.unlink()

        number = daemons.listener.wait("^RELOADING=1$", behind=behind)
        number = daemons.listener.wait("^READY=1$", behind=number)
        assert daemons.listener.lines[number + 1] == f"MAINPID={process.pid}"
        daemons.listener.wait("^STATUS=next: shop", behind=number)
        assert (
            f"auto-backup 9.9: the daemon begins (process {process.pid})" in daemons.log.read_text()
        )
        assert daemons.state.jobs()["shop"].last_done
        assert daemons.pid() == process.pid
        again = daemons.start()
        assert again.wait(20) == 11

        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_one_that_cannot_take_over_does_not(daemons, app):
    with running(daemons, app) as process:
        install(app, 'raise RuntimeError("half an upgrade")\n')
        daemons.listener.wait("^STATUS=another program is on disk, and cannot take over")
        assert "cannot take over: RuntimeError: half an upgrade" in daemons.log.read_text()
        assert is_alive(process.pid)
        behind = len(daemons.listener.read())
        install(app, NEW)
        daemons.listener.wait("^READY=1$", behind=behind)
        assert wait_until(lambda: "9.9: the daemon begins" in daemons.log.read_text())


def test_a_configuration_that_it_would_refuse_keeps_it_from_taking_over(daemons, app):
    with running(daemons, app):
        assert wait_until(lambda: daemons.last_done("shop"))
        daemons.config.write_text(daemons.config.read_text() + "nonsense: 1\n")
        install(app, NEW)
        daemons.listener.wait("^STATUS=another program is on disk, and cannot take over")


def test_one_that_is_detached_stays_so(daemons, app):
    command = daemons.command("daemon", "start", command=program(app))
    subprocess.run(command, env=environment(), check=True, timeout=60, capture_output=True)
    pid, log = daemons.pid(), daemons.state_dir / "daemon.log"
    install(app, NEW)
    begins = f"auto-backup 9.9: the daemon begins (process {pid})"
    assert wait_until(lambda: begins in log.read_text(), 20)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert daemons.pid() == pid
    command = daemons.command("daemon", "stop", command=program(app))
    subprocess.run(command, env=environment(), check=True, timeout=60, capture_output=True)
    assert log.read_text().endswith("the daemon has ended\n")
