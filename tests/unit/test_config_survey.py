"""What a new configuration is made of: what is found on the machine, what may be chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.config import choices
from backup.config.models import Source
from backup.config.survey import Disk, Found, Survey, find_disks, look, measure, parse_mounts
from backup.errors import ConfigError, SourceError
from backup.retention import NOTHING_GOES, parse_keep
from tests.unit.test_excludes import make

MOUNTS = r"""
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
28 27 0:22 / /proc rw - proc proc rw
29 27 0:30 / /dev/shm rw - tmpfs tmpfs rw
30 27 254:1 / /boot rw - ext4 /dev/vda2 rw
31 27 254:0 /x /mnt/bound rw - ext4 /dev/vda1 rw
32 27 8:1 / {disk} rw,noatime - xfs /dev/sda1 rw
33 27 8:1 / {disk}/again rw - xfs /dev/sda1 rw
34 27 8:2 / /mnt/dvd ro - udf /dev/sr0 ro
35 27 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
36 27 0:50 / /mnt/the\040nas rw - nfs4 nas:/backup rw
37 27 0:51 / /mnt/phone rw - fuse.sshfs me@phone: rw
"""


class TestSurvey:
    def test_root_is_told_the_usual_places_that_hold_something(self, tmp_path):
        make(tmp_path, "etc/a", "home/ann/b", "srv/", "var/www/c", "opt/d")

        found = look(tmp_path / "home" / "ann", is_root=True, top=tmp_path).sources

        assert [one.path for one in found] == [
            tmp_path / name for name in ("etc", "home", "var/www")
        ]
        assert found[0] == Found(tmp_path / "etc", len("text"), whole=True)

    def test_anybody_else_is_told_the_own_home(self, tmp_path):
        make(tmp_path, "etc/a", "home/ann/b")

        found = look(tmp_path / "home" / "ann", is_root=False, top=tmp_path).sources

        assert [one.path for one in found] == [tmp_path / "home" / "ann"]

    def test_a_place_within_another_by_a_link_is_not_told_twice(self, tmp_path):
        make(tmp_path, "srv/www/a", "var/")
        (tmp_path / "var" / "www").symlink_to("../srv/www")
        (tmp_path / "home").symlink_to("srv")

        found = look(tmp_path, is_root=True, top=tmp_path).sources

        assert [one.path.name for one in found] == ["home"]

    def test_a_large_place_is_measured_in_part(self, tmp_path):
        make(tmp_path, "a", "b", "c")

        assert measure(tmp_path, most=2) == Found(tmp_path, 2 * len("text"), whole=False)

    def test_a_loop_of_links_does_not_keep_it(self, tmp_path):
        make(tmp_path, "a")
        (tmp_path / "loop").symlink_to(".")

        assert measure(tmp_path) == Found(tmp_path, len("text"), whole=True)

    @pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
    def test_a_container_is_told(self, tmp_path, mark):
        assert not look(tmp_path, is_root=False, top=tmp_path).in_container

        make(tmp_path, mark)

        assert look(tmp_path, is_root=False, top=tmp_path).in_container

    def test_disks_are_those_that_could_hold_snapshots(self, tmp_path):
        mounts = parse_mounts(MOUNTS.format(disk=tmp_path))

        disk, nas, phone = find_disks(mounts, [], least=1)

        assert (disk.path, disk.type) == (tmp_path, "xfs")
        assert disk.free > 0
        assert nas == Disk(Path("/mnt/the nas"), "nfs4", None)
        assert phone.type == "fuse.sshfs"

    def test_a_disk_that_holds_what_is_saved_is_none_for_snapshots(self, tmp_path):
        mounts = parse_mounts(MOUNTS.format(disk=tmp_path))

        for options in ({"sources": [tmp_path], "least": 1}, {"sources": [], "least": 2**62}):
            assert tmp_path not in [disk.path for disk in find_disks(mounts, **options)]

    def test_lines_that_are_none_are_passed_over(self):
        assert parse_mounts("\nx\n1 2 3 4 5 6\n - \n") == []

    def test_a_machine_without_proc_has_no_disks(self, tmp_path):
        assert look(tmp_path, is_root=True, top=tmp_path).disks == ()


class TestChoices:
    def test_a_disk_of_its_own_is_where_snapshots_go(self, tmp_path):
        survey = Survey(
            disks=(
                Disk(Path("/media/ann/stick"), "vfat", 9),
                Disk(Path("/mnt/nas"), "nfs4", None),
                Disk(Path("/mnt/disk"), "ext4", 5),
            )
        )

        assert choices.suggest_store(survey, tmp_path, is_root=True) == "/mnt/disk/auto-backup"

    @pytest.mark.parametrize(
        ("is_root", "place"), [(True, "/var/backups/auto-backup"), (False, "")]
    )
    def test_without_one_they_go_to_the_usual_place(self, tmp_path, is_root, place):
        survey = Survey(disks=(Disk(Path("/run/media/ann/stick"), "vfat", 9),))

        found = choices.suggest_store(survey, tmp_path, is_root=is_root)

        assert found == (place or str(tmp_path))

    @pytest.mark.parametrize(
        ("sources", "job"),
        [
            (["/home/ann"], "home"),
            (["/srv/My Shop"], "My-Shop"),
            (["/etc", "/home"], "system"),
            (["/"], "system"),
            (["/srv/a", "/srv/b"], "files"),
        ],
    )
    def test_a_job_is_called_after_what_it_saves(self, sources, job):
        assert choices.suggest_job([*map(Path, sources)], Path("/home/ann")) == job

    def test_a_home_is_saved_without_its_cache(self, tmp_path):
        make(tmp_path, "home/", "docs/")
        home, docs = tmp_path / "home", tmp_path / "docs"

        assert choices.choose_sources([str(home), str(docs)], home) == [
            Source(path=home, exclude=(".cache/",)),
            Source(path=docs),
        ]

    def test_paths_become_absolute(self, tmp_path, monkeypatch):
        make(tmp_path, "docs/")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))

        for given in ("docs", "./docs/", "~/docs", "x/../docs"):
            assert choices.choose_sources([given], Path("/x"))[0].path == tmp_path / "docs"

    @pytest.mark.parametrize(
        ("given", "error"),
        [
            ([], "nothing to back up"),
            (["/absent"], "No such file"),
            (["/etc", "/"], "lies inside"),
            ([""], "not a path"),
            (["a\0"], "not a path"),
            (["~nobody-at-all/x"], "nobody is called"),
        ],
    )
    def test_sources_that_cannot_be_saved_are_refused(self, given, error):
        with pytest.raises((ConfigError, SourceError), match=error):
            choices.choose_sources(given, Path("/x"))

    def test_quotes_keep_a_path_with_spaces_together(self):
        assert choices.split_paths("/etc '/srv/my shop'") == ["/etc", "/srv/my shop"]
        with pytest.raises(ConfigError, match="quote"):
            choices.split_paths("/etc 'x")

    def test_a_store_is_a_directory_or_a_url(self, tmp_path):
        sources = choices.choose_sources(["/etc"], tmp_path)

        assert choices.choose_store(f"{tmp_path}/a/../b", sources) == f"{tmp_path}/b"
        assert choices.choose_store(f"file://{tmp_path}/b", sources) == f"file://{tmp_path}/b"

    def test_a_store_that_cannot_be_one_is_refused(self, tmp_path):
        make(tmp_path, "file", "docs/x")
        sources = choices.choose_sources([str(tmp_path / "docs")], tmp_path)

        for given, error in (
            ("", "needs a directory"),
            ("gopher://x", "gopher"),
            (f"{tmp_path}/file/x", "not a directory"),
            (str(tmp_path), "or lies in it"),
            (f"{tmp_path}/docs", "is the store"),
        ):
            with pytest.raises(ConfigError, match=error):
                choices.choose_store(given, sources)

    def test_a_store_that_one_may_not_write_to_is_refused(self, open_dir, as_nobody):
        open_dir.chmod(0o555)
        with as_nobody():
            sources = choices.choose_sources(["/etc/passwd"], Path("/x"))
            with pytest.raises(ConfigError, match="may not write"):
                choices.choose_store(f"{open_dir}/new", sources)

    def test_what_to_keep_is_rules_or_a_number_or_all(self):
        assert choices.choose_keep("7") == parse_keep(["last=7"])
        assert choices.choose_keep("last=1,within=30d") == parse_keep(["last=1", "within=30d"])
        assert choices.choose_keep("all") == NOTHING_GOES
        for wrong in ("", "0", "some", "daily", "last=-1"):
            with pytest.raises(ConfigError):
                choices.choose_keep(wrong)
