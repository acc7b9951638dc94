"""Names of time zones."""

from __future__ import annotations

from datetime import tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from backup.errors import InvalidArgumentError


def zone_of(name: str) -> tzinfo:
    """Return the time zone ``Europe/Berlin`` and the like.

    Raises:
        InvalidArgumentError: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidArgumentError(
            f"there is no time zone {name[:80]!r}", hint=_suggestion(name)
        ) from error


def check_zone(said: object) -> str:
    """Return the name of a time zone that there is.

    Raises:
        InvalidArgumentError: There is none of that name.
    """
    if not isinstance(said, str) or not said:
        raise InvalidArgumentError(
            f"time_zone needs a name such as Europe/Berlin, not {repr(said)[:80]}"
        )
    zone_of(said)
    return said


def _suggestion(name: str) -> str:
    wanted = name.strip().lower().replace(" ", "_")
    by_lower = {one.lower(): one for one in sorted(available_timezones())}
    by_city = {one.rpartition("/")[2]: one for one in reversed(by_lower)}
    found = by_lower.get(wanted) or by_lower.get(by_city.get(wanted, ""))
    if found is None:
        close = get_close_matches(wanted, by_lower, n=1)
        found = by_lower[close[0]] if close else None
    return f"did you mean {found}?" if found else "write it as Europe/Berlin"
