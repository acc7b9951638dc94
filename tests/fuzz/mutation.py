"""Making valid things wrong: bytes, lengths, and the shapes of JSON."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from tests.fuzz.choices import Choices, one_of

NUMBERS = (0, 1, 2, 255, 4096, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64, -1)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0.5, 1.0, -0.0, 10**30, -(2**63), -(2**63) - 1),
    *("", "a", ".", "..", "/", "a/b", "\0", "é", "\ud800", "n" * 256, "full", "file", "link"),
    *("00" * 16, "00" * 32, "FF" * 32, "0" * 63, "=", "AA==", "/w==", "QQ==", "/x==", "null"),
    *([], {}, [[]], [0], [0, 0], [[0, 0, 0, 0]], [[0, 0, "00" * 32, 1]], {"p": "a"}),
)
TEXTS = (
    *(b" ", b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80"),
    *(b"NaN", b"Infinity", b"1.0", b"1e2", b"1e999", b"-0", b"01", b"0x1", b"null", b"//", b","),
    *(b'"\\ud800"', b'"\\u0000"', b'"p":"z",', b"[" * 9, b"{}", b"9" * 5000, b'"', b"\\"),
)


def mutate_bytes(choices: Choices, data: bytes) -> bytes:
    """Return ``data`` with one thing done to its bytes."""
    return one_of(choices, BYTE_CHANGES)(choices, data)


def _place(choices: Choices, data: bytes) -> int:
    return choices.number(len(data))


def _flip(choices: Choices, data: bytes) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    changed[choices.number(len(data) - 1)] ^= 1 << choices.number(7)
    return bytes(changed)


def _overwrite(choices: Choices, data: bytes) -> bytes:
    at, new = _place(choices, data), choices.raw(16)
    return data[:at] + new + data[at + len(new) :]


def _insert(choices: Choices, data: bytes) -> bytes:
    at = _place(choices, data)
    return data[:at] + choices.raw(16) + data[at:]


def _insert_text(choices: Choices, data: bytes) -> bytes:
    at = _place(choices, data)
    return data[:at] + one_of(choices, TEXTS) + data[at:]


def _cut(choices: Choices, data: bytes) -> bytes:
    return data[: _place(choices, data)]


def _remove(choices: Choices, data: bytes) -> bytes:
    at = _place(choices, data)
    return data[:at] + data[at + 1 + choices.number(64) :]


def _repeat(choices: Choices, data: bytes) -> bytes:
    at = _place(choices, data)
    part = data[at : at + 1 + choices.number(200)]
    return data[:at] + part * (1 + choices.number(3)) + data[at:]


def _move(choices: Choices, data: bytes) -> bytes:
    at, to, length = _place(choices, data), _place(choices, data), 1 + choices.number(100)
    part, rest = data[at : at + length], data[:at] + data[at + length :]
    return rest[:to] + part + rest[to:]


def _number(choices: Choices, data: bytes) -> bytes:
    """Write a telling number over what may be a length, a count or an offset."""
    width = one_of(choices, [">B", ">H", ">I", ">Q"])
    number = one_of(choices, NUMBERS) % 2 ** (8 * struct.calcsize(width))
    at = _place(choices, data)
    return data[:at] + struct.pack(width, number) + data[at + struct.calcsize(width) :]


BYTE_CHANGES: tuple[Callable[[Choices, bytes], bytes], ...] = (
    *(_flip, _overwrite, _insert, _insert_text, _cut, _remove, _repeat, _move, _number),
)


def mutate_json(choices: Choices, value: Any) -> Any:
    """Return ``value``, which JSON can tell, with one thing done to it somewhere inside."""
    if isinstance(value, dict) and value and choices.number(3):
        key = one_of(choices, sorted(value))
        return {name: mutate_json(choices, v) if name == key else v for name, v in value.items()}
    if isinstance(value, list) and value and choices.number(3):
        at = choices.number(len(value) - 1)
        return [*value[:at], mutate_json(choices, value[at]), *value[at + 1 :]]
    return _other_value(choices, value)


def _other_value(choices: Choices, value: Any) -> Any:
    if isinstance(value, dict) and choices.number(3):
        return _other_fields(choices, value)
    if isinstance(value, list) and choices.number(3):
        return _other_items(choices, value)
    if isinstance(value, bool) or choices.number(2) == 0:
        return one_of(choices, VALUES)
    if isinstance(value, int):
        return one_of(choices, (value + 1, value - 1, -value, float(value), *NUMBERS))
    if isinstance(value, str):
        return _other_text(choices, value)
    return one_of(choices, VALUES)


def _other_fields(choices: Choices, value: dict[str, Any]) -> dict[str, Any]:
    names = sorted(value)
    if not names or choices.number(2) == 0:
        new = ("p", "pb", "to", "tob", "dev", "ext", "chunks", "data", "error", "key", "unknown")
        return {**value, one_of(choices, new): one_of(choices, VALUES)}
    name = one_of(choices, names)
    rest = {key: one for key, one in value.items() if key != name}
    return rest if choices.number(1) else rest | {one_of(choices, names): value[name]}


def _other_items(choices: Choices, value: list[Any]) -> list[Any]:
    if not value or choices.number(3) == 0:
        return [*value, one_of(choices, VALUES)]
    at, to = choices.number(len(value) - 1), choices.number(len(value))
    rest = value[:at] + value[at + 1 :]
    return one_of(choices, (rest, [*value, value[at]], [*rest[:to], value[at], *rest[to:]]))


def _other_text(choices: Choices, value: str) -> str:
    changed = mutate_bytes(choices, value.encode("utf-8", "surrogatepass"))
    return one_of(choices, (changed.decode("utf-8", "replace"), value.upper(), value + "\n"))


def mutate_line(choices: Choices, line: bytes) -> bytes:
    """Return a line of JSON, changed in what it says or in how it is written."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return mutate_bytes(choices, line)
    if choices.number(4) == 0:
        return mutate_bytes(choices, line)
    changed = mutate_json(choices, value)
    try:
        return json.dumps(changed, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(changed, separators=(",", ":")).encode()


def mutate_lines(choices: Choices, data: bytes) -> bytes:
    """Return lines of which one has been changed, moved, repeated or taken away."""
    lines = data.split(b"\n")
    at, to = choices.number(len(lines) - 1), choices.number(len(lines) - 1)
    match choices.number(9):
        case 0:
            return mutate_bytes(choices, data)
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines.insert(to, lines.pop(at))
        case 3:
            del lines[at]
        case _:
            lines[at] = mutate_line(choices, lines[at])
    return b"\n".join(lines)


def mutate_body(choices: Choices, data: bytes) -> bytes:
    """Return a line of JSON with what stands behind it in binary, one of them changed."""
    line, newline, rest = data.partition(b"\n")
    if choices.number(3):
        return mutate_line(choices, line) + newline + rest
    return line + newline + mutate_bytes(choices, rest)


Mutate = Callable[[Choices, bytes], bytes]
