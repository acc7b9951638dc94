"""``keep``: rules of retention as a configuration has them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, PlainSerializer
from pydantic_core import core_schema

from backup.config.values import Duration, Several, Tag, Whole, ours
from backup.retention import RetentionPolicy
from backup.retention.policy import COUNTS

_MOST = 1_000_000
_Count = Annotated[Whole, Field(ge=1, le=_MOST)]


class KeepRules(BaseModel):
    """How many snapshots to keep; what no rule keeps goes to the trash when a job is rotated."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    last: _Count | None = Field(None, description="The newest ones.")
    hourly: _Count | None = Field(None, description="The newest of each of so many hours.")
    daily: _Count | None = Field(None, description="The newest of each of so many days.")
    weekly: _Count | None = Field(None, description="The newest of each of so many weeks.")
    monthly: _Count | None = Field(None, description="The newest of each of so many months.")
    yearly: _Count | None = Field(None, description="The newest of each of so many years.")
    within: Duration | None = Field(
        None, description="All that are at most so much older than the newest one."
    )
    tags: Several[Tag] = Field((), description="All that carry one of these words.")


def _policy(value: object, handler: Any) -> RetentionPolicy:
    """Return the policy that rules say, or the one that is there already."""
    if isinstance(value, RetentionPolicy):
        return value
    rules: KeepRules = handler(value)
    said = {key: getattr(rules, key) for key in rules.model_fields_set}
    return ours(lambda: RetentionPolicy(**said))


def keep_rules(policy: RetentionPolicy) -> dict[str, object]:
    """Return ``policy`` as a configuration says it."""
    rules: dict[str, object] = {
        word: policy.count_of(word) for word in COUNTS if policy.count_of(word) is not None
    }
    if policy.within is not None:
        hours = round(policy.within / timedelta(hours=1))
        rules["within"] = f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"
    return rules | ({"tags": list(policy.tags)} if policy.tags else {})


Keep = Annotated[
    RetentionPolicy,
    GetPydanticSchema(
        lambda _, handler: core_schema.no_info_wrap_validator_function(_policy, handler(KeepRules))
    ),
    PlainSerializer(keep_rules),
]
"""Rules in a configuration, a policy in the program."""
