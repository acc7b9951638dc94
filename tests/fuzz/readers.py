"""Two readers that share no code, and what they make of the same file."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

from backup import recover as _recover
from backup.errors import BackupError
from backup.snapshot.content import read_content
from backup.snapshot.end import Referred
from backup.snapshot.frame import Section
from backup.snapshot.hpke import HpkeIdentity
from backup.snapshot.reader import SnapshotReader, open_snapshot
from backup.snapshot.recipients import FernetKey, Identity, PassphraseIdentity
from backup.snapshot.source import BytesSource
from tests.vectors.reading import SUCCESS, Outcome, Vector

MOST_CONTENT = 16 * 1024 * 1024
"""A few extents may name the same bytes again and again; no test has to read them all."""


recover: Any = _recover
twice: list[str] = []
"""Fields that came twice in one object: FORMAT.md leaves open whether that is refused."""
_parse = recover.parse


def _watched_parse(line: bytes) -> Any:
    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in set(names) if names.count(name) > 1)
        return dict(pairs)

    with suppress(ValueError, RecursionError):
        json.loads(line.decode(), object_pairs_hook=note)
    return _parse(line)


recover.parse = _watched_parse


def read_first(vector: Vector, others: dict[bytes, bytes]) -> Outcome:
    """Return what the package makes of ``vector``; only its own errors are caught."""
    contents: list[bytes] = []

    def find(referred: Referred) -> BytesSource | None:
        return BytesSource(others[referred.id]) if referred.id in others else None

    try:
        reader = open_snapshot(
            BytesSource(vector.data, vector.name),
            vector.identities,
            keys_file=vector.keys_file,
            trusted=vector.trusted or None,
            find=find,
        )
        contents.extend(_read_all(reader))
    except BackupError as error:
        return Outcome(type(error).__name__, contents, error.message)
    return Outcome(SUCCESS, contents)


def _read_all(reader: SnapshotReader) -> Iterator[bytes]:
    entries = list(reader.entries())
    for entry in entries:
        if entry.type in {"file", "stream"} and sum(e.length for e in entry.extents) < MOST_CONTENT:
            yield b"".join(read_content(reader, entry))
    for number, row in enumerate(reader.rows):
        if row.section is not Section.ABSENT:
            reader.piece(row.section, number)
    reader.check_archive_end()


def read_second(vector: Vector, others: dict[bytes, bytes]) -> Outcome:
    """Return what ``recover.py`` makes of ``vector``; only its own errors are caught."""
    directory = Path(tempfile.mkdtemp(prefix="auto-backup-fuzz-"))
    try:
        path = directory / "x.enc"
        path.write_bytes(vector.data)
        for number, data in enumerate(others.values()):
            (directory / f"other-{number}.enc").write_bytes(data)
        if vector.keys_file is not None:
            (directory / "x.enc.keys").write_bytes(vector.keys_file)
        with redirect_stderr(io.StringIO()):
            return _recovered(path, vector)
    finally:
        shutil.rmtree(directory)


def _recovered(path: Path, vector: Vector) -> Outcome:
    twice.clear()
    recover.faults.clear()
    recover.catalogue.cache_clear()
    recover.content_of.cache_clear()
    signers = {one.hex() for one in vector.trusted}
    keys, folders = _secrets(vector.identities), (str(path.parent),)
    ring = argparse.Namespace(keys=keys, signers=signers, folders=folders)
    contents: list[bytes] = []
    try:
        snapshot = recover.Snapshot(str(path), ring)
        entries = list(snapshot.entries())
        for entry in () if recover.faults else entries:
            small = sum(row[3] for row in entry["ext"]) < MOST_CONTENT
            if entry["t"] in ("file", "stream") and small:
                contents.append(b"".join(snapshot.content(entry)))
        if not recover.faults:
            recover.check(snapshot)
    except recover.RecoverError as error:
        return Outcome(type(error).__name__, contents, str(error))
    if recover.faults:
        return Outcome(type(recover.faults[0]).__name__, contents, str(recover.faults[0]))
    return Outcome(SUCCESS, contents)


def _secrets(identities: Sequence[Identity]) -> list[tuple[str, bytes]]:
    secrets = []
    for one in identities:
        match one:
            case FernetKey():
                secrets.append(("fernet", one.secret))
            case HpkeIdentity():
                secrets.append(("hpke", one.secret))
            case PassphraseIdentity():
                secrets.append(("passphrase", one.passphrase.encode()))
    return secrets
