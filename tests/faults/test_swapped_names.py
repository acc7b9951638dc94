"""An attacker exchanges names while a privileged walk is under way: nothing leads elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from backup.model import Entry, EntryType
from backup.sources.descriptors import FileOpener
from backup.sources.roots import prepare_roots
from backup.sources.tree import TreeWalker

SECONDS = 60 if os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep" else 1.5
SECRET = b"of somebody else"
OWN = b"one's own words!"


@pytest.fixture
def exchanged(tmp_path):
    """Return a root in which names change places with links that lead out of it, all the time."""
    inside, outside = tmp_path / "root", tmp_path / "outside"
    for top, content in ((outside, SECRET), (inside / "swapped", OWN)):
        (top / "deeper").mkdir(parents=True)
        (top / "deeper" / "file").write_bytes(content)
        (top / "file").write_bytes(content)
    (outside / "canary").touch()
    (outside / "deeper" / "canary").touch()
    (inside / "link").symlink_to(outside)
    (inside / "swapped" / "z").symlink_to(outside / "deeper")
    (inside / "to-file").symlink_to(outside / "file")
    (inside / "z-file").write_bytes(OWN)
    pairs = ["swapped", "link", "swapped/deeper", "swapped/z", "z-file", "to-file"]
    # Another process, as the threads of this one take turns.
    command = [sys.executable, "-c", EXCHANGER, *(str(inside / name) for name in pairs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        if process.stdout.readline() != b"ready\n":
            pytest.skip("this file system does not exchange names")
        yield inside
        process.kill()


def read(opener, entry):
    """Return what is read in the place of ``entry``, ``None`` where it is refused."""
    try:
        descriptor = opener.open(entry)
    except OSError:
        return None
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_no_name_and_no_byte_of_another_tree_is_ever_seen(exchanged):
    root = prepare_roots([exchanged])
    seen = set()
    until = time.monotonic() + SECONDS
    with FileOpener() as opener:
        while time.monotonic() < until:
            for item in TreeWalker(root):
                assert b"canary" not in item.path
                if isinstance(item, Entry):
                    seen.add((item.path.rpartition(b"/")[2], item.type))
                    if item.type is EntryType.FILE:
                        assert read(opener, item) in {None, OWN}

    kinds = {kind for name, kind in seen if name == b"swapped"}
    assert kinds == {EntryType.DIRECTORY, EntryType.SYMLINK}  # they did change places meanwhile


EXCHANGER = """
import ctypes, os, sys
pairs = [os.fsencode(one) for one in sys.argv[1:]]
pairs = list(zip(pairs[::2], pairs[1::2]))
renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
EXCHANGE, HERE = 2, -100
if renameat2(HERE, pairs[0][0], HERE, pairs[0][1], EXCHANGE):
    sys.exit(1)
print("ready", flush=True)
while True:
    for first, second in pairs:
        renameat2(HERE, first, HERE, second, EXCHANGE)
"""
