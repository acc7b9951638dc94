from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import InvalidArgumentError
from backup.retention import Decision, plan_keep_last

NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=30)


class TestKeepingTheLast:
    def test_the_last_ones_stay_and_each_decision_has_its_reason(self):
        assert plan_keep_last(["a", "b", "c"], 2) == [
            Decision("a", keep=False, reason="older than the newest 2"),
            Decision("b", keep=True, reason="among the newest 2"),
            Decision("c", keep=True, reason="among the newest 2"),
        ]

    def test_nothing_is_decided_about_nothing(self):
        assert plan_keep_last([], 1) == []

    @pytest.mark.parametrize("keep", [0, -1, -(10**9)])
    def test_keeping_less_than_one_is_refused_also_of_nothing(self, keep):
        with pytest.raises(InvalidArgumentError, match=f"at least 1 snapshot is kept, not {keep}"):
            plan_keep_last([], keep)
        with pytest.raises(ValueError, match="at least 1"):
            plan_keep_last(["a"], keep)

    @given(names=NAMES, keep=st.integers(1, 40))
    def test_any_list_is_decided_in_its_order_and_its_end_stays(self, names, keep):
        decisions = plan_keep_last(names, keep)

        kept = [one.name for one in decisions if one.keep]
        assert [one.name for one in decisions] == names
        assert kept == [name for place, name in enumerate(names) if len(names) - place <= keep]
        assert len(kept) == min(keep, len(names))

    @given(names=NAMES, keep=st.integers(1, 40))
    def test_doing_it_twice_is_the_same_as_doing_it_once(self, names, keep):
        kept = [one.name for one in plan_keep_last(names, keep) if one.keep]

        again = [one.name for one in plan_keep_last(kept, keep) if one.keep]

        assert again == kept
