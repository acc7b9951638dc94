"""Reads unit files as systemd does, and asks systemd what it thinks of them."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from tempfile import TemporaryDirectory

from tests.cli import environment
from tests.needs import needs


def settings(text):
    """Return what a unit says: for each section and key all its values, in their order."""
    found = {}
    section = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return found


def service(text):
    return settings(text)["Service"]


def analyze(*arguments):
    needs(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    command = ["systemd-analyze", "--no-pager", *map(str, arguments)]
    with TemporaryDirectory() as runtime:  # what a user's manager would have
        env = environment() | {"XDG_RUNTIME_DIR": runtime}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return done.returncode, done.stdout + done.stderr


@cache
def calls_of(group):
    """Return the system calls of a group such as ``@process``."""
    status, told = analyze("syscall-filter", group)
    assert status == 0, told
    lines = [line.strip() for line in told.splitlines()[1:]]
    names = [line for line in lines if line and not line.startswith("#")]
    return frozenset().union(*(calls_of(n) if n.startswith("@") else {n} for n in names))


def allowed_calls(filters):
    """Return the system calls that the lines of a filter leave: what to allow, then what not."""
    allow, deny = filters
    assert deny.startswith("~")
    return _all(allow) - _all(deny[1:])


def _all(words):
    return frozenset().union(*(calls_of(w) if w.startswith("@") else {w} for w in words.split()))
