"""Random values of the snapshot format."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import strategies as st

from backup.model import (
    ArchiveType,
    Chunk,
    Entry,
    EntryType,
    Extent,
    ListRef,
    SnapshotKind,
    path_key,
)
from backup.snapshot.end import Counts, EndRecord, FileSystem, Referred
from backup.snapshot.header import LARGEST_FRAME_CAP, SMALLEST_FRAME_CAP, make_core
from backup.snapshot.index import Reference
from backup.snapshot.token import TokenKey

I64 = st.integers(-(2**63), 2**63 - 1)
COUNTS = st.integers(0, 2**63 - 1)
U32 = st.integers(0, 2**32 - 1)
IDS = st.binary(min_size=16, max_size=16)
DIGESTS = st.binary(min_size=32, max_size=32)
MESSAGES = st.binary(max_size=400)
TIMES = st.one_of(st.integers(0, 2**31), st.integers(0, 2**63 - 1))
CAPS = st.integers(SMALLEST_FRAME_CAP, LARGEST_FRAME_CAP)
ARCHIVES = st.sampled_from(list(ArchiveType))
COMPRESSED = st.sampled_from([one for one in ArchiveType if one is not ArchiveType.TAR])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.binary(min_size=32, max_size=32).map(TokenKey.from_bytes)
CONTENT = (EntryType.FILE, EntryType.STREAM)
DEVICES = (EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE)


def _is_name(name: bytes) -> bool:
    return bool(name) and not set(name) & set(b"\0/") and name not in {b".", b".."}


NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"a-b", b"a.b", b"\xff", b"\n", b'"', b"\\", "é".encode()]),
    st.binary(min_size=1, max_size=12).filter(_is_name),
    TEXTS.map(str.encode).filter(_is_name),
    st.integers(250, 255).map(lambda length: b"n" * length),
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
TARGETS = st.one_of(PATHS, PATHS.map(lambda path: b"/" + path), st.just(b"../.."))


def pieces() -> st.SearchStrategy[bytes]:
    """Bytes that compress well, badly, or not at all."""
    repeated = st.tuples(st.binary(min_size=1, max_size=20), st.integers(0, 5000))
    return st.one_of(
        st.binary(max_size=2000),
        repeated.map(lambda pair: (pair[0] * pair[1])[:100_000]),
        st.tuples(st.integers(0, 200_000), st.randoms(use_true_random=False)).map(
            lambda pair: pair[1].randbytes(pair[0])
        ),
    )


@st.composite
def cores(draw, **fields):
    """Cores of snapshots, of any archive type and cap, unless ``fields`` say which."""
    return make_core(
        snapshot_id=draw(IDS),
        chain=draw(IDS),
        sequence=draw(st.integers(1, 2**63 - 1)),
        time=draw(TIMES),
        archive=fields["archive"] if "archive" in fields else draw(ARCHIVES),
        previous=draw(st.one_of(st.none(), DIGESTS)),
        cap=fields["cap"] if "cap" in fields else draw(CAPS),
    )


EXTENTS = st.builds(Extent, IDS, U32, U32, U32)
LIST_REFS = st.builds(ListRef, IDS, U32, DIGESTS, COUNTS)
CHUNKS = st.builds(Chunk, DIGESTS, st.builds(Extent, IDS, U32, U32, st.integers(1, 2**32 - 1)))


@st.composite
def entries(draw, path: bytes | None = None):
    """Entries of any type, with any metadata."""
    kind = draw(st.sampled_from(list(EntryType)))
    content = _content(draw) if kind in CONTENT else {}
    if kind is EntryType.FILE and draw(st.booleans()):
        content |= _holes(draw, content["size"])
    return Entry(
        path=draw(PATHS) if path is None else path,
        type=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(U32),
        gid=draw(U32),
        user=draw(TEXTS),
        group=draw(TEXTS),
        mtime_ns=draw(I64),
        ctime_ns=draw(I64),
        inode=draw(st.integers(0, 2**64 - 1)),
        filesystem=draw(st.integers(0, 2**16 - 1)),
        links=draw(st.integers(1, 2**32)),
        target=draw(TARGETS) if kind is EntryType.SYMLINK else b"",
        device=draw(st.tuples(U32, U32)) if kind in DEVICES else None,
        xattrs=draw(st.lists(st.tuples(MESSAGES, MESSAGES), max_size=2).map(tuple)),
        racy=draw(st.booleans()),
        **content,
    )


def _content(draw):
    shape = draw(st.sampled_from(["extents", "chunks", "error"]))
    digest = draw(DIGESTS)
    if shape == "extents":
        extents = draw(st.lists(EXTENTS, max_size=3).map(tuple))
        size = sum(extent.length for extent in extents)
        return {"size": size, "digest": digest, "extents": extents}
    if shape == "chunks":
        lists = draw(st.lists(LIST_REFS, min_size=1, max_size=3).map(tuple))
        return {"size": draw(COUNTS), "digest": digest, "chunk_lists": lists}
    extents = draw(st.lists(EXTENTS, max_size=2).map(tuple))
    error = draw(TEXTS.filter(bool))
    digest = draw(st.sampled_from([b"", digest]))
    return {"size": draw(COUNTS), "digest": digest, "extents": extents, "error": error}


def _holes(draw, stored):
    """Put holes around the ``stored`` bytes of a file."""
    edges = sorted(draw(st.sets(st.integers(1, 2**20), max_size=3)))
    runs, at = [], draw(st.integers(0, 2**20))
    for begin, end in pairwise([0, *(edge for edge in edges if edge < stored), stored]):
        if begin < end:
            runs.append((at, end - begin))
            at += end - begin + draw(st.integers(1, 2**40))
    size = min(at, 2**63 - 1)
    fits = not runs or sum(runs[-1]) <= size
    return {"size": size, "data": tuple(runs)} if fits else {}


@st.composite
def sorted_entries(draw, max_size: int = 20):
    """Entries in the order of an index, with no path twice."""
    paths = draw(st.lists(PATHS, min_size=1, max_size=max_size, unique=True))
    return [draw(entries(path=path)) for path in sorted(paths, key=path_key)]


@st.composite
def references(draw, ids=IDS):
    """References to segments and pages in the snapshots ``ids``."""
    entries_in_it = draw(st.integers(1, 2**63 - 1))
    return Reference(draw(ids), draw(U32), draw(DIGESTS), entries_in_it, draw(PATHS))


REFERRED = st.builds(Referred, id=IDS, core_digest=DIGESTS, data_key=st.one_of(st.none(), DIGESTS))


@st.composite
def end_records(draw, own_id: bytes):
    """Ends of the snapshot ``own_id``, with pages in any snapshot that they name."""
    unique = st.lists(REFERRED, max_size=3, unique_by=lambda one: one.id)
    referred = tuple(one for one in draw(unique) if one.id != own_id)
    ids = st.sampled_from([own_id, *(one.id for one in referred)])
    return EndRecord(
        job=draw(TEXTS),
        host=draw(TEXTS),
        kind=draw(st.sampled_from(list(SnapshotKind))),
        sources=draw(st.lists(PATHS, max_size=2).map(tuple)),
        counts=draw(st.builds(Counts, entries=COUNTS, files=COUNTS, bytes=COUNTS, errors=COUNTS)),
        pages=draw(st.lists(references(ids), max_size=3).map(tuple)),
        referred=referred,
        filesystems=draw(
            st.lists(st.builds(FileSystem, type=TEXTS, id=TEXTS), max_size=2).map(tuple)
        ),
        incomplete=draw(st.booleans()),
        program=draw(TEXTS),
    )


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), FLOATS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def altered(draw, line: bytes):
    """A JSON object in one line, with some fields replaced by anything, or left out."""
    value = json.loads(line)
    for name in draw(st.lists(st.sampled_from(sorted(value)), max_size=2, unique=True)):
        if draw(st.booleans()):
            del value[name]
        else:
            value[name] = draw(JSON)
    return json.dumps(value).encode()
