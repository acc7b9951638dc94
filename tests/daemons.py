"""A real daemon for tests: its process, what a service manager hears, and jobs that are short."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from backup.daemon.pid_file import PID_NAME
from backup.run_state import RUNS_NAME, RunState
from tests.checkout import ROOT
from tests.cli import environment
from tests.processes import wait_until

CONFIG = """\
version: 1
host: testhost
defaults: {verify: {checksum: never, content: never}}
jobs:
  shop: {schedule: every 6 hours, sources: [/etc]}
"""

# The job: refuses to run beside itself, and says so; its process id is what it leaves.
JOB = """
import fcntl, os, sys, time
top = sys.argv[1]
lock = open(top + '/lock.' + sys.argv[-1], 'w')
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    open(top + '/twice', 'w')
    raise
with open(top + '/pid.new', 'w') as file:
    file.write(str(os.getpid()))
os.rename(top + '/pid.new', top + '/pid')
if os.path.exists(top + '/shell'):
    os.system('exec sh ' + top + '/shell')
try:
    with open(top + '/seconds') as file:
        time.sleep(float(file.read()))
except OSError:
    pass
with open(top + '/ran', 'a') as file:
    file.write(' '.join(sys.argv[2:]) + '\\n')
"""

CALL = """
import sys
sys.path.insert(0, {root!r})
import backup.tasks
backup.tasks.this_program = lambda options=(), directory=None: backup.tasks.Program(
    (sys.executable, '-c', {job!r}, {top!r})
)
{more}
from backup.cli import main
sys.exit(main())
"""


class Listener:
    """A service manager's socket."""

    def __init__(self, address):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.address = address
        self.lines = []

    def read(self):
        """Return all lines that have come until now."""
        with suppress(BlockingIOError):
            while True:
                self.lines += self._socket.recv(65536).decode().split("\n")
        return self.lines

    def wait(self, pattern, seconds=20.0, *, behind=0):
        """Wait for a line that ``pattern`` fits, behind the first so many; return its number."""

        def look():
            found = [
                number
                for number, line in enumerate(self.read())
                if number >= behind and re.search(pattern, line)
            ]
            return [found[0]] if found else None

        found = wait_until(look, seconds)
        assert found, (pattern, self.lines[behind:])
        return found[0]

    def close(self):
        self._socket.close()


class Daemons:
    """Starts daemons whose jobs are ``JOB``, in a directory of their own."""

    def __init__(self, top):
        self.top = top
        self.config = top / "config.yaml"
        self.config.write_text(CONFIG)
        self.state_dir = top / "state"
        self.state = RunState(self.state_dir / RUNS_NAME)
        self.log = top / "log"
        self.listener = Listener(f"@auto-backup-test-{os.getpid()}-{time.monotonic_ns()}")

    def command(self, *arguments, more="", command=None):
        code = CALL.format(root=str(ROOT), job=JOB, top=str(self.top), more=more)
        options = [f"--config={self.config}", f"--state-dir={self.state_dir}"]
        return [
            *(command or (sys.executable, "-c", code)),
            *options,
            *(arguments or ("daemon", "run")),
        ]

    def environment(self, **variables):
        return environment() | {"NOTIFY_SOCKET": self.listener.address} | variables

    def start(self, *, more="", command=None, variables=None, before=()):
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*before, *self.command(more=more, command=command)],
                env=self.environment(**variables or {}),
                stdout=log,
                stderr=log,
            )

    @contextmanager
    def running(self, **options):
        """Start a daemon, wait until it is ready, and end it."""
        already = len(self.listener.read())
        with self.start(**options) as process:
            try:
                self.listener.wait("^READY=1$", behind=already)
                yield process
            except BaseException:
                sys.stderr.write(self.log.read_text())
                raise
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    try:
                        process.wait(10)
                    except subprocess.TimeoutExpired:
                        process.kill()

    def job_pid(self):
        return wait_until((self.top / "pid").exists) and int((self.top / "pid").read_text())

    def takes(self, seconds):
        (self.top / "seconds").write_text(str(seconds))

    def pid(self):
        return int((self.state_dir / PID_NAME).read_text())

    def last_done(self, job):
        known = self.state.jobs().get(job)
        return known and known.last_done

    def ran(self):
        path = Path(self.top / "ran")
        return path.read_text().splitlines() if path.exists() else []
