"""A long xz run says once how long it will take, and what zstd would take."""

from __future__ import annotations

import pytest

from backup.cli.slow_xz import SlowXz, remark_on
from backup.manager import Progress, take_snapshot
from backup.model import ArchiveType
from backup.storage.memory import MemoryStorage

GIB = 2**30


class TestTheRemark:
    def test_it_tells_both_durations(self):
        text = remark_on(elapsed=30, read=GIB, total=60 * GIB, quicker=25)

        assert text == (
            "with xz this takes about 30 min 0 s;"
            " --compression zstd would take about 1 min 12 s, and more room"
        )

    @pytest.mark.parametrize(
        ("elapsed", "read", "total", "quicker"),
        [
            pytest.param(30, GIB, 19 * GIB, 25, id="done within ten minutes"),
            pytest.param(19, GIB, 10**5 * GIB, 25, id="too early to tell"),
            pytest.param(30, 0, 60 * GIB, 25, id="nothing read yet"),
            pytest.param(30, GIB, 60 * GIB, 0, id="another compression"),
            pytest.param(30, GIB, 60 * GIB, 0.9, id="zstd is no quicker"),
            pytest.param(30, GIB, 0, 25, id="nobody knows how much there is"),
        ],
    )
    def test_it_is_left_unsaid(self, elapsed, read, total, quicker):
        assert remark_on(elapsed, read, total, quicker) is None


def test_it_is_said_once():
    said = []
    times = iter([7.0, 10.0, 37.0, 67.0])
    slow = SlowXz(said.append, lambda: next(times))

    for read in (GIB, GIB, 2 * GIB, 3 * GIB):
        slow.watch(read, 60 * GIB, 25)

    # What was done before the first result does not count: 1 GiB in 30 s.
    assert [text.partition(";")[0] for text in said] == ["with xz this takes about 30 min 0 s"]


class TestTheTrial:
    def quicker(self, make_request, tree, archive):
        told: list[Progress] = []
        take_snapshot(make_request(tree, archive=archive), MemoryStorage(), on_progress=told.append)
        return told[-1].quicker

    def test_an_xz_run_tries_zstd_on_its_first_frame(self, make_request, tmp_path):
        source = tmp_path / "source"
        source.mkdir()
        text = b"".join(b"line %d of a text that can be compressed\n" % n for n in range(60_000))
        (source / "text").write_bytes(text)

        assert self.quicker(make_request, source, ArchiveType.TAR_XZ) > 2

    def test_others_do_not(self, make_request, tree):
        assert self.quicker(make_request, tree, ArchiveType.TAR_ZST) == 0
