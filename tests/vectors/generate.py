"""Makes the vectors of the snapshot format: ``python tests/vectors/generate.py DIRECTORY``.

Each function below makes one vector: its name is the vector's name, its docstring the comment, its
decorator says what a reader must make of it. Vectors come out the same each time, except those with
an ``hpke`` slot, whose wrapping cannot be told its randomness.
"""

from __future__ import annotations

import base64
import lzma
import struct
import sys
import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backup.model import ArchiveType
from backup.snapshot.compression import store_xz
from tests.vectors.forge import (
    ARCHIVE,
    CHUNKS,
    END,
    HOST,
    HPKE,
    INDEX,
    KEY,
    NO_ROW,
    OTHER_HOST,
    OTHER_HPKE,
    OTHER_KEY,
    PASSPHRASE,
    PLACE,
    PREAMBLE,
    ROW,
    TIME,
    Forge,
    Frame,
    flip,
    framed,
    key_line,
    seeded,
    to_json,
)

Make = Callable[[Forge], "bytes | None"]
SUCCESS = "success"
VECTORS: dict[str, Callable[[], bytes]] = {}
MADE: dict[str, Callable[[], Forge]] = {}


def add(name: str, expect: str, comment: str, make: Make, **core: object) -> None:
    """Add the vector ``name``."""
    if name in VECTORS:
        raise ValueError(name)

    def forged() -> Forge:
        forge = Forge(name, **core)  # type: ignore[arg-type]
        make(forge)
        return forge

    def vector() -> bytes:
        forge = Forge(name, **core)  # type: ignore[arg-type]
        data = make(forge)
        return text(forge, expect, comment) + (forge.data() if data is None else data)

    VECTORS[name] = vector
    MADE[name] = forged


def vector(expect: str, **core: object) -> Callable[[Make], Make]:
    """Add the function as a vector; it may return the file where that is not the forge's."""

    def take(make: Make) -> Make:
        comment = " ".join((make.__doc__ or "").split())
        add(make.__name__, expect, comment, make, **core)
        return make

    return take


def text(forge: Forge, expect: str, comment: str) -> bytes:
    """Return the lines before the file."""
    lines = [f"expect: {expect}", f"comment: {comment}", *forge.identities]
    lines += [f"trusted: {public.hex()}" for public in forge.trusted]
    if forge.keys_file is not None:
        lines.append(f"keys-file: {base64.b64encode(forge.keys_file).decode()}")
    if forge.also:
        lines.append(f"also: {', '.join(forge.also)}")
    if expect == SUCCESS:
        lines.append(f"content: {sha256(b''.join(forge.contents)).hexdigest()}")
    else:
        released = b"".join(forge.contents[: forge.released])
        lines.append(f"released: {sha256(released).hexdigest()}")
    return "".join(f"{line}\n" for line in [*lines, ""]).encode()


def sampled(name: str, expect: str, comment: str, change: Make, **core: object) -> None:
    """Add a vector that is the sample with one change made after it."""

    def make(forge: Forge) -> bytes | None:
        forge.sample()
        return change(forge)

    add(name, expect, comment, make, **core)


# What opens


for _archive in ArchiveType:
    sampled(
        f"{str(_archive).replace('.', '_')}_archive",
        SUCCESS,
        f"A full snapshot of a directory and three files in a {_archive}.",
        lambda _: None,
        archive=str(_archive),
    )


@vector(SUCCESS)
def passphrase_slot(forge):
    """The data key is wrapped for a passphrase (64 KiB, 1 pass, 1 lane)."""
    forge.slots = [forge.passphrase_slot()]
    forge.identities = [f"passphrase: {PASSPHRASE}"]
    forge.sample()


@vector(SUCCESS)
def passphrase_in_the_fourth_slot(forge):
    """There are five passphrase slots, and the fourth is that of the passphrase."""
    others = [forge.passphrase_slot(f"other {n}") for n in range(4)]
    forge.slots = [*others[:3], forge.passphrase_slot(), others[3]]
    forge.identities = [f"passphrase: {PASSPHRASE}"]
    forge.sample()


@vector(SUCCESS)
def passphrase_that_is_not_ascii(forge):
    """The passphrase has letters beyond ASCII; it counts in UTF-8."""
    forge.slots = [forge.passphrase_slot("Füße über 東京")]
    forge.identities = ["passphrase: Füße über 東京"]
    forge.sample()


@vector(SUCCESS)
def hpke_slot(forge):
    """The data key is wrapped for a public key."""
    forge.slots = [forge.hpke_slot()]
    forge.identities = [f"identity: {HPKE.text()}"]
    forge.sample()


@vector(SUCCESS)
def several_slots_and_the_last_is_for_the_key(forge):
    """Slots for a passphrase, a public key, another key, and at last the key that is given."""
    forge.slots = [
        forge.passphrase_slot(),
        forge.hpke_slot(),
        forge.fernet_slot(OTHER_KEY),
        forge.fernet_slot(),
    ]
    forge.sample()


@vector(SUCCESS)
def thirty_two_slots(forge):
    """There are as many slots as are allowed."""
    forge.slots = [forge.fernet_slot(seeded(f"key {n}", 32)) for n in range(31)]
    forge.slots.append(forge.fernet_slot())
    forge.sample()


@vector(SUCCESS)
def unknown_slot_type_beside_a_good_one(forge):
    """The first slot has a type that no reader knows yet."""
    forge.slots.insert(0, {"type": "telepathy", "id": "0123456789abcdef", "wrapped": "think"})
    forge.sample()


@vector(SUCCESS)
def unknown_slot_type_with_fields_of_other_shapes(forge):
    """A slot of an unknown type uses known names for other things: readers pass over it."""
    slot = {"type": "telepathy", "id": "0123456789abcdef", "wrapped": "think"}
    forge.slots.insert(0, slot | {"time": "at night", "memory": [1, 2], "lanes": None})
    forge.sample()


@vector(SUCCESS)
def unknown_fields_in_every_object(forge):
    """Core, slot, head of segment and page, entry, references and end have a field more."""
    more = {"future": {"a": [1, None, "x"]}}
    forge.slots[0] |= more
    forge.sample_files()
    forge.entries = [entry | more for entry in forge.entries]
    head = {"kind": "segment", "snapshots": forge.ids} | more
    data = b"".join(to_json(line) + b"\n" for line in [head, *forge.entries])
    reference = forge.add_index(data, len(forge.entries), {"p": "docs"}) | more
    head = {"kind": "page", "snapshots": forge.ids} | more
    data = b"".join(to_json(line) + b"\n" for line in [head, reference])
    page = forge.add_index(data, len(forge.entries), {"p": "docs"}) | more
    forge.end_fields = {"pages": [page], "sources": [{"p": "docs"} | more]} | more


add(
    "unknown_field_in_the_core_line",
    SUCCESS,
    "The core line has a field more; its digest is over it.",
    lambda forge: forge.sample() and None,
    future=[1, 2, 3],
)


@vector(
    SUCCESS,
    core_line=b'{ "cap":4096, "suite":"fernet-1", "id":"%s", "chain":"%s", "seq":1,'
    b' "time":1700000000, "archive":"tar\\u002egz", "previous" : null }\t'
    % (b"5a" * 16, b"a5" * 16),
    id="5a" * 16,
)
def core_line_in_another_form(forge):
    """The core line is not in the shortest form; digests are over what stands there."""
    forge.sample()


@vector(SUCCESS)
def hard_links(forge):
    """Two names of one file have equal fs and ino, and the content is in both entries."""
    forge.sample_files()
    for entry in forge.entries[1:3]:
        entry |= {"ino": 77, "links": 2}
    forge.entries[2] |= {"ext": forge.entries[1]["ext"], "sha256": forge.entries[1]["sha256"]}
    forge.contents[1] = forge.contents[0]
    forge.add_whole_index()


@vector(SUCCESS)
def symbolic_links(forge):
    """Links to a name, to an absolute path, and to bytes that are not UTF-8."""
    forge.sample_files()
    forge.entries += [
        {"t": "link", "p": "docs/d", "to": "a"},
        {"t": "link", "p": "docs/e", "to": "/etc/../tmp/"},
        {"t": "link", "p": "docs/f", "tob": base64.b64encode(b"\xff\xfe").decode()},
    ]
    forge.add_whole_index()


@vector(SUCCESS)
def names_that_are_not_utf8(forge):
    """Names in Latin-1 and in UTF-8, and one with a newline."""
    forge.add_file("docs/\n", forge.random(30))
    forge.add_file("docs/é", forge.random(30))
    forge.add_file(b"docs/\xe9", forge.random(30))
    forge.end_archive()
    forge.add_whole_index()


@vector(SUCCESS)
def names_sorted_by_components(forge):
    """The names d, d/x, d-x, d.x come in the order of their paths with / as NUL."""
    forge.entries.append({"t": "dir", "p": "d"})
    for name in ("d/x", "d-x", "d.x"):
        forge.add_file(name, forge.random(30))
    forge.end_archive()
    forge.add_whole_index()


@vector(SUCCESS)
def name_of_255_bytes(forge):
    """A name is as long as it may be."""
    forge.add_file("docs/" + "n" * 255, forge.random(30))
    forge.end_archive()
    forge.add_whole_index()


@vector(SUCCESS)
def root_directory_as_an_entry(forge):
    """The first entry is the root directory, whose path is empty."""
    forge.entries.append({"t": "dir", "p": "", "mode": 0o755})
    forge.end_fields["sources"] = [{"p": ""}]
    forge.sample()


@vector(SUCCESS)
def sources_with_patterns_of_their_own(forge):
    """Two of three sources, one of them not UTF-8, have patterns; the rules have one for all."""
    forge.end_fields["sources"] = [
        {"p": "docs", "exclude": ["*.o", "!keep.o", "ä/"]},
        {"p": "etc"},
        {"pb": base64.b64encode(b"srv/\xff").decode(), "exclude": ["/cache"]},
    ]
    forge.end_fields["rules"] = {"exclude": ["*.log"], "caches": True}
    forge.sample()


@vector(SUCCESS)
def all_fields_of_an_entry(forge):
    """An entry has owner, times before 1970, extended attributes, and is racy."""
    forge.sample_files()
    attribute = [base64.b64encode(part).decode() for part in (b"user.\xff", b"\0\1")]
    forge.entries[1] |= {
        "uid": 2**32 - 2,
        "gid": 100,
        "user": "jörg",
        "group": "users",
        "mtime": -1,
        "ctime": -(10**18),
        "ino": 2**64 - 1,
        "fs": 0,
        "xattrs": [attribute],
        "racy": True,
    }
    forge.end_fields["filesystems"] = [{"type": "ext4", "id": "1234"}]
    forge.add_whole_index()


@vector(SUCCESS)
def special_files(forge):
    """A FIFO, a character device, a block device and a stream."""
    forge.entries += [
        {"t": "fifo", "p": "dev/fifo"},
        {"t": "char", "p": "dev/null", "dev": [1, 3]},
        {"t": "block", "p": "dev/sda", "dev": [8, 0]},
    ]
    forge.add_file("stream", forge.random(40))
    forge.entries[-1]["t"] = "stream"
    forge.end_archive()
    forge.add_whole_index()


@vector(SUCCESS)
def empty_snapshot(forge):
    """There is no entry and no page."""
    forge.end_archive()


@vector(SUCCESS)
def empty_file(forge):
    """A file of no bytes has a digest and no extent."""
    forge.sample_files()
    forge.add_entry("docs/d", b"", [])
    del forge.entries[-1]["ext"]
    forge.add_whole_index()


@vector(SUCCESS)
def file_in_two_frames(forge):
    """A file's content begins in one archive frame and ends in the next."""
    content = forge.random(300)
    member = forge.member("docs/a", content).getvalue()
    forge.add(ARCHIVE, member[:612])
    forge.add(ARCHIVE, member[612:])
    forge.end_archive()
    forge.add_entry("docs/a", content, [[0, 0, 512, 100], [0, 1, 0, 200]])
    forge.add_whole_index()


@vector(SUCCESS)
def two_files_in_one_frame(forge):
    """One archive frame holds two members."""
    contents = [forge.random(100), forge.random(200)]
    members = [forge.member(f"docs/{n}", one).getvalue() for n, one in enumerate(contents)]
    forge.add(ARCHIVE, b"".join(members))
    forge.end_archive()
    forge.add_entry("docs/0", contents[0], [[0, 0, 512, 100]])
    forge.add_entry("docs/1", contents[1], [[0, 0, 1536, 200]])
    forge.add_whole_index()


@vector(SUCCESS)
def file_of_chunks(forge):
    """A file of three chunks, each in a frame, named by a chunk list."""
    rows = forge.sample_chunked()
    forge.chunked_entry("docs/big", rows, [forge.add_chunk_list(rows)])
    forge.add_whole_index()


@vector(SUCCESS)
def chunk_list_of_two_segments(forge):
    """The chunk list of a file is in two frames."""
    rows = forge.sample_chunked()
    lists = [forge.add_chunk_list(rows[:2]), forge.add_chunk_list(rows[2:])]
    forge.chunked_entry("docs/big", rows, lists)
    forge.add_whole_index()


@vector(SUCCESS)
def several_segments(forge):
    """Each entry is in a segment of its own."""
    forge.sample_files()
    forge.end_fields["pages"] = [
        forge.add_page([forge.add_segment([entry]) for entry in forge.entries])
    ]


@vector(SUCCESS)
def several_pages(forge):
    """Each segment is in a page of its own."""
    forge.sample_files()
    segments = [forge.add_segment([entry]) for entry in forge.entries]
    forge.end_fields["pages"] = [forge.add_page([one]) for one in segments]


@vector(SUCCESS)
def several_end_frames(forge):
    """The end is cut into pieces of 300 bytes."""
    forge.sample().seal_end(step=300)


@vector(SUCCESS)
def end_frame_that_holds_as_much_as_the_cap(forge):
    """The first end frame holds 4,096 bytes, as many as the cap, and the second the rest."""
    forge.sample()
    forge.end_fields["program"] = "x" * 5000
    forge.seal_end(step=4096)


@vector(SUCCESS, cap=8192)
def padded_messages(forge):
    """All messages are padded to a multiple of 4,096 bytes."""
    forge.add(ARCHIVE, bytes(1024), padding=bytes(4096 - 25 - 29))
    body = forge.body()
    size = len(forge.compress(END, body + forge.sign(body)))
    forge.seal_end(body, padding=bytes(4096 - 25 - size))


@vector(SUCCESS)
def message_as_long_as_the_cap(forge):
    """A message of 4,096 bytes where the cap is 4,096."""
    forge.sample_files()
    size = len(forge.compress(ARCHIVE, bytes(2048)))
    forge.add(ARCHIVE, bytes(2048), padding=bytes(4096 - 25 - size))
    forge.end_archive()
    forge.add_whole_index()


@vector(SUCCESS, archive="tar.xz")
def xz_piece_that_is_stored(forge):
    """An archive piece is an xz stream of LZMA2 chunks without compression."""
    content = forge.random(40)
    plain = forge.member("docs/a", content).getvalue()
    forge.add(ARCHIVE, plain, piece=store_xz(plain))
    forge.end_archive()
    forge.add_entry("docs/a", content, [[0, 0, 512, 40]])
    forge.add_whole_index()


@vector(SUCCESS, time=0)
def time_zero(forge):
    """The snapshot was begun when 1970 was; tokens do not grow old."""
    forge.sample()


@vector(SUCCESS, time=2**40)
def time_far_in_the_future(forge):
    """The snapshot's time has not come yet; no reader knows a time to live."""
    forge.sample()


@vector(SUCCESS, seq=2**63 - 1, previous=sha256(b"before").hexdigest())
def late_in_a_chain(forge):
    """The place in the chain is as high as it may be, and the snapshot before is recorded."""
    forge.sample()


@vector(SUCCESS)
def signer_is_trusted(forge):
    """The host is among two that are trusted."""
    forge.trusted = [OTHER_HOST.public, HOST.public]
    forge.sample()


@vector(SUCCESS)
def incomplete_snapshot(forge):
    """A part that a later snapshot completes."""
    forge.end_fields |= {"incomplete": True, "program": "forge 1", "kind": "differential"}
    forge.sample()


@vector(SUCCESS)
def entry_with_an_error_and_no_content(forge):
    """A file that could not be read has an error, a size, and no content."""
    forge.sample_files()
    forge.entries.append({"t": "file", "p": "docs/d", "size": 5, "error": "permission denied"})
    forge.add_whole_index()


@vector(SUCCESS)
def entry_with_an_error_and_part_of_its_content(forge):
    """A file shrank while it was read: its extents are less than its size, and it has no digest."""
    forge.sample_files()
    forge.entries[-1] |= {"size": 500, "error": "shrank while it was read"}
    del forge.entries[-1]["sha256"]
    forge.add_whole_index()


@vector(SUCCESS)
def entry_with_an_error_and_chunks(forge):
    """A large file shrank while it was read: it has chunks, a greater size, and no digest."""
    rows = forge.sample_chunked()
    entry = forge.chunked_entry("docs/big", rows, [forge.add_chunk_list(rows)])
    entry |= {"size": 5000, "error": "shrank while it was read"}
    del entry["sha256"]
    forge.add_whole_index()


def _without_frame_1(forge: Forge) -> None:
    """Make the sample, with one frame more that a compaction has taken away."""
    forge.entries.append({"t": "dir", "p": "docs"})
    forge.add_file("docs/a", forge.random(40))
    forge.frames.append(Frame())
    forge.add_file("docs/b", forge.random(40))
    forge.end_archive()
    forge.add_whole_index()


@vector(SUCCESS)
def frame_taken_away_by_a_compaction(forge):
    """Row 1 has section 0 and zeros, and no frame has the number 1."""
    _without_frame_1(forge)


@vector(SUCCESS)
def first_frame_taken_away_and_header_damaged(forge):
    """Row 0 has section 0, the header is damaged, and the keys file stands in."""
    forge.frames.append(Frame())
    forge.sample()
    forge.keys_file = forge.make_keys_file()
    return flip(forge.data(), 40)


# Keys files


def _saved(name: str, comment: str, damage: Callable[[Forge, bytes], bytes]) -> None:
    def change(forge: Forge) -> bytes:
        forge.keys_file = forge.make_keys_file(generation=b"0")
        return damage(forge, forge.data())

    sampled(f"keys_file_saves_{name}", SUCCESS, comment, change)


_saved(
    "a_damaged_header",
    "A byte of the core line is flipped; the keys file opens the snapshot.",
    lambda _, data: flip(data, 60),
)
_saved(
    "a_header_of_zeros",
    "All of the header is zeros; the keys file opens the snapshot.",
    lambda forge, data: bytes(len(forge.header())) + data[len(forge.header()) :],
)
_saved(
    "a_damaged_first_line",
    "The first byte is flipped; the keys file opens the snapshot.",
    lambda _, data: flip(data, 0),
)
_saved(
    "a_damaged_slot",
    "The slot in the file is damaged; the one in the keys file is not.",
    lambda forge, data: flip(data, len(forge.header()) - 60),
)
_saved(
    "a_damaged_mac",
    "The header's mac is damaged; the keys file's is not.",
    lambda forge, data: flip(data, len(forge.header()) - 1),
)


def _with_keys_file(name: str, comment: str, keys_file: Callable[[Forge], bytes]) -> None:
    def change(forge: Forge) -> None:
        forge.keys_file = keys_file(forge)

    sampled(name, SUCCESS, comment, change)


_with_keys_file(
    "keys_file_that_is_damaged",
    "The keys file's mac does not fit; the header is taken.",
    lambda forge: flip(forge.make_keys_file(), -1),
)
_with_keys_file(
    "keys_file_that_is_empty",
    "The keys file has no byte; the header is taken.",
    lambda _: b"",
)
_with_keys_file(
    "keys_file_with_a_leading_zero",
    "The generation is not told as it should be; the header is taken.",
    lambda forge: forge.make_keys_file(generation=b"07"),
)
_with_keys_file(
    "keys_file_for_another_key",
    "The keys file has no slot for the key; the header has one, and is taken.",
    lambda forge: forge.make_keys_file([forge.fernet_slot(OTHER_KEY)]),
)
_with_keys_file(
    "keys_file_of_another_snapshot",
    "The keys file is a good one of another snapshot; the header is intact, and is taken.",
    lambda _: Forge("another snapshot", time=TIME + 1).make_keys_file(),
)


@vector(SUCCESS)
def keys_file_for_a_new_key(forge):
    """The header's slot is for an old key, that of the keys file for the one that is given."""
    forge.slots = [forge.fernet_slot(OTHER_KEY)]
    forge.sample()
    forge.keys_file = forge.make_keys_file([forge.fernet_slot()], b"12")


# Keys


@vector("KeyMissingError")
def no_key(forge):
    """The reader has no key at all."""
    forge.identities = []
    forge.sample()


@vector("WrongKeyError")
def wrong_key(forge):
    """The key is not one of the snapshot's."""
    forge.identities = [key_line(OTHER_KEY)]
    forge.sample()


@vector("WrongKeyError")
def wrong_passphrase(forge):
    """The passphrase is not the snapshot's."""
    forge.slots = [forge.passphrase_slot()]
    forge.identities = ["passphrase: incorrect horse"]
    forge.sample()


@vector("WrongKeyError")
def wrong_identity(forge):
    """The private key is not that of the snapshot's recipient."""
    forge.slots = [forge.hpke_slot()]
    forge.identities = [f"identity: {OTHER_HPKE.text()}"]
    forge.sample()


@vector("WrongKeyError")
def keys_of_other_types(forge):
    """The snapshot has a slot for a passphrase, and the reader a key and a private key."""
    forge.slots = [forge.passphrase_slot()]
    forge.identities = [key_line(KEY), f"identity: {HPKE.text()}"]
    forge.sample()


@vector("WrongKeyError")
def passphrase_in_the_fifth_slot(forge):
    """No reader tries more than four passphrase slots."""
    others = [forge.passphrase_slot(f"other {n}") for n in range(4)]
    forge.slots = [*others, forge.passphrase_slot()]
    forge.identities = [f"passphrase: {PASSPHRASE}"]
    forge.sample()


@vector("WrongKeyError")
def all_slot_types_unknown(forge):
    """No slot has a type that the reader knows."""
    forge.slots = [{"type": "telepathy", "id": "0123456789abcdef", "wrapped": "think"}]
    forge.sample()


for _name, _changes, _comment in (
    ("much_memory", {"memory": 1_048_577}, "1,048,577 KiB"),
    ("very_much_memory", {"memory": 2**31}, "two tebibytes"),
    ("many_passes", {"time": 11}, "11 passes"),
    ("many_lanes", {"lanes": 9, "memory": 128}, "9 lanes"),
):

    def _bomb(forge: Forge, changes: dict[str, object] = _changes) -> None:
        forge.slots = [forge.passphrase_slot(**changes)]
        forge.identities = [f"passphrase: {PASSPHRASE}"]
        forge.sample()

    add(
        f"passphrase_slot_that_asks_for_{_name}",
        "LimitError",
        f"The slot asks for {_comment}, which a reader refuses before it computes.",
        _bomb,
    )


# Header


@vector("TruncatedError")
def file_of_no_bytes(forge):
    """The file is empty."""
    return b""


@vector("NotASnapshotError")
def text_file(forge):
    """The file is a text."""
    return b"Dear reader,\n\nthis is no snapshot.\n" * 20


@vector("NotASnapshotError")
def plain_archive(forge):
    """The file is a tar that nobody sealed."""
    return forge.member("docs/a", forge.random(100)).getvalue() + bytes(1024)


@vector("NotASnapshotError")
def keys_file_instead_of_a_snapshot(forge):
    """The file is a keys file."""
    return forge.make_keys_file()


@vector("UnknownVersionError")
def unknown_version(forge):
    """The first line says format 2, and all else is as in format 1."""
    return forge.sample().data().replace(PREAMBLE, b"auto-backup snapshot 2\n", 1)


@vector("UnknownVersionError")
def unknown_version_of_two_digits(forge):
    """The first line says format 10."""
    return forge.sample().data().replace(PREAMBLE, b"auto-backup snapshot 10\n", 1)


@vector("UnknownSuiteError", suite="fernet-2")
def unknown_suite(forge):
    """The suite is fernet-2."""
    forge.sample()


@vector(
    "UnknownSuiteError", core_line=b'{"suite":"aegis-1","id":"A-1","cap":"large","archive":"zip"}'
)
def unknown_suite_with_fields_of_other_shapes(forge):
    """The suite is another, and what else the core line says has other forms."""
    forge.sample()


@vector("UnknownSuiteError", archive="tar.lz4")
def unknown_archive(forge):
    """The archive is a tar.lz4."""
    forge.sample()


@vector("UnknownSuiteError", archive="zip")
def unknown_archive_that_is_no_tar(forge):
    """The archive is a zip."""
    forge.sample()


for _name, _comment, _core in (
    ("cap_too_small", "The cap is 4,095 bytes.", {"cap": 4095}),
    ("cap_too_large", "The cap is 64 MiB and a byte.", {"cap": 2**26 + 1}),
    ("cap_as_text", "The cap is text.", {"cap": "4096"}),
    ("id_too_short", "The id has 15 bytes.", {"id": "00" * 15}),
    ("id_in_upper_case", "The id is in upper case.", {"id": "AB" * 16}),
    ("id_with_a_newline", "A newline follows the id.", {"id": "ab" * 16 + "\n"}),
    ("chain_left_out", "The chain is left out.", {"chain": "left out"}),
    ("seq_zero", "The place in the chain is 0; the first is 1.", {"seq": 0}),
    ("seq_too_high", "The place in the chain is 2^63.", {"seq": 2**63}),
    ("time_negative", "The time is negative.", {"time": -1}),
    ("previous_too_short", "The digest before has 31 bytes.", {"previous": "00" * 31}),
    ("previous_left_out", "What was before is left out, and not null.", {"previous": "left out"}),
):
    add(
        f"header_core_{_name}",
        "HeaderError",
        _comment + " All macs fit.",
        lambda forge: forge.sample() and None,
        **_core,
    )

for _name, _comment, _line in (
    ("not_json", "The core line is not JSON.", b"{suite: fernet-1}"),
    ("not_utf8", "The core line is not UTF-8.", b'{"suite":"fernet-1\xff"}'),
    ("a_list", "The core line is a list.", b'["fernet-1"]'),
    ("empty", "The core line is empty.", b""),
):
    add(
        f"header_core_line_{_name}",
        "HeaderError",
        _comment + " All macs fit.",
        lambda forge: forge.sample() and None,
        core_line=_line,
    )


@vector("HeaderError", filler="x" * 4096)
def header_core_line_too_long(forge):
    """The core line is longer than 4,096 bytes."""
    forge.sample()


def _damaged_header(
    name: str, comment: str, expect: str, where: Callable[[Forge, bytes], int]
) -> None:
    sampled(
        f"header_{name}",
        expect,
        comment,
        lambda forge: flip(forge.data(), where(forge, forge.header())),
    )


_damaged_header("first_byte_flipped", "Bit 0 of byte 0.", "HeaderError", lambda *_: 0)
_damaged_header(
    "core_flipped",
    "A bit of the chain's id in the core line.",
    "HeaderError",
    lambda _, header: header.index(b'"chain":"') + 12,
)
_damaged_header(
    "wrapped_key_flipped",
    "A bit in the slot's wrapped key.",
    "HeaderError",
    lambda _, header: header.index(b'"wrapped":"') + 60,
)
_damaged_header(
    "slot_id_flipped",
    "A bit in the slot's id, so that it names another key.",
    "WrongKeyError",
    lambda _, header: header.index(b"}\n[") + header[header.index(b"}\n[") :].index(b'"id":"') + 6,
)
_damaged_header(
    "slot_json_flipped",
    "The bracket that opens the slots line.",
    "HeaderError",
    lambda _, header: header.index(b"}\n[") + 2,
)
_damaged_header("mac_flipped", "The last bit of the mac.", "HeaderError", lambda _, h: len(h) - 1)


@vector("HeaderError")
def header_slot_added_without_the_mac(forge):
    """Somebody without the data key added a slot for another key."""
    data = forge.sample().data()
    before = forge.header()
    forge.slots.append(forge.fernet_slot(OTHER_KEY))
    return forge.header()[:-32] + before[-32:] + data[len(before) :]


@vector("HeaderError")
def header_of_another_snapshot(forge):
    """The slot was carried over from another snapshot for the same key."""
    forge.slots = Forge("another snapshot", time=TIME + 1).slots
    forge.sample()


@vector("HeaderError")
def hpke_slot_of_another_snapshot(forge):
    """The slot for a public key was carried over from another snapshot."""
    forge.slots = [Forge("another snapshot", time=TIME + 1).hpke_slot()]
    forge.identities = [f"identity: {HPKE.text()}"]
    forge.sample()


@vector("HeaderError")
def hpke_slot_with_a_short_key(forge):
    """The wrapped key of the slot for a public key is cut after 100 characters."""
    slot = forge.hpke_slot()
    forge.slots = [slot | {"wrapped": str(slot["wrapped"])[:100]}]
    forge.identities = [f"identity: {HPKE.text()}"]
    forge.sample()


@vector("HeaderError")
def wrapped_key_of_31_bytes(forge):
    """The slot's token is good, and holds 31 bytes."""
    forge.slots = [forge.fernet_slot(wrapped=forge.data_key[:31])]
    forge.sample()


@vector("HeaderError")
def wrapped_key_of_33_bytes(forge):
    """The slot's token is good, and holds 33 bytes."""
    forge.slots = [forge.fernet_slot(wrapped=forge.data_key + b"\0")]
    forge.sample()


@vector("HeaderError")
def thirty_three_slots(forge):
    """There is one slot more than is allowed; the first is good."""
    forge.slots += [forge.fernet_slot(seeded(f"key {n}", 32)) for n in range(32)]
    forge.sample()


@vector("HeaderError")
def no_slots(forge):
    """The list of slots is empty."""
    forge.slots = []
    forge.sample()


@vector("HeaderError")
def slots_line_not_json(forge):
    """The slots line is not JSON, and the mac fits it."""
    forge.slots_line = b"[{type: fernet}]"
    forge.sample()


@vector("HeaderError")
def slots_line_is_an_object(forge):
    """The slots line is a slot, and not a list of slots."""
    forge.slots_line = to_json(forge.slots[0])
    forge.sample()


@vector("HeaderError")
def slots_line_too_long(forge):
    """The slots line is longer than 65,536 bytes: a slot, and spaces."""
    forge.slots_line = to_json(forge.slots)[:-1] + b" " * 65536 + b"]"
    forge.sample()


@vector("HeaderError")
def wrapped_key_of_8193_characters(forge):
    """A slot's wrapped key is longer than is allowed; the other slot is good."""
    forge.slots.append({"type": "fernet", "id": "0123456789abcdef", "wrapped": "A" * 8193})
    forge.sample()


# The file's length


for _name, _comment, _where in (
    ("within_the_first_line", "After 10 bytes.", lambda _: 10),
    ("within_the_core_line", "After 100 bytes.", lambda _: 100),
    ("within_the_slots", "After the first slot's type.", lambda f: len(f.header()) - 100),
    ("within_the_mac", "A byte before the header's end.", lambda f: len(f.header()) - 1),
    ("after_the_header", "After the header's last byte.", lambda f: len(f.header())),
    ("within_a_length", "After 2 bytes of a frame's length.", lambda f: f.offset(1) + 2),
    ("within_a_frame", "After 50 bytes of a frame.", lambda f: f.offset(1) + 50),
    ("between_frames", "After the first frame.", lambda f: f.offset(1)),
    ("before_the_end", "Before the first end frame.", lambda f: f.end_offset),
    ("within_the_end", "After 50 bytes of the end frame.", lambda f: f.end_offset + 50),
    ("before_the_footer", "Before the footer.", lambda f: len(f.data()) - 24),
    ("within_the_footer", "A byte before its end.", lambda f: len(f.data()) - 1),
):
    sampled(
        f"cut_{_name}",
        "TruncatedError",
        f"The file is cut: {_comment[0].lower()}{_comment[1:]}",
        lambda forge, where=_where: forge.data()[: where(forge)],
    )


@vector("TruncatedError")
def cut_between_end_frames(forge):
    """The file is cut after the first of several end frames."""
    forge.sample().seal_end(step=300)
    return forge.data()[: forge.end_offset + len(framed(forge.end[0]))]


@vector("TruncatedError")
def cut_within_the_footer_after_a_compaction(forge):
    """A frame was taken away by a compaction, and the file is cut a byte before its end."""
    _without_frame_1(forge)
    return forge.data()[:-1]


@vector("TruncatedError")
def cut_within_a_long_header(forge):
    """The slots line has 12,000 bytes, and the file is cut within it."""
    forge.slots = [
        forge.fernet_slot(),
        *({"type": "x", "id": "0" * 16, "wrapped": "A" * 6000},) * 2,
    ]
    return forge.sample().data()[:10_000]


for _name, _comment, _tail in (
    ("a_byte", "A byte follows the footer.", lambda _: b"\0"),
    ("a_second_footer", "The footer is there twice.", lambda f: f.footer()),
    ("many_zeros", "A sector of zeros follows the footer.", lambda _: bytes(512)),
    ("itself", "The file is there twice, one after the other.", lambda f: f.data()),
    (
        "a_footer_that_fits",
        "16 bytes and a good footer follow the footer.",
        lambda f: bytes(16) + f.footer(),
    ),
):
    sampled(
        f"followed_by_{_name}",
        "TrailingBytesError",
        _comment,
        lambda forge, tail=_tail: forge.data() + tail(forge),
    )

for _name, _comment, _footer in (
    ("with_damaged_magic", "A bit of the footer's text.", lambda f: flip(f.footer(), -3)),
    ("with_a_flipped_offset", "A low bit of the offset.", lambda f: flip(f.footer(), 7)),
    ("of_zeros", "The footer is zeros.", lambda _: bytes(24)),
    ("beyond_the_file", "The offset is 2^64 - 1.", lambda f: f.footer(2**64 - 1)),
    ("to_itself", "The offset is that of the footer.", lambda f: f.footer(len(f.data()) - 24)),
    ("to_the_header", "The offset is 0.", lambda f: f.footer(0)),
    ("to_another_frame", "The offset is that of the page.", lambda f: f.footer(f.offset(5))),
    ("into_a_frame", "The offset is within the end.", lambda f: f.footer(f.end_offset + 9)),
):
    sampled(
        f"footer_{_name}",
        "FooterError",
        _comment,
        lambda forge, footer=_footer: forge.data()[:-24] + footer(forge),
    )


@vector("FooterError")
def footer_to_the_second_end_frame(forge):
    """There are three end frames, and the offset is that of the second."""
    forge.sample().seal_end(step=300)
    second = forge.end_offset + len(framed(forge.end[0]))
    return forge.data()[:-24] + forge.footer(second)


# Frames


def _replaced(
    name: str, expect: str, comment: str, change: Callable[[Forge], object], released: int = 0
) -> None:
    """Add a vector whose frames are changed after table and signature have been made."""

    def make(forge: Forge) -> None:
        forge.sample().seal_end()
        forge.released = released
        change(forge)

    add(name, expect, comment, make)


def _put(forge: Forge, place: int, token: bytes) -> None:
    forge.frames[place] = Frame(token, forge.frames[place].section, forge.frames[place].plain)


def _flip_at(place: int, at: int) -> Callable[[Forge], None]:
    return lambda forge: _put(forge, place, flip(forge.frames[place].token, at))


def _swap(one: int, other: int) -> Callable[[Forge], None]:
    def change(forge: Forge) -> None:
        forge.frames[one], forge.frames[other] = forge.frames[other], forge.frames[one]

    return change


_replaced("frame_flipped", "FrameError", "A bit of a ciphertext.", _flip_at(1, 60), 1)
_replaced("frame_iv_flipped", "FrameError", "A bit of a token's IV.", _flip_at(1, 12), 1)
_replaced("frame_time_flipped", "FrameError", "A bit of a token's time.", _flip_at(1, 7), 1)
_replaced("frame_version_flipped", "FrameError", "A token's first bit.", _flip_at(1, 0), 1)
_replaced("frame_tag_flipped", "FrameError", "A bit of a token's tag.", _flip_at(1, -1), 1)
_replaced("segment_flipped", "FrameError", "A bit of a segment's frame.", _flip_at(4, 60))
_replaced("page_flipped", "FrameError", "A bit of a page's frame.", _flip_at(5, 60))
_replaced(
    "end_of_archive_flipped",
    "FrameError",
    "A bit of the frame that ends the tar, which no entry names.",
    _flip_at(3, 60),
    3,
)
_replaced(
    "end_flipped",
    "FrameError",
    "A bit of the end frame.",
    lambda f: f.end.__setitem__(0, flip(f.end[0], 60)),
)
_replaced("frames_swapped", "FrameOutOfPlaceError", "Frames 1 and 2 of one length.", _swap(1, 2), 1)
_replaced(
    "frames_of_different_lengths_swapped",
    "FrameOutOfPlaceError",
    "Frames 2 and 3, of which the second is shorter.",
    _swap(2, 3),
    2,
)
_replaced("index_frames_swapped", "FrameOutOfPlaceError", "The segment and the page.", _swap(4, 5))
_replaced(
    "frame_moved_to_the_front",
    "FrameOutOfPlaceError",
    "Frame 2 stands before frame 0, all else in order.",
    lambda f: f.frames.insert(0, f.frames.pop(2)),
)
_replaced(
    "frame_repeated_over_another",
    "FrameOutOfPlaceError",
    "Frame 0 also stands in the place of frame 1.",
    lambda f: _put(f, 1, f.frames[0].token),
    1,
)
_replaced(
    "end_over_another_frame",
    "FrameOutOfPlaceError",
    "The end frame also stands in the place of frame 1.",
    lambda f: _put(f, 1, f.end[0]),
)
_replaced(
    "frame_repeated_and_footer_mended",
    "FrameOutOfPlaceError",
    "Frame 0 is there twice, and the footer points to the end.",
    lambda f: f.frames.insert(1, f.frames[0]),
)
_replaced(
    "frame_left_out_and_footer_mended",
    "FrameOutOfPlaceError",
    "Frame 1 is left out, and the footer points to the end.",
    lambda f: f.frames.pop(1),
)
_replaced(
    "last_frame_left_out_and_footer_mended",
    "FrameOutOfPlaceError",
    "The frame before the end is left out, and the footer points to the end.",
    lambda f: f.frames.pop(5),
)
_replaced(
    "end_twice_and_footer_mended",
    "FrameOutOfPlaceError",
    "The end frame is there twice, and the footer points to the first.",
    lambda f: f.end.append(f.end[0]),
)


@vector("FrameOutOfPlaceError")
def frame_left_out(forge):
    """Frame 1 is left out, and the footer is as it was."""
    data = forge.sample().data()
    return data[: forge.offset(1)] + data[forge.offset(2) :]


@vector("FrameOutOfPlaceError")
def frame_repeated(forge):
    """Frame 1 is there twice, and the footer is as it was."""
    data = forge.sample().data()
    return data[: forge.offset(2)] + data[forge.offset(1) :]


@vector("FrameOutOfPlaceError")
def end_frames_swapped(forge):
    """The first two of several end frames, of one length, are swapped."""
    forge.sample()
    body = forge.body()
    whole = body + forge.sign(body)
    parts = [whole[:200], whole[200:400], whole[400:]]
    pieces = [store_gz(part) for part in parts]
    forge.end = [
        forge.seal(forge.message(END, len(forge.frames) + n, piece))
        for n, piece in enumerate(pieces)
    ]
    forge.end[0], forge.end[1] = forge.end[1], forge.end[0]


@vector("FrameOutOfPlaceError")
def end_frame_left_out(forge):
    """The second of three end frames is left out."""
    forge.sample().seal_end(step=300)
    forge.end.pop(1)


@vector("FrameError")
def frame_length_flipped(forge):
    """A bit of the length before frame 1."""
    forge.released = 1
    data = forge.sample().data()
    return flip(data, forge.offset(1) + 3)


@vector("FrameError")
def frame_length_of_four_gigabytes(forge):
    """The length before frame 1 is 2^32 - 1."""
    forge.released = 1
    data = forge.sample().data()
    return data[: forge.offset(1)] + b"\xff" * 4 + data[forge.offset(1) + 4 :]


@vector("FrameError")
def end_length_flipped(forge):
    """A bit of the length before the end frame."""
    return flip(forge.sample().data(), forge.end_offset + 3)


@vector("FrameError")
def end_length_of_four_gigabytes(forge):
    """The length before the end frame is 2^32 - 1."""
    data = forge.sample().data()
    return data[: forge.end_offset] + b"\xff" * 4 + data[forge.end_offset + 4 :]


@vector("ForeignFrameError")
def frame_of_another_snapshot(forge):
    """Frame 1 is that of a snapshot of another time, under its own data key."""
    other = Forge("another snapshot", time=TIME + 1).sample()
    forge.sample().seal_end()
    forge.released = 1
    _put(forge, 1, other.frames[1].token)


@vector("ForeignFrameError")
def frame_sealed_under_the_same_key_for_another_snapshot(forge):
    """Frame 1 is authentic, and its message names another snapshot."""
    forge.sample().seal_end()
    forge.released = 1
    plain = forge.member("docs/b", forge.contents[1]).getvalue()
    _put(forge, 1, forge.frame(ARCHIVE, plain, number=1, snapshot=bytes(16)).token)


@vector("ForeignFrameError")
def frame_in_the_table_that_names_another_snapshot(forge):
    """Frame 1 names another snapshot, and the table records its tag."""
    forge.sample_files()
    plain = forge.member("docs/b", forge.contents[1]).getvalue()
    forge.frames[1] = forge.frame(ARCHIVE, plain, number=1, snapshot=bytes(16))
    forge.released = 1
    forge.add_whole_index()


@vector("ForeignFrameError")
def frame_of_an_older_writing(forge):
    """Frame 1 is authentic, of this snapshot and number, and not the one that the table records."""
    forge.sample().seal_end()
    forge.released = 1
    plain = forge.member("docs/b", forge.contents[1]).getvalue()
    _put(forge, 1, forge.frame(ARCHIVE, plain, number=1).token)


@vector("ForeignFrameError")
def end_of_another_snapshot(forge):
    """End and footer are those of another snapshot of another time, with frames as long."""
    other = Forge("another snapshot", time=TIME + 1).sample()
    other.seal_end()
    forge.sample().seal_end()
    forge.end = other.end


def _malformed_frame(name: str, comment: str, expect: str, **changes: object) -> None:
    """Add a vector whose frame 1 is wrong, and authentic, and in the table."""

    def make(forge: Forge) -> None:
        forge.sample_files()
        plain = forge.member("docs/b", forge.contents[1]).getvalue()
        fields = {"number": 1} | changes
        forge.frames[1] = forge.frame(ARCHIVE, plain, **fields)  # type: ignore[arg-type]
        forge.released = 1
        forge.add_whole_index()

    add(f"frame_{name}", expect, comment, make)


_malformed_frame(
    "with_another_number", "Frame 1 says that it is frame 9.", "FrameOutOfPlaceError", number=9
)
_malformed_frame(
    "with_another_section",
    "Frame 1 says that it is of the index; its row says archive.",
    "FrameOutOfPlaceError",
    told=INDEX,
)
_malformed_frame("with_section_zero", "Frame 1 says section 0.", "MalformedError", told=0)
_malformed_frame("with_section_five", "Frame 1 says section 5.", "MalformedError", told=5)
_malformed_frame(
    "with_nonzero_padding", "The padding ends in a 1.", "MalformedError", padding=bytes(20) + b"\1"
)
_malformed_frame(
    "with_a_length_beyond_it", "The inner length is 2^32 - 1.", "MalformedError", length=2**32 - 1
)
_malformed_frame(
    "with_a_length_of_less",
    "The inner length is 10, and more follows.",
    "MalformedError",
    length=10,
)
_malformed_frame(
    "with_another_time", "The token's time is a second later.", "MalformedError", time=TIME + 1
)


@vector("MalformedError")
def frame_with_a_message_beyond_the_cap(forge):
    """The message has 4,097 bytes; its token is no longer than that of 4,096 bytes."""
    forge.sample_files()
    plain = forge.member("docs/b", forge.contents[1]).getvalue()
    padding = bytes(4097 - PLACE.size - len(forge.compress(ARCHIVE, plain)))
    forge.frames[1] = forge.frame(ARCHIVE, plain, number=1, padding=padding)
    forge.released = 1
    forge.add_whole_index()


@vector("MalformedError")
def frame_with_a_message_of_20_bytes(forge):
    """The message is shorter than what tells a frame's place."""
    forge.sample_files()
    forge.frames[1] = Frame(forge.seal(bytes(20)), ARCHIVE, 632)
    forge.released = 1
    forge.add_whole_index()


@vector("FrameError")
def frame_as_text(forge):
    """Frame 1 is the base64 text of its token, and the table records it so."""
    forge.sample_files()
    frame = forge.frames[1]
    forge.frames[1] = Frame(base64.urlsafe_b64encode(frame.token), ARCHIVE, frame.plain)
    forge.released = 1
    forge.add_whole_index()


@vector("FrameError")
def frame_of_no_bytes(forge):
    """The token of frame 1 has length 0, and the table records it so."""
    forge.sample()
    rows = forge.rows()
    removed = len(forge.frames[1].token)
    changed = [
        (section, offset - (removed if number > 1 else 0), length, plain, tag)
        for number, (section, offset, length, plain, tag) in enumerate(rows)
    ]
    changed[1] = (ARCHIVE, rows[1][1], 0, rows[1][3], bytes(32))
    forge.seal_end(forge.body(changed))
    forge.released = 1
    tokens = [frame.token for frame in forge.frames]
    tokens[1] = b""
    data = forge.header() + b"".join(map(framed, [*tokens, *forge.end]))
    return data + forge.footer(forge.end_offset - removed)


# Pieces


def store_gz(plain: bytes) -> bytes:
    """Return ``plain`` as a gzip member without compression."""
    deflater = zlib.compressobj(0, zlib.DEFLATED, 31)
    return deflater.compress(plain) + deflater.flush()


def _wrong_piece(
    name: str, archive: str, comment: str, expect: str, change: Callable[[Forge, bytes], bytes]
) -> None:
    """Add a vector whose frame 1 has a piece that its row does not describe."""

    def make(forge: Forge) -> None:
        forge.sample_files()
        plain = forge.member("docs/b", forge.contents[1]).getvalue()
        piece = change(forge, plain)
        forge.frames[1] = forge.frame(ARCHIVE, plain, number=1, piece=piece)
        forge.released = 1
        forge.add_whole_index()

    prefix = archive.replace("tar.", "")
    add(f"{prefix}_piece_{name}", expect, comment, make, archive=archive)


def _wrong_checksum(forge: Forge, plain: bytes) -> bytes:
    piece = forge.compress(ARCHIVE, plain)
    index_length = 4 * (struct.unpack("<I", piece[-8:-4])[0] + 1)  # of an xz stream
    at = {
        ArchiveType.TAR_GZ: -8,
        ArchiveType.TAR_ZST: -1,
        ArchiveType.TAR_BZ2: 12,
        ArchiveType.TAR_XZ: -12 - index_length - 1,
    }
    return flip(piece, at[forge.core.archive])


for _archive in ("tar.gz", "tar.xz", "tar.zst", "tar.bz2"):
    _wrong_piece(
        "that_is_a_bomb",
        _archive,
        "The piece of frame 1 holds a mebibyte of zeros, and its row says 1,024 bytes.",
        "LimitError",
        lambda forge, _: forge.compress(ARCHIVE, bytes(2**20)),
    )
    _wrong_piece(
        "with_a_byte_more",
        _archive,
        "The piece of frame 1 holds a byte more than its row says.",
        "LimitError",
        lambda forge, plain: forge.compress(ARCHIVE, plain + b"\0"),
    )
    _wrong_piece(
        "with_a_byte_less",
        _archive,
        "The piece of frame 1 holds a byte less than its row says.",
        "MalformedError",
        lambda forge, plain: forge.compress(ARCHIVE, plain[:-1]),
    )
    _wrong_piece(
        "that_is_cut",
        _archive,
        "The stream of frame 1 lacks its last byte, with all that it holds in place.",
        "MalformedError",
        lambda forge, plain: forge.compress(ARCHIVE, plain)[:-1],
    )
    _wrong_piece(
        "followed_by_bytes",
        _archive,
        "Four zeros follow the stream of frame 1 within its piece.",
        "MalformedError",
        lambda forge, plain: forge.compress(ARCHIVE, plain) + bytes(4),
    )
    _wrong_piece(
        "of_two_streams",
        _archive,
        "The piece of frame 1 is two streams, which together hold what its row says.",
        "MalformedError",
        lambda f, plain: f.compress(ARCHIVE, plain[:512]) + f.compress(ARCHIVE, plain[512:]),
    )
    _wrong_piece(
        "with_an_empty_stream_behind",
        _archive,
        "The piece of frame 1 is the stream, and a stream of no bytes.",
        "MalformedError",
        lambda f, plain: f.compress(ARCHIVE, plain) + f.compress(ARCHIVE, b""),
    )
    _wrong_piece(
        "that_is_no_stream",
        _archive,
        "The piece of frame 1 is not compressed.",
        "MalformedError",
        lambda _, plain: plain,
    )
    _wrong_piece(
        "of_no_bytes",
        _archive,
        "The piece of frame 1 is empty.",
        "MalformedError",
        lambda *_: b"",
    )
    _wrong_piece(
        "with_a_wrong_checksum",
        _archive,
        "A bit of the checksum within the stream of frame 1.",
        "MalformedError",
        _wrong_checksum,
    )

_wrong_piece(
    "with_a_byte_more",
    "tar",
    "The piece of frame 1 has a byte more than its row says.",
    "LimitError",
    lambda _, plain: plain + b"\0",
)
_wrong_piece(
    "with_a_byte_less",
    "tar",
    "The piece of frame 1 has a byte less than its row says.",
    "MalformedError",
    lambda _, plain: plain[:-1],
)


def _xz_with_a_large_dictionary(_: Forge, plain: bytes) -> bytes:
    """Return a good stream whose header asks for a dictionary of a gibibyte."""
    stream = bytearray(store_xz(plain))
    block = stream[12:20]
    block[4] = 36
    stream[12:24] = block + struct.pack("<I", zlib.crc32(block))
    return bytes(stream)


def _zst_with_a_large_window(_: Forge, plain: bytes) -> bytes:
    """Return a good frame whose header asks for a window of a gibibyte."""
    window = bytes([(30 - 10) << 3])
    block = struct.pack("<I", len(plain) << 3 | 1)[:3] + plain
    return b"\x28\xb5\x2f\xfd\x00" + window + block


_wrong_piece(
    "that_needs_a_gibibyte",
    "tar.xz",
    "The stream of frame 1 asks for a dictionary of a gibibyte.",
    "MalformedError",
    _xz_with_a_large_dictionary,
)
_wrong_piece(
    "that_needs_a_gibibyte",
    "tar.zst",
    "The stream of frame 1 asks for a window of a gibibyte.",
    "MalformedError",
    _zst_with_a_large_window,
)
_wrong_piece(
    "in_the_older_format",
    "tar.xz",
    "The piece of frame 1 is an .lzma stream.",
    "MalformedError",
    lambda _, plain: lzma.compress(plain, format=lzma.FORMAT_ALONE),
)


@vector("LimitError")
def end_frame_that_is_a_bomb(forge):
    """The end frame holds a mebibyte, and the cap is 4,096 bytes."""
    forge.sample()
    forge.end_fields["program"] = " " * 2**20
    forge.seal_end(step=2**21)


@vector("MalformedError")
def end_piece_that_is_no_stream(forge):
    """The piece of the end frame is not compressed."""
    forge.sample().seal_end(piece=b"{}\n")


@vector("MalformedError", archive="tar")
def index_piece_that_is_not_compressed(forge):
    """In a snapshot of a tar, the segment is not a gzip member."""
    forge.sample_files()
    data = forge.lines("segment", forge.entries)
    segment = forge.add_index(data, len(forge.entries), {"p": "docs"}, piece=data)
    forge.end_fields["pages"] = [forge.add_page([segment])]


# End


Row = tuple[int, int, int, int, bytes]


def _wrong_rows(
    name: str, comment: str, expect: str, change: Callable[[list[Row]], object]
) -> None:
    """Add a vector whose table is wrong, and signed."""

    def make(forge: Forge) -> None:
        forge.sample()
        rows = forge.rows()
        change(rows)
        forge.seal_end(forge.body(rows, frames=len(rows)))

    add(f"end_{name}", expect, comment, make)


def _shifted(rows: list[Row], start: int, by: int) -> None:
    for number in range(start, len(rows)):
        section, offset, *rest = rows[number]
        rows[number] = (section, offset + by, *rest)


def _changed(rows: list[Row], number: int, place: int, value: object) -> None:
    row = list(rows[number])
    row[place] = value
    rows[number] = tuple(row)


for _name, _comment, _expect, _change in (
    (
        "row_leaves_a_gap",
        "Rows from 2 on begin a byte later than row 1 ends.",
        "FrameOutOfPlaceError",
        lambda rows: _shifted(rows, 2, 1),
    ),
    (
        "row_overlaps_another",
        "Rows from 2 on begin a byte before row 1 ends.",
        "FrameOutOfPlaceError",
        lambda rows: _shifted(rows, 2, -1),
    ),
    (
        "rows_begin_after_the_header",
        "All rows begin a byte late.",
        "FrameOutOfPlaceError",
        lambda rows: _shifted(rows, 0, 1),
    ),
    (
        "rows_end_before_the_end",
        "The last row's token is a byte shorter.",
        "FrameOutOfPlaceError",
        lambda rows: _changed(rows, 5, 2, rows[5][2] - 1),
    ),
    (
        "rows_out_of_order",
        "Rows 0 and 1 are swapped.",
        "FrameOutOfPlaceError",
        lambda rows: rows.insert(0, rows.pop(1)),
    ),
    (
        "rows_fewer_than_frames",
        "The last row is missing.",
        "FrameOutOfPlaceError",
        lambda rows: rows.pop(),
    ),
    (
        "rows_more_than_frames",
        "There is a row more, of section 0.",
        "FrameOutOfPlaceError",
        lambda rows: rows.append(NO_ROW),
    ),
    (
        "row_taken_away_while_the_frame_is_there",
        "Row 1 has section 0 and zeros, and frame 1 is in the file.",
        "FrameOutOfPlaceError",
        lambda rows: rows.__setitem__(1, NO_ROW),
    ),
    (
        "row_of_an_unknown_section",
        "Row 3 has section 5.",
        "MalformedError",
        lambda rows: _changed(rows, 3, 0, 5),
    ),
    (
        "row_of_the_end_section",
        "Row 3 has section 4.",
        "MalformedError",
        lambda rows: _changed(rows, 3, 0, END),
    ),
    (
        "row_of_another_section",
        "Row 4, of the segment, says archive.",
        "MalformedError",
        lambda rows: _changed(rows, 4, 0, ARCHIVE),
    ),
    (
        "row_with_a_plain_length_beyond_the_cap",
        "Row 1 says that its piece holds 4,097 bytes.",
        "MalformedError",
        lambda rows: _changed(rows, 1, 3, 4097),
    ),
):
    _wrong_rows(_name, _comment, _expect, _change)


@vector("MalformedError")
def end_row_with_a_token_beyond_the_cap(forge):
    """A frame's message has 5,000 bytes where the cap is 4,096, and its row says so."""
    forge.sample_files()
    forge.add(CHUNKS, b"", padding=bytes(5000))
    forge.add_whole_index()


@vector("MalformedError")
def end_row_of_section_zero_that_is_not_zeros(forge):
    """Row 1 has section 0 and an offset, and no frame has the number 1."""
    _without_frame_1(forge)
    rows = forge.rows()
    _changed(rows, 1, 1, 1234)
    forge.seal_end(forge.body(rows))


@vector("MalformedError")
def end_with_fewer_rows_than_it_says(forge):
    """The end says 9 frames, has 6 rows, and not even the signature fills the difference."""
    forge.sample()
    forge.seal_end(forge.body(frames=9))


@vector("FrameOutOfPlaceError")
def end_with_more_rows_than_it_says(forge):
    """The end says 5 frames and has 6 rows."""
    forge.sample()
    forge.seal_end(forge.body(frames=5))


@vector("FrameOutOfPlaceError")
def end_frame_with_another_number(forge):
    """The end frame says that it is frame 7, and 6 frames precede it."""
    forge.sample().seal_end(number=7)


@vector("FrameOutOfPlaceError")
def end_frame_of_another_section(forge):
    """The end frame says that it is of the index."""
    forge.sample().seal_end(told=INDEX)


@vector("ForeignFrameError")
def end_frame_that_names_another_snapshot(forge):
    """The end frame is authentic, and names another snapshot."""
    forge.sample().seal_end(snapshot=bytes(16))


@vector("MalformedError")
def end_frame_with_another_time(forge):
    """The end frame is authentic, and its token's time is a second later."""
    forge.sample().seal_end(time=TIME + 1)


@vector("MalformedError")
def end_frame_with_nonzero_padding(forge):
    """The padding of the end frame ends in a 1."""
    forge.sample().seal_end(padding=bytes(9) + b"\1")


@vector("MalformedError")
def sections_out_of_order(forge):
    """The index stands before the archive."""
    content = forge.random(40)
    forge.add_entry("docs/a", content, [[0, 2, 512, 40]])
    forge.add_whole_index()
    forge.add(ARCHIVE, forge.member("docs/a", content).getvalue())
    forge.end_archive()


def _wrong_line(name: str, comment: str, line: bytes | dict[str, object]) -> None:
    """Add a vector whose end says something else, and is signed."""

    def make(forge: Forge) -> None:
        forge.sample()
        if isinstance(line, dict):
            body = forge.body(**line)
        else:
            body = line + b"\n" + b"".join(ROW.pack(*row) for row in forge.rows())
        forge.seal_end(body)

    add(f"end_{name}", "MalformedError", comment, make)


_wrong_line("line_not_json", "The end's line is not JSON.", b"{job: documents}")
_wrong_line("line_a_list", "The end's line is a list.", b'["documents"]')
_wrong_line("line_empty", "The end's line is empty.", b"")
_wrong_line("of_an_unknown_kind", "The kind is none.", {"kind": "partial"})
_wrong_line("with_frames_below_zero", "The number of frames is -1.", {"frames": -1})
_wrong_line("with_frames_beyond_all", "The number of frames is 2^32 - 1.", {"frames": 2**32 - 1})
_wrong_line("without_sources", "The sources are null.", {"sources": None})
_wrong_line("with_a_source_of_no_name", "A source has neither p nor pb.", {"sources": [{}]})
_wrong_line("with_a_source_of_dotdot", "A source is ../etc.", {"sources": [{"p": "../etc"}]})
_wrong_line("with_an_absolute_source", "A source is /docs.", {"sources": [{"p": "/docs"}]})
_wrong_line(
    "with_a_page_of_an_unknown_ordinal",
    "A page lies in snapshot 1, and no snapshot is named.",
    {"pages": [{"at": [1, 0], "sha256": "00" * 32, "entries": 1, "p": "docs"}]},
)
_wrong_line(
    "with_a_page_of_no_entries",
    "A page has 0 entries.",
    {"pages": [{"at": [0, 5], "sha256": "00" * 32, "entries": 0, "p": "docs"}]},
)
_wrong_line(
    "with_a_page_in_a_frame_that_is_not_there",
    "A page lies in frame 99.",
    {"pages": [{"at": [0, 99], "sha256": "00" * 32, "entries": 4, "p": "docs"}]},
)
_wrong_line(
    "with_a_page_in_the_archive",
    "A page lies in frame 0, which is of the archive.",
    {"pages": [{"at": [0, 0], "sha256": "00" * 32, "entries": 4, "p": "docs"}]},
)
_OTHER = {"id": "ab" * 16, "core": "cd" * 32}
_wrong_line("names_a_snapshot_twice", "Of two.", {"snapshots": [_OTHER, _OTHER]})
_wrong_line(
    "names_a_snapshot_with_a_short_key",
    "A data key has 31 bytes.",
    {"snapshots": [_OTHER | {"key": base64.b64encode(bytes(31)).decode()}]},
)
_wrong_line(
    "names_a_snapshot_with_a_short_id",
    "An id has 15 bytes.",
    {"snapshots": [_OTHER | {"id": "00"}]},
)
_wrong_line(
    "counts_more_entries_than_there_are",
    "The end counts 5 entries, and the index has 4.",
    {"counts": {"entries": 5, "files": 3, "bytes": 120, "errors": 0}},
)
_wrong_line(
    "counts_fewer_entries_than_there_are",
    "The end counts 3 entries, and the index has 4.",
    {"counts": {"entries": 3, "files": 3, "bytes": 120, "errors": 0}},
)


@vector("MalformedError")
def end_names_the_snapshot_itself(forge):
    """The snapshot is among those that it refers to."""
    forge.end_fields["snapshots"] = [{"id": forge.ids[0], "core": forge.core.digest.hex()}]
    forge.sample()


@vector("DigestError")
def page_digest_does_not_fit(forge):
    """The end records another digest of the page."""
    forge.sample()
    forge.end_fields["pages"][0]["sha256"] = "00" * 32


# Signature


def _signed(name: str, comment: str, expect: str, block: Callable[[Forge], bytes]) -> None:
    sampled(name, expect, comment, lambda forge: forge.seal_end(block=block(forge)))


_signed("unsigned", "There is no signature block.", "UnsignedError", lambda _: b"")
_signed(
    "signature_flipped",
    "A bit of the signature.",
    "SignatureError",
    lambda forge: flip(forge.sign(forge.body()), -1),
)
_signed(
    "signer_flipped",
    "A bit of the public key.",
    "SignatureError",
    lambda forge: flip(forge.sign(forge.body()), 0),
)
_signed(
    "signature_of_another_body",
    "The signature is over a body that counts otherwise.",
    "SignatureError",
    lambda forge: forge.sign(forge.body(counts={})),
)
_signed(
    "signature_of_another_snapshot",
    "The signature is over this body and another core line.",
    "SignatureError",
    lambda forge: Forge("another snapshot").sign(forge.body()),
)
_signed(
    "signature_too_short",
    "The block lacks its last byte.",
    "SignatureError",
    lambda forge: forge.sign(forge.body())[:-1],
)
_signed(
    "signature_too_long",
    "A byte follows the signature.",
    "SignatureError",
    lambda forge: forge.sign(forge.body()) + b"\0",
)
_signed("signature_of_zeros", "The block is zeros.", "SignatureError", lambda _: bytes(96))
_signed(
    "signer_without_a_signature",
    "The block is a public key alone.",
    "SignatureError",
    lambda forge: forge.sign(forge.body())[:32],
)


@vector("UnknownSignerError")
def signer_is_unknown(forge):
    """The signature fits, and its host is not the one that is trusted."""
    forge.trusted = [OTHER_HOST.public]
    forge.sample()


@vector("UnsignedError")
def unsigned_and_a_signer_is_trusted(forge):
    """There is no signature, and the reader trusts a host."""
    forge.trusted = [HOST.public]
    forge.sample().seal_end(block=b"")


# Entries of the index


TOLD_LATE = {"extent_beyond_its_frame", "extent_far_beyond_its_frame", "extent_in_the_index"}
TOLD_LATE |= {"extent_in_no_frame"}


def _wrong_entry(name: str, comment: str, change: dict[str, object]) -> None:
    """Add a vector whose last entry is wrong; ``None`` takes a field away."""

    def make(forge: Forge) -> None:
        forge.sample_files()
        forge.released = 2 if name in TOLD_LATE else 0
        entry = forge.entries[-1] | change
        forge.entries[-1] = {key: value for key, value in entry.items() if value is not None}
        forge.add_whole_index()

    add(f"index_{name}", "MalformedError", comment, make)


_LATIN = base64.b64encode(b"docs/\xe9").decode()
for _name, _comment, _change in (
    ("path_absolute", "/docs/c", {"p": "/docs/c"}),
    ("path_with_dotdot", "docs/../../etc", {"p": "docs/../../etc"}),
    ("path_is_dotdot", "..", {"p": ".."}),
    ("path_with_dot", "docs/./c", {"p": "docs/./c"}),
    ("path_with_an_empty_name", "docs//c", {"p": "docs//c"}),
    ("path_with_a_slash_at_its_end", "docs/c/", {"p": "docs/c/"}),
    ("path_empty_of_a_file", "A file with the path of the root directory", {"p": ""}),
    ("path_with_nul", "A path with a NUL", {"p": "docs/c\0d"}),
    ("path_with_a_name_of_256_bytes", "A name of 256 bytes", {"p": "docs/" + "n" * 256}),
    (
        "path_with_a_name_of_256_bytes_in_fewer_letters",
        "A name of 128 letters, 256 bytes",
        {"p": "docs/" + "é" * 128},
    ),
    ("path_in_both_forms", "Both p and pb", {"pb": _LATIN}),
    ("path_in_no_form", "Neither p nor pb", {"p": None}),
    (
        "path_in_needless_base64",
        "A path that is UTF-8 in pb",
        {"p": None, "pb": base64.b64encode(b"docs/c").decode()},
    ),
    ("path_in_broken_base64", "A pb that is not base64", {"p": None, "pb": "docs_é"}),
    (
        "path_in_base64_with_spare_bits",
        "A pb whose last character has bits that count for nothing",
        {"p": None, "pb": "ZG9jcy/peh=="},
    ),
    (
        "path_in_base64_with_dotdot",
        "A pb of a path that leads up",
        {"p": None, "pb": base64.b64encode(b"\xe9/../c").decode()},
    ),
    ("type_unknown", "The type is door", {"t": "door"}),
    ("type_left_out", "The type is left out", {"t": None}),
    ("mode_too_big", "The mode is 010000", {"mode": 0o10000}),
    ("mode_below_zero", "The mode is -1", {"mode": -1}),
    ("size_below_zero", "The size is -1", {"size": -1}),
    ("links_zero", "The number of hard links is 0", {"links": 0}),
    ("mtime_beyond_64_bits", "The time is 10^30 nanoseconds", {"mtime": 10**30}),
    ("extents_less_than_the_size", "The size is a byte more than the extents", {"size": 41}),
    ("extents_more_than_the_size", "The size is a byte less than the extents", {"size": 39}),
    ("extents_left_out", "A file of 40 bytes has no extents", {"ext": None}),
    (
        "extent_beyond_its_frame",
        "The extent ends a byte after the piece",
        {"ext": [[0, 2, 985, 40]]},
    ),
    ("extent_far_beyond_its_frame", "The offset is 2^32 - 1", {"ext": [[0, 2, 2**32 - 1, 40]]}),
    (
        "extent_in_the_index",
        "The extent lies in the frame of the segment",
        {"ext": [[0, 4, 0, 40]]},
    ),
    ("extent_in_no_frame", "The extent lies in frame 99", {"ext": [[0, 99, 0, 40]]}),
    (
        "extent_of_an_unknown_ordinal",
        "The extent lies in snapshot 1 of 1",
        {"ext": [[1, 2, 512, 40]]},
    ),
    ("extent_of_three_numbers", "The extent lacks its length", {"ext": [[0, 2, 512]]}),
    ("file_without_a_digest", "A file without error has no digest", {"sha256": None}),
    ("digest_too_short", "The digest has 31 bytes", {"sha256": "00" * 31}),
    ("digest_with_a_newline", "A newline follows the digest", {"sha256": "00" * 32 + "\n"}),
    ("digest_in_upper_case", "The digest is in upper case", {"sha256": "AB" * 32}),
    ("directory_with_a_content", "The entry with extents is a directory", {"t": "dir"}),
    (
        "directory_with_a_digest",
        "A directory has a digest",
        {"t": "dir", "ext": None, "size": None},
    ),
    (
        "link_with_a_content",
        "The entry with extents is a symbolic link",
        {"t": "link", "to": "a"},
    ),
    (
        "link_without_a_target",
        "A symbolic link has no target",
        {"t": "link", "ext": None, "size": None, "sha256": None},
    ),
    (
        "link_to_a_name_with_nul",
        "The target of a symbolic link has a NUL",
        {"t": "link", "ext": None, "size": None, "sha256": None, "to": "a\0b"},
    ),
    (
        "file_with_extents_and_chunks",
        "A file has extents and a chunk list",
        {"chunks": [[0, 3, "00" * 32, 1]]},
    ),
    ("device_of_one_number", "A device has one number", {"dev": [1]}),
    ("attribute_not_base64", "An extended attribute is not base64", {"xattrs": [["é", "AA=="]]}),
):
    _wrong_entry(_name, f"{_comment}." if " " in _comment else f"A path is {_comment}.", _change)


# Sparse files


def _sparse_file(forge: Forge, size: int, *runs: tuple[int, int], **changes: object) -> bytes:
    """Add a file of ``size`` bytes with data at ``runs``; return what is stored of it."""
    stored = b"".join(forge.random(length) for _, length in runs)
    content = bytearray(size)
    for at, length in runs:
        before = sum(size for start, size in runs if start < at)
        content[at : at + length] = stored[before : before + length]
    extents = []
    if stored:
        member = forge.member("GNUSparseFile.0/sparse", stored)
        extents = [[0, forge.add(ARCHIVE, member.getvalue()), 512, len(stored)]]
    fields = {"data": [list(run) for run in runs], "sha256": sha256(stored).hexdigest()}
    forge.add_entry("docs/sparse", bytes(content), extents, **fields | changes)
    return stored


def _sparse(name: str, comment: str, size: int, *runs: tuple[int, int]) -> None:
    def make(forge: Forge) -> None:
        _sparse_file(forge, size, *runs)
        forge.end_archive()
        forge.add_whole_index()

    add(f"sparse_file_{name}", SUCCESS, f"A sparse file {comment}.", make)


_sparse("with_a_hole_at_each_end", "has a hole at its begin, in the middle and at its end", 9000,
        (1000, 40), (5000, 30))  # fmt: skip
_sparse("with_data_at_each_end", "has data at its begin and its end", 9000, (0, 40), (8999, 1))
_sparse("of_one_hole", "has no data at all", 9000)
_sparse("without_a_hole", "has a map, and in it one run from its begin to its end", 40, (0, 40))


@vector(SUCCESS)
def sparse_file_of_chunks(forge):
    """The chunks of a large sparse file are those of its runs of data, joined."""
    rows = forge.sample_chunked()
    entry = forge.chunked_entry("docs/big", rows, [forge.add_chunk_list(rows)])
    entry |= {"size": 2000, "data": [[100, 200], [1000, 250]]}
    stored = forge.contents.pop()
    forge.contents.append(
        bytes(100) + stored[:200] + bytes(700) + stored[200:] + bytes(750)
    )  # fmt: skip
    forge.add_whole_index()


@vector(SUCCESS)
def sparse_file_with_an_error(forge):
    """A sparse file was not read, and its entry has its map and no content."""
    forge.sample_files()
    forge.contents.pop()
    fields = {"size": 9000, "data": [[0, 40]], "error": "Input/output error"}
    del forge.entries[-1]["ext"], forge.entries[-1]["sha256"]
    forge.entries[-1] |= fields
    forge.contents.append(bytes(9000))
    forge.add_whole_index()


def _wrong_sparse(name: str, comment: str, data: object, **changes: object) -> None:
    """Add a vector with a sparse file of 9,000 bytes, 40 at 1,000 and 30 at 5,000."""

    def make(forge: Forge) -> None:
        _sparse_file(forge, 9000, (1000, 40), (5000, 30), data=data, **changes)
        forge.end_archive()
        forge.add_whole_index()

    add(f"sparse_{name}", "MalformedError", f"{comment}.", make)


for _name, _comment, _data in (
    ("runs_out_of_order", "The runs of data are exchanged", [[5000, 30], [1000, 40]]),
    ("runs_that_overlap", "The second run begins within the first", [[1000, 40], [1039, 30]]),
    ("runs_that_touch", "The second run begins where the first ends", [[1000, 40], [1040, 30]]),
    ("run_of_no_bytes", "A run of data is empty", [[1000, 40], [3000, 0], [5000, 30]]),
    ("run_of_less_than_no_bytes", "A run has -1 bytes", [[1000, 71], [5000, -1]]),
    ("run_before_the_file", "A run begins at -1", [[-1, 40], [5000, 30]]),
    ("run_beyond_the_size", "A run ends a byte after the file", [[1000, 40], [8971, 30]]),
    ("run_far_beyond_the_size", "A run ends beyond 64 bits", [[1000, 40], [2**63 - 1, 30]]),
    ("runs_less_than_the_extents", "The runs are a byte less", [[1000, 40], [5000, 29]]),
    ("runs_more_than_the_extents", "The runs are a byte more", [[1000, 40], [5000, 31]]),
    ("runs_left_out", "The map is null, so that the extents are not the size", None),
    ("runs_none", "There is no run of data, and there are extents", []),
    ("run_of_one_number", "A run lacks its length", [[1000], [5000, 30]]),
    ("run_of_three_numbers", "A run has a number more", [[1000, 40, 0], [5000, 30]]),
    ("run_of_fractions", "A run has 40.5 bytes", [[1000, 40.5], [5000, 29.5]]),
    ("map_that_is_a_number", "The map is 70", 70),
    ("map_that_is_a_text", "The map is an empty text", ""),
):
    _wrong_sparse(_name, _comment, _data)

for _kind in ("dir", "link", "fifo", "stream"):
    _fields = {"t": _kind, "ext": None, "size": None, "data": []}
    if _kind == "stream":
        _fields |= {"sha256": sha256().hexdigest()}
    else:
        _fields |= {"sha256": None} | ({"to": "a"} if _kind == "link" else {})
    _wrong_entry(f"{_kind}_with_holes", f"The entry with a sparse map is a {_kind}.", _fields)


@vector("DigestError")
def sparse_file_of_chunks_with_other_runs(forge):
    """The runs of data of a large sparse file are a byte more than its chunks."""
    rows = forge.sample_chunked()
    entry = forge.chunked_entry("docs/big", rows, [forge.add_chunk_list(rows)])
    entry |= {"size": 2000, "data": [[100, 200], [1000, 251]]}
    forge.add_whole_index()


# What is only told when a content is read: the contents before it have been released.


def _exchange(forge: Forge) -> None:
    one, other = forge.entries[-2:]
    one["ext"], other["ext"] = other["ext"], one["ext"]
    forge.released = 1


def _late(name: str, comment: str, expect: str, change: Callable[[Forge], object]) -> None:
    def make(forge: Forge) -> None:
        forge.sample_files()
        forge.released = 2
        change(forge)
        forge.add_whole_index()

    add(name, expect, comment, make)


_late(
    "content_digest_does_not_fit",
    "The last entry records another digest of its content.",
    "DigestError",
    lambda forge: forge.entries[-1].update(sha256="00" * 32),
)
_late(
    "content_digest_does_not_fit_beside_an_error",
    "The last entry has an error, and a digest that its content has not.",
    "DigestError",
    lambda forge: forge.entries[-1].update(sha256="00" * 32, error="changed while it was read"),
)
_late(
    "contents_of_two_files_exchanged",
    "The extents of the last two entries are exchanged.",
    "DigestError",
    _exchange,
)


# Segments and pages of the index


def _wrong_segment(name: str, comment: str, data: Callable[[Forge], bytes]) -> None:
    """Add a vector whose segment holds something else, with a digest that fits."""

    def make(forge: Forge) -> None:
        forge.sample_files()
        segment = forge.add_index(data(forge), len(forge.entries), {"p": "docs"})
        forge.end_fields["pages"] = [forge.add_page([segment])]

    add(f"segment_{name}", "MalformedError", comment, make)


def _wrong_page(name: str, comment: str, data: Callable[[Forge, dict[str, object]], bytes]) -> None:
    """Add a vector whose page holds something else, with a digest that fits."""

    def make(forge: Forge) -> None:
        forge.sample_files()
        segment = forge.add_segment(forge.entries)
        page = forge.add_index(data(forge, segment), len(forge.entries), {"p": "docs"})
        forge.end_fields["pages"] = [page]

    add(f"page_{name}", "MalformedError", comment, make)


def _line(value: object) -> bytes:
    return to_json(value) + b"\n"


_wrong_segment(
    "not_json",
    "A line of the segment is not JSON.",
    lambda forge: forge.lines("segment", forge.entries[:3]) + b"{t: file}\n",
)
_wrong_segment(
    "not_utf8",
    "A path in the segment is not UTF-8.",
    lambda f: f.lines("segment", f.entries).replace(b"docs/c", b"docs/\xe9"),
)
_wrong_segment(
    "with_half_a_surrogate",
    "A path in the segment is half of a surrogate pair.",
    lambda f: f.lines("segment", f.entries).replace(b"docs/c", b"docs/\\ud800"),
)
_wrong_segment(
    "without_its_last_newline",
    "The segment's last line is not ended.",
    lambda forge: forge.lines("segment", forge.entries)[:-1],
)
_wrong_segment(
    "with_an_empty_line",
    "An empty line ends the segment.",
    lambda forge: forge.lines("segment", forge.entries) + b"\n",
)
_wrong_segment(
    "of_the_wrong_kind",
    "The segment says that it is a page.",
    lambda forge: forge.lines("page", forge.entries),
)
_wrong_segment(
    "without_a_head",
    "The segment begins with an entry.",
    lambda forge: forge.lines("segment", forge.entries).split(b"\n", 1)[1],
)
_wrong_segment(
    "with_a_short_id",
    "The segment's table has an id of 15 bytes.",
    lambda f: f.lines("segment", f.entries).replace(f.ids[0].encode(), f.ids[0][2:].encode()),
)
_wrong_segment("empty", "The segment has no byte.", lambda _: b"")
_wrong_segment(
    "with_entries_out_of_order",
    "The last two entries of the segment are exchanged.",
    lambda f: f.lines("segment", [*f.entries[:2], f.entries[3], f.entries[2]]),
)
_wrong_segment(
    "with_a_path_twice",
    "Two entries of the segment have one path.",
    lambda f: f.lines("segment", [*f.entries[:3], f.entries[2]]),
)
_wrong_segment(
    "with_entries_in_plain_byte_order",
    "The path docs-x stands before docs/a, as bytes would have it.",
    lambda f: f.lines("segment", [f.entries[0], {"t": "dir", "p": "docs-x"}, *f.entries[1:3]]),
)
_wrong_segment(
    "with_fewer_entries_than_its_page_says",
    "The segment has 3 entries, and page and end say 4.",
    lambda forge: forge.lines("segment", forge.entries[:3]),
)
_wrong_segment(
    "with_more_entries_than_its_page_says",
    "The segment has 5 entries, and page and end say 4.",
    lambda f: f.lines("segment", [*f.entries, {"t": "dir", "p": "docs/d"}]),
)
_wrong_segment(
    "that_begins_with_another_path",
    "The page says that the segment begins with docs, and it begins with aaa.",
    lambda f: f.lines("segment", [{"t": "dir", "p": "aaa"}, *f.entries[1:]]),
)
_wrong_segment(
    "that_names_a_snapshot_which_the_end_does_not",
    "An extent names the second snapshot of the segment's table, which the end does not name.",
    lambda f: (
        _line({"kind": "segment", "snapshots": [f.ids[0], "ab" * 16]})
        + b"".join(_line(e | ({"ext": [[1, 0, 0, 40]]} if "ext" in e else {})) for e in f.entries)
    ),
)
_wrong_page("not_json", "A page is not JSON.", lambda f, _: f.lines("page", []) + b"{at: 0}\n")
_wrong_page(
    "of_the_wrong_kind", "A page says that it is a segment.", lambda f, s: f.lines("segment", [s])
)
_wrong_page("without_references", "A page has no line.", lambda f, _: f.lines("page", []))
_wrong_page(
    "with_an_unknown_ordinal",
    "A page names the second snapshot of its table of one.",
    lambda f, s: f.lines("page", [s | {"at": [1, s["at"][1]]}]),
)
_wrong_page(
    "with_a_segment_of_no_entries",
    "A page names a segment of 0 entries beside the good one.",
    lambda f, s: f.lines("page", [s, s | {"entries": 0}]),
)
_wrong_page(
    "with_a_negative_frame",
    "A page names frame -1.",
    lambda f, s: f.lines("page", [s | {"at": [0, -1]}]),
)
_wrong_page(
    "with_fewer_entries_than_the_end_says",
    "A page counts 3 entries, and the end says 4.",
    lambda f, s: f.lines("page", [s | {"entries": 3}]),
)
_wrong_page(
    "that_begins_with_another_path",
    "The end says that the page begins with docs, and it begins with aaa.",
    lambda f, s: f.lines("page", [s | {"p": "aaa"}]),
)
_wrong_page(
    "with_a_segment_in_no_frame",
    "A page names frame 99.",
    lambda f, s: f.lines("page", [s | {"at": [0, 99]}]),
)


@vector("DigestError")
def segment_digest_does_not_fit(forge):
    """The page records another digest of the segment."""
    forge.sample_files()
    segment = forge.add_segment(forge.entries) | {"sha256": "00" * 32}
    forge.end_fields["pages"] = [forge.add_page([segment])]


@vector("MalformedError")
def index_out_of_order_across_segments(forge):
    """The entries of the second segment belong before those of the first."""
    forge.sample_files()
    segments = [forge.add_segment(forge.entries[2:]), forge.add_segment(forge.entries[:2])]
    forge.end_fields["pages"] = [forge.add_page(segments)]


@vector("MalformedError")
def index_out_of_order_across_pages(forge):
    """The entries of the second page belong before those of the first."""
    forge.sample_files()
    segments = [forge.add_segment(forge.entries[2:]), forge.add_segment(forge.entries[:2])]
    forge.end_fields["pages"] = [forge.add_page([one]) for one in segments]


@vector("MalformedError")
def index_with_a_segment_twice(forge):
    """A page names a segment twice, and the counts fit."""
    forge.sample_files()
    segment = forge.add_segment(forge.entries)
    forge.end_fields["pages"] = [forge.add_page([segment, segment])]
    forge.end_fields["counts"] = {"entries": 8, "files": 6, "bytes": 240, "errors": 0}


@vector("MalformedError")
def index_with_a_path_twice_across_segments(forge):
    """The last path of a segment is the first of the next."""
    forge.sample_files()
    segments = [forge.add_segment(forge.entries[:2]), forge.add_segment(forge.entries[1:])]
    forge.end_fields["pages"] = [forge.add_page(segments)]
    forge.end_fields["counts"] = {"entries": 5, "files": 4, "bytes": 160, "errors": 0}


# Chunk lists


def _wrong_chunks(
    name: str,
    comment: str,
    expect: str = "MalformedError",
    data: Callable[[Forge, list[tuple[bytes, int, int, int, int]]], bytes] | None = None,
    **fields: object,
) -> None:
    """Add a vector with a small file and a file of chunks whose list is wrong."""

    def make(forge: Forge) -> None:
        forge.add_file("docs/a", forge.random(50))
        rows = forge.sample_chunked()
        listed = forge.chunk_bytes(rows) if data is None else data(forge, rows)
        reference = forge.add_chunk_bytes(listed, len(rows))
        for key, value in fields.items():
            if key.startswith("at_"):
                reference[int(key[3:])] = value
        entry = forge.chunked_entry("docs/b", rows, [reference])
        entry |= {key: value for key, value in fields.items() if not key.startswith("at_")}
        forge.released = 0 if name == "of_an_unknown_ordinal" else 1
        forge.add_whole_index()

    add(f"chunk_list_{name}", expect, comment, make)


_wrong_chunks(
    "with_another_magic",
    "The list does not begin as one.",
    data=lambda f, rows: f.chunk_bytes(rows).replace(b"chunks 1", b"chunks 2"),
)
_wrong_chunks("empty", "The list has no byte.", data=lambda *_: b"")
_wrong_chunks(
    "cut_in_its_ids",
    "The list counts 9 ids and has one, with no rows.",
    data=lambda f, _: f.chunk_bytes([])[:21] + b"\0\x09" + f.chunk_bytes([])[23:],
)
_wrong_chunks(
    "of_a_wrong_length",
    "The last row lacks a byte.",
    data=lambda f, rows: f.chunk_bytes(rows)[:-1],
)
_wrong_chunks(
    "with_an_unknown_ordinal",
    "A row names the second of one ids.",
    data=lambda f, rows: f.chunk_bytes([*rows[:2], (rows[2][0], 1, *rows[2][2:])]),
)
_wrong_chunks(
    "with_a_chunk_beyond_its_frame",
    "A chunk ends a byte after its piece.",
    data=lambda f, rows: f.chunk_bytes([(*rows[0][:3], 1024 - 149, 150), *rows[1:]]),
)
_wrong_chunks(
    "with_a_chunk_in_the_index",
    "A chunk lies in the frame of the chunk list.",
    data=lambda f, rows: f.chunk_bytes([(*rows[0][:2], 5, 0, 150), *rows[1:]]),
)
_wrong_chunks(
    "with_fewer_rows_than_its_entry_says",
    "The list has 2 rows, and the entry says 3.",
    data=lambda f, rows: f.chunk_bytes(rows[:2]),
)
_wrong_chunks(
    "digest_does_not_fit",
    "The entry records another digest of the list.",
    "DigestError",
    at_2="00" * 32,
)
_wrong_chunks(
    "with_a_wrong_chunk_digest",
    "A row records another digest of its chunk.",
    "DigestError",
    data=lambda f, rows: f.chunk_bytes([rows[0], (bytes(32), *rows[1][1:]), rows[2]]),
)
_wrong_chunks(
    "with_chunks_exchanged",
    "The first two rows are exchanged.",
    "DigestError",
    data=lambda f, rows: f.chunk_bytes([rows[1], rows[0], rows[2]]),
)
_wrong_chunks(
    "of_another_size",
    "The chunks are 450 bytes, and the entry says 451.",
    "DigestError",
    size=451,
)
_wrong_chunks(
    "of_another_digest",
    "The entry records another digest over the digests of its chunks.",
    "DigestError",
    sha256="00" * 32,
)
_wrong_chunks("in_the_archive", "The entry says that its list lies in an archive frame.", at_1=0)
_wrong_chunks("of_an_unknown_ordinal", "The entry names snapshot 1 of 1.", at_0=1)


# References to other snapshots


def _full(forge: Forge) -> None:
    """Make a full snapshot of two files and one of chunks, in two segments and two pages."""
    forge.add_file("docs/a", forge.random(40))
    forge.add_file("docs/b", forge.random(40))
    rows = forge.sample_chunked()
    forge.chunked_entry("docs/c", rows, [forge.add_chunk_list(rows)])
    segments = [forge.add_segment(forge.entries[:2]), forge.add_segment(forge.entries[2:])]
    forge.end_fields["pages"] = [forge.add_page([one]) for one in segments]


add(
    "full_that_others_refer_to",
    SUCCESS,
    "A full snapshot to which the vectors refer that name it in also.",
    _full,
)


@vector(SUCCESS)
def full_of_another_key_that_others_refer_to(forge):
    """As full_that_others_refer_to, for another key."""
    forge.slots = [forge.fernet_slot(OTHER_KEY)]
    forge.identities = [key_line(OTHER_KEY)]
    _full(forge)


@vector("FrameError")
def full_with_a_flipped_frame(forge):
    """As full_that_others_refer_to, with a flipped bit in the frame of its first file."""
    _full(forge)
    forge.seal_end()
    _put(forge, 0, flip(forge.frames[0].token, 60))


def _refer(forge: Forge, name: str, *, ring: bool = True, **changes: object) -> Forge:
    """Let ``forge`` refer to the snapshot of vector ``name``; return that."""
    parent = MADE[name]()
    record = {"id": parent.core.id.hex(), "core": parent.core.digest.hex()}
    if ring:
        record["key"] = base64.b64encode(parent.data_key).decode()
    forge.end_fields |= {"kind": "incremental", "snapshots": [record | changes]}
    forge.ids.append(parent.core.id.hex())
    forge.also = [name]
    return parent


def _reuse_extents(forge: Forge, parent: Forge) -> None:
    """Take over the parent's first file, and add one of its own."""
    taken = dict(parent.entries[0])
    taken["ext"] = [[1, *rest] for _, *rest in taken["ext"]]
    forge.entries.append(taken)
    forge.contents.append(parent.contents[0])
    forge.add_file("docs/b", forge.random(40))
    forge.end_archive()
    forge.add_whole_index()


FULL = "full_that_others_refer_to"
FULL_SEGMENTS = (7, 8)
FOREIGN = "full_of_another_key_that_others_refer_to"


@vector(SUCCESS)
def incremental_that_refers_to_extents(forge):
    """A file is where the full snapshot has it; the end tells that one's data key."""
    _reuse_extents(forge, _refer(forge, FULL))


@vector(SUCCESS)
def incremental_without_a_key_ring(forge):
    """The end does not tell the data key of the full snapshot, which the key opens too."""
    _reuse_extents(forge, _refer(forge, FULL, ring=False))


@vector(SUCCESS)
def incremental_whose_full_opens_by_the_key_ring_alone(forge):
    """The key that is given is none of the full snapshot's, and the end tells its data key."""
    _reuse_extents(forge, _refer(forge, FOREIGN))


@vector(SUCCESS)
def incremental_that_refers_to_a_segment(forge):
    """A page names a segment of the full snapshot beside one of its own."""
    parent = _refer(forge, FULL)
    content = forge.random(60)
    forge.add(ARCHIVE, forge.member("docs/d", content).getvalue())
    forge.end_archive()
    forge.contents += parent.contents
    forge.entries += parent.entries
    added = forge.add_entry("docs/d", content, [[0, 0, 512, 60]])
    parts = [_part(parent, 0), _part(parent, 1), forge.add_segment([added])]
    forge.end_fields["pages"] = [forge.add_page(parts)]


def _part(parent: Forge, number: int) -> dict[str, object]:
    """Return the reference from another snapshot to a segment of the parent."""
    entries = [parent.entries[:2], parent.entries[2:]][number]
    digest = sha256(parent.lines("segment", entries)).hexdigest()
    at = [1, FULL_SEGMENTS[number]]
    return {"at": at, "sha256": digest, "entries": len(entries), "p": entries[0]["p"]}


@vector(SUCCESS)
def incremental_that_refers_to_all_pages(forge):
    """Nothing has changed: the end names the pages of the full snapshot."""
    parent = _refer(forge, FULL)
    forge.end_archive()
    forge.entries, forge.contents = parent.entries, parent.contents
    forge.end_fields["pages"] = _pages_of(parent)


def _pages_of(parent: Forge) -> list[dict[str, object]]:
    return [page | {"at": [1, page["at"][1]]} for page in parent.end_fields["pages"]]


@vector(SUCCESS)
def incremental_that_refers_to_a_chunk_list(forge):
    """The metadata of a large file changed: its new entry names the old chunk list."""
    parent = _refer(forge, FULL)
    forge.end_archive()
    entry = parent.entries[2] | {"mode": 0o600}
    forge.entries = [entry | {"chunks": [[1, *rest] for _, *rest in entry["chunks"]]}]
    forge.contents = [parent.contents[2]]
    forge.add_whole_index()


@vector(SUCCESS)
def incremental_that_refers_to_chunks(forge):
    """A large file got a new end: its chunk list names old chunks and a new one."""
    parent = _refer(forge, FULL)
    rows = forge.sample_chunked(1)
    digest = [sha256(parent.contents[2][at : at + 150]).digest() for at in (0, 150)]
    old = [(digest[n], 1, 2 + n, 512, 150) for n in range(2)]
    forge.contents = [parent.contents[2][:300] + forge.contents[0]]
    forge.chunked_entry("docs/c", [*old, *rows], [forge.add_chunk_list([*old, *rows])])
    forge.add_whole_index()


@vector("MissingSnapshotError")
def parent_is_missing(forge):
    """The snapshot that is referred to is not there."""
    _reuse_extents(forge, _refer(forge, FULL))
    forge.also = []


@vector("MissingSnapshotError")
def parent_is_missing_and_has_all_of_the_index(forge):
    """The snapshot that has the pages is not there."""
    parent = _refer(forge, FULL)
    forge.end_archive()
    forge.entries, forge.contents = parent.entries, parent.contents
    forge.end_fields["pages"] = _pages_of(parent)
    forge.also = []


@vector("MissingSnapshotError")
def parent_with_another_core_digest(forge):
    """The end records another core digest than that of the snapshot with the id."""
    _reuse_extents(forge, _refer(forge, FULL, core="00" * 32))


@vector("MissingSnapshotError")
def parent_without_key_ring_and_another_core_digest(forge):
    """As parent_with_another_core_digest, and the end does not tell a data key."""
    _reuse_extents(forge, _refer(forge, FULL, ring=False, core="00" * 32))


@vector("MissingSnapshotError")
def parent_with_another_core_digest_and_data_key(forge):
    """A snapshot with the id of another, made later: core digest and data key differ."""
    wrong = {"core": "00" * 32, "key": base64.b64encode(bytes(32)).decode()}
    _reuse_extents(forge, _refer(forge, FULL, **wrong))


@vector("WrongKeyError")
def parent_of_another_key(forge):
    """The end does not tell the data key, and the key that is given is none of the parent's."""
    _reuse_extents(forge, _refer(forge, FOREIGN, ring=False))


@vector("HeaderError")
def parent_with_another_data_key(forge):
    """The data key that the end tells is not the parent's."""
    _reuse_extents(forge, _refer(forge, FULL, key=base64.b64encode(bytes(32)).decode()))


@vector("FrameError")
def parent_with_a_damaged_frame(forge):
    """The frame of the parent that is referred to is damaged."""
    _reuse_extents(forge, _refer(forge, "full_with_a_flipped_frame"))


@vector("UnknownSignerError")
def parent_of_an_unknown_signer(forge):
    """The snapshot is signed by the trusted host, and the parent by another."""
    forge.host = OTHER_HOST
    forge.trusted = [OTHER_HOST.public]
    _reuse_extents(forge, _refer(forge, FULL))


@vector("MalformedError")
def parent_that_the_end_does_not_name(forge):
    """A segment names a snapshot that is there, and the end does not name it."""
    parent = _refer(forge, FULL)
    forge.end_fields["snapshots"] = []
    _reuse_extents(forge, parent)


@vector("MalformedError")
def parent_without_the_frame(forge):
    """An extent lies in frame 99 of the parent."""
    parent = _refer(forge, FULL)
    parent.entries[0]["ext"] = [[0, 99, 0, 40]]
    _reuse_extents(forge, parent)


@vector("DigestError")
def parent_with_another_segment(forge):
    """The digest of a segment of the parent is not that of the frame that is named."""
    parent = _refer(forge, FULL)
    forge.end_archive()
    segment = _part(parent, 0) | {"at": [1, FULL_SEGMENTS[1]]}
    forge.end_fields["pages"] = [forge.add_page([segment])]
    forge.end_fields["counts"] = {"entries": 2, "files": 2, "bytes": 80, "errors": 0}


@vector("MalformedError")
def extent_in_a_frame_that_was_taken_away(forge):
    """An extent lies in frame 1, whose row has section 0."""
    _without_frame_1(forge)
    forge.entries[-1]["ext"] = [[0, 1, 0, 40]]
    forge.frames = forge.frames[:4]
    forge.released = 1
    forge.add_whole_index()


# What fuzzing found: one of the two readers took it, and the other did not


@vector("MalformedError")
def archive_that_does_not_end(forge):
    """The last archive frame holds 512 zero bytes instead of 1,024."""
    forge.add_file("docs/a", forge.random(40))
    forge.add(ARCHIVE, bytes(512))
    forge.released = 1
    forge.add_whole_index()


@vector("MalformedError")
def end_without_a_host(forge):
    """The end does not tell the host."""
    forge.sample()
    line = {key: value for key, value in forge.end_line().items() if key != "host"}
    rows = b"".join(ROW.pack(*row) for row in forge.rows())
    forge.seal_end(to_json(line) + b"\n" + rows)


def _told_wrongly(name: str, comment: str, **fields: object) -> None:
    """Add a vector whose end has fields of wrong types."""
    sampled(name, "MalformedError", comment, lambda forge: forge.end_fields.update(fields))


_told_wrongly("end_with_sources_as_text", "The sources are a text, not a list.", sources="")
for _how, _comment, _patterns in (
    ("as_text", "The patterns of a source are a text, not a list.", "*.log"),
    ("as_lists", "The patterns of a source are lists, not texts.", [["*.log"]]),
    ("as_numbers", "A pattern of a source is a number.", ["*.log", 7]),
    ("of_null", "The patterns of a source are null.", None),
):
    _told_wrongly(
        f"end_with_patterns_of_a_source_{_how}",
        _comment,
        sources=[{"p": "docs", "exclude": _patterns}],
    )
_told_wrongly("end_with_a_count_as_text", "A count is a text.", counts={"entries": 4, "files": "3"})
_told_wrongly("end_with_tags_of_lists", "The tags are lists, not texts.", tags=[[0, 0]])
_told_wrongly("end_with_a_limit_below_zero", "A size is negative.", rules={"larger_than": -1})
_told_wrongly("end_with_file_systems_as_lists", "A file system is a list.", filesystems=[[]])


@vector("MalformedError")
def entry_with_a_user_of_no_text(forge):
    """The name of an owner is a number."""
    forge.sample_files()
    forge.entries[1]["user"] = 7
    forge.add_whole_index()


@vector("MalformedError")
def entry_of_a_file_with_a_target_of_no_text(forge):
    """A file, which has no target, tells one that is a number."""
    forge.sample_files()
    forge.entries[1]["to"] = 7
    forge.add_whole_index()


@vector("MalformedError")
def entry_with_half_a_character(forge):
    """A field that no reader knows has one half of a surrogate pair: the line is not UTF-8."""
    forge.sample_files()
    lines = forge.lines("segment", forge.entries)
    data = lines[:-2] + b',"unknown":"\\ud800"}\n'
    segment = forge.add_index(data, len(forge.entries), {"p": "docs"})
    forge.end_fields["pages"] = [forge.add_page([segment])]


@vector("HeaderError")
def slot_of_a_type_that_is_no_text(forge):
    """The type of a slot is an object; another slot would open."""
    forge.slots.insert(0, {"type": {}, "id": forge.slots[0]["id"], "wrapped": "AA=="})
    forge.sample()


@vector(SUCCESS)
def damaged_slot_beside_one_that_opens(forge):
    """The slot for the key does not open, and the one for the identity does."""
    forge.identities.append(f"identity: {HPKE.text()}")
    wrapped = flip(str(forge.slots[0]["wrapped"]).encode(), 60).decode()
    forge.slots = [forge.slots[0] | {"wrapped": wrapped}, forge.hpke_slot()]
    forge.sample()


@vector("HeaderError")
def slot_with_a_letter_beyond_ascii(forge):
    """The wrapped key has an é within, which a lenient base64 decoder passes over."""
    wrapped = str(forge.slots[0]["wrapped"])
    forge.slots[0]["wrapped"] = wrapped[:40] + "é" + wrapped[40:]
    forge.sample()


def main(directory: Path) -> None:
    """Write all vectors into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, make in VECTORS.items():
        (directory / f"{name}.vector").write_bytes(make())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
