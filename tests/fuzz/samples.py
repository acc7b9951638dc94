"""Whole snapshots, wrong in one thing, and authentic all the same.

What is changed is changed before it is sealed, signed and named by digests, so that the reader gets
to it: a forger with all keys could do no better.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from backup.snapshot.hpke import HpkeIdentity
from backup.snapshot.recipients import FernetKey
from tests.fuzz.choices import Choices, one_of
from tests.fuzz.mutation import (
    Mutate,
    mutate_body,
    mutate_bytes,
    mutate_json,
    mutate_line,
    mutate_lines,
)
from tests.vectors.forge import ARCHIVE, CHUNKS, END, HPKE, INDEX, KEY, TIME, Forge, to_json
from tests.vectors.reading import Vector

PARENT = "parent of a mutated one"
PLACES: dict[str, Mutate] = {
    "core line": mutate_line,
    "slots line": mutate_line,
    "archive": mutate_bytes,
    "segment": mutate_lines,
    "page": mutate_lines,
    "chunk list": mutate_bytes,
    "end": mutate_body,
    "signature": mutate_bytes,
    "footer": mutate_bytes,
    "message": mutate_bytes,
    "piece": mutate_bytes,
    "keys file": mutate_bytes,
    "file": mutate_bytes,
}
NUMBERS = {"message", "piece"}


class Mutated(Forge):
    """A forge that changes the nth thing of one kind on its way."""

    def __init__(self, name: str, kind: str, choices: Choices, **core: object) -> None:
        self._kind, self._choices = kind, choices
        self._left = choices.number(8) if kind in NUMBERS else choices.number(2)
        if kind == "core line":
            line = self._changed(kind, Forge(name, **core).core.line, always=True)
            super().__init__(name, core_line=line, **core)
        else:
            super().__init__(name, **core)

    def _changed(self, kind: str, data: bytes, *, always: bool = False) -> bytes:
        if kind != self._kind:
            return data
        self._left -= 1
        if self._left >= 0 and not always:
            return data
        self._kind = ""
        for _ in range(1 + self._choices.number(2) // 2):
            data = PLACES[kind](self._choices, data)
        return data

    def _slots(self, slots: list[dict[str, object]]) -> bytes:
        if self.slots_line is None:
            self.slots_line = self._changed("slots line", super()._slots(slots)[:-1], always=True)
        return super()._slots(slots)

    def compress(self, section: int, plain: bytes) -> bytes:
        return self._changed("piece", super().compress(section, plain))

    def message(self, section: int, number: int, piece: bytes, **changes: object) -> bytes:
        return self._changed("message", super().message(section, number, piece, **changes))

    def add(self, section: int, plain: bytes, **changes: object) -> int:
        if section == ARCHIVE:
            plain = self._changed("archive", plain)
        return super().add(section, plain, **changes)

    def add_index(
        self, data: bytes, entries: int, first: dict[str, object], **changes: object
    ) -> dict[str, object]:
        kind = "page" if data.startswith(b'{"kind":"page"') else "segment"
        return super().add_index(self._changed(kind, data), entries, first, **changes)

    def add_chunk_bytes(self, data: bytes, rows: int) -> list[object]:
        return super().add_chunk_bytes(self._changed("chunk list", data), rows)

    def body(self, rows: Any = None, **changes: object) -> bytes:
        return self._changed("end", super().body(rows, **changes), always=True)

    def sign(self, body: bytes) -> bytes:
        return self._changed("signature", super().sign(body), always=True)

    def footer(self, offset: int | None = None) -> bytes:
        return self._changed("footer", super().footer(offset), always=True)

    def make_keys_file(
        self, slots: list[dict[str, object]] | None = None, generation: bytes = b"1"
    ) -> bytes:
        return self._changed("keys file", super().make_keys_file(slots, generation), always=True)

    def data(self) -> bytes:
        return self._changed("file", super().data(), always=True)


def _plain(forge: Forge, choices: Choices) -> None:
    forge.sample_files()
    forge.entries[1:] = _fields_changed(forge, choices)
    forge.add_whole_index()


def _fields_changed(forge: Forge, choices: Choices) -> list[dict[str, object]]:
    """Give the entries fields that they seldom have, right ones or wrong ones."""
    more: dict[str, object] = {
        "uid": 1000,
        "user": "ann",
        "ctime": TIME * 10**9,
        "ino": 17,
        "links": 2,
        "fs": 0,
        "racy": True,
        "error": "changed while it was read",
        "xattrs": [["dXNlci5h", "Yg=="]],
        "dev": [1, 3],
        "unknown": {"x": [1, "y", None]},
    }
    changed = []
    for entry in forge.entries[1:]:
        name = one_of(choices, sorted(more))
        changed.append(entry | {name: more[name]} if choices.number(1) else entry)
    return changed


def _special(forge: Forge, choices: Choices) -> None:
    forge.entries += [
        {"t": "fifo", "p": "dev/fifo", "mode": 0o600},
        {"t": "link", "p": "dev/link", "to": "null"},
        {"t": "link", "p": "dev/link2", "tob": base64.b64encode(b"\xff").decode()},
        {"t": "char", "p": "dev/null", "dev": [1, 3]},
        {"t": "block", "p": "dev/sda", "dev": [8, 0]},
    ]
    forge.add_file(b"dev/\xff", forge.random(40))
    forge.add_file("stream", forge.random(40))
    forge.entries[-1]["t"] = "stream"
    forge.end_archive()
    forge.add_whole_index()
    forge.end_fields |= {
        "filesystems": [{"type": "ext4", "id": "1234"}],
        "program": "forge",
        "tags": ["a"],
        "rules": {"exclude": ["*.o"], "larger_than": 5},
        "sources": [{"p": "dev", "exclude": ["*.log", "!a.log"]}, {"pb": "/w==", "exclude": []}],
    }


def _chunks(forge: Forge, choices: Choices) -> None:
    rows = forge.sample_chunked()
    lists = [forge.add_chunk_list(rows[:2]), forge.add_chunk_list(rows[2:])]
    forge.chunked_entry("docs/big", rows, lists)
    forge.add_whole_index()


def _pages(forge: Forge, choices: Choices) -> None:
    forge.sample_files()
    segments = [forge.add_segment([entry]) for entry in forge.entries]
    forge.end_fields["pages"] = [forge.add_page(segments[:2]), forge.add_page(segments[2:])]


def _refers(forge: Forge, choices: Choices) -> None:
    parent = parent_of_all()
    record: dict[str, object] = {"id": parent.core.id.hex(), "core": parent.core.digest.hex()}
    if choices.number(1):
        record["key"] = base64.b64encode(parent.data_key).decode()
    forge.end_fields |= {"kind": "incremental", "snapshots": [record]}
    forge.ids.append(parent.core.id.hex())
    taken = dict(parent.entries[1])
    taken["ext"] = [[1, *rest] for _, *rest in taken["ext"]]  # type: ignore[attr-defined]
    forge.entries.append(taken)
    forge.add_file("docs/b", forge.random(40))
    forge.end_archive()
    forge.add_whole_index()


def parent_of_all() -> Forge:
    """Return the snapshot that the referring sample refers to."""
    return Forge(PARENT).sample()


def _recipients(forge: Forge, choices: Choices) -> None:
    forge.slots = [forge.hpke_slot(), forge.fernet_slot(), {"type": "new", "id": 7}]
    forge.keys_file = forge.make_keys_file()
    _plain(forge, choices)


SAMPLES: tuple[Callable[[Forge, Choices], None], ...] = (
    *(_plain, _special, _chunks, _pages, _refers, _recipients),
)
ARCHIVES = ("tar.gz", "tar.zst", "tar.xz", "tar.bz2", "tar")


def mutated_snapshot(choices: Choices) -> Vector:
    """Return a snapshot with one thing wrong, or a few, as a vector without an expectation."""
    kind = one_of(choices, sorted(PLACES))
    make = one_of(choices, SAMPLES)
    if kind == "keys file":
        make = _recipients
    elif kind == "chunk list":
        make = _chunks
    forge = Mutated("mutated", kind, choices, archive=one_of(choices, ARCHIVES))
    make(forge, choices)
    if choices.number(3) == 0:
        _change_values(forge, choices)
    data = forge.data()
    identities = [FernetKey(KEY), HpkeIdentity(HPKE.secret)]
    return Vector(kind, "", data, list(identities), keys_file=forge.keys_file, also=[PARENT])


def _change_values(forge: Forge, choices: Choices) -> None:
    """Change a field of the end; digests and signature are made later."""
    changed = mutate_json(choices, dict(forge.end_fields))
    with suppress(UnicodeEncodeError):  # a forge writes no lone surrogates; mutate_line does
        forge.end_fields |= changed if isinstance(changed, dict) and to_json(changed) else {}


SECTIONS = (ARCHIVE, INDEX, CHUNKS, END)
