"""Snapshots and targets that mean harm: nothing else is reached, as root neither."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from backup.errors import BackupError
from backup.manager import take_snapshot
from backup.restore.decision import Action
from backup.restore.manager import RestoreManager, run_restore
from backup.snapshot.recipients import FernetKey
from backup.storage.memory import MemoryStorage
from tests.hostile import MOMENT, Case, canaries, cases, make_canaries, secret, swapping
from tests.lister import listing

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
RECOVER = Path(__file__).parents[2] / "backup" / "recover.py"
CASES = list(cases())
BY_RECOVER = [case for case in CASES if not case.options][:: 1 if DEEP else 20]
ROUNDS = 8.0 if DEEP else 0.7
POLICIES = [None, "always", "if-changed", "if-newer", "never"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has so much to lose")


def sentence(case):
    return case.sentence if isinstance(case, Case) else None


def outcome(call):
    """Return what ``call`` returns, or the error of ours that it raises; no other one passes."""
    try:
        return call(), None
    except BackupError as error:
        return None, error


@pytest.fixture
def outside(tmp_path):
    """A tree beside the target, which must be the same when the test is over."""
    directory = make_canaries(tmp_path)
    before = canaries(directory)
    yield directory
    assert canaries(directory) == before


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "target"
    yield path
    subprocess.run(["rm", "-rf", path], check=True)  # it may be deeper than Python goes


class TestSnapshotsThatMeanHarm:
    @pytest.mark.parametrize("case", CASES, ids=sentence)
    def test_nothing_outside_changes_and_what_is_wrong_is_told(
        self, case, tmp_path, target, outside
    ):
        case.write(tmp_path / "evil.enc", outside)
        manager = RestoreManager(tmp_path / "store", identities=[FernetKey.parse(secret())])
        where = {} if case.options.get("in_place") else {"target": target}

        report, error = outcome(
            lambda: manager.restore(str(tmp_path / "evil.enc"), **where, **case.options)
        )

        if error is None:
            assert all(reason for _, reason in report.problems)
        else:
            assert error.message
            assert error.exit_code in {13, 16}

    @pytest.mark.parametrize("case", BY_RECOVER, ids=sentence)
    def test_recover_py_reaches_nothing_outside_either(self, case, tmp_path, target, outside):
        case.write(tmp_path / "evil.enc", outside)
        (tmp_path / "key").write_text(secret())
        command = [sys.executable, RECOVER, "extract", "evil.enc", target, "--key", "key"]

        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

        assert "Traceback" not in done.stderr

    def test_there_are_as_many_as_promised(self, capsys):
        with capsys.disabled():
            sys.stdout.write(f" {len(CASES)} hostile snapshots, {len(BY_RECOVER)} by recover.py ")

        assert len({case.sentence for case in CASES}) == len(CASES) > 400


def clear(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plant(kind, path, outside):
    """Put something of the attacker's in a place; return whether that was possible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clear(path)
    if kind == "a link to a file":
        path.symlink_to(outside / "secret")
    elif kind == "a link to a directory":
        path.symlink_to(outside)
    elif kind == "a relative link":
        path.symlink_to(os.path.relpath(outside / "a", path.parent))
    elif kind == "a link to nothing":
        path.symlink_to(outside / "not there yet")
    elif kind == "another name of a canary":
        path.hardlink_to(outside / "secret")
    elif kind == "another name of an empty canary":
        path.hardlink_to(outside / "nothing")
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.mkdir()
        (path / "more").symlink_to(outside)


PLANTS = [
    "a link to a file", "a link to a directory", "a relative link", "a link to nothing",
    "another name of a canary", "another name of an empty canary", "a FIFO",
    "a directory with a link in it",
]  # fmt: skip
PLACES = ["", "d", "d/e", "d/e/file", "d/link", "d/pipe", "d/twin", "empty"]


@pytest.fixture
def saved(source, make_request):
    """Return what restores a tree of one of everything; its times are those of the canaries."""
    (source / "d" / "e").mkdir(parents=True)
    (source / "d" / "e" / "file").write_text("canary")
    (source / "d" / "link").symlink_to("e")
    os.mkfifo(source / "d" / "pipe")
    (source / "d" / "twin").write_text("a twin")
    (source / "z-twin").hardlink_to(source / "d" / "twin")
    (source / "empty").touch()
    for path in (source / "empty", source / "d" / "e" / "file"):
        path.chmod(0o4777)
        os.utime(path, ns=(0, MOMENT))
    storage = MemoryStorage()
    request = make_request(source)
    take_snapshot(request, storage)
    return RestoreManager(storage, identities=request.identities)


class TestTargetsThatMeanHarm:
    """Somebody else was there first, and knows what is going to be restored."""

    @pytest.fixture
    def outside(self, tmp_path):
        """Return canaries of which the attacker may make other names, and nothing else."""
        directory = make_canaries(tmp_path)
        before = listing(directory)
        yield directory
        assert listing(directory) == before

    @pytest.mark.parametrize("place", PLACES, ids=lambda place: place or "the source itself")
    @pytest.mark.parametrize("kind", PLANTS)
    def test_what_was_planted_is_refused_kept_or_replaced_and_never_followed(
        self, saved, source, outside, kind, place
    ):
        rows = listing(source)
        for policy in POLICIES:
            for delete in (False, True):
                plant(kind, source / place, outside)
                before = listing(source.parent)

                report, error = outcome(
                    partial(saved.restore, "latest", in_place=True, overwrite=policy, delete=delete)
                )

                if error is not None:
                    assert error.exit_code == 16
                    assert listing(source.parent) == before
                else:
                    assert report.problems == []
                    if policy == "always" and delete:
                        assert listing(source) == rows
                clear(source)
                saved.restore("latest", in_place=True)

    @needs_root
    @pytest.mark.parametrize("policy", ["always", "if-changed"])
    def test_a_mount_within_the_source_is_not_crossed_by_deleting(
        self, saved, source, outside, policy
    ):
        for name in ("mine", "d/deep/mine"):
            (source / name).mkdir(parents=True)
            subprocess.run(["mount", "--bind", outside, source / name], check=True)
        try:
            plan = saved.plan_restore("latest", in_place=True, overwrite=policy, delete=True)
            report = saved.restore("latest", in_place=True, overwrite=policy, delete=True)
            left = [reason for _, reason in plan.tallies[Action.LEAVE].examples]
        finally:
            for name in ("mine", "d/deep/mine"):
                subprocess.run(["umount", source / name], check=True)

        assert len(left) == report.left == 2
        assert all("another file system is mounted there" in reason for reason in left)
        assert (source / "mine").is_dir()
        assert report.deleted == 0

    @pytest.mark.parametrize("policy", ["always", "if-changed", "never"])
    def test_what_is_swapped_all_the_time_leads_nowhere(self, saved, source, outside, policy):
        """A thread exchanges a directory of the source with a link to the canaries."""
        restore = partial(saved.restore, "latest", in_place=True, overwrite=policy, delete=True)
        link, total, rounds = source.parent / "to", 0, 0
        end = time.monotonic() + ROUNDS
        while time.monotonic() < end:
            clear(source)
            saved.restore("latest", in_place=True)
            clear(link)
            link.symlink_to(outside)
            with swapping(source / "d", link) as swaps:
                outcome(restore)
            total += swaps[0]
            rounds += 1

        assert rounds > 3
        assert total > 100

    @pytest.mark.parametrize("what", ["file", "another name", "directory"])
    def test_what_is_swapped_between_plan_and_restore_is_not_deleted(
        self, saved, source, outside, what
    ):
        (source / "new").mkdir()
        plan = saved.plan_restore("latest", in_place=True, overwrite="always", delete=True)
        (source / "new").rmdir()
        if what == "file":
            (source / "new").write_text("precious")
        elif what == "another name":
            (source / "new").hardlink_to(source / "empty")
        else:
            (source / "new.too").mkdir()
            (source / "new.too").rename(source / "new")

        report = run_restore(plan.snapshot.open(saved.identities), plan)

        assert os.path.lexists(source / "new")
        assert [reason for _, reason in report.problems] == [
            "not deleted: something else is there by now"
        ]

    def test_a_target_that_becomes_a_link_afterwards_is_not_followed_again(
        self, saved, source, target, outside, tmp_path
    ):
        target.mkdir()

        def swap(report, _path):
            if report.entries == 1 and not target.is_symlink():
                target.rename(tmp_path / "moved")
                target.symlink_to(outside)

        saved.restore("latest", target, on_restored=swap)

        assert listing(tmp_path / "moved" / str(source).lstrip("/")) == listing(source)


@needs_root
class TestTargetsThatRefuse:
    @pytest.fixture
    def mounted(self, tmp_path):
        """Return a function that mounts a small file system with options."""
        place = tmp_path / "small"
        place.mkdir()
        mounted = []

        def mount(options):
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("cannot mount a small file system")
            mounted.append(place)
            return place

        yield mount
        for one in mounted:
            subprocess.run(["umount", one], check=True)

    def test_a_target_that_is_read_only_is_told_at_once(self, saved, outside, mounted):
        with pytest.raises(BackupError, match="Read-only file system") as caught:
            saved.restore("latest", mounted("size=1m,ro"))

        assert "mounted read-only" in caught.value.hint

    def test_a_target_without_room_for_names_is_told_before(self, saved, outside, mounted):
        place = mounted("size=1m,nr_inodes=5")
        with pytest.raises(BackupError, match="names are to be made"):
            saved.restore("latest", place)

        assert list(place.iterdir()) == []

    @pytest.mark.parametrize("options", ["noexec", "nosuid", "nodev", "noexec,nosuid,nodev"])
    def test_a_target_of_few_rights_gets_all_the_same(
        self, saved, source, outside, mounted, options
    ):
        place = mounted(f"size=1m,{options}")

        report = saved.restore("latest", place)

        assert report.problems == []
        assert listing(place / str(source).lstrip("/")) == listing(source)

    @pytest.mark.parametrize("blocks", [*range(0, 64, 2 if DEEP else 9)])
    def test_a_disk_that_fills_up_leaves_whole_files_and_nothing_else(
        self, saved, source, outside, mounted, blocks
    ):
        place = mounted("size=256k")
        rows = listing(source)
        plan = saved.plan_restore("latest", place)
        (place / "fill").write_bytes(bytes(4096 * blocks))

        _, error = outcome(lambda: run_restore(plan.snapshot.open(saved.identities), plan))

        assert error is None or "No space left on device" in error.message
        again = place / str(source).lstrip("/")
        if again.exists():
            for path, row in listing(again).items():
                assert row.sha256 == rows[path].sha256
