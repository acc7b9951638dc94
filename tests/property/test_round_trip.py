"""What is saved comes back: any tree, any compression, all of it or any part."""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup import recover
from backup.locating import locate
from backup.manager import take_snapshot
from backup.model import ArchiveType
from backup.restore.manager import RestoreManager
from backup.snapshot.frame import Section
from backup.storage.memory import MemoryStorage
from tests.lister import listing
from tests.needs import needs
from tests.property.trees import HAS_ATTRIBUTES, SMALL_CAP, build, trees

TAR_OPTIONS = {
    ArchiveType.TAR_XZ: "--xz",
    ArchiveType.TAR_ZST: "--zstd",
    ArchiveType.TAR_GZ: "--gzip",
    ArchiveType.TAR_BZ2: "--bzip2",
    ArchiveType.TAR: "--no-auto-compress",
}
TAR_ALL = ["-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls"]
archives = st.sampled_from(list(ArchiveType))
caps = st.sampled_from([SMALL_CAP, SMALL_CAP, 100_000, 8 * 1024 * 1024])


@contextmanager
def made(tree):
    """Give the directory that ``tree`` became, and another one for what comes back."""
    needs(HAS_ATTRIBUTES, "extended attributes, user.* and for root trusted.*, in TMPDIR")
    with tempfile.TemporaryDirectory(prefix="auto-backup-trees-") as top:
        build(tree, Path(top, "source"))
        yield Path(top, "source"), Path(top, "out")


def below(target, source):
    return target / str(source).lstrip("/")


@pytest.fixture(scope="module")
def saved(make_request):
    """Return a function that saves a directory and returns its store, opened for restoring."""

    def save(source, **fields):
        storage = MemoryStorage()
        request = make_request(source, **fields)
        report = take_snapshot(request, storage)
        assert report.problems == report.skipped == ()
        return RestoreManager(storage, identities=request.identities)

    return save


class TestRoundTrip:
    @given(tree=trees, archive=archives, cap=caps)
    def test_any_tree_comes_back_as_it_was(self, saved, tree, archive, cap):
        with made(tree) as (source, out):
            manager = saved(source, archive=archive, cap=cap)

            report = manager.restore("latest", out)

            assert (report.problems, report.damaged) == ([], [])
            assert listing(below(out, source)) == listing(source)
            assert manager.validate("latest").holds

    @given(tree=trees, data=st.data())
    def test_any_part_of_a_tree_comes_back_alone(self, saved, tree, data):
        with made(tree) as (source, out):
            manager = saved(source, cap=SMALL_CAP)
            rows = listing(source)
            wanted = data.draw(st.sets(st.sampled_from(sorted(rows)), min_size=1, max_size=4))

            manager.restore(
                "latest",
                out,
                [os.path.join(os.fsencode(source), path) for path in wanted],  # noqa: PTH118 - pathlib knows no bytes
            )

            expected = {
                path
                for path in rows
                for one in wanted
                if not one
                or path == one
                or path.startswith(one + b"/")
                or one.startswith(path + b"/")
                or not path
            }
            again = listing(below(out, source))
            assert set(again) == expected
            for path, row in again.items():
                names = rows[path].linked_names & expected
                assert row == rows[path]._replace(linked_names=names)

    @given(tree=trees, archive=archives)
    def test_gnu_tar_makes_the_same_tree_of_any_archive(self, saved, tree, archive):
        with made(tree) as (source, out):
            manager = saved(source, archive=archive, cap=SMALL_CAP)
            reader = locate(
                manager.storage, manager.list_snapshots()[0].name
            ).open(manager.identities)  # fmt: skip
            stream = b"".join(
                reader.compressed_piece(Section.ARCHIVE, number)
                for number, row in enumerate(reader.rows)
                if row.section is Section.ARCHIVE
            )
            out.mkdir()

            command = ["tar", *TAR_ALL, TAR_OPTIONS[archive], "-C", str(out)]
            done = subprocess.run(command, input=stream, capture_output=True, check=False)

            assert done.returncode == 0, done.stderr
            assert listing(below(out, source)) == listing(source)

    @given(tree=trees)
    def test_recover_py_makes_the_same_tree(self, saved, tree):
        with made(tree) as (source, out):
            manager = saved(source, archive=ArchiveType.TAR_GZ, cap=SMALL_CAP)
            name = manager.list_snapshots()[0].name
            file, key = out.with_name("x.enc"), out.with_name("key")
            size = manager.storage.stat(name).size
            file.write_bytes(manager.storage.read(name, size))
            key.write_bytes(base64.urlsafe_b64encode(manager.identities[0].secret))

            assert recover.main(["extract", str(file), str(out), "--key", str(key)]) == 0

            assert listing(below(out, source)) == listing(source)

    @given(tree=trees)
    def test_saving_changes_nothing_of_the_source(self, saved, tree):
        with made(tree) as (source, _):
            before = listing(source)
            accessed = source.stat().st_atime_ns

            saved(source, cap=SMALL_CAP)

            assert source.stat().st_atime_ns == accessed or os.geteuid() != 0
            assert listing(source) == before
