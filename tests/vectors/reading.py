"""Reading vectors, and what the first reader makes of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from backup.errors import BackupError
from backup.snapshot.content import fill_holes, read_content
from backup.snapshot.end import Referred
from backup.snapshot.frame import Section
from backup.snapshot.hpke import HpkeIdentity
from backup.snapshot.reader import SnapshotReader, open_snapshot
from backup.snapshot.recipients import FernetKey, Identity, PassphraseIdentity
from backup.snapshot.source import BytesSource

DIRECTORY = Path(__file__).parent
SUCCESS = "success"
IDENTITIES: dict[str, Callable[[str], Identity]] = {
    "key": FernetKey.parse,
    "identity": HpkeIdentity.parse,
    "passphrase": PassphraseIdentity,
}


@dataclass
class Vector:
    """One vector, as its file tells it."""

    name: str
    expect: str
    data: bytes
    identities: list[Identity] = field(default_factory=list)
    trusted: list[bytes] = field(default_factory=list)
    keys_file: bytes | None = None
    also: list[str] = field(default_factory=list)
    content: str = ""
    released: str = ""


@dataclass
class Outcome:
    """What a reader made of a vector: ``success`` or the error's class, and what it released."""

    result: str
    contents: list[bytes]
    message: str = ""

    @property
    def digest(self) -> str:
        return sha256(b"".join(self.contents)).hexdigest()


def vector_names(directory: Path = DIRECTORY) -> list[str]:
    """Return the names of all vectors."""
    return sorted(path.stem for path in directory.glob("*.vector"))


def read_vector(name: str, directory: Path = DIRECTORY) -> Vector:
    """Return the vector ``name``."""
    head, _, data = (directory / f"{name}.vector").read_bytes().partition(b"\n\n")
    fields = [line.split(": ", 1) for line in head.decode().splitlines()]
    vector = Vector(name, dict(fields)["expect"], data)
    for key, value in fields:
        if key in IDENTITIES:
            vector.identities.append(IDENTITIES[key](value))
        elif key == "trusted":
            vector.trusted.append(bytes.fromhex(value))
        elif key == "keys-file":
            vector.keys_file = base64.b64decode(value)
        elif key == "also":
            vector.also = value.split(", ")
        elif key in {"content", "released"}:
            setattr(vector, key, value)
    return vector


def read(vector: Vector, directory: Path = DIRECTORY) -> Outcome:
    """Read a vector to its last byte with the first reader."""
    contents: list[bytes] = []
    try:
        contents.extend(_read(vector, directory))
    except BackupError as error:
        return Outcome(type(error).__name__, contents, error.message)
    return Outcome(SUCCESS, contents)


def _read(vector: Vector, directory: Path) -> Iterator[bytes]:
    others = {}
    for name in vector.also:
        data = read_vector(name, directory).data
        others[bytes.fromhex(json.loads(data.split(b"\n")[1])["id"])] = BytesSource(data, name)

    def find(referred: Referred) -> BytesSource | None:
        return others.get(referred.id)

    reader = open_snapshot(
        BytesSource(vector.data, vector.name),
        vector.identities,
        keys_file=vector.keys_file,
        trusted=vector.trusted or None,
        find=find,
    )
    yield from read_all(reader)


def read_all(reader: SnapshotReader) -> Iterator[bytes]:
    """Yield all contents, in the order of the index; then read all frames."""
    for entry in list(reader.entries()):
        if entry.type in {"file", "stream"}:
            yield b"".join(fill_holes(entry, read_content(reader, entry)))
    for number, row in enumerate(reader.rows):
        if row.section is not Section.ABSENT:
            reader.piece(row.section, number)
    reader.check_archive_end()
