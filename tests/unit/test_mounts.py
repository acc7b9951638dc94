"""What a walk does where something is mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack

import pytest

from backup.errors import ConfigError
from backup.manager import take_snapshot
from backup.model import Entry, ExcludeRules
from backup.sources import filesystems
from backup.sources.explaining import explain
from backup.sources.filesystems import mount_id
from backup.sources.roots import prepare_roots
from backup.sources.tree import Skipped, TreeWalker
from backup.storage import open_storage
from tests.needs import needs

ONE = ExcludeRules(one_file_system=True)


@pytest.fixture
def mount():
    """Return a function that mounts something for the time of the test."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with ExitStack() as mounted:

        def do(place, *arguments):
            place.mkdir(exist_ok=True)
            command = ["mount", *map(str, arguments), str(place)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"cannot mount: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "-l", str(place)], check=True)

        yield do


def walked(top, rules=None, skip=()):
    root = os.fsencode(top).lstrip(b"/")
    walker = TreeWalker(prepare_roots([top]), rules=rules or ExcludeRules(), skip=skip)
    return [
        (
            os.fsdecode(one.path.removeprefix(root).lstrip(b"/")),
            "" if isinstance(one, Entry) else one.reason,
        )
        for one in walker
    ][1:]


class TestOtherFileSystems:
    def test_they_are_walked_unless_one_file_system_is_asked_for(self, source, mount):
        mount(source / "disk", "-t", "tmpfs", "tmpfs")
        (source / "disk" / "file").touch()
        (source / "z").touch()

        assert walked(source) == [("disk", ""), ("disk/file", ""), ("z", "")]
        assert walked(source, ONE) == [
            ("disk", ""),
            ("disk", "contents: another file system"),
            ("z", ""),
        ]

    def test_a_source_on_one_of_its_own_is_walked(self, source, mount):
        mount(source / "disk", "-t", "tmpfs", "tmpfs")
        (source / "disk" / "file").touch()

        assert walked(source / "disk", ONE) == [("file", "")]

    def test_a_single_file_that_is_mounted_is_saved(self, source, tmp_path, mount):
        mount(tmp_path / "disk", "-t", "tmpfs", "tmpfs")
        (tmp_path / "disk" / "file").touch()
        (source / "file").touch()
        subprocess.run(["mount", "--bind", tmp_path / "disk/file", source / "file"], check=True)
        try:
            assert walked(source, ONE) == [("file", "")]
        finally:
            subprocess.run(["umount", source / "file"], check=True)


class TestWhatTheKernelMakesUp:
    @pytest.mark.parametrize("kind", ["proc", "sysfs", "devtmpfs", "cgroup2"])
    def test_its_directory_is_saved_and_nothing_in_it(self, kind, source, mount):
        mount(source / "made", "-t", kind, kind)
        (source / "z").touch()

        for rules in (ExcludeRules(), ONE):
            assert walked(source, rules) == [
                ("made", ""),
                ("made", f"contents: made by the kernel ({kind})"),
                ("z", ""),
            ]

    def test_a_source_in_one_is_walked(self):
        (item,) = TreeWalker(prepare_roots(["/proc/version"]))

        assert item.path == b"proc/version"
        assert ("version", "") in walked("/proc/sys/kernel/..") or walked("/proc/sys/kernel")

    def test_the_root_directory_can_be_a_source(self):
        roots = prepare_roots(["/"])
        items = list(TreeWalker(roots).along(b"proc/self/status"))

        assert [item.path for item in items] == [b"", b"proc", b"proc"]
        assert items[-1].reason == "contents: made by the kernel (proc)"


class TestLoops:
    def test_a_directory_mounted_inside_itself_is_told_and_not_walked_again(self, source, mount):
        (source / "a" / "b").mkdir(parents=True)
        (source / "a" / "file").touch()
        mount(source / "a" / "b", "--bind", source)

        assert walked(source) == [
            ("a", ""),
            ("a/b", ""),
            ("a/b", f"contents: a loop, it is {source} once more"),
            ("a/file", ""),
        ]

    def test_even_where_it_is_the_last_name_of_each_directory(self, source, mount):
        (source / "x" / "y").mkdir(parents=True)
        mount(source / "x" / "y", "--bind", source / "x")

        assert walked(source) == [
            ("x", ""),
            ("x/y", ""),
            ("x/y", f"contents: a loop, it is {source / 'x'} once more"),
        ]

    def test_a_directory_mounted_beside_itself_is_none(self, source, mount):
        (source / "a").mkdir()
        (source / "a" / "file").touch()
        mount(source / "b", "--bind", source / "a")

        assert walked(source) == [("a", ""), ("a/file", ""), ("b", ""), ("b/file", "")]

    def test_after_a_loop_the_directory_itself_is_still_known(self, source, mount):
        for name in ("a", "b"):
            mount(source / name, "--bind", source)

        assert [reason.partition(",")[0] for _, reason in walked(source)] == [
            "",
            "contents: a loop",
            "",
            "contents: a loop",
        ]

    def test_where_nobody_can_tell_what_is_mounted_a_loop_is_an_error(
        self, source, mount, monkeypatch
    ):
        mount(source / "a", "--bind", source)
        monkeypatch.setattr(filesystems, "_DESCRIPTORS", source / "no proc")

        (item,) = [one for one in TreeWalker(prepare_roots([source])) if isinstance(one, Skipped)]

        assert item.is_error
        assert item.reason == f"it has the number of {source}, which it lies in"

    def test_mounts_have_numbers(self, source, mount):
        mount(source / "disk", "-t", "tmpfs", "tmpfs")
        first, second, third = (
            os.open(path, os.O_RDONLY) for path in (source, source / "disk", source)
        )

        assert mount_id(first) == mount_id(third) != mount_id(second)
        for one in (first, second, third):
            os.close(one)
        assert mount_id(first) is None


class TestOwnStores:
    def test_a_store_is_left_out_by_whichever_mount_it_is_reached(
        self, source, tmp_path, mount, make_request
    ):
        stores = [open_storage(tmp_path / name) for name in ("one", "two")]
        for number, store in enumerate(stores):
            take_snapshot(make_request("/etc/hostname"), store)
            mount(source / f"seen-{number}", "--bind", store.local_root())
        (source / "file").touch()

        report = take_snapshot(make_request(source, job="other"), stores[0], leave_out=stores[1:])

        assert report.counts.entries == 2
        assert report.left_out.counts == (("own store", 2),)

    def test_a_source_within_a_store_is_refused_by_whichever_mount_it_is_reached(
        self, source, store, mount, make_request
    ):
        storage = open_storage(store)
        take_snapshot(make_request("/etc/hostname"), storage)
        mount(source / "seen", "--bind", store)

        for path in (source / "seen", source / "seen" / "testhost"):
            with pytest.raises(ConfigError, match=r"is the store .*, or lies in it"):
                take_snapshot(make_request(path), storage)


class TestDamagedFileSystems:
    def test_a_directory_that_cannot_be_read_is_told_and_the_rest_is_saved(self, tmp_path, mount):
        needs(shutil.which("mkfs.ext4"), "mkfs.ext4 is not installed")
        image, disk = tmp_path / "image", tmp_path / "disk"
        image.write_bytes(bytes(2**21))
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        mount(disk, "-o", "loop", image)
        for name in ("broken", "whole"):
            (disk / name).mkdir()
            (disk / name / f"in-{name}").touch()
        subprocess.run(["umount", disk], check=True)
        image.write_bytes(_with_broken_blocks(image.read_bytes(), b"in-broken"))
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)

        items = dict(walked(disk))

        assert items["broken"] == "its file system is damaged"
        assert items["whole/in-whole"] == ""
        roots = prepare_roots([disk])
        verdict = explain(TreeWalker(roots), roots, roots[0].path + b"/broken/in-broken")
        assert (verdict.is_saved, verdict.reason) == (False, "its file system is damaged")


def _with_broken_blocks(image, name, block=1024):
    data = bytearray(image)
    while (at := data.find(name)) >= 0:
        start = at // block * block
        data[start : start + block] = b"\xff" * block
    return bytes(data)
