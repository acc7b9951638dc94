"""When to try again what has failed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backup.errors import InvalidArgumentError


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often, and how soon, a job that failed is tried again before its next moment.

    Args:
        times: How many times.
        wait: The time before the first one.
        factor: By what each further wait is longer than the one before.
        most: The longest wait.

    Raises:
        InvalidArgumentError: A value is out of range.
    """

    times: int = 3
    wait: timedelta = timedelta(minutes=1)
    factor: float = 4
    most: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if not 0 <= self.times <= 100:  # noqa: PLR2004 - more would be a schedule of its own
            raise InvalidArgumentError(f"a job is tried again 0 to 100 times, not {self.times}")
        if not self.factor >= 1:  # which a number that is none is not, either
            raise InvalidArgumentError(f"factor is 1 or more, not {self.factor}")
        if not timedelta(0) < self.wait <= self.most:
            raise InvalidArgumentError("wait is above zero, and not longer than most")


NO_RETRY = Retry(times=0)


def retry_at(
    failures: int, ended: datetime, retry: Retry, following: datetime | None = None
) -> datetime | None:
    """Return when to try again; ``None`` if the next moment of the schedule is waited for.

    Args:
        failures: How many runs failed in a row.
        ended: When the last of them ended.
        retry: The rule.
        following: The next moment of the schedule, which a retry must not reach.
    """
    if not 1 <= failures <= retry.times:
        return None
    moment = ended + _wait(failures, retry)
    return None if following is not None and moment >= following else moment


def _wait(failures: int, retry: Retry) -> timedelta:
    # Not by a power: it would overflow long after the cap is reached.
    wait = retry.wait
    for _ in range(failures - 1):
        wait = min(wait * retry.factor, retry.most)
    return wait


def is_retry_due(moment: datetime | None, now: datetime, retry: Retry) -> bool:
    """Tell whether the time for a retry has come; also if the clock was set back since."""
    return moment is not None and (moment <= now or moment - now > retry.most)
