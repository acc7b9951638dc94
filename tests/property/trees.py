"""Random directory trees: values first, then the real thing."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

IS_ROOT = os.geteuid() == 0
SMALL_CAP = 32 * 1024


class Node(NamedTuple):
    """One name of a tree; ``content`` is bytes, a link's target, or the nodes of a directory."""

    kind: str
    content: object
    mode: int
    mtime_ns: int
    owner: tuple[int, int]


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


def _nodes(kind: str, content: st.SearchStrategy[object]) -> st.SearchStrategy[Node]:
    return st.builds(Node, st.just(kind), content, modes, times, owners)


_leaves = st.one_of(
    _nodes("file", contents),
    _nodes("file", contents),
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
    elif node.kind == "link":
        os.symlink(node.content, path)  # noqa: PTH211 - as above
    else:
        os.mkfifo(path)
    _dress(node, path)


def _dress(node: Node, path: bytes) -> None:
    if IS_ROOT:
        os.chown(path, *node.owner, follow_symlinks=False)
    if node.kind != "link":
        os.chmod(path, node.mode if IS_ROOT else node.mode | 0o700)  # noqa: PTH101 - as above
    os.utime(path, ns=(0, node.mtime_ns), follow_symlinks=False)
