"""Names of snapshot files: hints for people; what counts is in authenticated headers.

``<host>/<job>/<job>-<UTC time>-<4 id characters>-<kind>.<archive>.enc``
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from backup.errors import InvalidArgumentError
from backup.model import ArchiveType, SnapshotKind

SUFFIX = ".enc"
DIGEST_SUFFIX = ".enc.sha256"
KEYS_SUFFIX = ".enc.keys"
TRASH_SUFFIX = ".enc.trash"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_TIME = "%Y%m%dT%H%M%SZ"
_FILE = re.compile(
    r"(?P<job>.+)-(?P<time>[0-9]{8}T[0-9]{6}Z)-(?P<id>[0-9a-f]{4})"
    r"-(?P<kind>full|incremental|differential)"
    r"\.(?P<archive>tar\.xz|tar\.zst|tar\.gz|tar\.bz2|tar)\.enc",
    re.ASCII,
)


class SnapshotName(NamedTuple):
    """What a snapshot's file name tells."""

    host: str
    job: str
    time: datetime
    id_start: str
    kind: SnapshotKind
    archive: ArchiveType

    def __str__(self) -> str:
        """Return the name within a store."""
        moment = self.time.astimezone(UTC)
        time = f"{moment.year:04}{moment:%m%dT%H%M%SZ}"  # "%Y" has fewer digits before 1000
        file = f"{self.job}-{time}-{self.id_start}-{self.kind}.{self.archive}{SUFFIX}"
        return f"{self.host}/{self.job}/{file}"


def parse_name(name: str) -> SnapshotName | None:
    """Return what ``name`` tells, or ``None`` where it is not a snapshot's name in a store."""
    host, _, rest = name.partition("/")
    job, _, file = rest.partition("/")
    found = _FILE.fullmatch(file)
    if not host or found is None or found["job"] != job:
        return None
    try:
        time = datetime.strptime(found["time"], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    kind, archive = SnapshotKind(found["kind"]), ArchiveType(found["archive"])
    return SnapshotName(host, job, time, found["id"], kind, archive)


def check_word(word: str, what: str) -> str:
    """Return ``word`` where it may be the name of a host or a job.

    Raises:
        InvalidArgumentError: It may not.
    """
    if not _WORD.fullmatch(word):
        raise InvalidArgumentError(
            f"{word[:80]!r} cannot be the name of a {what}",
            hint="a name has letters, digits, '.', '_' and '-', at most 64 of them,"
            " and begins with a letter or a digit",
        )
    return word


def slug(text: str) -> str:
    """Return ``text`` made into a word that ``check_word`` takes."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", text, flags=re.ASCII).strip("-._")[:64].rstrip("-._")
    return word or "files"


def digest_line(digest: bytes, file_name: str) -> bytes:
    """Return the line of a ``.sha256`` file, as ``sha256sum -c`` takes it."""
    return f"{digest.hex()}  {file_name}\n".encode()


def parse_digest_line(line: bytes) -> bytes | None:
    """Return the digest that a ``.sha256`` file tells, or ``None`` where it tells none."""
    found = re.match(rb"([0-9a-f]{64})  [^\n]+\n?\Z", line)
    return bytes.fromhex(found[1].decode("ascii")) if found else None
