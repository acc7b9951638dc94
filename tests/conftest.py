"""Fixtures: nothing that a test does touches the home of whoever runs it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, settings

import backup.environment
from backup.environment import VARIABLES
from backup.manager import SnapshotRequest
from backup.snapshot.recipients import FernetKey
from backup.snapshot.signing import HostKey

HOST = "testhost"
NOBODY = 65534
MOMENT_NS = 1_700_000_000_123_456_789

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=60, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("deep", max_examples=2000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile("deep" if os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep" else "ci")


class FrozenClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 16, 32, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    for name in VARIABLES:  # what is set, even to nothing, wins over an .env file
        monkeypatch.setenv(f"AUTO_BACKUP_{name}", "")
    for name in ("SYSTEM_STATE", "SYSTEM_RUNTIME"):
        monkeypatch.setattr(backup.environment, name, home / name.lower())
    monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", str(home / "auto-backup-state"))
    monkeypatch.setenv("AUTO_BACKUP_KEY_FILE", str(home / "auto-backup-key"))
    monkeypatch.setenv("AUTO_BACKUP_HOST", HOST)
    return home


@pytest.fixture(scope="session")
def key():
    return Fernet.generate_key().decode()


@pytest.fixture
def key_file(private_home, key):
    """Return the key file that is taken where nobody names a key; it holds ``key``."""
    path = private_home / "auto-backup-key"
    path.write_text(key + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def store(tmp_path):
    """Return the path of a store, which does not exist yet."""
    return tmp_path / "store"


@pytest.fixture
def source(tmp_path):
    """Return an empty directory."""
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def tree(source):
    """Return a directory with one of everything that a tree may hold."""
    fill(source)
    return source


@pytest.fixture(scope="session")
def make_request(key):
    """Return a function that gives a request for some sources, with what else is said."""
    secret, host_key = FernetKey.parse(key), HostKey.generate()

    def make(*sources, **fields):
        known = {
            "sources": sources,
            "host": HOST,
            "job": "job",
            "recipients": [secret],
            "identities": [secret],
            "host_key": host_key,
        }
        return SnapshotRequest(**known | fields)

    return make


@pytest.fixture
def open_dir():
    """Return a directory that every user may enter and write to."""
    path = Path(tempfile.mkdtemp(prefix="auto-backup-test-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def as_nobody():
    """Return a context manager within which this process may do no more than any user."""

    @contextmanager
    def become():
        if os.geteuid() != 0:
            yield
            return
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    return become


def fill(top: Path) -> None:
    """Make the sample tree below ``top``."""
    chance = random.Random(1)
    (top / "docs" / "deep" / "er").mkdir(parents=True)
    (top / "docs" / "plan.txt").write_text("one two three\n" * 400)
    (top / "docs" / "deep" / "er" / "random").write_bytes(chance.randbytes(70_000))
    (top / "empty-file").touch()
    (top / "empty-dir").mkdir()
    (top / "docs" / "hard").write_text("one file, three names")
    (top / "another-name").hardlink_to(top / "docs" / "hard")
    (top / "zz-third-name").hardlink_to(top / "docs" / "hard")
    (top / "link").symlink_to("docs/plan.txt")
    (top / "dangling").symlink_to("nowhere/at all")
    os.mkfifo(top / "pipe", 0o640)
    (top / "line\nbreak").write_text("a name of two lines")
    (top / os.fsdecode(b"latin-\xe9\xff")).write_text("a name that is not UTF-8")
    (top / ("n" * 255)).write_text("a long name")
    (top / "script").write_text("#!/bin/sh\n")
    (top / "script").chmod(0o4755)
    (top / "closed").write_text("for nobody")
    (top / "closed").chmod(0o000)
    (top / "shared").mkdir()
    (top / "shared").chmod(0o1777)
    (top / "old").write_text("from before 1970")
    os.utime(top / "old", ns=(0, -86_400_000_000_001))
    if os.geteuid() == 0:
        os.chown(top / "docs" / "plan.txt", 1234, 5678)
        os.chown(top / "link", 1234, 5678, follow_symlinks=False)
    for number, name in enumerate(("docs/deep/er/random", "pipe", "empty-dir", "docs")):
        os.utime(top / name, ns=(0, MOMENT_NS + number))
    os.utime(top / "link", ns=(0, MOMENT_NS), follow_symlinks=False)
