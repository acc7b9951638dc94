"""The first line of each file that is made here: by it one knows it again, and its changes."""

from __future__ import annotations

import re
from enum import StrEnum
from hashlib import sha256

_START = "# Made by 'auto-backup service install'; "
_END = "'auto-backup service uninstall' removes it."
_LINE = re.compile(re.escape(_START) + r"([0-9a-f]{16})\. " + re.escape(_END))


class Found(StrEnum):
    """What lies where a file is to be written or removed."""

    NOTHING = "nothing"
    OURS = "ours"
    CHANGED = "changed"
    FOREIGN = "foreign"


def marked(body: str) -> str:
    """Return the text of a file with its first line, which has the digest of all others."""
    return f"{_START}{_digest(body)}. {_END}\n{body}"


def judge(text: str | None) -> Found:
    """Tell what a file is by its text, ``None`` where there is no file."""
    if text is None:
        return Found.NOTHING
    line, _, body = text.partition("\n")
    found = _LINE.fullmatch(line)
    if found is None:
        return Found.FOREIGN
    return Found.OURS if found[1] == _digest(body) else Found.CHANGED


def _digest(body: str) -> str:
    return sha256(body.encode("utf-8", "surrogateescape")).hexdigest()[:16]
