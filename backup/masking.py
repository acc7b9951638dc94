"""Secrets in URLs are not shown: not in tables, not in logs, not in errors."""

from __future__ import annotations

import re

MASK = "***"
_AUTHORITY = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)"
    # In the second case a password holds a '/' that should have been escaped; a port is none.
    r"(?P<authority>[^/?#]*@[^/?#]*|[^/?#@:\[]*:(?![0-9]*(?:[/?#]|$)).*@[^/?#]*|[^/?#]*)",
    re.DOTALL,
)
_SECRET = re.compile(
    r"(?P<name>[?&;][^=&;#]*(?:pass|pwd|secret|token|key|signature|sig|auth)[^=&;#]*=)[^&;#]+",
    re.IGNORECASE,
)


def masked(url: str) -> str:
    """Return ``url`` with its password, and secrets among its parameters, masked.

    What is no URL is returned as it is.
    """
    found = _AUTHORITY.match(url)
    if found is None:
        return url
    user, at, place = found["authority"].rpartition("@")
    name, colon, _ = user.partition(":")
    hidden = f"{name}:{MASK}" if colon else user
    rest = _SECRET.sub(rf"\g<name>{MASK}", url[found.end() :])
    return f"{found['scheme']}{hidden}{at}{place}{rest}"
