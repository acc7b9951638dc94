"""When jobs run, under which conditions, how long, and how they are verified, as they are said."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import core_schema

from backup.conditions import Conditions, make_conditions
from backup.config.values import Several, Whole, ours
from backup.triggers import Retry, Trigger, make_trigger, parse_span, span_text
from backup.triggers.trigger import KINDS

_NEVER = "never"
_HOUR = timedelta(hours=1)
_EXAMPLES = ["15 minutes", "6 hours", "1 day"]


class Checks(NamedTuple):
    """How often snapshots are verified, at which level; ``None`` for never."""

    checksum: timedelta | None = timedelta(days=1)
    content: timedelta | None = timedelta(days=30)


CHECKS = Checks()
"""What counts where nothing is said."""


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def said(self) -> dict[str, Any]:
        """Return the keys that are there, with their values."""
        return {key: getattr(self, key) for key in self.model_fields_set}


def _span(what: str) -> BeforeValidator:
    return BeforeValidator(lambda said: ours(lambda: parse_span(said, what)))


def _span_or_never(what: str) -> BeforeValidator:
    return BeforeValidator(
        lambda said: None if said in {None, _NEVER} else ours(lambda: parse_span(said, what))
    )


_AS_TEXT = WithJsonSchema({"type": "string", "examples": _EXAMPLES})
_OR_NEVER = WithJsonSchema({"type": "string", "examples": [*_EXAMPLES, _NEVER]})
Timeout = Annotated[
    timedelta, _span("timeout"), _AS_TEXT, PlainSerializer(span_text, return_type=str)
]
StallAfter = Annotated[
    timedelta, _span("stall_after"), _AS_TEXT, PlainSerializer(span_text, return_type=str)
]


class ScheduleRules(_Rules):
    """When a job is due: one of every, at, on and cron."""

    every: str | None = Field(None, description="The time between two runs: 6 hours.")
    at: Several[str] | None = Field(None, description="Times of each day: 02:30.")
    on: Several[str] | None = Field(None, description="Days and times: monday at 03:00.")
    cron: str | None = Field(None, description="A line of cron: 30 2 * * 1-5.")
    time_zone: str | None = Field(
        None, description="By whose clock: Europe/Berlin; without it the machine's."
    )
    jitter: str | None = Field(None, description="By how much a run may be later: 10 minutes.")


def _trigger(value: object, handler: Any) -> Trigger:
    if isinstance(value, Trigger):
        return value
    if isinstance(value, str):
        word, _, rest = value.strip().partition(" ")
        if word not in KINDS:
            raise ValueError("it needs a mapping such as {every: 6 hours}, or 'every 6 hours'")
        value = {word: rest.strip()}
    said = handler(value).said()
    return ours(lambda: make_trigger({k: _listed(one) for k, one in said.items()}))


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def schedule_rules(trigger: Trigger) -> dict[str, object]:
    """Return ``trigger`` as a configuration says it."""
    word, _, rest = trigger.words.partition(" ")
    rules: dict[str, object] = {word: rest}
    if word == "daily":
        times = rest.removeprefix("at ").replace(" and ", ", ").split(", ")
        rules = {"at": times[0] if len(times) == 1 else times}
    elif word == "on":
        days = rest.split("; ")
        rules = {"on": days[0] if len(days) == 1 else days}
    if trigger.time_zone:
        rules["time_zone"] = trigger.time_zone
    return rules | ({"jitter": span_text(trigger.jitter)} if trigger.jitter else {})


class OnlyIfRules(_Rules):
    """What has to hold before a job begins; while it does not, the job waits."""

    mains_power: Literal[True] | None = Field(
        None, description="The machine does not run on its battery."
    )
    mounted: Several[str] | None = Field(None, description="Something is mounted there: /mnt/disk.")
    reachable: Several[str] | None = Field(None, description="It takes connections: db1:5432.")
    command: tuple[str, ...] | None = Field(
        None, description="It exits with 0: [/usr/bin/test, -e, /x]; no shell is involved."
    )


def _conditions(value: object, handler: Any) -> Conditions:
    if isinstance(value, Conditions):
        return value
    said = handler(value).said()
    return ours(lambda: make_conditions(said))


def only_if_rules(conditions: Conditions) -> dict[str, object]:
    """Return ``conditions`` as a configuration says them."""
    rules: dict[str, object] = {"mains_power": True} if conditions.mains_power else {}
    for word in ("mounted", "reachable", "command"):
        if values := getattr(conditions, word):
            rules[word] = list(values)
    return rules


class RetryRules(_Rules):
    """How a job that failed is tried again, before its next time."""

    times: Annotated[Whole, Field(ge=0, le=100)] = Field(3, description="How often; 0 for never.")
    wait: Annotated[timedelta, _span("wait"), _AS_TEXT] = Field(
        timedelta(minutes=1),
        description="The time before the first try; each further one is four times as long.",
    )


def _retry(value: object, handler: Any) -> Retry:
    if isinstance(value, Retry):
        return value
    said = handler(value).said()
    longest = max(_HOUR, said.get("wait", _HOUR))
    return ours(lambda: Retry(**said, most=longest))


def retry_rules(retry: Retry) -> dict[str, object]:
    """Return ``retry`` as a configuration says it."""
    return {"times": retry.times, "wait": span_text(retry.wait)}


class VerifyRules(_Rules):
    """How often what is stored is compared with what was saved."""

    checksum: Annotated[timedelta | None, _span_or_never("checksum"), _OR_NEVER] = Field(
        CHECKS.checksum,
        description="The newest snapshot's SHA-256; those of all each seventh time. Or: never.",
    )
    content: Annotated[timedelta | None, _span_or_never("content"), _OR_NEVER] = Field(
        CHECKS.content, description="Every byte of all snapshots. Or: never."
    )


def _checks(value: object, handler: Any) -> Checks:
    return value if isinstance(value, Checks) else Checks(**handler(value).said())


def verify_rules(checks: Checks) -> dict[str, object]:
    """Return ``checks`` as a configuration says them."""
    return {
        word: _NEVER if span is None else span_text(span) for word, span in checks._asdict().items()
    }


def _made_of(rules: type[_Rules], make: Any, *, or_text: bool = False) -> GetPydanticSchema:
    """Return the schema of a value that ``make`` makes of ``rules``, or of a text."""

    def in_json(schema: Any, handler: Any) -> Any:
        of_rules = handler(schema)
        return {"anyOf": [{"type": "string"}, of_rules]} if or_text else of_rules

    return GetPydanticSchema(
        lambda _, handler: core_schema.no_info_wrap_validator_function(make, handler(rules)),
        in_json,
    )


Schedule = Annotated[
    Trigger, _made_of(ScheduleRules, _trigger, or_text=True), PlainSerializer(schedule_rules)
]
OnlyIf = Annotated[Conditions, _made_of(OnlyIfRules, _conditions), PlainSerializer(only_if_rules)]
Retrying = Annotated[Retry, _made_of(RetryRules, _retry), PlainSerializer(retry_rules)]
Verify = Annotated[Checks, _made_of(VerifyRules, _checks), PlainSerializer(verify_rules)]
