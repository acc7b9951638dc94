"""No command lets a secret out: not by what it writes, nor by what others see of its process."""

from __future__ import annotations

import base64
import itertools
import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import typer
from cryptography.fernet import Fernet

from backup.cli.app import new_app
from backup.keys import HOST_KEY_NAME
from tests.cli import environment, start

NAME, CONTENT = "canary-name-of-a-file", b"canary content of a file " * 40


class Place:
    """A store, a key, a source and a state of their own, and what is secret in them."""

    def __init__(self, top):
        self.top = top
        self.source, self.store, self.state = top / "source", top / "store", top / "state"
        self.key_file, self.temporary = top / "keys" / "key", top / "tmp"
        for path in (self.source, self.key_file.parent, self.temporary):
            path.mkdir(mode=0o700)
        (self.source / NAME).write_bytes(CONTENT)
        self.key = Fernet.generate_key()
        self.key_file.write_bytes(self.key + b"\n")
        self.key_file.chmod(0o600)

    def options(self):
        places = (("store", self.store), ("key-file", self.key_file), ("state-dir", self.state))
        return ["--host=box", *(f"--{name}={path}" for name, path in places)]

    def run(self, *arguments):
        """Run a command; return exit status, all that it wrote, and what others saw of it."""
        env = environment() | {"TMPDIR": str(self.temporary)}
        process = start(*self.options(), *arguments, env=env, umask=0, cwd=self.top)
        seen = set()
        while process.poll() is None:
            seen.add(look_at(process.pid))
            time.sleep(0.01)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err, b"".join(seen)

    def secrets(self):
        """Return all forms of the secrets with which something is sealed, opened or signed."""
        found = [self.key]
        host_key = self.state / HOST_KEY_NAME
        if host_key.exists():
            found.append(host_key.read_bytes().strip())
        raw = [base64.urlsafe_b64decode(one) for one in found]
        forms = (found, raw, [one.hex().encode() for one in raw])
        return [*itertools.chain(*forms), *(base64.b64encode(one) for one in raw)]

    def files(self):
        """Return what has been made, but for source, key and what was restored."""
        tops = (self.store, self.state, self.temporary)
        return [path for top in tops for path in [top, *top.rglob("*")] if top.exists()]


def look_at(pid):
    """Return what other processes see of a process."""
    seen = b""
    for name in ("cmdline", "environ"):
        try:
            seen += Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            return seen
    return seen


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("place"))
    status, text, _ = place.run("backup", "--source", place.source)
    assert status == 0, text
    return place


def commands():
    """Return the words of every command of the parser."""
    found = []
    for name, command in typer.main.get_command(new_app()).commands.items():
        below = getattr(command, "commands", None)
        found += [(name, one) for one in below] if below else [(name,)]
    return sorted(found)


CALLS = {
    ("backup",): ["--source", "source"],
    ("cat",): ["latest"],
    ("ls",): ["latest", "--long"],
    ("restore",): ["latest", "--target", "out"],
    ("decrypt",): ["latest"],
    ("verify",): ["latest"],
    ("snapshots",): [],
}
WORKS = {*CALLS, ("key", "show"), ("key", "list")}
DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
OPTIONS = ([], ["--json"], ["--verbose", "--dry-run"]) if DEEP else ([],)
SHOWS_KEY = {("key", "export")}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_no_command_tells_a_secret(place, words):
    arguments = [*CALLS.get(words, ["latest"] if words[0] != "key" else [])]
    if words == ("cat",):
        arguments.append(place.source / NAME)

    for options in OPTIONS:
        status, text, seen = place.run(*words, *arguments, *options)

        assert b"fault of auto-backup" not in text
        assert words not in WORKS or status == 0 or options == ["--json"], text
        for secret in place.secrets():
            assert secret not in seen
            assert words in SHOWS_KEY or secret not in text
        for path in place.files():
            check_file(place, path)


def check_file(place, path):
    """Look at what a command has left: nobody else may read it, and no secret is in it."""
    status = path.lstat()
    assert stat.S_IMODE(status.st_mode) & 0o077 == 0, path
    if not stat.S_ISREG(status.st_mode):
        return
    data = path.read_bytes()
    own = path.name == HOST_KEY_NAME
    assert own or not any(secret in data for secret in place.secrets()), path
    if place.store in path.parents:
        assert NAME.encode() not in data, path
        assert CONTENT[:25] not in data, path


def test_what_others_see_of_a_process_is_looked_at(place):
    """The looking works: what is on a command line, or in an environment, is seen."""
    _, _, seen = place.run("ls", "latest")

    assert b"--store=" in seen
    assert b"TMPDIR=" in seen


def test_a_wrong_key_is_not_told(place, tmp_path):
    wrong = tmp_path / "wrong"
    for text in (b"canary-of-a-key-that-is-none", b"gAAAA" * 20, Fernet.generate_key() + b"x"):
        wrong.write_bytes(text)
        wrong.chmod(0o600)
        status, told, _ = place.run("ls", "latest", f"--key-file={wrong}")

        assert status == 12
        assert text[:20] not in told


CHILD = """
import ctypes, resource, sys
from backup.pool.own_process import keep_memory_private
keep_memory_private()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0])
"""


def test_a_process_that_holds_keys_leaves_no_core(place):
    done = start("-c", CHILD, command=(sys.executable,))
    out, err = done.communicate(timeout=60)

    assert out.split() == [b"0", b"0"], err


def test_the_command_is_such_a_process(place):
    process = start("verify", "latest", *place.options())
    limits = set()
    while process.poll() is None:
        with suppress(OSError):
            text = Path(f"/proc/{process.pid}/limits").read_text()
            limits.add(text.partition("Max core file size")[2].split()[0])
    process.communicate()

    assert "0" in limits
