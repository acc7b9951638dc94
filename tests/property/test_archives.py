"""Plain archives of any tree, read by the tools of others: nothing is missing, nothing differs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

from hypothesis import assume, example, given
from hypothesis import strategies as st

from backup.plain.deflating import deflate, inflate, joined_crc, pack, unpack
from backup.plain.formats import Format, format_at
from backup.plain.making import make_archive
from backup.plain.places import StorePlace
from backup.plain.request import ArchiveRequest
from backup.sources.roots import prepare_roots
from backup.storage.memory import MemoryStorage
from tests.lister import listing
from tests.needs import needs
from tests.property.trees import HAS_ATTRIBUTES, SMALL_CAP, build, contents, trees

TAR_ALL = ["-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls"]
tars = st.sampled_from([one for one in Format if one is not Format.ZIP])
LARGE = 64 * 1024 * 1024
capacities = st.sampled_from([SMALL_CAP, 100_000, 8 * 1024 * 1024])


@contextmanager
def archived(tree, form, capacity):
    """Give the directory that ``tree`` became, the report, and the archive of it."""
    needs(HAS_ATTRIBUTES, "extended attributes, user.* and for root trusted.*, in TMPDIR")
    with tempfile.TemporaryDirectory(prefix="auto-backup-archives-") as top:
        source = Path(top, "source")
        build(tree, source)
        assume(form is not Format.ZIP or _largest(source) < LARGE)
        storage, archive = MemoryStorage(), Path(top, f"made.{form}")
        request = ArchiveRequest(
            roots=prepare_roots([source]), format=form, capacity=capacity, workers=1
        )
        report = make_archive(request, [StorePlace(storage, archive.name)])
        archive.write_bytes(storage.read(archive.name))
        yield source, report, archive


def _largest(source):
    """Return the size of the largest file: what is nearly all holes takes its time in a zip."""
    return max(row.size for row in listing(source).values())


@given(tree=trees, form=tars, capacity=capacities)
def test_gnu_tar_gets_all_of_a_tree_back(tree, form, capacity):
    with archived(tree, form, capacity) as (source, report, archive):
        out = archive.parent / "out"
        out.mkdir()
        subprocess.run(["tar", *TAR_ALL, "-f", archive, "-C", out], check=True)

        assert report.problems == report.renamed == ()
        assert report.counts.entries == len(listing(source))
        assert listing(out / "source") == listing(source)
        with archive.open("rb") as file:
            assert format_at(file) is form


def in_zip(source):
    """Return what a zip of ``source`` should hold: the name, the mode and the content of each."""
    found = {}
    for top, directories, files in os.walk(os.fsencode(source)):
        for path in [top] if top == os.fsencode(source) else []:
            found[_name(path, source) + "/"] = (os.lstat(path).st_mode, b"")
        for one in directories + files:
            path = os.path.join(top, one)  # noqa: PTH118 - pathlib knows no bytes
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[_name(path, source)] = (mode, os.readlink(path))  # noqa: PTH115 - bytes
            elif stat.S_ISDIR(mode):
                found[_name(path, source) + "/"] = (mode, b"")
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:  # noqa: PTH123
                    found[_name(path, source)] = (mode, file.read())
    return found


def _name(path, source):
    relative = os.path.relpath(path, os.fsencode(source.parent))
    return relative.decode("utf-8", "backslashreplace")


@given(tree=trees, capacity=capacities)
def test_a_zip_holds_all_that_zip_has_a_place_for(tree, capacity):
    needs(shutil.which("unzip"), "unzip is not installed")
    with archived(tree, Format.ZIP, capacity) as (source, report, archive):
        expected = in_zip(source)
        told = {one.reason for one in report.problems}
        with zipfile.ZipFile(archive) as opened:
            held = {
                one.filename: (one.external_attr >> 16, opened.read(one))
                for one in opened.infolist()
            }
            assert opened.testzip() is None
        checked = subprocess.run(["unzip", "-tqq", archive], capture_output=True, check=False)

        # Of two names that are one when they are escaped, the second is not there, and is told.
        assert told <= {"its name, escaped, is that of another one"}
        assert len(held) == report.counts.entries
        assert held.keys() == expected.keys() or told
        assert all(held[name] == expected[name] for name in held) or told
        assert checked.returncode == 0, checked


@given(first=st.binary(), second=st.binary())
@example(b"", b"")
@example(bytes(70_000), bytes(70_000))
def test_the_crc_of_two_runs_is_that_of_both_together(first, second):
    joined = joined_crc(zlib.crc32(first), zlib.crc32(second), len(second))

    assert joined == zlib.crc32(first + second)


@given(runs=st.lists(contents, min_size=1, max_size=4), level=st.integers(0, 9))
def test_packed_runs_put_together_are_one_packed_member(runs, level):
    last = len(runs) - 1
    packed = [deflate(one, level, is_last=at == last) for at, one in enumerate(runs)]

    assert zlib.decompress(b"".join(packed), -15) == b"".join(runs)
    for at, (one, run) in enumerate(zip(packed, runs, strict=True)):
        assert inflate(one, len(run), is_last=at == last) == run


@given(content=contents)
def test_a_packed_member_is_never_larger_and_comes_back(content):
    packed = pack(content, 6)

    assert len(packed.data) <= len(content)
    assert unpack(packed.data, packed.method, len(content)) == content
