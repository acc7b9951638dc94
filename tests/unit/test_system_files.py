"""Restoring onto the running system: what says which machine it is stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backup.restore.decision import Action
from backup.restore.manager import RestoreManager
from backup.restore.system_files import SYSTEM_FILES, SYSTEM_REASONS, is_system_place
from backup.snapshot.recipients import FernetKey
from tests.checkout import ROOT
from tests.cli import environment
from tests.hostile import Case, entry, secret

USAGE = (ROOT / "USAGE.md").read_text()
OURS = ("etc/fstab", "etc/machine-id", "etc/netplan/01.yaml", "boot/vmlinuz", "etc/crypttab",
        "etc/network/interfaces", "etc/resolv.conf", "etc/default/grub", "etc/hostname",
        "lib/modules/6.1/modules.dep", "dev/sda", "run/lock")  # fmt: skip
THEIRS = ("etc/fstab.old", "etc/hosts", "etc/ssh/sshd_config", "boots/x", "etc/default/cron",
          "home/ann/etc/fstab", "device", "usr/lib/module")  # fmt: skip


def whole(paths):
    """Return entries of directories on the way and files, as a snapshot has them."""
    above = {path[:at] for path in paths for at in range(len(path)) if path[at] == "/"}
    return tuple(entry("dir", path) for path in above) + tuple(entry("file", one) for one in paths)


@pytest.fixture
def snapshot(tmp_path):
    """Return a snapshot of parts of a system, and what restores it."""
    path = tmp_path / "system.enc"
    paths = ("etc/fstab", "etc/auto-backup-test/kept", "etc/machine-id", "boot/vmlinuz")
    Case("a system", whole(paths), sources=("etc", "boot")).write(path, tmp_path)
    return str(path)


@pytest.fixture
def manager(tmp_path):
    return RestoreManager(tmp_path / "store", identities=[FernetKey.parse(secret())])


def left(plan):
    return {os.fsdecode(path): reason for path, reason in plan.tallies[Action.LEAVE].examples}


class TestTheTable:
    @pytest.mark.parametrize("path", OURS)
    def test_what_is_of_this_machine_is_in_it(self, path):
        above = [path[:at] for at in range(1, len(path) + 1)]
        assert any(one.encode() in SYSTEM_REASONS for one in above)

    @pytest.mark.parametrize("group", SYSTEM_FILES, ids=lambda group: group.reason)
    def test_all_of_it_is_documented(self, group):
        missing = [path for path in group.paths if f"`/{os.fsdecode(path)}`" not in USAGE]

        assert missing == []
        assert group.reason in USAGE

    @pytest.mark.parametrize(
        ("path", "is_one"),
        [(b"", True), (b"etc", True), (b"etc/x", True), (b"usr/bin/x", True), (b"home/x", False),
         (b"etcetera", False), (b"srv", False), (b"tmp/etc", False), (b"root/.bashrc", True)],
    )  # fmt: skip
    def test_directories_of_the_system_are_known(self, path, is_one):
        assert is_system_place(path) is is_one


class TestPlans:
    def test_they_are_left_alone_and_told_with_the_reason(self, snapshot, manager):
        plan = manager.plan_restore(snapshot, in_place=True, overwrite="always")

        assert left(plan) == {
            "boot": "how it starts",
            "boot/vmlinuz": "how it starts",
            "etc/fstab": "which disks are mounted and unlocked",
            "etc/machine-id": "which machine this is",
        }
        assert plan.is_system
        assert plan.needs_consent

    def test_adding_to_the_system_needs_consent_too(self, snapshot, manager):
        plan = manager.plan_restore(snapshot, None, ["/etc/auto-backup-test"], in_place=True)

        assert plan.tallies[Action.CREATE].count == 2
        assert plan.needs_consent

    def test_they_are_restored_where_that_is_asked_for(self, snapshot, manager):
        plan = manager.plan_restore(snapshot, in_place=True, overwrite="always", system=True)

        assert left(plan) == {}

    def test_the_root_as_target_is_the_system_as_well(self, snapshot, manager):
        plan = manager.plan_restore(snapshot, "/", overwrite="always")

        assert "etc/fstab" in left(plan)

    def test_elsewhere_they_are_files_like_all_others(self, snapshot, manager, tmp_path):
        report = manager.restore(snapshot, tmp_path / "out")

        assert (report.left, report.entries) == (0, 7)
        assert (tmp_path / "out" / "etc" / "fstab").exists()

    @pytest.mark.parametrize("path", THEIRS)
    def test_what_is_named_like_them_is_restored(self, manager, tmp_path, path):
        top = path.partition("/")[0]
        snapshot = tmp_path / "x.enc"
        Case("x", whole((path,)), sources=(top,)).write(snapshot, tmp_path)

        plan = manager.plan_restore(str(snapshot), "/", overwrite="never")

        assert left(plan) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a system of its own")
def test_on_a_system_for_real_all_but_them_comes_back(snapshot, tmp_path):
    """In a mount namespace whose /etc and /boot are empty ones."""
    script = f"""
        mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /boot || exit 99
        echo mine > /etc/fstab
        {sys.executable} -m backup restore {snapshot} --in-place --overwrite always --yes -q
        echo "status $?"; cat /etc/fstab /etc/auto-backup-test/kept; ls /boot /etc
    """
    (tmp_path / "key").write_text(secret())
    (tmp_path / "key").chmod(0o600)
    env = environment() | {"AUTO_BACKUP_KEY_FILE": str(tmp_path / "key")}

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        env=env, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("there are no mount namespaces to be had")
    assert done.stdout.split("\n")[:2] == ["status 0", "mine"], done.stderr
    assert "written" in done.stdout
    assert "machine-id" not in done.stdout
    assert "vmlinuz" not in done.stdout


class TestATargetInOneOfThem:
    @pytest.mark.parametrize("target", ["/run/media/ann/disk", "/dev/back", "/boot"])
    def test_is_what_the_user_named(self, manager, snapshot, target):
        plan = manager.plan_restore(snapshot, target, ["/etc"])

        assert left(plan) == {}
