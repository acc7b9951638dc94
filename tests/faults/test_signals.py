"""SIGINT and SIGTERM at any moment: an end within seconds, one status, and nothing false left."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from backup.restore.manager import RestoreManager
from tests.cli import done, start
from tests.lister import listing

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
MOMENTS = 200 if DEEP else 10
LONGEST = 5
INTERRUPTED = 130
pytestmark = [pytest.mark.timeout(3600 if DEEP else 300), pytest.mark.usefixtures("key_file")]


@pytest.fixture(scope="module")
def much(tmp_path_factory):
    """Return a directory that takes a moment to save, to read and to restore, and workers."""
    top, chance = tmp_path_factory.mktemp("much"), random.Random(1)
    for number in range(40):
        directory = top / f"{number:02}"
        directory.mkdir()
        for place in range(60):
            (directory / f"{place:02}").write_bytes(chance.randbytes(chance.randrange(20_000)))
        (directory / "link").symlink_to("00")
    (top / "large").write_bytes(chance.randbytes(85_000_000))
    return top


def has_begun(pid):
    """Tell whether a process has come so far that it handles SIGTERM: main() has begun."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return caught >> (signal.SIGTERM - 1) & 1


def begin(*arguments):
    process = start(*arguments)
    while process.poll() is None and not has_begun(process.pid):
        time.sleep(0.001)
    return process


def duration(*arguments):
    """Return how long the command takes from when it handles signals."""
    process = begin(*arguments)
    began = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return time.monotonic() - began


def interrupt(number, moment, *arguments):
    """Send a signal at a moment; return the exit status."""
    process = begin(*arguments)
    time.sleep(moment)
    process.send_signal(number)
    sent = time.monotonic()
    _, err = process.communicate(timeout=60)

    assert time.monotonic() - sent < LONGEST
    assert process.returncode in {0, INTERRUPTED}, err
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    if process.returncode == INTERRUPTED:
        assert b"interrupted" in err
    return process.returncode


def interrupt_often(check, longest, command):
    """Interrupt ``command()`` at random moments, and look what is left each time."""
    chance, statuses = random.Random(3), []
    for number in range(MOMENTS):
        kind = signal.SIGTERM if number % 2 else signal.SIGINT
        moment = chance.random() * longest
        statuses.append(interrupt(kind, moment, *command(number)))
        check(number, statuses[-1])
    assert statuses.count(INTERRUPTED) > MOMENTS // 3


def test_a_backup(much, store, key):
    options = ["backup", "--source", much, "--store", store, "--compression", "zstd"]
    longest = duration(*options)
    manager = RestoreManager(store, key)
    proven = {one.name for one in manager.list_snapshots()}

    def check(_, status):
        names = {one.name for one in manager.list_snapshots()}
        assert {str(path.relative_to(store)) for path in store.rglob("*.enc")} == names
        assert len(names - proven) <= 1
        assert status == INTERRUPTED or names - proven
        for name in names - proven:
            assert manager.validate(name).holds
            proven.add(name)

    interrupt_often(check, longest, lambda _: options)
    done(*options)
    assert not list(store.rglob("*.partial"))


def test_a_restore(much, store, tmp_path):
    done("backup", "--source", much, "--store", store, "--compression", "zstd")
    whole = listing(much)

    def command(number):
        return ["restore", "latest", "--store", store, "--target", tmp_path / f"out-{number}"]

    def check(number, status):
        top = tmp_path / f"out-{number}"
        assert not list(top.rglob("*.partial"))
        restored = top / str(much).lstrip("/")
        for path in restored.rglob("*") if restored.exists() else ():
            if path.is_file() and not path.is_symlink():
                assert path.read_bytes() == (much / path.relative_to(restored)).read_bytes()
        if status == 0:
            assert listing(restored) == whole

    interrupt_often(check, duration(*command("whole")), command)


def test_a_verification(much, store):
    done("backup", "--source", much, "--store", store, "--compression", "zstd")
    options = ["verify", "--store", store]
    before = listing(store)

    def check(_, __):
        assert listing(store) == before

    interrupt_often(check, duration(*options), lambda _: options)
