"""The header of a snapshot, and the ``.enc.keys`` file that may take its place.

Digests are over exact bytes: a core line is parsed, never written again.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec

from backup.errors import HeaderError, MalformedError, UnknownSuiteError, UnknownVersionError
from backup.model import ArchiveType
from backup.snapshot.derive import HEADER_MAC, derive_key

PREAMBLE = b"auto-backup snapshot 1\n"
PREAMBLE_START = b"auto-backup snapshot "
KEYS_PREAMBLE = b"auto-backup keys 1\n"
SUITE = "fernet-1"
MAC_BYTES = 32
CORE_CAP = 4096
SLOTS_CAP = 65536
HEADER_CAP = len(PREAMBLE) + CORE_CAP + SLOTS_CAP + 2 + MAC_BYTES
MOST_SLOTS = 32
_KNOWN_SLOTS = frozenset({"fernet", "passphrase", "hpke"})
FRAME_CAP = 8 * 1024 * 1024
LARGEST_FRAME_CAP = 64 * 1024 * 1024
SMALLEST_FRAME_CAP = 4096

_HEX_ID = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")]
_HEX_DIGEST = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Suite(msgspec.Struct):
    suite: str


class _SlotType(msgspec.Struct):
    type: str


class _CoreLine(msgspec.Struct, kw_only=True):
    suite: str
    id: _HEX_ID
    chain: _HEX_ID
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    time: _Count
    archive: str
    cap: _Count
    previous: _HEX_DIGEST | None


class Slot(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The data key of a snapshot, wrapped for one recipient.

    ``wrapped`` is text: a Fernet token (types ``fernet`` and ``passphrase``) or base64 (``hpke``).
    """

    type: str
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}\\Z")]
    wrapped: Annotated[str, msgspec.Meta(max_length=8192)]
    salt: str = ""
    memory: int = 0
    time: int = 0
    lanes: int = 0


@dataclass(frozen=True)
class Core:
    """What never changes of a snapshot, and stands in clear.

    ``line`` holds the exact bytes; ``digest`` is their SHA-256, by which others record this
    snapshot. ``time`` counts seconds since 1970, ``cap`` bytes of one message.
    """

    line: bytes
    id: bytes
    chain: bytes
    sequence: int
    time: int
    archive: ArchiveType
    cap: int
    previous: bytes | None

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the core line, without its newline."""
        return sha256(self.line).digest()


@dataclass(frozen=True)
class Header:
    """A header that has been parsed, and not authenticated yet."""

    core: Core
    slots: tuple[Slot, ...]
    signed_bytes: bytes
    mac: bytes
    generation: int | None = None

    @property
    def length(self) -> int:
        """How many bytes of the file it takes."""
        return len(self.signed_bytes) + MAC_BYTES


def make_core(
    *,
    snapshot_id: bytes,
    chain: bytes,
    sequence: int,
    time: int,
    archive: ArchiveType,
    previous: bytes | None,
    cap: int = FRAME_CAP,
) -> Core:
    """Return the core of a new snapshot."""
    line = msgspec.json.encode(
        _CoreLine(
            suite=SUITE,
            id=snapshot_id.hex(),
            chain=chain.hex(),
            seq=sequence,
            time=time,
            archive=str(archive),
            cap=cap,
            previous=None if previous is None else previous.hex(),
        )
    )
    return parse_core(line)


def parse_core(line: bytes) -> Core:
    """Return the core that ``line`` tells.

    Raises:
        HeaderError: The line is not a core line.
        UnknownSuiteError: The suite or the archive type is not known here.
    """
    if len(line) > CORE_CAP:
        raise HeaderError(f"the core line is longer than {CORE_CAP} bytes")
    try:
        line.decode()  # fields that are not known here are passed over without a look
        suite = msgspec.json.decode(line, type=_Suite).suite
        # Another suite may have other fields: it is refused by its name before they are looked at.
        core = msgspec.json.decode(line, type=_CoreLine) if suite == SUITE else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError("the core line cannot be read") from error
    if core is None:
        raise UnknownSuiteError(
            f"the snapshot uses the cipher suite {suite[:40]!r}, which is not known here",
            hint="a newer auto-backup may know it",
        )
    if core.archive not in set(ArchiveType):
        raise UnknownSuiteError(f"the archive type {core.archive[:40]!r} is not known here")
    if not SMALLEST_FRAME_CAP <= core.cap <= LARGEST_FRAME_CAP:
        raise HeaderError(f"a frame cap of {core.cap} bytes is not allowed")
    return Core(
        line=bytes(line),
        id=bytes.fromhex(core.id),
        chain=bytes.fromhex(core.chain),
        sequence=core.seq,
        time=core.time,
        archive=ArchiveType(core.archive),
        cap=core.cap,
        previous=None if core.previous is None else bytes.fromhex(core.previous),
    )


def _parse_slots(line: bytes) -> tuple[Slot, ...]:
    try:
        line.decode()
        slots = tuple(map(_slot, msgspec.json.decode(line, type=tuple[msgspec.Raw, ...])))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError("the slots line cannot be read") from error
    if not 1 <= len(slots) <= MOST_SLOTS:
        raise HeaderError(f"a snapshot has 1 to {MOST_SLOTS} slots, this one {len(slots)}")
    return slots


def _slot(line: msgspec.Raw) -> Slot:
    """Return the slot of ``line``; of types that are not known here, only its type counts."""
    kind = msgspec.json.decode(line, type=_SlotType).type
    try:
        return msgspec.json.decode(line, type=Slot)
    except msgspec.ValidationError:
        if kind in _KNOWN_SLOTS:
            raise
        return Slot(type=kind, id="", wrapped="")


def encode_header(core: Core, slots: tuple[Slot, ...], data_key: bytes) -> bytes:
    """Return the header's bytes, mac included."""
    return _with_mac(PREAMBLE + core.line + b"\n" + _slots_line(slots), core, data_key)


def encode_keys_file(
    core: Core, slots: tuple[Slot, ...], data_key: bytes, generation: int
) -> bytes:
    """Return the bytes of a ``.enc.keys`` file."""
    lines = KEYS_PREAMBLE + core.line + b"\n" + _slots_line(slots) + b"%d\n" % generation
    return _with_mac(lines, core, data_key)


def _slots_line(slots: tuple[Slot, ...]) -> bytes:
    line = msgspec.json.encode(slots)
    if not 1 <= len(slots) <= MOST_SLOTS or len(line) > SLOTS_CAP:
        raise MalformedError(f"a snapshot takes 1 to {MOST_SLOTS} recipients, not {len(slots)}")
    return line + b"\n"


def _with_mac(content: bytes, core: Core, data_key: bytes) -> bytes:
    return content + hmac.digest(_mac_key(core, data_key), content, "sha256")


def _mac_key(core: Core, data_key: bytes) -> bytes:
    return derive_key(data_key, core.digest, HEADER_MAC)


def is_header_start(data: bytes) -> bool:
    """Tell whether ``data`` begins as a snapshot of any version does."""
    return data[: len(PREAMBLE_START)] == PREAMBLE_START


def parse_header(data: bytes) -> Header:
    """Return the header at the start of ``data``; its mac has yet to be checked.

    Args:
        data: The first ``HEADER_CAP`` bytes of the file, or all of a shorter one.

    Raises:
        UnknownVersionError: The file has another format version.
        HeaderError: The header is damaged.
    """
    if is_header_start(data) and not data.startswith(PREAMBLE):
        version = data[len(PREAMBLE_START) :].split(b"\n", 1)[0][:20].decode("ascii", "replace")
        raise UnknownVersionError(
            f"the snapshot has format version {version!r}; this reader knows 1",
            hint="a newer auto-backup may know it",
        )
    if not data.startswith(PREAMBLE):
        raise HeaderError("the first line of the snapshot is damaged")
    core, slots_line, at = _two_lines(data, len(PREAMBLE))
    return _header(data, core, slots_line, at, None)


def parse_keys_file(data: bytes) -> Header:
    """Return the header that a ``.enc.keys`` file holds; its mac has yet to be checked.

    Raises:
        HeaderError: The file is damaged.
    """
    if not data.startswith(KEYS_PREAMBLE):
        raise HeaderError("the keys file does not begin as one")
    core, slots_line, at = _two_lines(data, len(KEYS_PREAMBLE))
    end = data.find(b"\n", at, at + 20)
    digits = data[at:end]
    if end < 0 or not digits.isdigit() or (digits[:1] == b"0" and digits != b"0"):
        raise HeaderError("the keys file tells no generation")
    header = _header(data, core, slots_line, end + 1, int(digits))
    if header.length != len(data):
        raise HeaderError("the keys file has bytes after its end")
    return header


def _two_lines(data: bytes, start: int) -> tuple[bytes, bytes, int]:
    core_end = data.find(b"\n", start, start + CORE_CAP + 1)
    slots_end = data.find(b"\n", core_end + 1, core_end + SLOTS_CAP + 2)
    if core_end < 0 or slots_end < 0:
        raise HeaderError("the header has no end")
    return data[start:core_end], data[core_end + 1 : slots_end], slots_end + 1


def _header(data: bytes, core: bytes, slots: bytes, at: int, generation: int | None) -> Header:
    mac = data[at : at + MAC_BYTES]
    if len(mac) != MAC_BYTES:
        raise HeaderError("the header ends too early")
    return Header(parse_core(core), _parse_slots(slots), data[:at], mac, generation)


def check_header(header: Header, data_key: bytes) -> None:
    """Raise ``HeaderError`` unless the header's mac fits ``data_key``."""
    key = _mac_key(header.core, data_key)
    expected = hmac.digest(key, header.signed_bytes, "sha256")
    if not hmac.compare_digest(expected, header.mac):
        raise HeaderError("the header is damaged or was changed: its mac does not fit")
