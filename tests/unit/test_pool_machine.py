"""How many workers there are: what cores and memory allow."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import InvalidArgumentError
from backup.manager.frame_pool import check_workers, frame_pool, plan_workers
from backup.model import ArchiveType
from backup.pool.machine import Machine, memory_budget, this_machine, worker_count
from backup.snapshot.header import make_core

GB = 1_000_000_000
MEGABYTE = 1_000_000
ALL = len(os.sched_getaffinity(0))
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
FAST = [ArchiveType.TAR, ArchiveType.TAR_GZ, ArchiveType.TAR_ZST]


@pytest.fixture
def groups(tmp_path):
    """Return a function that makes control groups; it returns what this machine is in there."""

    def make(own="0::/\n", **limits):
        top = tmp_path / "cgroup"
        for path, text in limits.items():
            place, _, name = path.replace("__", "/").rpartition("/")
            (top / place).mkdir(parents=True, exist_ok=True)
            (top / place / name.replace("_", ".")).write_text(text)
        (tmp_path / "membership").write_text(own)
        return this_machine(top, tmp_path / "membership")

    return make


class TestThisMachine:
    def test_it_has_the_cores_that_the_scheduler_gives_and_its_memory(self, groups):
        assert groups() == Machine(ALL, MEMORY)

    def test_without_control_groups_too(self, tmp_path):
        assert this_machine(tmp_path / "none", tmp_path / "nothing") == Machine(ALL, MEMORY)

    def test_limits_of_its_control_group_count(self, groups):
        found = groups(cpu_max="100000 100000\n", memory_max="500000000\n")

        assert found == Machine(1, 500_000_000)

    def test_the_lower_limit_of_memory_counts(self, groups):
        found = groups(memory_max="900000000\n", memory_high="400000000\n")

        assert found.memory == 400_000_000

    def test_limits_of_the_groups_around_it_count(self, groups):
        found = groups(
            "0::/system.slice/own.service\n",
            system__memory_max="no group of it",
            **{"system.slice__memory_max": "600000000\n"},
            **{"system.slice__own.service__memory_max": "800000000\n"},
        )

        assert found.memory == 600_000_000

    @pytest.mark.parametrize(
        "text", ["max 100000\n", "max\n", "", "50000\n", "nonsense 1\n", "5 0\n", "-1 100\n"]
    )
    def test_no_quota_is_all_cores(self, groups, text):
        assert groups(cpu_max=text).cores == ALL

    @pytest.mark.parametrize(("quota", "cores"), [(1, 1), (99_999, 1), (100_000, 1)])
    def test_a_part_of_a_core_is_one(self, groups, quota, cores):
        assert groups(cpu_max=f"{quota} 100000\n").cores == cores

    def test_more_than_there_is_adds_nothing(self, groups):
        found = groups(cpu_max="999900000 100000\n", memory_max=f"{MEMORY * 9}\n")

        assert found == Machine(ALL, MEMORY)

    @pytest.mark.parametrize("own", ["", "1:name=systemd:/\n", "0::/../beside\n", "0::/gone\n"])
    def test_a_group_that_cannot_be_seen_is_taken_for_the_outermost(self, groups, own):
        assert groups(own, memory_max="700000000\n").memory == 700_000_000

    def test_it_can_be_asked_here(self):
        found = this_machine()

        assert 1 <= found.cores <= ALL
        assert 0 < found.memory <= MEMORY


class TestBudget:
    @pytest.mark.parametrize(
        ("cores", "megabytes"), [(1, 300), (2, 300), (4, 300), (5, 324), (16, 588), (64, 1740)]
    )
    def test_300_mb_and_24_for_each_core_above_four(self, cores, megabytes):
        assert memory_budget(Machine(cores, 64 * GB)) == megabytes * MEGABYTE

    def test_half_of_a_small_memory(self):
        assert memory_budget(Machine(4, GB // 2)) == GB // 4


class TestWorkers:
    @given(
        st.builds(Machine, st.integers(1, 512), st.integers(10**7, 10**13)),
        st.sampled_from(list(ArchiveType)),
        st.integers(1, 9),
    )
    def test_there_is_at_least_one_and_at_most_one_a_core(self, machine, archive, level):
        assert 1 <= plan_workers(machine, archive, level) <= machine.cores

    @given(st.integers(1, 512), st.integers(0, 10**10), st.integers(1, 10**9))
    def test_they_fit_the_budget(self, cores, budget, each):
        count = worker_count(Machine(cores, 0), budget=budget, own=100, each=each)

        assert count == 1 or 100 + count * each <= budget
        assert count == cores or 100 + (count + 1) * each > budget

    @given(st.sampled_from(list(ArchiveType)), st.integers(1, 9), st.integers(1, 64))
    def test_more_cores_or_memory_never_mean_fewer(self, archive, level, cores):
        counts = [plan_workers(Machine(cores + n, 4 * GB), archive, level) for n in (0, 1, 8)]
        assert counts == sorted(counts)
        counts = [plan_workers(Machine(cores, n * GB), archive, level) for n in (1, 2, 8, 64)]
        assert counts == sorted(counts)

    @pytest.mark.parametrize("archive", FAST)
    def test_a_small_machine_is_used_as_far_as_its_memory_goes(self, archive):
        assert plan_workers(Machine(2, 2 * GB), archive, 1) == 2
        assert plan_workers(Machine(4, 8 * GB), archive, 1) == 3

    def test_the_strongest_xz_on_a_small_machine_has_one(self):
        assert plan_workers(Machine(4, GB), ArchiveType.TAR_XZ, 9) == 1
        assert plan_workers(Machine(4, 8 * GB), ArchiveType.TAR_XZ, 6) == 4


class TestNumbersThatAreGiven:
    @pytest.mark.parametrize("number", [None, 1, 2, 256])
    def test_these_are_taken(self, number):
        check_workers(number)

    @pytest.mark.parametrize("number", [0, -1, 257, 10**9])
    def test_these_are_refused(self, number):
        with pytest.raises(InvalidArgumentError, match=f"1 to 256 workers, not {number}"):
            check_workers(number)

    def test_a_pool_refuses_them_too(self):
        core = make_core(
            snapshot_id=bytes(16),
            chain=bytes(16),
            sequence=1,
            time=0,
            archive=ArchiveType.TAR,
            previous=None,
            cap=65536,
        )
        with pytest.raises(InvalidArgumentError):
            frame_pool(core, bytes(32), 0, workers=0)
