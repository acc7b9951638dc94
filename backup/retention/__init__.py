"""Which snapshots to keep: a pure function of a policy and a list, with a reason for each."""

from __future__ import annotations

from backup.retention.age import Placed, by_age
from backup.retention.plan import (
    MOST_DELETIONS,
    NO_PLAN,
    Candidate,
    Decision,
    RetentionPlan,
    Verdict,
    plan_retention,
)
from backup.retention.policy import (
    NOTHING_GOES,
    RetentionPolicy,
    make_policy,
    parse_duration,
    parse_keep,
)

__all__ = [
    "MOST_DELETIONS",
    "NOTHING_GOES",
    "NO_PLAN",
    "Candidate",
    "Decision",
    "Placed",
    "RetentionPlan",
    "RetentionPolicy",
    "Verdict",
    "by_age",
    "make_policy",
    "parse_duration",
    "parse_keep",
    "plan_retention",
]
