"""Extended attributes and ACLs: read, kept, brought back, by us and by tar."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.archive.records import acl_text, attribute_bound, attribute_records
from backup.archive.tar import member_header
from backup.locating import locate
from backup.manager import BackupManager
from backup.manager.fitting import fit_entry
from backup.manager.plan import Member, size_bound
from backup.model import Entry, EntryType
from backup.restore.manager import RestoreManager
from backup.snapshot.frame import Section
from backup.snapshot.recipients import FernetKey
from backup.sources import attributes
from backup.sources.attributes import attributes_at, read_attributes
from backup.sources.descriptors import list_names
from backup.sources.tree import walk
from tests.lister import listing
from tests.needs import needs

IS_ROOT = os.geteuid() == 0
NOBODY = 2**32 - 1
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
CAPACITY = 8 * 1024 * 1024 - 4096


def acl(*rows):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


ACL = acl((1, 6, NOBODY), (2, 4, 1000), (4, 4, NOBODY), (8, 7, 70_000), (16, 7, NOBODY),
          (32, 0, NOBODY))  # fmt: skip

ATTRIBUTES = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from([b"system.posix_acl_access", b"system.posix_acl_default"]),
            st.binary(min_size=1, max_size=40).map(lambda name: b"user." + name),
            st.just(b"user." + b"%" * 200),
        ),
        st.one_of(st.binary(max_size=200), st.just(ACL), st.integers(0, 66_000).map(bytes)),
    ),
    max_size=5,
).map(tuple)


@pytest.fixture(autouse=True)
def attributes_are_possible(source):
    try:
        os.setxattr(source, "user.probe", b"")
        os.removexattr(source, "user.probe")
    except OSError:
        needs(False, "user.* attributes in TMPDIR")


def described(path):
    """Return the entry of the single file or directory ``path``."""
    return next(iter(walk([os.fsencode(path)])))


def dressed_tree(top):
    """Make one of everything that may have attributes."""
    (top / "file").write_text("x")
    (top / "directory").mkdir()
    os.mkfifo(top / "pipe")
    for name, value in {
        "user.a=b%": b"v",
        "user.bin": bytes(range(256)),
        "user.empty": b"",
    }.items():
        os.setxattr(top / "file", name, value)
    os.setxattr(top / "file", "user.ä\n", b"\n")
    os.setxattr(top / "directory", "user.d", b"\0")
    os.setxattr(top / "directory", "system.posix_acl_default", ACL)
    os.setxattr(top / "directory", "system.posix_acl_access", ACL)
    os.setxattr(top / "pipe", "system.posix_acl_access", ACL)
    (top / "with acl").write_text("y")
    os.setxattr(top / "with acl", "system.posix_acl_access", ACL)
    if IS_ROOT:
        (top / "link").symlink_to("file")
        os.setxattr(top / "link", "trusted.link", b"l", follow_symlinks=False)
        os.setxattr(top / "pipe", "trusted.pipe", b"p")
        os.setxattr(top / "file", "security.selinux", b"label\0")
        (top / "capable").write_text("z")
        os.chown(top / "capable", 5, 6)
        (top / "capable").chmod(0o4755)
        os.setxattr(top / "capable", "security.capability", CAPABILITY)
    return top


class TestReading:
    def test_attributes_come_sorted_by_their_names(self, source):
        for name in ("user.b", "user.a-", "user.a"):
            os.setxattr(source, name, name.encode())

        assert described(source).xattrs == (
            (b"user.a", b"user.a"), (b"user.a-", b"user.a-"), (b"user.b", b"user.b"),
        )  # fmt: skip

    def test_those_of_a_link_are_its_own(self, source):
        (source / "file").touch()
        os.setxattr(source / "file", "user.a", b"1")
        (source / "link").symlink_to("file")

        found = {
            entry.path.rpartition(b"/")[2]: entry.xattrs for entry in walk([os.fsencode(source)])
        }

        assert found[b"file"] == ((b"user.a", b"1"),)
        assert found[b"link"] == ()

    @pytest.mark.skipif(not IS_ROOT, reason="only root may set these")
    def test_links_pipes_and_devices_have_trusted_ones(self, source):
        (source / "link").symlink_to("nowhere")
        os.mkfifo(source / "pipe")
        os.mknod(source / "terminal", 0o020600, os.makedev(4, 64))  # opening it may wait for ever
        for name in ("link", "pipe", "terminal"):
            os.setxattr(source / name, "trusted.t", name.encode(), follow_symlinks=False)

        _, *entries = walk([os.fsencode(source)])

        assert [entry.xattrs for entry in entries] == [
            ((b"trusted.t", name),) for name in (b"link", b"pipe", b"terminal")
        ]

    @pytest.mark.skipif(not IS_ROOT, reason="only root may set these")
    def test_other_namespaces_belong_to_the_kernel(self, source):
        os.setxattr(source, "security.of_nobody", b"x")
        os.setxattr(source, "security.selinux", b"y")

        assert described(source).xattrs == ((b"security.selinux", b"y"),)

    def test_paths_above_4096_bytes_have_theirs(self, source):
        way = os.open(source, os.O_RDONLY)
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=way)
            deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=way)
            os.close(way)
            way = deeper
        os.setxattr(way, "user.deep", b"30")
        os.close(way)

        *_, last = walk([os.fsencode(source)])

        assert len(last.path) > 6000
        assert last.xattrs == ((b"user.deep", b"30"),)
        shutil.rmtree(source)

    @pytest.mark.parametrize("number", [465, 99_999])
    def test_kernels_that_cannot_be_asked_by_name_give_the_same(self, source, number, monkeypatch):
        (source / "plain").touch()
        (source / "file").touch()
        os.setxattr(source / "file", "user.a", b"1")
        (source / "link").symlink_to("file")
        (source / "dangling").symlink_to("nowhere")
        monkeypatch.setattr(attributes, "_LISTXATTRAT", number)
        attributes._quick_look.cache_clear()
        directory = os.open(source, os.O_PATH)
        try:
            found = {name: attributes_at(name, directory) for name in list_names(directory)}
        finally:
            os.close(directory)
            attributes._quick_look.cache_clear()

        assert found == {
            b"plain": (), b"file": ((b"user.a", b"1"),), b"link": (), b"dangling": (),
        }  # fmt: skip

    def test_one_that_goes_while_they_are_read_is_left_out(self, source, monkeypatch):
        for name in ("user.a", "user.b"):
            os.setxattr(source, name, b"")
        real = os.getxattr

        def get(node, name, **options):
            if name == b"user.a":
                os.removexattr(source, "user.b")
            return real(node, name, **options)

        monkeypatch.setattr(os, "getxattr", get)

        assert read_attributes(os.fsencode(source)) == ((b"user.a", b""),)

    def test_what_is_unreadable_is_told_and_the_rest_is_saved(
        self, source, store, key, monkeypatch
    ):
        (source / "file").write_text("content")
        os.setxattr(source / "file", "user.a", b"1")
        real = os.listxattr

        def broken(node, **options):
            if isinstance(node, bytes) and node.endswith(b"/file"):
                raise OSError(5, "Input/output error")
            return real(node, **options)

        monkeypatch.setattr(os, "listxattr", broken)
        manager = BackupManager(source, store, key)
        manager.create_snapshot()

        assert [
            (one.path.rpartition(b"/")[2], one.reason) for one in manager.last_report.problems
        ] == [(b"file", "extended attributes are missing or doubtful: Input/output error")]
        assert manager.last_report.counts.bytes == 7

    def test_a_user_saves_what_that_user_may_read(self, open_dir, key, as_nobody):
        with as_nobody():
            source = open_dir / "source"
            source.mkdir()
            (source / "closed").touch()
            os.setxattr(source / "closed", "user.a", b"1")
            (source / "closed").chmod(0)
            os.setxattr(source, "user.b", b"2")
            found = {entry.path: entry.xattrs for entry in walk([os.fsencode(source)])}

        assert sorted(found.values()) == sorted([
            ((b"user.b", b"2"),), () if IS_ROOT else ((b"user.a", b"1"),)
        ]) or list(found.values()) == [((b"user.b", b"2"),), ()]  # fmt: skip


class TestTooMany:
    def test_the_largest_are_left_out_and_counted(self):
        small, large = (b"user.a", b"1"), (b"user.b", bytes(65_536))
        entry = Entry(path=b"f", type=EntryType.FILE, xattrs=(small, *[large] * 20))

        fitting, reason = fit_entry(entry, CAPACITY)

        assert small in fitting.xattrs
        assert attribute_bound(fitting.xattrs) <= 512 * 1024
        assert len(fitting.xattrs) == 8
        assert reason == "saved without 13 of 21 extended attributes: too large"

    @given(attributes=ATTRIBUTES, capacity=st.integers(4096, 10**6))
    def test_what_stays_fits_and_is_in_order(self, attributes, capacity):
        entry = Entry(path=b"f", type=EntryType.FILE, xattrs=attributes)

        fitting, reason = fit_entry(entry, capacity)

        kept = iter(attributes)
        assert all(one in kept for one in fitting.xattrs)
        assert attribute_bound(fitting.xattrs) <= max(capacity // 8, 0)
        assert bool(reason) == (fitting.xattrs != attributes)

    @given(attributes=ATTRIBUTES)
    def test_the_plan_makes_room_for_the_header(self, attributes):
        entry = Entry(path=b"f", type=EntryType.FIFO, xattrs=attributes)

        assert len(attribute_records(attributes)) <= attribute_bound(attributes)
        assert len(member_header(entry)) <= size_bound(Member(entry))

    def test_a_file_with_a_megabyte_of_them_is_saved_and_told(self, store, key, tmp_path):
        shared = Path("/dev/shm")  # noqa: S108 - a tmpfs, which allows values of 64 KiB
        source = shared / f"auto-backup-test-{os.getpid()}"
        needs(shared.is_dir(), "a tmpfs")
        source.mkdir()
        try:
            (source / "file").write_text("content")
            try:
                for number in range(16):
                    os.setxattr(source / "file", f"user.{number}", os.urandom(65_536))
            except OSError:
                pytest.skip("this kernel's tmpfs has no user attributes")
            manager = BackupManager(source, store, key, compression="zstd")
            manager.create_snapshot()
            report = RestoreManager(store, key).restore("latest", shared / source.name / "back")
            back = shared / source.name / "back" / str(source)[1:] / "file"

            (problem,) = manager.last_report.problems
            assert problem.reason == "saved without 9 of 16 extended attributes: too large"
            assert (report.damaged, report.problems) == ([], [])
            assert back.read_text() == "content"
            assert len(os.listxattr(back)) == 7
        finally:
            shutil.rmtree(source)


class TestAclsAsText:
    def test_users_and_groups_are_numbers(self):
        assert acl_text(ACL) == (
            "user::rw-,user:1000:r--,group::r--,group:70000:rwx,mask::rwx,other::---"
        )

    @pytest.mark.parametrize("value", [b"", b"\2\0\0\0\1", acl((64, 0, 0)), b"\3\0\0\0", ACL[:-1]])
    def test_what_is_none_gives_nothing(self, value):
        assert acl_text(value).count(":") == 0


class TestComingBack:
    def test_all_of_them_do(self, source, store, key, tmp_path):
        dressed_tree(source)
        BackupManager(source, store, key).create_snapshot()

        report = RestoreManager(store, key).restore("latest", tmp_path / "out")

        assert report.problems == []
        again = listing(tmp_path / "out" / str(source)[1:])
        assert again == listing(source)
        if IS_ROOT:
            assert again[b"capable"].mode == 0o4755
            assert ("security.capability", CAPABILITY) in again[b"capable"].attributes

    @pytest.mark.skipif(not IS_ROOT, reason="only root may set what others may not")
    def test_what_a_user_may_not_set_is_told(self, source, open_dir, key, as_nobody):
        (source / "file").write_text("x")
        os.setxattr(source / "file", "user.a", b"1")
        os.setxattr(source / "file", "trusted.b", b"2")
        BackupManager(source, open_dir / "store", key).create_snapshot()
        for path in [open_dir / "store", *(open_dir / "store").rglob("*")]:
            path.chmod(0o755)

        with as_nobody():
            report = RestoreManager(open_dir / "store", key).restore("latest", open_dir / "out")
            (back,) = (open_dir / "out").rglob("file")
            names = os.listxattr(back)

        assert names == ["user.a"]
        assert any("trusted.b" in reason for _, reason in report.problems)


class TestOtherTars:
    @pytest.fixture
    def archive(self, source, store, key):
        dressed_tree(source)
        path = BackupManager(source, store, key, compression="gzip").create_snapshot()
        manager = RestoreManager(store, key)
        name = str(Path(path).relative_to(store))
        reader = locate(manager.storage, name).open([FernetKey.parse(key)])
        return b"".join(
            bytes(reader.compressed_piece(Section.ARCHIVE, number))
            for number, row in enumerate(reader.rows)
            if row.section is Section.ARCHIVE
        )

    def test_gnu_tar_brings_all_of_them_back(self, archive, source, tmp_path):
        out = self.extract(archive, tmp_path, "tar", "--xattrs", "--xattrs-include=*", "--acls")

        assert listing(out / str(source)[1:]) == listing(source)

    def test_bsdtar_does_but_for_special_characters_in_names(self, archive, source, tmp_path):
        out = self.extract(archive, tmp_path, "bsdtar", "--xattrs", "--acls")

        again, expected = listing(out / str(source)[1:]), listing(source)
        names = {name for name, _ in again[b"file"].attributes}
        assert "user.a%3Db%25" in names
        assert {**again, b"file": None} == {**expected, b"file": None}

    def extract(self, archive, tmp_path, program, *options):
        needs(shutil.which(program), f"{program} is not installed")
        out = tmp_path / "out"
        out.mkdir()
        command = [program, "-xzp", "--numeric-owner", *options, "-C", out, "-f", "-"]
        environment = os.environ | {"LC_ALL": "C.UTF-8"}
        subprocess.run(command, input=archive, env=environment, check=True)
        return out
