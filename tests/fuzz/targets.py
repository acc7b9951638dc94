"""Everything of the format that reads bytes which somebody else may have written.

A target takes bytes, refuses them with errors of the package only, and holds what it accepts to
what its parser promises. Its seeds are right, or wrong in a telling way.
"""

from __future__ import annotations

import base64
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property

from backup.errors import BackupError, InvalidArgumentError
from backup.listing import find_snapshot
from backup.model import ArchiveType, path_key
from backup.plain.arranging import Limits
from backup.plain.formats import Format
from backup.plain.reading import open_source, place_of
from backup.snapshot.chunk_list import decode_chunks, encode_chunks
from backup.snapshot.compression import compress, decompress_up_to
from backup.snapshot.end import decode_end, decode_footer, encode_footer
from backup.snapshot.entry_line import decode_entry, encode_entry
from backup.snapshot.frame import FrameKeys
from backup.snapshot.header import Core, Header, Slot, parse_core, parse_header, parse_keys_file
from backup.snapshot.hpke import HpkeIdentity, HpkeRecipient
from backup.snapshot.index import IdTable, decode_page, decode_segment, encode_page, encode_segment
from backup.snapshot.names import parse_digest_line, parse_name
from backup.snapshot.opening import read_header
from backup.snapshot.recipients import FernetKey, PassphraseIdentity, open_header
from backup.snapshot.signing import check_signature
from backup.snapshot.source import BytesSource
from backup.snapshot.token import TokenDamagedError, TokenKey, open_token, seal_token
from backup.storage.memory import MemoryStorage
from tests.fuzz.choices import BytesChoices, Choices
from tests.fuzz.mutation import Mutate, mutate_body, mutate_bytes, mutate_line, mutate_lines
from tests.fuzz.readers import read_first, read_second, recover, twice
from tests.fuzz.samples import mutated_snapshot, parent_of_all
from tests.hostile_archives import Thing, overlapping, tar_of, zip_of
from tests.vectors.forge import HPKE, KEY, PASSPHRASE, Forge, seeded
from tests.vectors.reading import SUCCESS, Vector, read_vector, vector_names

PIECE_LIMIT = 1 << 20
OWN_ID = bytes.fromhex(Forge("seed").core.id.hex())
IDENTITIES = (FernetKey(KEY), HpkeIdentity(HPKE.secret))
COSTLY_KIB = 4096


@dataclass(frozen=True)
class Target:
    """One parser: what runs it, what it is given, and how that is changed sensibly."""

    run: Callable[[bytes], object]
    make_seeds: Callable[[], list[bytes]]
    mutate: Mutate = mutate_bytes

    @cached_property
    def seeds(self) -> list[bytes]:
        """Inputs that are right, or wrong in a telling way."""
        return self.make_seeds()


class DisagreementError(AssertionError):
    """Two readers, or a parser and its writer, do not agree."""


def agree(one: object, other: object, what: str) -> None:
    """Fail where ``one`` is not ``other``."""
    if one != other:
        raise DisagreementError(f"{what}: {one!r} is not {other!r}")


def run(name: str, data: bytes) -> bool:
    """Run a target; return whether it accepted ``data``. Errors that are not ours are raised."""
    try:
        TARGETS[name].run(data)
    except (BackupError, TokenDamagedError):
        return False
    return True


# Headers


def _core_line(data: bytes) -> None:
    agree(parse_core(data).line, data, "the core line")


def _header(data: bytes) -> None:
    header = read_header(BytesSource(data))
    agree(header.signed_bytes + header.mac, data[: header.length], "the header")
    agree(parse_header(data), header, "the header in one go")
    _open(header)


def _keys_file(data: bytes) -> None:
    header = parse_keys_file(data)
    agree(header.signed_bytes + header.mac, data, "the keys file")
    _open(header)


def _slots(data: bytes) -> None:
    core = Forge("seed").core.line
    _open(parse_header(b"auto-backup snapshot 1\n" + core + b"\n" + data + b"\n" + bytes(32)))


def _open(header: Header) -> None:
    with suppress(BackupError):
        open_header(header, IDENTITIES)
    if all(slot.memory <= COSTLY_KIB and slot.time <= 1 for slot in header.slots):
        with suppress(BackupError):
            open_header(header, [PassphraseIdentity(PASSPHRASE)])


def _header_seeds() -> list[bytes]:
    return [read_vector(name).data[:3000] for name in vector_names() if _is_small(name)]


def _is_small(name: str) -> bool:
    return "passphrase" not in name and "long" not in name


def _keys_seeds() -> list[bytes]:
    vectors = [read_vector(name) for name in vector_names() if _is_small(name)]
    return [vector.keys_file for vector in vectors if vector.keys_file]


def _slots_seeds() -> list[bytes]:
    forge = Forge("seed")
    slots = [forge.fernet_slot(), forge.hpke_slot(), forge.passphrase_slot(), {"type": "x"}]
    many = [forge.header().split(b"\n")[2] for forge.slots in ([one] for one in slots)]
    forge.slots = slots
    return [*many, forge.header().split(b"\n")[2]]


# Index and end


def _entry(data: bytes) -> None:
    ids = (OWN_ID, bytes(16))
    entry = decode_entry(data, ids)
    table = IdTable()
    agree(decode_entry(encode_entry(entry, table.ordinal), table.ids()), entry, "an entry")


def _segment(data: bytes) -> None:
    entries = decode_segment(data)
    agree(decode_segment(encode_segment(entries)), entries, "a segment")
    keys = [path_key(entry.path) for entry in entries]
    agree(sorted(set(keys)), keys, "the order of a segment")


def _page(data: bytes) -> None:
    references = decode_page(data)
    agree(decode_page(encode_page(references)), references, "a page")


def _chunk_list(data: bytes) -> None:
    chunks = decode_chunks(data)
    agree(decode_chunks(encode_chunks(chunks)), chunks, "a chunk list")


def _end(data: bytes) -> None:
    _, rows, body, block = decode_end(OWN_ID, data)
    agree(body + block, data, "the end")
    agree(body.endswith(b"".join(row.tag for row in rows[-1:])), True, "the last row")
    check_signature(parse_core(Forge("seed").core.line), body, block, None)


def _footer(data: bytes) -> None:
    agree(encode_footer(decode_footer(data)), data, "the footer")


@cache
def _forged() -> dict[str, list[bytes]]:
    """Return the plain parts of some snapshots, by kind."""
    found: dict[str, list[bytes]] = {"segment": [], "page": [], "chunks": [], "end": []}

    class Watched(Forge):
        def add_index(self, data: bytes, *rest: object, **changes: object) -> dict[str, object]:
            found["page" if data.startswith(b'{"kind":"page"') else "segment"].append(data)
            return super().add_index(data, *rest, **changes)  # type: ignore[arg-type]

        def add_chunk_bytes(self, data: bytes, rows: int) -> list[object]:
            found["chunks"].append(data)
            return super().add_chunk_bytes(data, rows)

        def sign(self, body: bytes) -> bytes:
            found["end"].append(body + super().sign(body))
            return super().sign(body)

    for make in samples_without_choices():
        forge = Watched("seed")
        make(forge)
        forge.data()
    return found


def samples_without_choices() -> Iterator[Callable[[Forge], None]]:
    """Yield what makes the samples of ``tests.fuzz.samples``, each as it is by itself."""
    from tests.fuzz.samples import SAMPLES  # noqa: PLC0415 - beside the rest of that module

    for sample in SAMPLES:
        yield lambda forge, sample=sample: sample(forge, BytesChoices(b""))  # type: ignore[misc]


def _entry_seeds() -> list[bytes]:
    return [line for data in _forged()["segment"] for line in data.split(b"\n")[1:-1]]


# Pieces


def _piece(archive: ArchiveType) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        plain = None
        with suppress(BackupError):
            plain = decompress_up_to(archive, data, limit=PIECE_LIMIT)
            agree(len(plain) <= PIECE_LIMIT, True, "the length of a piece")
        other = None
        with suppress(recover.RecoverError):
            other = recover.unpack(str(archive), data, PIECE_LIMIT, exact=False)
        agree(plain, other, f"a piece of {archive}")
        if plain is None:
            raise InvalidArgumentError("refused by both")

    return take


def _piece_seeds(archive: ArchiveType) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        plain = (b"", b"a", seeded("piece", 3000), bytes(PIECE_LIMIT + 1), b"text " * 2000)
        return [compress(archive, 1, one) for one in plain]

    return seeds


# Tokens and wrapped keys


def _token(data: bytes) -> None:
    key = TokenKey.from_bytes(seeded("token", 32))
    message = open_token(key, data)
    again = seal_token(key, int.from_bytes(data[1:9], "big"), message, iv=data[9:25])
    agree(bytes(again), data, "a token")


def _message(data: bytes) -> None:
    """Open a frame that holds ``data`` and is authentic whatever that is."""
    forge = Forge("seed")
    keys = FrameKeys(parse_core(forge.core.line), forge.data_key)
    section, number, piece = keys.open_anywhere(forge.seal(data), place=0)
    start = struct.pack(">B16sII", section, OWN_ID, number, len(piece))
    agree((start + bytes(piece) + bytes(len(data)))[: len(data)], data, "a message")


def _wrapped(data: bytes) -> None:
    core = parse_core(Forge("seed").core.line)
    text = data.decode("utf-8", "surrogateescape")
    coded = base64.b64encode(data).decode()
    fernet, hpke = IDENTITIES
    for wrapped in (text, coded):
        fernet.unwrap(Slot(type="fernet", id=fernet.id, wrapped=wrapped), core)
        hpke.unwrap(Slot(type="hpke", id="0" * 16, wrapped=wrapped), core)
        cheap = {"salt": wrapped, "memory": 8, "time": 1, "lanes": 1}
        slot = Slot(type="passphrase", id="0" * 16, wrapped=coded, **cheap)  # type: ignore[arg-type]
        PassphraseIdentity(PASSPHRASE).unwrap(slot, core)


def _key_text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    refused = 0
    for parse in (FernetKey.parse, HpkeIdentity.parse, HpkeRecipient.parse):
        try:
            parse(text)
        except InvalidArgumentError:
            refused += 1
    agree(refused >= 2, True, "one text is two kinds of keys")
    FernetKey.parse(data)


def _public_key(data: bytes) -> None:
    """Seal for whatever has the length of a public key."""
    core: Core = parse_core(Forge("seed").core.line)
    public = (data + bytes(1216))[:1216]
    HpkeRecipient(public).wrap(bytes(32), core)


# Names


def _digest_line(data: bytes) -> None:
    digest = parse_digest_line(data)
    if digest is None:
        raise InvalidArgumentError("no digest line")
    agree(digest.hex().encode(), data[:64], "a digest")


def _name(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    name = parse_name(text)
    if name is None:
        raise InvalidArgumentError("no snapshot's name")
    agree(str(name), text, "a name")


@cache
def _store() -> MemoryStorage:
    storage = MemoryStorage(clock=lambda: datetime(2026, 11, 20, tzinfo=UTC))
    for day in range(1, 4):
        for job in ("docs", "etc"):
            name = f"web1/{job}/{job}-2026110{day}T000000Z-62d5-full.tar.gz.enc"
            with storage.create(name) as sink:
                sink.write(Forge(f"{job}{day}", time=1_793_491_200 + 86_400 * day).sample().data())
                sink.commit()
    return storage


def _wanted(data: bytes) -> None:
    find_snapshot(_store(), data.decode("utf-8", "surrogateescape"), host="web1")


# Whole files


def compare_readers(vector: Vector) -> str:
    """Hold two readers to one result; return it, or the first one's error."""
    parent = parent_of_all()
    others = {parent.core.id: parent.data()}
    for name in vector.also:
        if name in vector_names():
            data = read_vector(name).data
            with suppress(BackupError):
                others[read_header(BytesSource(data)).core.id] = data
    first, second = read_first(vector, others), read_second(vector, others)
    if twice:
        return first.result
    said = f"{first.result} ({first.message}) and {second.result} ({second.message})"
    agree(first.result == SUCCESS, second.result == SUCCESS, f"{vector.name}: {said}")
    fewer = min(len(first.contents), len(second.contents))
    agree(first.contents[:fewer], second.contents[:fewer], f"{vector.name}: the contents")
    if first.result == SUCCESS:
        agree(len(first.contents), len(second.contents), f"{vector.name}: how many contents")
    return first.result


def _refuse(result: str) -> None:
    if result != SUCCESS:
        raise InvalidArgumentError(f"refused: {result}")


def _file(data: bytes) -> None:
    _refuse(compare_readers(Vector("file", "", data, list(IDENTITIES))))


def _snapshot(data: bytes) -> None:
    _refuse(compare_readers(mutated_snapshot(BytesChoices(data))))


def _file_seeds() -> list[bytes]:
    names = [name for name in vector_names() if _is_small(name) and "_archive" in name]
    return [read_vector(name).data for name in names] + [parent_of_all().data()]


def _parts(kind: str) -> Callable[[], list[bytes]]:
    return lambda: _forged()[kind]


def _public_seeds() -> list[bytes]:
    public = HPKE.recipient().public
    return [public, public[:1184] + bytes(32), b"\xff" * 1216, bytes(1216)]


def _wrapped_seeds() -> list[bytes]:
    forge = Forge("seed")
    slots = [forge.fernet_slot(), forge.hpke_slot(), forge.passphrase_slot()]
    return [str(slot["wrapped"]).encode() for slot in slots] + [bytes(1168)]


def _key_seeds() -> list[bytes]:
    texts = (HPKE.text(), HPKE.recipient().text(), base64.urlsafe_b64encode(KEY).decode())
    return [text.encode() for text in texts]


def _name_seeds() -> list[bytes]:
    return [file.name.encode() for file in _store().list_files()]


# Plain archives

ARCHIVE_LIMITS = Limits(members=10_000, memory=1 << 24, free=1 << 22, ratio=20)


def _archive(form: Format) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        archive = open_source(BytesSource(data), form, ARCHIVE_LIMITS)
        keys = [path_key(entry.path) for entry in archive.entries]
        agree(sorted(keys), keys, "the order of the entries")
        agree(len({entry.path for entry in archive.entries}), len(keys), "how many names there are")
        archive.check()
        files = [one for one in archive.entries if one.extents and one.path not in archive.unfit]
        files.sort(key=place_of)
        for entry, pieces in zip(files, archive.read(files), strict=True):
            agree(sum(map(len, pieces)), entry.stored_size, "the length of a content")
        for error in archive.lost:
            raise error

    return take


def _tar_seeds() -> list[bytes]:
    things = [
        Thing("dir", "d/"),
        Thing("file", "d/" + "n" * 90),
        Thing("hard link", "h", "d/" + "n" * 90),
        Thing("link", "l", "d"),
        Thing("char", "c"),
        Thing("file", "x", fields=(("pax_headers", {"SCHILY.xattr.user.a": "b"}),)),
    ]
    sparse = {"GNU.sparse.map": "1,3,9,4", "GNU.sparse.size": "20", "GNU.sparse.name": "s"}
    holes = [Thing("file", "s", fields=(("pax_headers", sparse),))]
    major = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "20"}
    lines = b"2\n1\n3\n9\n4\n".ljust(512, b"\0") + b"written"
    mapped = [Thing("file", "s", content=lines, fields=(("pax_headers", major),))]
    return [
        tar_of(things),
        tar_of(things, form=tarfile.GNU_FORMAT),
        tar_of(things, form=tarfile.USTAR_FORMAT),
        tar_of(holes),
        tar_of(mapped),
    ]


def _packed_seeds() -> list[bytes]:
    return [compress(ArchiveType.TAR_GZ, 6, data) for data in _tar_seeds()]


def _zip_seeds() -> list[bytes]:
    things = [
        Thing("dir", "d/"),
        Thing("file", "d/é", content=b"text " * 50),
        Thing("link", "l", "d"),
    ]
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [zip_of(things, method=method) for method in methods] + [overlapping(3)]


def _mutate_tar(choices: Choices, data: bytes) -> bytes:
    """Change bytes, and let the checksums of headers fit again: else nothing is looked at."""
    changed = bytearray(mutate_bytes(choices, data))
    for at in range(0, len(changed) - 511, 512):
        block = changed[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(changed)


WANTED = (
    "62d5",
    "docs",
    "docs~1",
    "web1/etc~2",
    "docs@2026-11-02",
    "docs@2026-11-02T10:00",
    "latest",
)
TARGETS: dict[str, Target] = {
    "core line": Target(_core_line, lambda: [Forge("seed").core.line], mutate_line),
    "header": Target(_header, _header_seeds),
    "keys file": Target(_keys_file, _keys_seeds),
    "slots": Target(_slots, _slots_seeds, mutate_line),
    "entry line": Target(_entry, _entry_seeds, mutate_line),
    "segment": Target(_segment, _parts("segment"), mutate_lines),
    "page": Target(_page, _parts("page"), mutate_lines),
    "chunk list": Target(_chunk_list, _parts("chunks")),
    "end": Target(_end, _parts("end"), mutate_body),
    "footer": Target(_footer, lambda: [encode_footer(1680)]),
    **{
        f"piece of {one}": Target(_piece(one), _piece_seeds(one))
        for one in ArchiveType
        if one is not ArchiveType.TAR
    },
    "token": Target(
        _token,
        lambda: [bytes(seal_token(TokenKey.from_bytes(seeded("token", 32)), 7, b"message"))],
    ),
    "message": Target(_message, lambda: [Forge("seed").message(1, 0, b"piece", padding=bytes(9))]),
    "wrapped key": Target(_wrapped, _wrapped_seeds),
    "key text": Target(_key_text, _key_seeds),
    "public key": Target(_public_key, _public_seeds),
    "digest line": Target(_digest_line, lambda: [b"0" * 64 + b"  a.enc\n"]),
    "snapshot name": Target(_name, _name_seeds),
    "wanted snapshot": Target(_wanted, lambda: [one.encode() for one in WANTED]),
    "tar archive": Target(_archive(Format.TAR), _tar_seeds, _mutate_tar),
    "packed tar archive": Target(_archive(Format.TAR_GZ), _packed_seeds),
    "zip archive": Target(_archive(Format.ZIP), _zip_seeds),
    "whole file": Target(_file, _file_seeds),
    "mutated snapshot": Target(_snapshot, lambda: [bytes([n]) * 40 for n in range(0, 250, 7)]),
}
