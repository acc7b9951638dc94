"""What a restore may write, and what it never reaches."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backup.errors import DigestError, RestoreError, UnsafePathError
from backup.model import Entry, EntryType
from backup.restore import descriptors
from backup.restore.landlock import confine, landlock_version
from backup.restore.tree_writer import TreeWriter, check_path
from tests.hostile import swapping

NOBODY = 65534
MOMENT = 1_700_000_000_123_456_789
KINDS = ("directory", "file", "symlink", "fifo", "device", "link")
UNSAFE_PATHS = (
    b"/", b"//", b"/etc/x", b"//etc/x", b".", b"..", b"../x", b"../outside/x", b"./x", b"a/.",
    b"a/..", b"a/../x", b"a/../../outside/x", b"a/./x", b"a//x", b"a/", b"x/", b"a/b/../../../x",
    b"\0", b"a\0b", b"..\0", b"a/\0/b", b"n" * 256, b"a/" + b"n" * 256 + b"/b", b"../" * 40 + b"x",
)  # fmt: skip

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may set owners")


def make_entry(path, kind="file", **fields):
    types = {
        "directory": EntryType.DIRECTORY,
        "file": EntryType.FILE,
        "symlink": EntryType.SYMLINK,
        "fifo": EntryType.FIFO,
        "device": EntryType.CHARACTER_DEVICE,
        "link": EntryType.FILE,
    }
    defaults = {
        "mode": 0o755 if kind == "directory" else 0o644,
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "mtime_ns": MOMENT,
        "device": (1, 3) if kind == "device" else None,
    }
    return Entry(path=path, type=types[kind], **defaults | fields)


def write(writer, path, content=b"content", **fields):
    entry = make_entry(path, size=len(content), **fields)
    writer.write_file(entry, iter([content]))
    return entry


def apply(writer, kind, path, *, target=b"../outside", first=b"first"):
    if kind == "directory":
        writer.make_directory(make_entry(path, kind))
    elif kind == "file":
        write(writer, path)
    elif kind == "symlink":
        writer.defer_symlink(make_entry(path, kind, target=target))
    elif kind == "link":
        writer.link_file(make_entry(path, links=2), make_entry(first, links=2))
    else:
        writer.make_special(make_entry(path, kind))


def listing(directory):
    """Everything that can be seen of a tree, ctimes too: they tell of any change of an inode."""
    found = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        inode = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_nlink)
        found[str(path)] = (inode, status.st_mtime_ns, status.st_ctime_ns, content)
    return found


def in_child(function):
    """Return what ``function`` returns in a process of its own, which it may spoil."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = function()
        except BaseException as error:  # noqa: BLE001 - nothing may get past _exit
            answer = f"{type(error).__name__}: {error}"
        os.write(write_end, json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:  # noqa: PTH123 - a descriptor
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def become_nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


@pytest.fixture
def outside(tmp_path):
    """A tree beside the target, which must be the same when the test is over."""
    directory = tmp_path / "outside"
    (directory / "a" / "b" / "c").mkdir(parents=True)
    (directory / "empty").mkdir()
    for path in ("secret", "a/secret", "a/b/secret", "a/b/c/secret"):
        (directory / path).write_bytes(b"canary")
        (directory / path).chmod(0o640)
    before = listing(directory)
    yield directory
    assert listing(directory) == before


@pytest.fixture
def writer(target):
    with TreeWriter(target) as writer:
        yield writer


class TestCheckPath:
    @pytest.mark.parametrize("path", UNSAFE_PATHS)
    def test_a_path_that_could_lead_out_is_refused(self, path):
        with pytest.raises(UnsafePathError, match="cannot restore '"):
            check_path(path)

    @pytest.mark.parametrize(
        "path", [b"", b"a", b"a/b", b"...", b"..a/b..", b"\xff\n", b"n" * 255, b"d/" * 2000 + b"e"]
    )
    def test_any_other_name_is_allowed(self, path):
        check_path(path)


class TestWriting:
    def test_modes_and_times_come_back(self, writer, target):
        writer.make_directory(make_entry(b"", "directory", mode=0o711, mtime_ns=MOMENT - 1))
        writer.make_directory(make_entry(b"d", "directory", mode=0o3550, mtime_ns=MOMENT - 2))
        write(writer, b"d/f", b"some\0content", mode=0o4751)
        write(writer, b"d/before-1970", mtime_ns=-1)
        writer.make_special(make_entry(b"d/pipe", "fifo", mode=0o622))
        writer.defer_symlink(make_entry(b"d/s", "symlink", target=b"\xff/nowhere"))
        writer.finish()

        names = ("", "d", "d/f", "d/pipe")
        modes = [stat.S_IMODE((target / name).stat().st_mode) for name in names]
        times = [(target / name).stat().st_mtime_ns for name in names]
        assert modes == [0o711, 0o3550, 0o4751, 0o622]
        assert times == [MOMENT - 1, MOMENT - 2, MOMENT, MOMENT]
        assert (target / "d/before-1970").stat().st_mtime_ns == -1
        assert (target / "d/f").read_bytes() == b"some\0content"
        assert stat.S_ISFIFO((target / "d/pipe").stat().st_mode)
        assert os.readlink(os.fsencode(target / "d/s")) == b"\xff/nowhere"  # noqa: PTH115 - bytes
        assert (target / "d/s").lstat().st_mtime_ns == MOMENT
        assert writer.problems == []

    @needs_root
    def test_owners_and_devices_come_back(self, writer, target):
        owner = {"uid": 1234, "gid": 4321}
        writer.make_directory(make_entry(b"d", "directory", mode=0o2770, **owner))
        write(writer, b"d/f", mode=0o6755, **owner)
        writer.make_special(make_entry(b"d/null", "device", mode=0o666, **owner))
        writer.make_special(make_entry(b"d/pipe", "fifo", **owner))
        writer.defer_symlink(make_entry(b"d/s", "symlink", target=b"f", **owner))
        writer.finish()

        found = {path.name: path.lstat() for path in [target / "d", *(target / "d").iterdir()]}
        assert {(status.st_uid, status.st_gid) for status in found.values()} == {(1234, 4321)}
        assert stat.S_IMODE(found["d"].st_mode) == 0o2770
        assert stat.S_IMODE(found["f"].st_mode) == 0o6755
        assert stat.S_IMODE(found["null"].st_mode) == 0o666
        assert found["null"].st_rdev == os.makedev(1, 3)
        assert len(found) == 5
        assert writer.problems == []

    def test_attributes_come_back_to_files_and_directories(self, writer, target):
        attributes = ((b"user.colour", b"\0blue"),)
        writer.make_directory(make_entry(b"d", "directory", mode=0o500, xattrs=attributes))
        write(writer, b"d/f", mode=0o400, xattrs=attributes)
        writer.finish()

        assert os.getxattr(target / "d", "user.colour") == b"\0blue"
        assert os.getxattr(target / "d" / "f", "user.colour") == b"\0blue"

    def test_names_of_one_file_are_one_file_again(self, writer, target):
        first = write(writer, b"a/first", links=3)
        second = make_entry(b"b/second", links=3)
        writer.link_file(second, first)
        writer.link_file(make_entry(b"b/third", links=3), second)

        assert (target / "a/first").samefile(target / "b/second")
        assert (target / "a/first").stat().st_nlink == 3

    def test_the_target_is_private_while_at_work(self, writer, target):
        writer.make_directory(make_entry(b"d", "directory", mode=0o777))

        assert stat.S_IMODE(target.stat().st_mode) == 0o700
        assert stat.S_IMODE((target / "d").stat().st_mode) == 0o700

    def test_a_target_that_is_a_link_is_resolved_once(self, tmp_path):
        (tmp_path / "link").symlink_to("real/deeper")

        with TreeWriter(tmp_path / "link") as writer:
            (tmp_path / "link").unlink()
            write(writer, b"f")

        assert (tmp_path / "real/deeper/f").exists()

    def test_directories_that_no_entry_describes_are_ordinary_ones(self, writer, target):
        write(writer, b"a/b/f")
        writer.make_directory(make_entry(b"a", "directory", mode=0o2750))
        writer.finish()

        assert stat.S_IMODE((target / "a").stat().st_mode) == 0o2750
        assert stat.S_IMODE((target / "a/b").stat().st_mode) & 0o700 == 0o700
        assert (target / "a/b").stat().st_mtime_ns != MOMENT

    def test_directories_that_exist_are_merged(self, writer, target):
        (target / "d").mkdir()
        (target / "d" / "own").write_bytes(b"mine")
        writer.make_directory(make_entry(b"d", "directory"))
        write(writer, b"d/f")
        writer.finish()

        assert sorted(path.name for path in (target / "d").iterdir()) == ["f", "own"]

    def test_a_refusal_does_not_mislead_what_comes_next(self, writer, target):
        write(writer, b"a/f")
        (target / "file").touch()
        for path in (b"file/x", b"a/b/../x", b"file/x"):
            with pytest.raises(RestoreError):
                write(writer, path)
        write(writer, b"a/g")

        assert sorted(path.name for path in (target / "a").iterdir()) == ["f", "g"]

    def test_pieces_may_be_views_and_empty(self, writer, target):
        writer.write_file(make_entry(b"f", size=3), iter([b"", memoryview(b"abcd")[1:], b""]))

        assert (target / "f").read_bytes() == b"bcd"

    def test_nothing_stays_open(self, target):
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted
        with TreeWriter(target) as writer:
            first = write(writer, b"/".join([b"d"] * 40), links=2)
            writer.link_file(make_entry(b"e/f", links=2), first)
            with pytest.raises(DigestError):
                writer.write_file(make_entry(b"g", size=1), iter([]))
            writer.defer_symlink(make_entry(b"s", "symlink", target=b"x"))
            writer.finish()
            writer.close()

        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - only counted


class TestNothingUnauthenticated:
    def test_pieces_that_raise_leave_nothing_behind(self, writer, target):
        def pieces():
            yield b"con"
            yield b"tent"
            raise DigestError("the digest differs")

        with pytest.raises(DigestError, match="the digest differs"):
            writer.write_file(make_entry(b"f", size=7), pieces())

        assert list(target.iterdir()) == []

    def test_an_error_of_the_source_is_not_taken_for_one_of_the_target(self, writer, target):
        def pieces():
            yield b"con"
            raise OSError(5, "of the source")

        with pytest.raises(OSError, match="of the source"):
            writer.write_file(make_entry(b"f", size=7), pieces())

        assert list(target.iterdir()) == []

    def test_a_file_has_no_final_name_while_it_is_written(self, writer, target):
        seen = []

        def pieces():
            yield b"con"
            seen.extend((path.name, path.stat().st_mode & 0o777) for path in target.iterdir())
            yield b"tent"

        writer.write_file(make_entry(b"f", size=7), pieces())

        [(name, mode)] = seen
        assert name.startswith(".auto-backup-")
        assert name.endswith(".partial")
        assert mode == 0o600
        assert [path.name for path in target.iterdir()] == ["f"]

    @pytest.mark.parametrize("size", [0, 6, 8])
    def test_another_length_is_refused(self, writer, target, size):
        with pytest.raises(DigestError, match=r"cannot restore '/f'"):
            writer.write_file(make_entry(b"f", size=size), iter([b"con", b"tent"]))

        assert list(target.iterdir()) == []

    def test_pieces_are_not_read_beyond_the_size(self, writer, target):
        pieces = iter([b"xx"] * 1000)
        with pytest.raises(DigestError, match="above 5 bytes"):
            writer.write_file(make_entry(b"f", size=5), pieces)

        assert len(list(pieces)) == 997
        assert list(target.iterdir()) == []

    def test_another_length_is_fine_where_the_entry_says_so(self, writer, target):
        writer.write_file(make_entry(b"f", size=9, error="shrank while read"), iter([b"content"]))

        assert (target / "f").read_bytes() == b"content"

    @pytest.mark.parametrize("content", [b"", b"other"])
    @pytest.mark.parametrize("has_renameat2", [True, False])
    def test_an_existing_file_is_never_overwritten(
        self, writer, target, content, has_renameat2, monkeypatch
    ):
        if not has_renameat2:  # as with the libc of some systems
            monkeypatch.setattr(descriptors, "_renameat2", None)
        write(writer, b"new")
        (target / "f").write_bytes(content)
        with pytest.raises(RestoreError, match="'/f': it exists already") as caught:
            write(writer, b"f")

        assert caught.value.hint is not None
        assert (target / "f").read_bytes() == content
        assert (target / "new").read_bytes() == b"content"
        assert sorted(path.name for path in target.iterdir()) == ["f", "new"]


class TestProblems:
    def test_a_user_who_is_not_root_is_told_about_owners(self):
        directory = Path(tempfile.mkdtemp())
        directory.chmod(0o777)

        def restore():
            become_nobody()
            with TreeWriter(directory / "target") as writer:
                write(writer, b"own", mode=0o4755)
                write(writer, b"foreign", mode=0o4755, uid=1, xattrs=((b"security.x", b""),))
                writer.make_special(make_entry(b"null", "device"))
                writer.make_directory(make_entry(b"shut", "directory", mode=0))
                writer.make_directory(make_entry(b"shut/inner", "directory", mode=0))
                write(writer, b"shut/inner/f")
                writer.defer_symlink(make_entry(b"s", "symlink", target=b"x"))
                writer.finish()
                modes = [os.stat(directory / "target" / n).st_mode for n in ("own", "foreign")]  # noqa: PTH116
                return [[path.decode(), text] for path, text in writer.problems], modes

        try:
            problems, modes = in_child(restore)
        finally:
            shutil.rmtree(directory)

        owner = f"owner 1:{NOBODY if os.geteuid() == 0 else os.getegid()} not set: only root may"
        assert problems == [
            ["foreign", owner],
            ["foreign", "attribute b'security.x' not set: it is for another owner"],
            ["foreign", "setuid and setgid not set: they are for another owner"],
            ["null", "device not made: Operation not permitted"],
        ]
        assert [stat.S_IMODE(mode) for mode in modes] == [0o4755, 0o755]

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("link", "device")])
    def test_a_directory_that_takes_nothing_is_an_error_with_a_hint(self, kind):
        directory = Path(tempfile.mkdtemp())
        directory.chmod(0o555)

        def restore():
            become_nobody()
            with TreeWriter(directory) as writer:
                try:
                    apply(writer, kind, b"x")
                    writer.finish()
                except RestoreError as error:
                    return [error.message, error.hint]

        try:
            message, hint = in_child(restore)
        finally:
            directory.rmdir()

        assert message == "cannot restore '/x': Permission denied"
        assert "restore as root" in hint

    def test_whoever_wants_no_owners_gets_no_setuid_and_no_complaint_about_owners(self, target):
        with TreeWriter(target, set_owner=False) as writer:
            write(writer, b"plain", uid=1234)
            write(writer, b"f", mode=0o6751, uid=1234)

        assert (target / "f").stat().st_uid == os.geteuid()
        assert stat.S_IMODE((target / "f").stat().st_mode) == 0o751
        assert [path for path, _ in writer.problems] == [b"f"]

    @needs_root
    @pytest.mark.parametrize("owner", [-1, 2**32 - 1, 2**32, 2**70])
    def test_an_owner_that_cannot_be_gives_no_setuid(self, writer, target, owner):
        write(writer, b"f", mode=0o4755, uid=owner)
        write(writer, b"g", mode=0o2755, gid=owner)

        assert stat.S_IMODE((target / "f").stat().st_mode) == 0o755
        assert stat.S_IMODE((target / "g").stat().st_mode) == 0o755
        assert [path for path, _ in writer.problems] == [b"f", b"f", b"g", b"g"]

    def test_a_time_or_an_attribute_that_cannot_be_is_a_problem(self, writer, target):
        write(writer, b"f", mtime_ns=2**95)
        write(writer, b"g", xattrs=((b"user.a\0b", b""), (b"nonsense", b"")))

        assert [path for path, _ in writer.problems] == [b"f", b"g", b"g"]
        assert (target / "g").stat().st_mtime_ns == MOMENT

    @needs_root
    @pytest.mark.parametrize("device", [None, (-1, 0), (2**40, 2)])
    def test_a_device_that_cannot_be_is_refused(self, writer, target, device):
        with pytest.raises(RestoreError, match="'/null': there is no such device"):
            writer.make_special(make_entry(b"null", "device", device=device))

        assert list(target.iterdir()) == []

    def test_a_name_too_long_for_the_system_is_named_with_a_hint(self, writer):
        writer.defer_symlink(make_entry(b"s", "symlink", target=b"x" * 5000))
        with pytest.raises(RestoreError, match="cannot restore '/s': File name too long") as caught:
            writer.finish()

        assert "shorter names" in (caught.value.hint or "")

    def test_a_target_that_is_a_file_is_refused(self, tmp_path):
        (tmp_path / "f").touch()

        for target in ("f", "f/below"):
            with pytest.raises(RestoreError, match="cannot restore to '"):
                TreeWriter(tmp_path / target)

    @needs_root
    def test_a_full_disk_is_named_and_leaves_no_part(self, tmp_path):
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
        try:
            with TreeWriter(tmp_path) as writer:
                write(writer, b"small")
                with pytest.raises(RestoreError) as caught:
                    write(writer, b"a/large", b"x" * 100_000)
            left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
        finally:
            subprocess.run(["umount", tmp_path], check=True)

        assert str(caught.value) == "cannot restore '/a/large': No space left on device"
        assert caught.value.hint is not None
        assert left == ["a", "small"]


class TestDeepTrees:
    def test_1200_levels_need_few_descriptors(self, target):
        levels = [b"/".join([b"directory"] * depth) for depth in range(1, 1201)]

        def restore():
            resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
            with TreeWriter(target) as writer:
                for path in levels:
                    writer.make_directory(make_entry(path, "directory", mode=0o555))
                first = write(writer, levels[-1] + b"/first", links=2)
                for path in levels[::-40]:
                    writer.link_file(make_entry(path + b"/zlink", links=2), first)
                    writer.defer_symlink(make_entry(path + b"/zsymlink", "symlink", target=b"x"))
                writer.finish()
                return writer.problems

        def inspect():
            directory = os.open(target, os.O_RDONLY)
            states = set()
            for _ in levels:
                directory = os.open(b"directory", os.O_RDONLY, dir_fd=directory)
                status = os.fstat(directory)
                states.add((stat.S_IMODE(status.st_mode), status.st_mtime_ns))
            return [list(states), sorted(os.listdir(directory))]  # noqa: PTH208 - a descriptor

        try:
            assert in_child(restore) == []
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(7)[1]))
            states, names = in_child(inspect)
        finally:
            subprocess.run(["rm", "-rf", target], check=True)

        assert states == [[0o555, MOMENT]]
        assert names == ["first", "zlink", "zsymlink"]


class TestNothingOutside:
    """Each test runs beside a tree of canaries, whose fixture compares even ctimes."""

    def refuse(self, target, steps):
        """Run ``steps`` and ``finish``, of which one has to be refused; return how."""

        def run():
            with TreeWriter(target) as writer:
                for step in steps:
                    step(writer)
                writer.finish()

        with pytest.raises(RestoreError) as caught:
            run()
        return caught

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("path", UNSAFE_PATHS)
    def test_a_path_out_of_the_target_is_refused(self, target, outside, kind, path):
        def step(writer):
            first = write(writer, b"first", links=2)
            apply(writer, kind, path, first=first.path)

        assert self.refuse(target, [step]).type is UnsafePathError
        assert [entry.name for entry in target.iterdir()] == ["first"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_absolute_path_to_the_canaries_is_refused(self, target, outside, kind):
        path = os.fsencode(outside / "new")

        self.refuse(target, [lambda writer: apply(writer, kind, path)])

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "directory"])
    def test_only_a_directory_may_be_the_target_itself(self, target, outside, kind):
        caught = self.refuse(target, [lambda writer: apply(writer, kind, b"", first=b"")])
        assert caught.type in (UnsafePathError, RestoreError)
        assert kind == "link" or "the target itself" in str(caught.value)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("level", range(1, 5))
    @pytest.mark.parametrize("absolute", [True, False])
    def test_no_link_that_was_there_is_followed(self, target, outside, kind, level, absolute):
        above = target.joinpath(*"abcd"[: level - 1])
        above.mkdir(parents=True)
        to = outside if absolute else Path(os.path.relpath(outside, above))
        (above / "abcd"[level - 1]).symlink_to(to)

        def step(writer):
            first = write(writer, b"first", links=2)
            apply(writer, kind, b"a/b/c/d/new", first=first.path)

        caught = self.refuse(target, [step])
        assert caught.type is UnsafePathError
        assert "is a symbolic link" in str(caught.value)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("to", ["", "secret", "absent"])
    def test_no_link_that_was_there_is_replaced_or_written_to(self, target, outside, kind, to):
        target.mkdir()
        (target / "x").symlink_to(outside / to)

        def step(writer):
            first = write(writer, b"first", links=2)
            apply(writer, kind, b"x", first=first.path)

        self.refuse(target, [step])
        assert (target / "x").readlink() == outside / to

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("path", [b"a", b"a/b", b"a/b/c", b"a/b/c/d/e/f"])
    @pytest.mark.parametrize("to", [b"../outside", b"..", b"/", b".", b"b", b"\xff"])
    def test_nothing_goes_below_a_link_of_the_snapshot(self, target, outside, kind, path, to):
        def step(writer):
            first = write(writer, b"first", links=2)
            writer.defer_symlink(make_entry(path, "symlink", target=to))
            apply(writer, kind, path + b"/secret", first=first.path)

        assert self.refuse(target, [step]).type is UnsafePathError
        assert not os.path.lexists(os.fsencode(target) + b"/" + path)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_link_of_the_snapshot_takes_no_place_of_what_came_before(self, target, outside, kind):
        def step(writer):
            first = write(writer, b"first", links=2)
            apply(writer, kind, b"a/b", first=first.path)
            writer.defer_symlink(make_entry(b"a", "symlink", target=b"../outside"))

        self.refuse(target, [step])
        assert not (target / "a").is_symlink()

    @pytest.mark.parametrize("then", KINDS)
    @pytest.mark.parametrize("before", KINDS)
    def test_one_name_is_one_thing(self, target, outside, before, then):
        if before == then == "directory":
            pytest.skip("the same directory twice is merged")

        def step(writer):
            first = write(writer, b"first", links=2)
            apply(writer, before, b"x", first=first.path)
            apply(writer, then, b"x", first=first.path)

        self.refuse(target, [step])

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("above", ["file", "fifo", "device", "link"])
    def test_nothing_goes_below_what_is_no_directory(self, target, outside, above, kind):
        def step(writer):
            first = write(writer, b"first", links=2)
            apply(writer, above, b"x", first=first.path)
            apply(writer, kind, b"x/y", first=first.path)

        if above == "device" and os.geteuid() != 0:
            pytest.skip("only root may make devices")
        assert "is not a directory" in str(self.refuse(target, [step]).value)

    @pytest.mark.parametrize(
        "first",
        [b"", b"/etc/passwd", b"../outside/secret", b"own", b"link", b"link/secret", b"later",
         b"pipe", b"d", b"deferred", b"single", b"failed"],
    )  # fmt: skip
    def test_a_hard_link_leads_only_to_a_file_of_this_restore(self, target, outside, first):
        target.mkdir()
        (target / "own").write_bytes(b"mine")
        (target / "link").symlink_to(outside)

        def step(writer):
            write(writer, b"single")  # it has one name only
            with suppress(DigestError):
                writer.write_file(make_entry(b"failed", size=1, links=2), iter([]))
            apply(writer, "fifo", b"pipe")
            apply(writer, "directory", b"d")
            apply(writer, "symlink", b"deferred")
            apply(writer, "link", b"new", first=first)

        assert "not a file of this restore" in str(self.refuse(target, [step]).value)
        assert not (target / "new").exists()

    @pytest.mark.parametrize("how", ["symlink", "hard link", "other file", "gone", "above"])
    def test_a_file_that_was_swapped_is_not_linked_to(self, target, outside, how):
        decoys = []

        def swap(_writer):
            path = target / "d" / "first"
            path.rename(target / "aside")
            if how == "symlink":
                path.symlink_to(outside / "secret")
            elif how == "hard link":
                path.hardlink_to(target / "decoy")
            elif how == "other file":
                path.write_bytes(b"other")
                decoys.append((path, path.stat().st_ctime_ns))
            elif how == "above":
                path.parent.rename(target / "e")
                path.parent.symlink_to(outside)

        def prepare(writer):
            write(writer, b"d/first", links=2)
            write(writer, b"decoy", links=2)

        caught = self.refuse(
            target, [prepare, swap, lambda writer: apply(writer, "link", b"new", first=b"d/first")]
        )

        assert caught.type in (RestoreError, UnsafePathError)
        assert all(path.stat().st_ctime_ns == changed for path, changed in decoys)
        assert not (target / "new").exists()

    def test_a_directory_that_became_a_link_gets_no_metadata(self, target, outside):
        def swap(_writer):
            (target / "d").rmdir()
            (target / "d").symlink_to(outside)

        steps = [lambda writer: apply(writer, "directory", b"d"), swap]
        assert self.refuse(target, steps).type is UnsafePathError

    def test_a_directory_that_is_gone_is_not_made_again(self, target, outside):
        steps = [lambda writer: apply(writer, "directory", b"d"), lambda _: (target / "d").rmdir()]

        assert "'/d': No such file or directory" in str(self.refuse(target, steps).value)
        assert list(target.iterdir()) == []

    @pytest.mark.parametrize("how", ["another name", "another file", "a link"])
    def test_what_may_be_a_foreign_file_gets_no_metadata(self, target, outside, how):
        def step(writer):
            write(writer, b"x", mode=0o640)
            status = (target / "x").stat()
            if how == "another name":
                (target / "too").hardlink_to(target / "x")
            else:
                (target / "x").rename(target / "y")
                if how == "a link":
                    (target / "x").symlink_to(outside / "secret")
                else:
                    (target / "x").write_bytes(b"content")
            writer.mend(make_entry(b"x", mode=0o4777), (status.st_dev, status.st_ino))

        assert "it was replaced" in str(self.refuse(target, [step]).value)
        assert not any(path.lstat().st_mode & stat.S_ISUID for path in target.iterdir())

    def test_a_link_with_nul_in_its_target_is_refused(self, target, outside):
        self.refuse(target, [lambda writer: apply(writer, "symlink", b"s", target=b"a\0b")])

    def test_what_is_swapped_all_the_time_leads_nowhere(self, target, outside):
        """A thread exchanges a directory with a link to the canaries while files are written."""
        (target / "a" / "b").mkdir(parents=True)
        (target / "to").symlink_to(outside)
        results = {"written": 0, "refused": 0}
        with swapping(target / "a", target / "to") as swaps:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                self.attempt(target, results)

        assert swaps[0] > 100
        assert results["written"] > 10
        assert results["refused"] > 10

    def attempt(self, target, results):
        number = sum(results.values())
        with TreeWriter(target) as writer:
            try:
                for kind in KINDS:
                    path = b"a/b/%s-%d" % (kind.encode(), number)
                    write(writer, b"first-%d-%s" % (number, kind.encode()), links=2)
                    writer.make_directory(make_entry(b"a/b", "directory"))
                    apply(writer, kind, path, first=b"first-%d-%s" % (number, kind.encode()))
                writer.finish()
                results["written"] += 1
            except RestoreError:
                results["refused"] += 1

    def test_a_file_that_is_swapped_all_the_time_is_never_linked_to(self, target, outside):
        results = {"linked": 0, "refused": 0}
        with TreeWriter(target) as writer:
            first = write(writer, b"first", links=2)
            write(writer, b"decoy")
            ours = (target / "first").stat().st_ino
            with swapping(target / "first", target / "decoy"):
                end = time.monotonic() + 0.7
                while time.monotonic() < end:
                    with suppress(RestoreError):
                        writer.link_file(make_entry(b"new", links=2), first)
                        assert (target / "new").stat().st_ino == ours
                        (target / "new").unlink()
                        results["linked"] += 1
                        continue
                    results["refused"] += 1

        assert min(results.values()) > 10
        assert not (target / "new").exists()


class TestLandlock:
    def test_a_confined_process_changes_files_below_the_target_only(self, target, outside):
        target.mkdir()
        if landlock_version() < 2:
            pytest.skip("this kernel has no Landlock, or its first version only")

        def run():
            tried = {
                "write": lambda: (outside / "secret").write_bytes(b"x"),
                "append": lambda: (outside / "secret").open("ab"),
                "truncate": lambda: os.truncate(outside / "secret", 0),
                "create": (outside / "new").touch,
                "remove": (outside / "secret").unlink,
                "mkdir": (outside / "new").mkdir,
                "rmdir": (outside / "empty").rmdir,
                "symlink": lambda: (outside / "new").symlink_to("x"),
                "fifo": lambda: os.mkfifo(outside / "new"),
                "link in": lambda: (target / "in").hardlink_to(outside / "secret"),
                "rename in": lambda: (outside / "secret").rename(target / "in"),
                "rename out": lambda: (target / "f").rename(outside / "new"),
            }
            (target / "f").touch()
            descriptor = os.open(target, os.O_RDONLY)
            confined = [confine(descriptor), confine(target)]
            succeeded = []
            for name, call in tried.items():
                with suppress(OSError):
                    call()
                    succeeded.append(name)
            with TreeWriter(target) as writer:
                first = write(writer, b"a/first", links=2)
                writer.link_file(make_entry(b"b/second", links=2), first)
                apply(writer, "symlink", b"s")
                apply(writer, "fifo", b"pipe")
                writer.finish()
            return confined, succeeded, (outside / "secret").read_text()

        confined, succeeded, content = in_child(run)

        assert confined == [True, True]
        assert succeeded == []
        assert content == "canary"
        assert (target / "b/second").exists()

    def test_a_target_that_is_not_there_cannot_be_confined_to(self, target):
        if landlock_version() < 2:
            pytest.skip("this kernel has no Landlock, or its first version only")

        answer = in_child(lambda: confine(target))

        assert answer.startswith("RestoreError: cannot confine the restore to '/")
