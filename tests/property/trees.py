"""Random directory trees: values first, then the real thing."""

from __future__ import annotations

import os
import random
import struct
import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

IS_ROOT = os.geteuid() == 0
SMALL_CAP = 32 * 1024
NOBODY = 2**32 - 1  # whom an ACL's rows without a name are for


def _takes_attributes() -> bool:
    with tempfile.NamedTemporaryFile() as file:
        try:
            for name in ("user.a", *(("trusted.a",) if IS_ROOT else ())):
                os.setxattr(file.name, name, b"")
        except OSError:
            return False
    return True


HAS_ATTRIBUTES = _takes_attributes()


class Node(NamedTuple):
    """One name of a tree.

    ``content`` is bytes, a link's target, the nodes of a directory, or of a sparse file its size
    and its runs of data with their bytes.
    """

    kind: str
    content: object
    mode: int
    mtime_ns: int
    owner: tuple[int, int]
    attributes: dict[str, bytes]
    acls: tuple[bytes | None, bytes | None] = (None, None)


class Twin(NamedTuple):
    """Another name of a file: that of the given number among all files made before it."""

    number: int


def _is_name(name: bytes) -> bool:
    return b"/" not in name and b"\0" not in name and name not in {b".", b".."}


names = st.one_of(
    st.sampled_from([b"a", b"b", b"a-b", b"a b", b"a.", b"A", b"-", b"\n", b" ", b"~", b"*"]),
    st.sampled_from([b"\xff", b"\xc3\xa4", b"a\xcc\x88", b"\xe4", b"caf\xe9\n", b"\\x", b"%41"]),
    st.binary(min_size=1, max_size=12).filter(_is_name),
    st.sampled_from([b"n" * 255, b"\xff" * 255, b"ab" * 50, b"c" * 100, b"c" * 101]),
)


def _noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


_sizes = st.one_of(
    st.sampled_from([0, 1, 511, 512, 513, 4096]),
    st.integers(SMALL_CAP - 8000, SMALL_CAP + 1000),
    st.integers(0, 5 * SMALL_CAP),
)
contents = st.one_of(
    st.binary(max_size=100),
    st.builds(_noise, _sizes, st.integers(0, 3)),
    st.builds(bytes, _sizes),
    st.builds(lambda line, count: line * count, st.binary(min_size=1, max_size=30),
              st.integers(0, 4000)),
)  # fmt: skip
targets = st.binary(min_size=1, max_size=150).filter(lambda target: b"\0" not in target)
modes = st.one_of(st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o2711]), st.integers(0, 0o7777))
times = st.one_of(
    st.sampled_from([0, -1, 1, 999_999_999, 1_700_000_000_123_456_789, -1_500_000_000]),
    st.integers(-(2**31) * 10**9, 2**33 * 10**9),
)
owners = st.sampled_from([(0, 0), (0, 0), (1, 2), (65534, 65534), (2**31, 2**32 - 2)])


_attribute_names = st.one_of(
    st.sampled_from(["a", "a=b", "%", "\n", "ä", "n" * 200]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1,
            max_size=8),
)  # fmt: skip
_attribute_values = st.one_of(st.binary(max_size=40), st.builds(_noise, st.just(600), st.just(1)))
_namespaces = st.sampled_from(["user.", "user.", "trusted."] if IS_ROOT else ["user."])
attributes = st.dictionaries(
    st.builds(str.__add__, _namespaces, _attribute_names), _attribute_values, max_size=2
)
_bits = st.integers(0, 7)


@st.composite
def acls(draw) -> bytes:
    """POSIX ACLs with named users and groups, as Linux keeps them."""
    users, groups = (
        draw(st.dictionaries(st.integers(0, 2**32 - 2), _bits, max_size=3)) for _ in "ug"
    )
    rows = [(0x01, draw(_bits), NOBODY)]
    rows += [(0x02, bits, who) for who, bits in sorted(users.items())]
    rows += [(0x04, draw(_bits), NOBODY)]
    rows += [(0x08, bits, who) for who, bits in sorted(groups.items())]
    rows += [(0x10, draw(_bits), NOBODY), (0x20, draw(_bits), NOBODY)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


_acls = st.one_of(st.none(), st.none(), acls())


def _nodes(kind: str, content: st.SearchStrategy[object]) -> st.SearchStrategy[Node]:
    has_attributes = {"file", "sparse", "dir"} if HAS_ATTRIBUTES else set()
    return st.builds(
        Node,
        st.just(kind),
        content,
        modes,
        times,
        owners,
        attributes if kind in has_attributes else st.just({}),
        st.tuples(
            _acls if kind in has_attributes | {"fifo"} and HAS_ATTRIBUTES else st.none(),
            _acls if kind == "dir" and HAS_ATTRIBUTES else st.none(),
        ),
    )


# Holes above the few blocks that attributes may take: they count as if they were the file's.
_places = st.one_of(
    st.integers(0, 40).map(lambda block: block * 4096 + block % 3),
    st.sampled_from([2**20 - 1, 2**20 - 5000]),
)
_runs = st.tuples(_places, st.builds(_noise, st.sampled_from([1, 5000, 40_000]), st.integers(0, 3)))
sparse = st.tuples(st.sampled_from([2**20, 2**20 + 5, 2**40]), st.lists(_runs, max_size=4))


_leaves = st.one_of(
    _nodes("file", contents),
    _nodes("sparse", sparse),
    _nodes("link", targets),
    _nodes("fifo", st.none()),
    st.builds(Twin, st.integers(0, 20)),
)


def _directories(children: st.SearchStrategy[object]) -> st.SearchStrategy[Node]:
    return _nodes("dir", st.dictionaries(names, children, max_size=6))


trees = _directories(st.recursive(_leaves, _directories, max_leaves=14))
"""A directory, which is what a source is."""


def build(tree: Node, top: Path) -> None:
    """Make ``tree`` as the directory ``top``, which must not exist."""
    made: list[bytes] = []
    _make(tree, os.fsencode(top), made)


def _make(node: Node, path: bytes, made: list[bytes]) -> None:
    if node.kind == "dir":
        os.mkdir(path)  # noqa: PTH102 - pathlib knows no bytes
        for name, child in node.content.items():
            below = path + b"/" + name
            if isinstance(child, Twin):
                if made:
                    os.link(made[child.number % len(made)], below)
            else:
                _make(child, below, made)
    elif node.kind == "file":
        Path(os.fsdecode(path)).write_bytes(node.content)
        made.append(path)
    elif node.kind == "sparse":
        _make_sparse(path, *node.content)
        made.append(path)
    elif node.kind == "link":
        os.symlink(node.content, path)  # noqa: PTH211 - as above
    else:
        os.mkfifo(path)
    _dress(node, path)


def _make_sparse(path: bytes, size: int, runs: list[tuple[int, bytes]]) -> None:
    with Path(os.fsdecode(path)).open("wb") as file:
        for at, data in runs:
            file.seek(at)
            file.write(data)
        file.truncate(size)


def _dress(node: Node, path: bytes) -> None:
    if IS_ROOT:
        os.chown(path, *node.owner, follow_symlinks=False)
    for name, value in node.attributes.items():
        os.setxattr(path, name, value)
    for name, value in zip(("access", "default"), node.acls, strict=True):
        if value is not None:
            os.setxattr(path, f"system.posix_acl_{name}", value)
    if node.kind != "link":
        os.chmod(path, node.mode if IS_ROOT else node.mode | 0o700)  # noqa: PTH101 - as above
    os.utime(path, ns=(0, node.mtime_ns), follow_symlinks=False)
