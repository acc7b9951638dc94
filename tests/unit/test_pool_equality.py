"""How many processes do it changes nothing of what a snapshot holds."""

from __future__ import annotations

import os
import random
import time
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from backup.listing import list_snapshots
from backup.locating import locate
from backup.manager import take_snapshot
from backup.model import ArchiveType
from backup.snapshot.frame import Section
from backup.storage.memory import MemoryStorage
from backup.verification import verify_snapshot
from tests.processes import Watch

SMALL_CAP = 64 * 1024
USUAL = {ArchiveType.TAR_ZST: 34_000_000, ArchiveType.TAR_XZ: 18_000_000}
COUNTS = [0, 1, 4, 9]
MANY = 400
YOUNG = 2.1
"""Seconds for which a snapshot remarks that a file could still change unnoticed."""

UNREADABLE = ("/proc/sys/vm/compact_memory", "/proc/sys/vm/drop_caches")


class Content(NamedTuple):
    """What a snapshot says, without the ids that are drawn anew for each."""

    archive: bytes
    frames: list[tuple[Section, int, bytes]]
    entries: list
    chunks: list
    pages: list
    counts: object


def content_of(reader):
    entries = list(reader.entries())
    pages = [
        [(one.entries, one.first) for one in reader.page(page)] for page in reader.record.pages
    ]
    return Content(
        archive=b"".join(
            reader.piece(Section.ARCHIVE, number)
            for number, row in enumerate(reader.rows)
            if row.section is Section.ARCHIVE
        ),
        frames=[
            (row.section, row.plain, bytes(reader.compressed_piece(row.section, number)))
            for number, row in enumerate(reader.rows)
            if row.section is Section.ARCHIVE
        ],
        entries=[without_ids(entry) for entry in entries],
        chunks=[
            (entry.path, chunk.digest, chunk.extent[1:])
            for entry in entries
            for chunk in (reader.chunks(entry) if entry.chunk_lists else ())
        ],
        pages=pages,
        counts=reader.record.counts,
    )


def without_ids(entry):
    return replace(
        entry,
        extents=tuple(extent._replace(snapshot=b"") for extent in entry.extents),
        chunk_lists=tuple(one._replace(snapshot=b"", digest=b"") for one in entry.chunk_lists),
    )


@pytest.fixture
def saved(make_request):
    """Return a function that takes a snapshot with so many workers: its content, its problems."""

    def save(*sources, workers, **fields):
        storage = MemoryStorage()
        request = make_request(*sources, workers=workers, **fields)
        report = take_snapshot(request, storage)
        (name,) = [one.name for one in list_snapshots(storage)]
        located = locate(storage, name)
        assert verify_snapshot(located, request.identities).holds
        return content_of(located.open(request.identities)), report.problems

    return save


@pytest.fixture
def same(saved):
    """Return a function that saves a directory by one and by three, and returns what is in both."""

    def check(*sources, **fields):
        one, problems_of_one = saved(*sources, workers=1, **fields)
        with Watch() as watch:
            three, problems_of_three = saved(*sources, workers=3, **fields)
        assert len(watch.workers) >= 3  # verifying has some, too
        assert problems_of_three == problems_of_one
        for of_three, of_one in zip(three, one, strict=True):
            assert of_three == of_one
        return one, problems_of_one

    return check


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return trees of which no file is so young that it matters when it is saved."""
    top = tmp_path_factory.mktemp("filled")
    (top / "mixed").mkdir()
    fill(top / "mixed")
    for size in USUAL.values():
        (top / str(size)).mkdir()
        (top / str(size) / "larger").write_bytes(random.Random(6).randbytes(size))
        (top / str(size) / "text").write_text("the same line again and again\n" * 40_000)
    for count in COUNTS:
        (top / str(count)).mkdir()
        for number in range(count):
            data = random.Random(number).randbytes(60_000)
            (top / str(count) / str(number)).write_bytes(data)
    time.sleep(YOUNG)
    return top


def fill(top):
    """Make a tree with one of everything that frames are concerned with."""
    chance = random.Random(5)
    for number in range(MANY):
        directory = top / "many" / f"{number % 20:02}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number:04}").write_bytes(chance.randbytes(chance.randrange(3000)))
    (top / "text").write_text("the same line again and again\n" * 40_000)
    (top / "noise").write_bytes(chance.randbytes(700_000))
    (top / "half").write_bytes(bytes(300_000) + chance.randbytes(300_000))
    for name in ("many/00/first", "many/07/first", "zz-last"):
        for kind, source in (("small", "many/01/0001"), ("large", "noise")):
            (top / f"{name}-{kind}").hardlink_to(top / source)
    with (top / "sparse").open("wb") as file:
        for place in (0, 3_000_000, 9_000_000):
            file.seek(place)
            file.write(chance.randbytes(90_000))
        file.truncate(20_000_000)
    with (top / "sparse-small").open("wb") as file:
        file.seek(100_000)
        file.write(b"at the end of a hole")
    (top / "empty").touch()
    (top / "link").symlink_to("text")
    os.mkfifo(top / "pipe")


@pytest.mark.parametrize("archive", ArchiveType)
def test_with_small_frames(archive, filled, same):
    content, problems = same(filled / "mixed", archive=archive, cap=SMALL_CAP)

    assert problems == ()
    assert len(content.frames) > 30
    assert content.chunks
    assert len([one for one in content.entries if one.data is not None]) == 2
    assert len([one for one in content.entries if one.links == 4]) == 8


@pytest.mark.parametrize("archive", USUAL)
def test_with_frames_of_the_usual_size(archive, filled, same):
    content, _ = same(filled / str(USUAL[archive]), archive=archive, level=1)

    assert len(content.frames) >= 3
    assert {entry.path.rpartition(b"/")[2] for entry in content.entries} >= {b"text", b"larger"}


def test_where_some_files_cannot_be_read(filled, same):
    """Not by root, either: the system only lets them be written to."""
    content, problems = same(filled / "mixed", *UNREADABLE, cap=SMALL_CAP)

    assert {os.fsdecode(one.path) for one in problems} == {one.lstrip("/") for one in UNREADABLE}
    assert content.counts.errors == len(UNREADABLE)


@pytest.mark.parametrize("count", COUNTS)
def test_however_little_there_is(count, filled, saved):
    fields = {"archive": ArchiveType.TAR_ZST, "cap": SMALL_CAP}
    contents = [saved(filled / str(count), workers=workers, **fields) for workers in (1, 2, 3)]

    assert contents[0] == contents[1] == contents[2]
