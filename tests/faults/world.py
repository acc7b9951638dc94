"""The places in which workloads run, and what is known of them."""

from __future__ import annotations

import base64
import os
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backup.catalog import CATALOG_NAME, Catalog
from backup.clock import system_clock
from backup.errors import BackupError
from backup.keys import load_or_create_host_key
from backup.manager import BackupManager, SnapshotRequest, take_snapshot
from backup.model import ArchiveType
from backup.snapshot.recipients import FernetKey
from backup.storage.local import LocalStorage
from tests.lister import listing

HOST, JOB = "testhost", "job"
KEY_TEXT = base64.urlsafe_b64encode(bytes(range(32))).decode()
_CAP = 128 * 1024


class World:
    """The places of one workload: a source that is the same for all, and what a run may change.

    Args:
        base: An empty directory, in memory if possible.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.source = base / "source"
        self.now = base / "now"
        self.store = self.now / "store"
        self.second = self.now / "second"
        self.state = self.now / "state"
        self.keys = self.now / "keys"
        self.key_file = self.keys / "key"
        self.target = self.now / "target"
        self.key = FernetKey.parse(KEY_TEXT)
        self.source.mkdir(parents=True)
        fill(self.source)
        self.rows = listing(self.source)
        self._offset = timedelta()

    def clock(self) -> datetime:
        """Tell a time that is never told twice, so that names sort as snapshots were made."""
        self._offset += timedelta(seconds=1)
        return system_clock() + self._offset

    def set_clock(self, **offset: float) -> None:
        """Let the clock go on from so much after the true time."""
        self._offset = timedelta(**offset)

    def catalog(self, tell: Callable[[str], object] = lambda _: None) -> Catalog:
        """Return what this machine remembers of its stores."""
        return Catalog(self.state / CATALOG_NAME, clock=self.clock, tell=tell)

    def request(self, **fields: Any) -> SnapshotRequest:
        known = {
            "sources": [self.source],
            "host": HOST,
            "job": JOB,
            "recipients": [self.key],
            "identities": [self.key],
            "archive": ArchiveType.TAR_GZ,
            "level": 1,
            "cap": _CAP,
            "clock": self.clock,
            "workers": 1,  # calls go wrong in this process only
        }
        if "host_key" not in fields:
            fields["host_key"] = load_or_create_host_key(self.state)
        return SnapshotRequest(**known | fields)

    def take(self, store: Path | None = None, **fields: Any) -> dict[str, Any]:
        """Take a snapshot; return what has been acknowledged by that."""
        report = take_snapshot(self.request(**fields), LocalStorage(store or self.store))
        told = [os.fsdecode(problem.path) for problem in report.problems]
        return {"store": [report.name], "problems": told}

    def manager(self, **fields: Any) -> BackupManager:
        return BackupManager(
            self.source,
            self.store,
            KEY_TEXT,
            host=HOST,
            job=JOB,
            state=self.state,
            compression="none",
            clock=self.clock,
            workers=1,
            **fields,
        )


@dataclass
class Outcome:
    """How a run ended: ``done``, ``killed``, ``interrupted``, ``error`` (ours) or ``foreign``.

    ``value`` is what it acknowledged; ``error`` the name of the error's class; ``lasting`` whether
    calls went on to fail, so that nothing could be taken back; ``others`` whether another run was
    under way; ``lies`` whether the medium kept other bytes than it was given.
    """

    end: str
    value: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    text: str = ""
    on_source: bool = False
    lasting: bool = False
    others: bool = False
    lies: bool = False


def _nothing(_: World) -> None:
    return


@dataclass(frozen=True)
class Workload:
    """Something to do while calls go wrong.

    Args:
        run: Does it, and returns what it acknowledges.
        prepare: Makes ready what has to be there before.
        check: Yields what is wrong afterwards; ``before`` are the files that were there.
        below: Names of the world's places in which calls are counted.
        reads: The same, for calls that read.
        errors: The classes of errors that it may end with.
        removes: Whether it may remove snapshots that were there.
        replaces: Whether it does so only when a new one is there; else, only from the trash.
    """

    run: Callable[[World], dict[str, Any]]
    prepare: Callable[[World], object] = _nothing
    check: Callable[[World, Outcome, dict[str, bytes]], Iterator[str]] = lambda *_: iter(())
    below: tuple[str, ...] = ("store", "state")
    reads: tuple[str, ...] = ("store",)
    errors: tuple[str, ...] = ("StorageError", "SecretKeyError")
    removes: bool = False
    replaces: bool = True


def fill(top: Path) -> None:
    """Make a small tree with a file in several frames, links, and names of another encoding."""
    chance = random.Random(5)
    (top / "docs").mkdir()
    (top / "docs" / "letter").write_text("Dear Ann\n" * 50)
    (top / "docs" / "same").hardlink_to(top / "docs" / "letter")
    (top / "large").write_bytes(chance.randbytes(300_000))
    (top / "link").symlink_to("docs/letter")
    (top / os.fsdecode(b"latin-\xe9")).write_text("other")
    (top / "empty").mkdir()
    if os.geteuid() == 0:
        os.chown(top / "large", 1234, 5678)
    os.mkfifo(top / "pipe")
    for path in (*top.rglob("*"), top):
        if not path.is_symlink():
            os.utime(path, ns=(0, 1_700_000_000_123_456_789))


def files_below(top: Path) -> dict[str, bytes]:
    """Return all files below ``top`` with their contents."""
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def snapshots_in(files: dict[str, bytes], store: str) -> list[str]:
    """Return the names of the snapshots among ``files``, which are those of a whole world."""
    prefix = store + "/"
    return [
        name.removeprefix(prefix)
        for name in sorted(files)
        if name.startswith(prefix) and name.endswith(".enc")
    ]


def beside(name: str) -> set[str]:
    """Return the names of what belongs to the snapshot ``name``, itself included."""
    return {name, name + ".keys", name + ".sha256"}


def marker(name: str) -> str:
    """Return the name of what puts the snapshot ``name`` into the trash."""
    return name + ".trash"


def outcome_of(
    workload: Workload,
    world: World,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Outcome:
    """Run a workload within ``around``, and tell how it ended."""
    try:
        with around():
            value = workload.run(world)
    except BackupError as error:
        return Outcome("error", error=type(error).__name__, text=str(error))
    except KeyboardInterrupt:
        return Outcome("interrupted")
    except BaseException:  # noqa: BLE001 - that is what must not happen
        return Outcome("foreign", text=traceback.format_exc())
    return Outcome("done", value)
