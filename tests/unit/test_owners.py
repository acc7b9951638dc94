"""Root at work in the state directory and the stores of another user; led nowhere by that user."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

import backup.environment
from backup.catalog import CATALOG_NAME, Catalog
from backup.cli.action_log import ActionLog
from backup.environment import control_socket, state_dir
from backup.errors import BackupError, CatalogError, RunStateError, SecretKeyError
from backup.keys import HOST_KEY_NAME, load_or_create_host_key
from backup.manager.chain_memory import ChainMemory
from backup.owners import as_owner, give_to_owner
from backup.run_state import RUNS_NAME, Outcome, RunState
from backup.snapshot.signing import HostKey
from backup.storage.local import LocalStorage
from tests.cli import done, load_all
from tests.conftest import HOST, NOBODY
from tests.ordinary_user import python_for_all

GROUP = 4321
CONFIG = """
version: 1
host: {host}
stores:
  disk: {{url: {top}/store}}
jobs:
  papers:
    schedule: every 6 hours
    sources: [{top}/source]
    keep: {{last: 2}}
    compression: none
"""
# What the other user runs: several commands in one process, whose statuses it tells.
COMMANDS = """
import json, sys
from backup.cli import main
for one in json.loads(sys.argv[1]):
    status = main(one)
    assert status == 0, (one, status)
"""


@pytest.fixture(autouse=True)
def two_users():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")


@pytest.fixture
def theirs(open_dir):
    """Return the state directory of another user."""
    path = open_dir / "state"
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, GROUP)
    return path


@pytest.fixture
def secret(open_dir):
    """Return a directory of root's, which must stay as it is, with a file in it."""
    path = open_dir / "of root"
    path.mkdir(mode=0o700)
    (path / "file").write_text("of root")
    (path / "file").chmod(0o600)
    before = described(path)
    yield path
    assert described(path) == before


def below(path):
    return sorted([path, *path.rglob("*")])


def owners(path):
    """Return who owns ``path`` and all that is below it."""
    return {(one.lstat().st_uid, one.lstat().st_gid) for one in below(path)}


def described(path):
    found = {}
    for one in below(path):
        status = one.lstat()
        content = one.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[one] = (status.st_uid, status.st_gid, status.st_mode, content)
    return found


class TestOwner:
    def test_what_is_made_is_the_owners_and_this_process_is_root_again(self, theirs):
        with as_owner(theirs) as is_other:
            (theirs / "file").touch()
            (theirs / "directory").mkdir()
        (theirs.parent / "after").touch()

        assert is_other
        assert owners(theirs) == {(NOBODY, GROUP)}
        assert owners(theirs.parent / "after") == {(0, 0)}

    def test_other_threads_stay_root(self, theirs, secret):
        seen, start = [], threading.Event()
        thread = threading.Thread(
            target=lambda: start.wait(5) and seen.append((secret / "file").read_text())
        )
        thread.start()
        with as_owner(theirs):
            with pytest.raises(PermissionError):
                (secret / "file").read_text()
            start.set()
            thread.join(5)

        assert seen == ["of root"]

    def test_an_error_ends_it_and_one_within_another_comes_back_to_that(self, theirs, secret):
        with as_owner(theirs):
            with pytest.raises(ValueError), as_owner(theirs):
                raise ValueError
            with pytest.raises(PermissionError):
                (secret / "file").read_text()

        assert (secret / "file").read_text() == "of root"

    def test_in_a_directory_of_roots_nothing_changes(self, secret):
        with as_owner(secret) as is_other, as_owner(secret / "not" / "there"):
            assert not is_other
            assert (secret / "file").read_text() == "of root"

    def test_an_owner_who_cannot_get_there_gets_what_is_made_all_the_same(self, tmp_path, secret):
        (secret / "state").mkdir()
        os.chown(secret / "state", NOBODY, GROUP)
        try:
            with as_owner(secret / "state", "file") as is_other:
                assert not is_other
                (secret / "state" / "file").touch()

            assert owners(secret / "state") == {(NOBODY, GROUP)}
        finally:
            shutil.rmtree(secret / "state")

    def test_what_root_left_there_becomes_the_owners(self, theirs):
        (theirs / "deep").mkdir(mode=0o700)
        (theirs / "deep" / "file").touch(mode=0o600)
        (theirs / "other").touch()

        with as_owner(theirs, "deep/file", "missing"):
            assert (theirs / "deep" / "file").read_text() == ""

        assert owners(theirs / "deep") == {(NOBODY, GROUP)}
        assert owners(theirs / "other") == {(0, 0)}, "nobody asked for it"

    @pytest.mark.parametrize("kind", ["link", "hard link", "directory link", "of another user"])
    def test_nothing_else_is_given(self, theirs, secret, kind):
        if kind == "link":
            (theirs / "name").symlink_to(secret / "file")
        elif kind == "hard link":
            (theirs / "name").hardlink_to(secret / "file")
        elif kind == "directory link":
            (theirs / "name").symlink_to(secret)
        else:
            (theirs / "name").touch()
            os.chown(theirs / "name", 1234, 1234)
        before = (theirs / "name").lstat().st_uid

        with as_owner(theirs, "name", "name/file"):
            pass

        assert (theirs / "name").lstat().st_uid == before

    def test_a_directory_that_was_exchanged_for_a_full_one_is_not_given(self, theirs, secret):
        there = os.open(theirs, os.O_RDONLY)
        full = os.open(secret, os.O_RDONLY)
        try:
            give_to_owner(full, there)
        finally:
            os.close(full)
            os.close(there)


class TestState:
    """What lies in a state directory, made by root, used by its owner, and the other way round."""

    def use(self, path, clock):
        runs = RunState(path / RUNS_NAME, clock)
        runs.claim_by_hand("shop").finish(Outcome.DONE)
        runs.pause("shop")
        Catalog(path / CATALOG_NAME, clock=clock).touch("file:///disk", ["x"])
        load_or_create_host_key(path)
        log = ActionLog(path / "backup.log", clock, is_state=True)
        log.start("test")
        log.end("done")
        log.close()
        return len(runs.history("shop"))

    def test_is_the_owners_whoever_makes_it(self, theirs, clock, as_nobody):
        load_all()
        assert self.use(theirs, clock) == 1
        assert owners(theirs) == {(NOBODY, GROUP)}
        with as_nobody():
            assert self.use(theirs, clock) == 2
        assert self.use(theirs, clock) == 3

        assert {one[0] for one in owners(theirs)} == {NOBODY}
        assert sorted(one.name for one in theirs.iterdir()) == [
            "backup.log",
            CATALOG_NAME,
            HOST_KEY_NAME,
            "runs.locks",
            RUNS_NAME,
        ]

    def test_that_root_makes_stays_roots(self, open_dir, clock):
        self.use(open_dir / "new" / "state", clock)

        assert owners(open_dir / "new") == {(0, 0)}

    def test_that_root_had_made_before_becomes_the_owners(self, theirs, clock, as_nobody):
        os.chown(theirs, 0, 0)
        self.use(theirs, clock)
        os.chown(theirs, NOBODY, GROUP)

        assert self.use(theirs, clock) == 2
        with as_nobody():
            assert self.use(theirs, clock) == 3

    def test_a_log_that_is_rotated(self, theirs, clock, monkeypatch):
        monkeypatch.setattr("backup.cli.action_log._MOST_BYTES", 200)
        log = ActionLog(theirs / "backup.log", clock, is_state=True)
        for _ in range(3):
            log.start("test", text="x" * 100)
        log.close()

        assert sorted(one.name for one in theirs.iterdir()) == [
            "backup.log",
            "backup.log.1",
            "backup.log.2",
        ]
        assert owners(theirs) == {(NOBODY, GROUP)}

    def test_one_that_is_damaged_and_set_aside(self, theirs, clock):
        path = theirs / RUNS_NAME
        path.write_bytes(b"no database" * 1000)

        RunState(path, clock).pause("shop")

        assert len(list(theirs.glob("runs.sqlite.damaged-*"))) == 1
        assert owners(theirs) == {(NOBODY, GROUP)}

    def test_what_a_host_remembers_of_its_chains(
        self, theirs, source, make_request, as_nobody, open_dir
    ):
        from backup.manager import take_snapshot  # noqa: PLC0415 - for this test alone

        (source / "file").touch()
        storage, key = LocalStorage(open_dir / "store"), HostKey.generate()
        memory = ChainMemory(theirs, key)
        request = make_request(source, memory=memory, host_key=key)

        name = take_snapshot(request, storage).name

        assert owners(theirs) == {(NOBODY, GROUP)}
        assert len(list(theirs.rglob("*.json"))) == 1
        found = memory.recall(storage, HOST, "job")
        assert found is not None
        assert found.name == name

    def test_a_lock_of_one_is_seen_by_the_other(self, theirs, clock, as_nobody):
        state = RunState(theirs / RUNS_NAME, clock)
        with state.claim_by_hand("shop"), as_nobody():
            assert state.is_running("shop")
            assert state.claim_by_hand("shop") is None
        with as_nobody():
            claim = state.claim_by_hand("shop")
            assert claim is not None
        assert state.is_running("shop")
        assert state.claim_by_hand("shop") is None
        claim.finish(Outcome.DONE)


class TestPlanted:
    """The owner of the state directory is not to be trusted with root's rights."""

    NAMES = (
        RUNS_NAME,
        f"{RUNS_NAME}.new",
        f"{RUNS_NAME}-journal",
        f"{RUNS_NAME}-wal",
        CATALOG_NAME,
        f"{CATALOG_NAME}.copy.new",
        HOST_KEY_NAME,
        "backup.log",
        "backup.log.1",
        "runs.locks",
        "runs.locks/shop.lock",
        "chains",
        "chains/testhost",
    )

    def plant(self, path, kind, secret):
        path.parent.mkdir(exist_ok=True)
        os.chown(path.parent, NOBODY, GROUP)
        if kind == "link":
            path.symlink_to(secret / "file")
        elif kind == "link to nothing":
            path.symlink_to(secret / "new")
        elif kind == "directory link":
            path.symlink_to(secret)
        elif kind == "hard link":
            path.hardlink_to(secret / "file")
        else:
            os.mkfifo(path)
        if kind != "hard link":
            os.chown(path, NOBODY, GROUP, follow_symlinks=False)

    @pytest.mark.timeout(30)
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        "kind", ["link", "link to nothing", "directory link", "hard link", "pipe"]
    )
    def test_things_lead_root_nowhere(self, theirs, secret, clock, name, kind):
        self.plant(theirs / name, kind, secret)
        key = HostKey.generate()
        calls = (
            lambda: RunState(theirs / RUNS_NAME, clock, wait=0.1).pause("shop"),
            lambda: RunState(theirs / RUNS_NAME, clock, wait=0.1).jobs(),
            lambda: RunState(theirs / RUNS_NAME, clock, wait=0.1).claim_by_hand("shop"),
            lambda: RunState(theirs / RUNS_NAME, clock, wait=0.1).is_running("shop"),
            lambda: RunState(theirs / RUNS_NAME, clock, wait=0.1).forget("shop"),
            lambda: Catalog(theirs / CATALOG_NAME, clock=clock, wait=0.1).touch("x", ["y"]),
            lambda: load_or_create_host_key(theirs),
            lambda: ActionLog(theirs / "backup.log", is_state=True).close(),
            lambda: ChainMemory(theirs, key).recall(LocalStorage(secret.parent), HOST, "job"),
        )
        for call in calls:
            try:
                call()
            except (BackupError, OSError):
                continue
        assert owners(secret) == {(0, 0)}

    def test_a_journal_that_names_a_file_deletes_none_of_roots(self, theirs, secret, clock):
        state = RunState(theirs / RUNS_NAME, clock)
        state.pause("shop")
        self.plant_journal(theirs / RUNS_NAME, secret / "file")

        with suppress(RunStateError):
            RunState(theirs / RUNS_NAME, clock).pause("mail")

        assert (secret / "file").exists()

    def plant_journal(self, path, victim):
        """Leave a journal as a crash in a transaction over several databases would."""
        size = 4096
        name = os.fsencode(victim)
        header = bytes.fromhex("d9d505f920a163d7") + (0).to_bytes(4, "big")
        header += bytes(4) + (path.stat().st_size // size).to_bytes(4, "big")
        header += (512).to_bytes(4, "big") + size.to_bytes(4, "big")
        journal = header.ljust(512, b"\0")
        journal += (1073741824 // size + 1).to_bytes(4, "big") + name
        journal += len(name).to_bytes(4, "big") + (sum(name) & 0xFFFFFFFF).to_bytes(4, "big")
        journal += bytes.fromhex("d9d505f920a163d7")
        beside = path.with_name(path.name + "-journal")
        beside.write_bytes(journal)
        os.chown(beside, NOBODY, GROUP)

    def test_a_key_that_is_a_link_is_not_read(self, theirs, secret, key):
        (theirs / HOST_KEY_NAME).symlink_to(secret / "file")

        with pytest.raises(SecretKeyError, match="Permission denied"):
            load_or_create_host_key(theirs)

    def test_what_is_left_by_a_killed_migration_is_no_way_out_either(self, theirs, clock, secret):
        path = theirs / CATALOG_NAME
        Catalog(path, clock=clock).touch("x", ["y"])
        with closing(sqlite3.connect(path)) as found:
            found.execute("PRAGMA user_version = 9")

        with pytest.raises(CatalogError) as raised:
            Catalog(path, clock=clock).touch("x", ["y"])

        assert raised.value.is_newer
        assert owners(theirs) == {(NOBODY, GROUP)}


class TestStores:
    @pytest.fixture
    def storage(self, open_dir):
        path = open_dir / "store"
        path.mkdir(mode=0o700)
        os.chown(path, NOBODY, GROUP)
        return LocalStorage(path)

    def put(self, storage, name, content=b"x"):
        with storage.create(name) as file:
            file.write(content)
            file.commit()

    def test_what_root_stores_is_the_owners(self, storage, as_nobody):
        self.put(storage, "web1/shop/a.enc")
        with storage.lock("web1/mail"):
            pass

        assert owners(storage.local_root()) == {(NOBODY, GROUP)}
        with as_nobody():
            assert storage.read("web1/shop/a.enc") == b"x"
            self.put(storage, "web1/shop/b.enc")
            storage.delete("web1/shop/a.enc")
        self.put(storage, "web1/shop/c.enc")
        storage.delete("web1/shop/b.enc")
        assert [one.name for one in storage.list_files()] == ["web1/shop/c.enc"]

    @pytest.mark.parametrize("kind", ["directory link", "link"])
    def test_a_planted_link_is_not_followed(self, storage, secret, kind):
        root = storage.local_root()
        (root / "web1").symlink_to(secret if kind == "directory link" else secret / "file")
        os.chown(root / "web1", NOBODY, GROUP, follow_symlinks=False)

        with pytest.raises(BackupError):
            self.put(storage, "web1/a.enc")
        storage.delete("web1/file")
        assert storage.stat("web1/file") is None


class TestWhereTheMachinesStateLies:
    @pytest.fixture
    def system(self, open_dir, monkeypatch):
        monkeypatch.delenv("AUTO_BACKUP_STATE_DIR")
        path = open_dir / "system"
        monkeypatch.setattr(backup.environment, "SYSTEM_STATE", path)
        return path

    def test_roots_is_the_machines_where_there_is_one(self, system, private_home, as_nobody):
        own = private_home / "state" / "auto-backup"
        assert state_dir() == own
        system.mkdir()
        assert state_dir() == system
        with as_nobody():
            assert state_dir() == own

    def test_what_was_said_counts_before_it(self, system, monkeypatch):
        system.mkdir()
        monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", "/elsewhere")

        assert state_dir() == Path("/elsewhere")

    def test_where_its_daemon_listens(self, system, private_home, open_dir):
        system.mkdir()
        (open_dir / "link").symlink_to(system)

        runtime = private_home / "system_runtime" / "control.sock"
        assert control_socket(system) == runtime
        assert control_socket(open_dir / "link") == runtime
        assert control_socket(open_dir) == open_dir / "control.sock"


class TestTwoUsers:
    """Root by hand beside a daemon that runs as another user; with the real command."""

    @pytest.fixture
    def top(self, open_dir, key, key_file, theirs, monkeypatch):
        (open_dir / "source").mkdir()
        (open_dir / "source" / "file").write_text("content")
        (open_dir / "store").mkdir(mode=0o700)
        os.chown(open_dir / "store", NOBODY, GROUP)
        (open_dir / "config.yaml").write_text(CONFIG.format(top=open_dir, host=HOST))
        (open_dir / "key").write_text(key)
        (open_dir / "key").chmod(0o600)
        os.chown(open_dir / "key", NOBODY, NOBODY)
        monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(open_dir / "config.yaml"))
        monkeypatch.setenv("AUTO_BACKUP_STATE_DIR", str(theirs))
        return open_dir

    COMMANDS = (
        ("--now", "papers"),
        ("--now", "papers"),
        ("--now", "papers"),
        ("verify", "--level", "content", "papers"),
        ("rotate", "--keep", "last=1"),
        ("schedule", "run", "papers"),
        ("schedule", "pause", "papers"),
        ("schedule", "resume", "papers"),
        ("schedule", "list"),
        ("catalog", "rebuild"),
        ("snapshots",),
    )

    def as_root(self):
        for one in self.COMMANDS:
            assert "cannot" not in done(*one).err

    def as_the_user(self, top):
        python, env = python_for_all()
        own = {"HOME": str(top), "AUTO_BACKUP_KEY_FILE": str(top / "key")}
        process = subprocess.run(
            [python, "-B", "-c", COMMANDS, json.dumps(self.COMMANDS)],
            env=env | own,
            cwd=top,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            user=NOBODY,
            group=GROUP,
            extra_groups=[],
        )
        assert process.returncode == 0, process.stderr
        assert "not recorded" not in process.stderr
        assert "cannot" not in process.stderr

    def check(self, top):
        assert owners(top / "state") == owners(top / "store") == {(NOBODY, GROUP)}

    def test_neither_locks_the_other_out(self, top):
        self.as_root()
        self.check(top)
        self.as_the_user(top)
        self.check(top)
        self.as_root()
        self.check(top)
        assert len(done("snapshots", "--trash", "--json").json) > 2
