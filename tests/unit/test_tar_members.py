from __future__ import annotations

import codecs
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup.archive import tar
from backup.archive.tar import END_OF_ARCHIVE, member_header, padding, part_name
from backup.errors import InvalidArgumentError
from backup.model import Entry, EntryType
from backup.sources.descriptors import FileOpener
from backup.sources.reading import read_range
from backup.sources.tree import walk
from tests.lister import listing

GIB = 2**30
LOCALES = ["C", "C.UTF-8"]

NAMES = st.one_of(
    st.binary(min_size=1, max_size=60),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).map(str.encode),
    st.integers(90, 255).map(lambda length: b"n" * length),
).filter(lambda name: not set(name) & set(b"\0/") and name not in {b".", b".."})
PATHS = st.lists(NAMES, min_size=1, max_size=5).map(b"/".join)
OWNERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
IDS = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 2))
KINDS = st.sampled_from([kind for kind in EntryType if kind is not EntryType.STREAM])


@st.composite
def entries(draw):
    kind = draw(KINDS)
    is_device = kind in {EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE}
    return Entry(
        path=draw(PATHS),
        type=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(IDS),
        gid=draw(IDS),
        user=draw(OWNERS),
        group=draw(OWNERS),
        size=draw(st.integers(0, 64 * GIB)) if kind is EntryType.FILE else 0,
        mtime_ns=draw(st.integers(-(2**62), 2**63)),
        target=draw(PATHS) if kind is EntryType.SYMLINK else b"",
        device=(draw(st.integers(0, 4095)), draw(st.integers(0, 2**20))) if is_device else None,
    )


def file(path, **fields):
    return Entry(path=path, type=EntryType.FILE, **fields)


def first_member(header):
    """Return what Python makes of the first member of an archive."""
    stream = io.BytesIO(header + END_OF_ARCHIVE)
    with tarfile.open(fileobj=stream, encoding="utf-8", errors="surrogateescape") as archive:
        return archive.firstmember


def exact_mtime(member):
    """Return a member's time in nanoseconds, which the attribute has as a rounded float."""
    text = member.pax_headers.get("mtime")
    if text is None:
        return member.mtime * 10**9
    seconds, _, fraction = text.removeprefix("-").partition(".")
    nanoseconds = int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
    return -nanoseconds if text.startswith("-") else nanoseconds


def run_tar(program, *arguments, archive, locale="C.UTF-8"):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    result = subprocess.run(
        [program, *arguments],
        input=archive,
        capture_output=True,
        check=False,
        env=os.environ | {"LC_ALL": locale, "TZ": "UTC"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


class TestReadByPython:
    @given(entry=entries())
    @example(file(b"n" * 100))
    @example(file(b"n" * 101))
    @example(file(b"p" * 155 + b"/" + b"n" * 100))
    @example(file(b"p" * 156 + b"/" + b"n" * 100))
    @example(file(b"f", size=8 * GIB - 1))
    @example(file(b"f", size=8 * GIB))
    @example(file(b"f", uid=0o7777777, gid=0o10000000))
    @example(file(b"f", mtime_ns=-1))
    @example(file(b"f", mtime_ns=-1_500_000_000))
    @example(file(b"f", user="u" * 31, group="g" * 32))
    @example(Entry(path=b"p" * 100 + b"/" + b"n" * 99, type=EntryType.DIRECTORY))
    @example(Entry(path=b"n" * 100, type=EntryType.DIRECTORY))
    @example(Entry(path=b"link", type=EntryType.SYMLINK, target=b"/\xff" * 100))
    def test_every_field_comes_back(self, entry):
        member = first_member(member_header(entry))

        assert os.fsencode(member.name) == entry.path
        assert os.fsencode(member.linkname) == entry.target
        assert (member.mode, member.size) == (entry.mode, entry.size)
        assert (member.uid, member.gid) == (entry.uid, entry.gid)
        assert (member.uname, member.gname) == (entry.user, entry.group)
        assert exact_mtime(member) == entry.mtime_ns
        assert (member.devmajor, member.devminor) == (entry.device or (0, 0))

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            (EntryType.FILE, tarfile.REGTYPE),
            (EntryType.STREAM, tarfile.REGTYPE),
            (EntryType.DIRECTORY, tarfile.DIRTYPE),
            (EntryType.SYMLINK, tarfile.SYMTYPE),
            (EntryType.FIFO, tarfile.FIFOTYPE),
            (EntryType.CHARACTER_DEVICE, tarfile.CHRTYPE),
            (EntryType.BLOCK_DEVICE, tarfile.BLKTYPE),
        ],
    )
    def test_each_type_has_its_flag(self, kind, expected):
        assert first_member(member_header(Entry(path=b"name", type=kind))).type == expected

    def test_another_name_of_a_file_refers_to_the_first_and_has_no_content(self):
        member = first_member(member_header(file(b"b", size=5), hardlink_to=b"a/\xff" * 60))

        assert (member.type, member.size) == (tarfile.LNKTYPE, 0)
        assert os.fsencode(member.linkname) == b"a/\xff" * 60

    def test_a_part_has_a_name_and_a_size_of_its_own(self):
        entry = file(b"large", size=100 * GIB, mtime_ns=7)

        member = first_member(member_header(entry, size=4096, name=part_name(12, 8192)))

        assert (member.name, member.size) == (".auto-backup/parts/12/8192", 4096)
        assert exact_mtime(member) == 7


class TestHeaderBytes:
    def test_an_ordinary_entry_takes_one_block(self):
        header = member_header(file(b"usr/bin/tool", user="root", mtime_ns=1_700_000_000 * 10**9))

        assert len(header) == 512

    def test_a_fraction_of_a_second_takes_an_extended_header(self):
        header = member_header(file(b"usr/bin/tool", mtime_ns=1_700_000_000_000_000_001))

        assert len(header) == 3 * 512
        assert header.startswith(b"PaxHeaders/tool\0")
        assert b"\n" not in header[:512]
        assert header[512:].startswith(b"30 mtime=1700000000.000000001\n\0")

    def test_names_that_are_not_utf8_are_declared_as_bytes_before_they_come(self):
        header = member_header(file("ä/".encode() + b"\xff"))

        records = header[512:1024].rstrip(b"\0")
        assert records == b"21 hdrcharset=BINARY\n13 path=\xc3\xa4/\xff\n"

    def test_names_in_utf8_need_no_declaration(self):
        assert b"hdrcharset" not in member_header(file("ä".encode()))

    def test_the_root_directory_is_called_dot(self):
        assert member_header(Entry(path=b"", type=EntryType.DIRECTORY)).startswith(b"./\0")

    def test_names_of_directories_end_in_a_slash(self):
        assert member_header(Entry(path=b"a", type=EntryType.DIRECTORY)).startswith(b"a/\0")

    @pytest.mark.parametrize("name", [b"/", b"/etc/passwd"])
    def test_an_absolute_name_is_refused(self, name):
        with pytest.raises(InvalidArgumentError, match="absolute"):
            member_header(file(b"a"), name=name)

    @given(entry=entries())
    def test_the_same_entry_gives_the_same_bytes_in_whole_blocks(self, entry):
        header = member_header(entry)

        assert header == member_header(entry)
        assert len(header) % 512 == 0

    @given(data=st.binary(max_size=512))
    @example(b"\xff" * 256)
    @example(b"\xff" * 512)
    def test_the_quick_sum_of_bytes_is_their_sum(self, data):
        assert tar._sum_of_bytes(data) == sum(data)

    @pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 511), (512, 0), (513, 511)])
    def test_content_is_filled_up_to_whole_blocks(self, size, expected):
        assert padding(size) == expected


class TestListedByPrograms:
    @pytest.mark.parametrize("locale", LOCALES)
    @given(members=st.lists(entries(), min_size=1, max_size=20))
    @settings(max_examples=25, deadline=None)
    def test_gnu_tar_reads_all_names(self, locale, members):
        archive = b"".join(member_header(entry, size=0) for entry in members) + END_OF_ARCHIVE

        listed = run_tar("tar", "-tf-", "--quoting-style=escape", archive=archive, locale=locale)

        names = [codecs.escape_decode(line)[0] for line in listed.splitlines()]
        assert [name.removesuffix(b"/") for name in names] == [entry.path for entry in members]

    def test_gnu_tar_reads_numbers_and_times(self):
        members = [
            file(b"before-1970", mtime_ns=-2_000_000_000, mode=0o4751),
            file(b"large-ids", uid=3_000_000_000, gid=2_097_152, mtime_ns=1),
            Entry(path=b"null", type=EntryType.CHARACTER_DEVICE, device=(1, 3), mode=0o666),
            Entry(path=b"disk", type=EntryType.BLOCK_DEVICE, device=(259, 1_000_000)),
            Entry(path=b"pipe", type=EntryType.FIFO, mtime_ns=4_102_444_800_123_456_789),
        ]
        archive = b"".join(map(member_header, members)) + END_OF_ARCHIVE

        listed = run_tar("tar", "-tvf-", "--numeric-owner", "--full-time", archive=archive)

        assert [b" ".join(line.split()) for line in listed.splitlines()] == [
            b"-rwsr-x--x 0/0 0 1969-12-31 23:59:58 before-1970",
            b"---------- 3000000000/2097152 0 1970-01-01 00:00:00.000000001 large-ids",
            b"crw-rw-rw- 0/0 1,3 1970-01-01 00:00:00 null",
            b"b--------- 0/0 259,1000000 1970-01-01 00:00:00 disk",
            b"p--------- 0/0 0 2100-01-01 00:00:00.123456789 pipe",
        ]


def sample_tree(top):
    """Make a tree with one of everything that needs no privilege."""
    deep = b"/".join([b"directory-%d" % level for level in range(40)])
    names = [
        b"plain",
        b"line\nend",
        b"\xff\xfe",
        "ä€😀".encode(),
        b"n" * 255,
        b"-rf",
        b" ",
        b"a\\n",
    ]
    os.makedirs(top + b"/" + deep)  # noqa: PTH103 - pathlib knows no bytes
    for number, name in enumerate([*names, deep + b"/" + b"l" * 200, deep + b"/\xff"]):
        path = Path(os.fsdecode(top + b"/" + name))
        path.write_bytes(name * number * 100)
        path.chmod((0o644, 0o4755, 0o600)[number % 3])
    os.symlink(b"/nowhere/\xff" * 50, top + b"/long link")  # noqa: PTH211
    os.symlink(b"plain/../", top + b"/link")  # noqa: PTH211
    os.link(top + b"/plain", top + b"/second")
    os.link(top + b"/" + deep + b"/\xff", top + b"/z")
    os.mkfifo(top + b"/pipe")
    set_times(top)


def set_times(top):
    """Give every name a time of its own, to the nanosecond."""
    for number, (directory, _, files) in enumerate(os.walk(top, topdown=False)):
        for place, name in enumerate([*files, b"."]):
            time_ns = 1_234_567_891 * place + 10**18 * (number % 2)
            path = os.path.join(directory, name)  # noqa: PTH118
            os.utime(path, ns=(0, time_ns), follow_symlinks=False)


def pack(top):
    """Return an archive of the tree ``top`` with names relative to it."""
    pieces, first_names = [], {}
    with FileOpener() as opener:
        for entry in walk([top]):
            name = entry.path[len(top) :]
            first = first_names.setdefault((entry.filesystem, entry.inode), name)
            is_again = entry.links > 1 and first != name
            hardlink_to = first if is_again else None
            pieces.append(member_header(entry, name=name, hardlink_to=hardlink_to))
            if entry.type is EntryType.FILE and not is_again:
                descriptor = opener.open(entry)
                pieces += [read_range(descriptor, 0, entry.size), bytes(padding(entry.size))]
                os.close(descriptor)
    return b"".join(pieces) + END_OF_ARCHIVE


class TestExtractedByPrograms:
    # Where the locale is not UTF-8, bsdtar extracts everything but complains about names in UTF-8.
    @pytest.mark.parametrize(
        ("program", "locale"), [("tar", "C"), ("tar", "C.UTF-8"), ("bsdtar", "C.UTF-8")]
    )
    def test_the_tree_comes_back_as_it_was(self, tmp_path, program, locale):
        source, target = two_directories(tmp_path)
        sample_tree(os.fsencode(source))

        archive = pack(os.fsencode(source))
        run_tar(program, "-xpf-", "-C", target, archive=archive, locale=locale)

        expected, restored = listing(source), listing(target)
        del expected[b""], restored[b""]  # bsdtar leaves the directory that it works in alone
        assert restored == expected

    def test_gnu_tar_restores_the_root_and_fractions_of_seconds_before_1970(self, tmp_path):
        source, target = two_directories(tmp_path)
        (source / "file").touch()
        os.utime(source / "file", ns=(0, -1_500_000_001))
        os.utime(source, ns=(0, -999_999_999))

        run_tar("tar", "-xpf-", "-C", target, archive=pack(os.fsencode(source)))

        assert listing(target) == listing(source)

    @pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
    def test_owners_come_back_by_number(self, tmp_path):
        source, target = two_directories(tmp_path)
        for name, uid, gid in [("a", 1, 2), ("b", 70_000, 0), ("c", 3_000_000_000, 2_097_152)]:
            (source / name).touch()
            os.chown(source / name, uid, gid)

        archive = pack(os.fsencode(source))
        run_tar("tar", "-xpf-", "--numeric-owner", "-C", target, archive=archive)

        assert listing(target) == listing(source)


def two_directories(parent):
    for name in ("source", "target"):
        (parent / name).mkdir()
    return parent / "source", parent / "target"
