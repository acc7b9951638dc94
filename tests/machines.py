"""Machines to try the service on: systemd in namespaces of its own, over this machine's files.

``setup/systemd/boot`` makes the namespaces; all that is changed there is in memory, and goes with
the last process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig

import pytest

from tests.checkout import ROOT
from tests.needs import needs

HERE = ROOT / "tests/setup/systemd"
BOOT = HERE / "boot"
DEPTH = os.environ.get("AUTO_BACKUP_TEST_DEPTH", "ci")
LIMIT = 90 if DEPTH == "ci" else 180  # seconds
PRIVATE = ("--mount", "--propagation", "private")
NAMESPACES = ("--fork", "--kill-child", "--pid", "--uts", "--ipc", "--net", *PRIVATE)
NOT_ALLOWED = 77
COMMANDS = {
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "useradd": "passwd",
    "systemd-sysusers": "systemd",
    "systemd-run": "systemd",
}


class Facts(dict):
    """What was found at each step."""

    def __missing__(self, step):
        pytest.fail(f"it did not come to {step}: {self.get('seconds')}", pytrace=False)

    def of(self, step):
        found = self[step]
        if "failed" in found:
            pytest.fail(f"{step}: {found['failed']}\n{found['journal']}", pytrace=False)
        return found


def last_line(text):
    return text.strip().rpartition("\n")[2]


def check_machine():
    """Return a Python that is good for the machine that is to boot."""
    if os.geteuid() != 0:
        pytest.skip("only root can make these namespaces")
    for command, package in COMMANDS.items():
        needs(shutil.which(command), f"{command} ({package}) is not installed")
    needs(os.access("/usr/lib/systemd/systemd", os.X_OK), "systemd is not installed")
    python = shutil.which(f"python{sysconfig.get_python_version()}", path="/usr/bin")
    needs(python, "there is no Python of this version that all may use")
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no namespaces here: {last_line(tried.stderr)}")
    return python


def boot(profile, out):
    """Boot a machine, have the service tried there with a profile, and return what was found."""
    python, name = check_machine(), f"auto-backup-test-{os.getpid()}-{profile}"
    what = (name, out, python, sysconfig.get_path("purelib"), ROOT / "backup", HERE)
    command = ["unshare", *NAMESPACES, BOOT, *what, profile, DEPTH]
    console = out / "console.log"
    try:
        with console.open("w") as log:
            done = subprocess.run(
                ["setpriv", "--pdeathsig=KILL", *map(str, command)],  # nothing of it outlives this
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=LIMIT,
                check=False,
            )
    except subprocess.TimeoutExpired:
        done = None
    finally:
        cleaned = subprocess.run(["unshare", *PRIVATE, BOOT, "clean", name], check=False)
    assert cleaned.returncode in {0, NOT_ALLOWED}
    if done is not None and done.returncode == NOT_ALLOWED:
        pytest.skip(f"no machine can be booted here: {last_line(console.read_text())}")
    facts = out / "facts.json"
    if not facts.exists():
        probe = out / "probe.log"
        told = console.read_text() + (probe.read_text() if probe.exists() else "")
        pytest.fail(f"it did not boot ({done or f'in {LIMIT} s'}):\n{told}", pytrace=False)
    return Facts(json.loads(facts.read_text()), profile=profile)
