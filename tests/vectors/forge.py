"""A forge of snapshots: every byte can be chosen, and all of it be authentic all the same.

It takes the primitives of ``backup.snapshot`` (tokens, derived keys, signatures), and none of its
writer, which would refuse to write what is wrong.
"""

from __future__ import annotations

import base64
import hmac
import io
import json
import struct
import tarfile
from dataclasses import dataclass
from hashlib import sha256

import msgspec
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from backup.model import ArchiveType
from backup.snapshot.compression import compress, metadata_archive
from backup.snapshot.derive import FRAMES, HEADER_MAC, SLOT, derive_key, public_id
from backup.snapshot.hpke import HpkeIdentity
from backup.snapshot.signing import HostKey
from backup.snapshot.token import TokenKey, seal_token, token_tag

ARCHIVE, INDEX, CHUNKS, END = 1, 2, 3, 4
PREAMBLE = b"auto-backup snapshot 1\n"
KEYS_PREAMBLE = b"auto-backup keys 1\n"
CHUNKS_MAGIC = b"auto-backup chunks 1\n"
FOOTER = struct.Struct(">Q16s")
FOOTER_MAGIC = b"auto-backup end\n"
LENGTH = struct.Struct(">I")
PLACE = struct.Struct(">B16sII")
ROW = struct.Struct(">BQII32s")
CHUNK_ROW = struct.Struct(">32sHIII")
NO_ROW = (0, 0, 0, 0, bytes(32))
LEVELS = {"tar.xz": 6, "tar.zst": 3, "tar.gz": 6, "tar.bz2": 9, "tar": 0}
TIME = 1_700_000_000
COST = {"memory": 64, "time": 1, "lanes": 1}
PASSPHRASE = "correct horse battery staple"


def seeded(seed: str, length: int) -> bytes:
    """Return ``length`` bytes that look random and are always the same for ``seed``."""
    blocks = (sha256(f"{seed}/{n}".encode()).digest() for n in range(length // 32 + 1))
    return b"".join(blocks)[:length]


KEY = seeded("key", 32)
OTHER_KEY = seeded("other key", 32)
HOST = HostKey(seeded("host", 32))
OTHER_HOST = HostKey(seeded("other host", 32))
HPKE = HpkeIdentity(seeded("hpke", 96))
OTHER_HPKE = HpkeIdentity(seeded("other hpke", 96))


def key_line(secret: bytes) -> str:
    """Return the line of a vector that gives the reader a Fernet key."""
    return f"key: {base64.urlsafe_b64encode(secret).decode()}"


def to_json(value: object) -> bytes:
    """Return ``value`` as one line of JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def flip(data: bytes, at: int, bit: int = 0) -> bytes:
    """Return ``data`` with one bit of byte ``at`` flipped; ``at`` may count from the end."""
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def framed(token: bytes) -> bytes:
    """Return a frame as it lies in the file."""
    return LENGTH.pack(len(token)) + token


@dataclass(frozen=True)
class Core:
    """What is in clear at the start of a snapshot; ``line`` may be anything."""

    line: bytes
    id: bytes
    time: int
    archive: ArchiveType
    cap: int

    @property
    def digest(self) -> bytes:
        return sha256(self.line).digest()


@dataclass(frozen=True)
class Frame:
    """A frame in the file, and its row; one without a token has been taken away."""

    token: bytes = b""
    section: int = 0
    plain: int = 0

    def row(self, offset: int) -> tuple[int, int, int, int, bytes]:
        if not self.token:
            return NO_ROW
        return (self.section, offset, len(self.token), self.plain, token_tag(self.token))


class Forge:
    """One snapshot in the making, and what its vector says of it.

    Args:
        name: The vector's name: all that looks random in the snapshot comes of it.
        core_line: Stands for the core line, whatever it is.
        core: Fields of the core line that shall not be as usual; ``None`` leaves one out.
    """

    def __init__(self, name: str, *, core_line: bytes | None = None, **core: object) -> None:
        self.name = name
        self._drawn = 0
        self.data_key = self.random(32)
        fields = {
            "suite": "fernet-1",
            "id": self.random(16).hex(),
            "chain": seeded("chain", 16).hex(),
            "seq": 1,
            "time": TIME,
            "archive": "tar.gz",
            "cap": 4096,
            "previous": None,
        }
        fields |= core
        line = to_json({key: value for key, value in fields.items() if value != "left out"})
        known = {*ArchiveType}
        archive = fields["archive"] if fields["archive"] in known else "tar.gz"
        self.core = Core(
            line=line if core_line is None else core_line,
            id=bytes.fromhex(str(fields["id"])[:32]),
            time=fields["time"] if isinstance(fields["time"], int) else TIME,
            archive=ArchiveType(archive),
            cap=fields["cap"] if isinstance(fields["cap"], int) else 4096,
        )
        self.host = HOST
        self.slots: list[dict[str, object]] = [self.fernet_slot()]
        self.slots_line: bytes | None = None
        self.frames: list[Frame] = []
        self.ids = [self.core.id.hex()]
        self.entries: list[dict[str, object]] = []
        self.end_fields: dict[str, object] = {}
        self.end: list[bytes] | None = None
        # What the vector tells beside the file.
        self.identities = [key_line(KEY)]
        self.trusted: list[bytes] = []
        self.keys_file: bytes | None = None
        self.also: list[str] = []
        self.contents: list[bytes] = []
        self.released = 0

    def random(self, length: int) -> bytes:
        """Return bytes that look random and are the same each time the vector is made."""
        self._drawn += 1
        return seeded(f"{self.name}/{self._drawn}", length)

    # Header

    def wrap(self, secret: bytes, wrapped: bytes | None = None) -> str:
        """Return a data key as a Fernet token's text under ``secret``."""
        key = TokenKey.from_bytes(derive_key(secret, self.core.digest, SLOT))
        plain = self.data_key if wrapped is None else wrapped
        token = seal_token(key, self.core.time % 2**63, plain, iv=self.random(16))
        return base64.urlsafe_b64encode(token).decode()

    def fernet_slot(self, secret: bytes = KEY, wrapped: bytes | None = None) -> dict[str, object]:
        """Return a slot for a plain Fernet key."""
        name = public_id(b"fernet" + secret)
        return {"type": "fernet", "id": name, "wrapped": self.wrap(secret, wrapped)}

    def passphrase_slot(self, passphrase: str = PASSPHRASE, **changes: object) -> dict[str, object]:
        """Return a slot for a passphrase, cheap to try; ``changes`` are told and not computed."""
        salt = self.random(16)
        derive = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=64)
        slot = {
            "type": "passphrase",
            "id": public_id(b"passphrase" + salt),
            "wrapped": self.wrap(derive.derive(passphrase.encode())),
            "salt": base64.b64encode(salt).decode(),
        }
        return slot | COST | changes

    def hpke_slot(self, identity: HpkeIdentity = HPKE) -> dict[str, object]:
        """Return a slot for a public key; the one thing that differs each time."""
        slot = identity.recipient().wrap(self.data_key, self.core)  # type: ignore[arg-type]
        return {key: value for key, value in msgspec.to_builtins(slot).items() if value}

    def header(self, preamble: bytes = PREAMBLE) -> bytes:
        """Return the header, with a mac that fits whatever it says."""
        return self._with_mac(preamble + self.core.line + b"\n" + self._slots(self.slots))

    def make_keys_file(
        self, slots: list[dict[str, object]] | None = None, generation: bytes = b"1"
    ) -> bytes:
        """Return a keys file of this snapshot."""
        line = self._slots(self.slots if slots is None else slots)
        return self._with_mac(KEYS_PREAMBLE + self.core.line + b"\n" + line + generation + b"\n")

    def _slots(self, slots: list[dict[str, object]]) -> bytes:
        return (to_json(slots) if self.slots_line is None else self.slots_line) + b"\n"

    def _with_mac(self, content: bytes) -> bytes:
        key = derive_key(self.data_key, self.core.digest, HEADER_MAC)
        return content + hmac.digest(key, content, "sha256")

    # Frames

    def compress(self, section: int, plain: bytes) -> bytes:
        """Return the piece that holds ``plain``."""
        archive = self.core.archive if section == ARCHIVE else metadata_archive(self.core.archive)
        return compress(archive, LEVELS[archive], plain)

    def message(self, section: int, number: int, piece: bytes, **changes: object) -> bytes:
        """Return a message: ``changes`` are ``snapshot``, ``length``, ``padding``."""
        snapshot = changes.get("snapshot", self.core.id)
        length = changes.get("length", len(piece))
        padding = changes.get("padding", b"")
        return PLACE.pack(section, snapshot, number, length) + piece + padding

    def seal(self, message: bytes, *, time: int | None = None) -> bytes:
        """Return a token of this snapshot that holds ``message``, whatever it is."""
        key = TokenKey.from_bytes(derive_key(self.data_key, self.core.digest, FRAMES))
        at = self.core.time if time is None else time
        return bytes(seal_token(key, at % 2**63, message, iv=self.random(16)))

    def frame(
        self,
        section: int,
        plain: bytes,
        *,
        number: int | None = None,
        piece: bytes | None = None,
        held: int | None = None,
        time: int | None = None,
        told: int | None = None,
        **changes: object,
    ) -> Frame:
        """Return a frame.

        Args:
            section: What its row says.
            plain: What its piece holds.
            number: What its message says, where not the next one.
            piece: The piece, where it is not ``plain`` compressed.
            held: What its row says of the length of ``plain``.
            time: The token's time, where not the core's.
            told: The section that its message says, where not that of its row.
            changes: See ``message``.
        """
        number = len(self.frames) if number is None else number
        piece = self.compress(section, plain) if piece is None else piece
        message = self.message(section if told is None else told, number, piece, **changes)
        return Frame(self.seal(message, time=time), section, len(plain) if held is None else held)

    def add(self, section: int, plain: bytes, **changes: object) -> int:
        """Add a frame; return its number."""
        self.frames.append(self.frame(section, plain, **changes))
        return len(self.frames) - 1

    def add_file(self, path: str | bytes, content: bytes, **changes: object) -> dict[str, object]:
        """Add a frame with one file, and its entry; ``changes`` are of the frame."""
        member = self.member(path, content)
        number = self.add(ARCHIVE, member.getvalue(), **changes)
        start = member.tell() - -(-len(content) // 512) * 512
        return self.add_entry(path, content, [[0, number, start, len(content)]])

    def member(self, path: str | bytes, content: bytes) -> io.BytesIO:
        """Return a member of a tar, with the position at its end."""
        name = path if isinstance(path, str) else path.decode("utf-8", "surrogateescape")
        info = tarfile.TarInfo(name)
        info.size = len(content)
        info.mtime = TIME
        member = io.BytesIO()
        member.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        member.write(content + bytes(-len(content) % 512))
        return member

    def add_entry(
        self, path: str | bytes, content: bytes, extents: list[list[int]], **fields: object
    ) -> dict[str, object]:
        """Add the entry of a file whose content lies at ``extents``."""
        entry = named(path) | {
            "t": "file",
            "mode": 0o644,
            "size": len(content),
            "mtime": TIME * 10**9,
            "sha256": sha256(content).hexdigest(),
            "ext": extents,
        }
        self.entries.append(entry | fields)
        self.contents.append(content)
        return self.entries[-1]

    def end_archive(self) -> int:
        """Add the end of the tar."""
        return self.add(ARCHIVE, bytes(1024))

    def add_chunk_list(self, rows: list[tuple[bytes, int, int, int, int]]) -> list[object]:
        """Add one segment of a chunk list; return what an entry says of it."""
        return self.add_chunk_bytes(self.chunk_bytes(rows), len(rows))

    def chunk_bytes(self, rows: list[tuple[bytes, int, int, int, int]]) -> bytes:
        """Return a segment of a chunk list."""
        ids = bytes.fromhex("".join(self.ids))
        count = struct.pack(">H", len(self.ids))
        return CHUNKS_MAGIC + count + ids + b"".join(CHUNK_ROW.pack(*row) for row in rows)

    def add_chunk_bytes(self, data: bytes, rows: int) -> list[object]:
        """Add a frame of a chunk list, whatever it holds."""
        return [0, self.add(CHUNKS, data), sha256(data).hexdigest(), rows]

    # Index

    def lines(self, kind: str, lines: list[dict[str, object]]) -> bytes:
        """Return the bytes of a segment or page."""
        head = {"kind": kind, "snapshots": self.ids}
        return b"".join(to_json(line) + b"\n" for line in [head, *lines])

    def add_segment(self, entries: list[dict[str, object]]) -> dict[str, object]:
        """Add a segment; return the reference to it."""
        return self.add_index(self.lines("segment", entries), len(entries), first_of(entries))

    def add_page(self, references: list[dict[str, object]]) -> dict[str, object]:
        """Add a page; return the reference to it."""
        total = sum(int(str(one["entries"])) for one in references)
        return self.add_index(self.lines("page", references), total, first_of(references))

    def add_index(
        self, data: bytes, entries: int, first: dict[str, object], **changes: object
    ) -> dict[str, object]:
        """Add a frame of the index, whatever it holds; return the reference to it."""
        number = self.add(INDEX, data, **changes)
        digest = sha256(data).hexdigest()
        return {"at": [0, number], "sha256": digest, "entries": entries} | first

    def add_whole_index(self) -> None:
        """Add one segment of all entries, and its page."""
        if self.entries:
            self.end_fields["pages"] = [self.add_page([self.add_segment(self.entries)])]

    # End

    def rows(self) -> list[tuple[int, int, int, int, bytes]]:
        """Return the rows of all frames, as they lie in the file."""
        at = len(self.header())
        rows = []
        for frame in self.frames:
            rows.append(frame.row(at))
            at += len(framed(frame.token)) if frame.token else 0
        return rows

    def end_line(self, **changes: object) -> dict[str, object]:
        """Return what the end says."""
        line = {
            "job": "documents",
            "host": "example",
            "kind": "full",
            "frames": len(self.frames),
            "sources": [{"p": "docs"}],
            "counts": {
                "entries": len(self.entries),
                "files": len(self.contents),
                "bytes": sum(map(len, self.contents)),
                "errors": sum("error" in entry for entry in self.entries),
            },
            "pages": [],
        }
        return line | self.end_fields | changes

    def body(
        self, rows: list[tuple[int, int, int, int, bytes]] | None = None, **changes: object
    ) -> bytes:
        """Return the body of the end."""
        rows = self.rows() if rows is None else rows
        return to_json(self.end_line(**changes)) + b"\n" + b"".join(ROW.pack(*row) for row in rows)

    def sign(self, body: bytes) -> bytes:
        """Return the signature block for ``body``."""
        return self.host.sign(self.core, body)  # type: ignore[arg-type]

    def seal_end(
        self,
        body: bytes | None = None,
        block: bytes | None = None,
        *,
        step: int = 2048,
        **changes: object,
    ) -> None:
        """Make the end frames; ``changes`` are of the first of them."""
        body = self.body() if body is None else body
        whole = body + (self.sign(body) if block is None else block)
        self.end = []
        for number, start in enumerate(range(0, len(whole), step), len(self.frames)):
            fields = {"number": number} | (changes if start == 0 else {})
            self.end.append(self.frame(END, whole[start : start + step], **fields).token)

    def footer(self, offset: int | None = None) -> bytes:
        """Return the footer."""
        return FOOTER.pack(self.end_offset if offset is None else offset, FOOTER_MAGIC)

    @property
    def end_offset(self) -> int:
        """Where the first end frame begins."""
        return len(self.header()) + sum(len(framed(f.token)) for f in self.frames if f.token)

    def offset(self, number: int) -> int:
        """Return where frame ``number`` begins."""
        return self.rows()[number][1]

    def data(self) -> bytes:
        """Return the file."""
        if self.end is None:
            self.seal_end()
        tokens = [frame.token for frame in self.frames if frame.token] + (self.end or [])
        return self.header() + b"".join(map(framed, tokens)) + self.footer()

    # Samples

    def sample(self) -> Forge:
        """Make a snapshot of a directory and three files of one length, each in its frame.

        Frames: 0, 1, 2 files, 3 end of the archive, 4 segment, 5 page, 6 end.
        """
        self.sample_files()
        self.add_whole_index()
        return self

    def sample_files(self) -> None:
        """Make what ``sample`` makes, without the index."""
        self.entries.append({"t": "dir", "p": "docs", "mode": 0o755})
        for name in "abc":
            self.add_file(f"docs/{name}", self.random(40))
        self.end_archive()

    def sample_chunked(self, parts: int = 3) -> list[tuple[bytes, int, int, int, int]]:
        """Make the frames of a file of chunks; return the rows of its chunk list."""
        rows, chunks = [], []
        for place in range(parts):
            chunk = self.random(150)
            member = self.member(f".auto-backup/parts/0/{place * 150}", chunk)
            number = self.add(ARCHIVE, member.getvalue())
            rows.append((sha256(chunk).digest(), 0, number, 512, len(chunk)))
            chunks.append(chunk)
        self.contents.append(b"".join(chunks))
        self.end_archive()
        return rows

    def chunked_entry(
        self, path: str, rows: list[tuple[bytes, int, int, int, int]], lists: list[list[object]]
    ) -> dict[str, object]:
        """Add the entry of a file of chunks."""
        entry = named(path) | {
            "t": "file",
            "size": sum(row[4] for row in rows),
            "sha256": sha256(b"".join(row[0] for row in rows)).hexdigest(),
            "chunks": lists,
        }
        self.entries.append(entry)
        return entry


def named(path: str | bytes) -> dict[str, object]:
    """Return the field that tells ``path``."""
    if isinstance(path, bytes):
        return {"pb": base64.b64encode(path).decode()}
    return {"p": path}


def first_of(lines: list[dict[str, object]]) -> dict[str, object]:
    """Return the field that tells with which path ``lines`` begin."""
    first = lines[0] if lines else {"p": ""}
    return {key: first[key] for key in ("p", "pb") if key in first}
