"""What a power cut may leave: the calls of a run replayed, with what was not synced kept or lost.

What a file holds is durable once it has been synced, and a name once its directory has been; until
then each write and each change of a name may be on the medium or not, in any combination. After a
sync that failed, what was written before is lost, even if the next one succeeds: the kernel has
marked the pages clean.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.invariants import checks_of
from tests.faults.points import DEEP
from tests.faults.world import Outcome, Workload, World, beside, marker, snapshots_in

_MOST_ALONE = 60 if DEEP else 16
_RANDOM_STATES = 40 if DEEP else 8
_GONE_ON_WITH = 20 if DEEP else 4


@dataclass
class Node:
    """A file or a directory; ``pending`` is what has been done to it since it was synced.

    Of a file, pending are writes ``(offset, data)`` and cuts ``(length, None)``; of a directory,
    changes ``{name: node or None}``.
    """

    content: bytearray = field(default_factory=bytearray)
    names: dict[str, Node] | None = None
    pending: list[object] = field(default_factory=list)
    lost: list[object] = field(default_factory=list)


class Disk:
    """What is on the medium, all of what is below ``top`` to begin with, and what is on its way."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = Node(names={})
        self.inodes = {top.stat().st_ino: self.root}
        self._live: dict[str, Node] = {"": self.root}
        self.named: dict[str, bytes] = {}  # what each name has stood for when it was given
        for path in sorted(top.rglob("*")):
            content = bytearray() if path.is_dir() else bytearray(path.read_bytes())
            node = Node(content, names={} if path.is_dir() else None)
            self.inodes[path.stat().st_ino] = node
            self._put_durably(str(path.relative_to(top)), node)

    def _put_durably(self, name: str, node: Node) -> None:
        parent, _, last = name.rpartition("/")
        names = self._live[parent].names
        assert names is not None
        names[last] = self._live[name] = node

    def replay(self, call: Call) -> None:
        """Take in one call that succeeded, or a sync that failed."""
        path, other = self._name(call.path), self._name(call.other)
        if call.what in {"create", "unnamed", "mkdir"} and path not in self._live:
            self.inodes[call.inode] = Node(names={} if call.what == "mkdir" else None)
        if call.what in {"create", "mkdir"}:
            self._change(path, self.inodes[call.inode])
        elif call.what == "write":
            self.inodes[call.inode].pending.append((call.offset, call.data))
        elif call.what == "truncate":
            self.inodes[call.inode].pending.append((call.offset, None))
        elif call.what == "link":
            self._change(other, self.inodes[call.inode])
        elif call.what in {"unlink", "rmdir"}:
            self._change(path, None)
        elif call.what == "rename":
            self._move(path, other, self._live[path])
        elif call.what == "fsync":
            self._sync(self.inodes[call.inode], failed=call.result != 0)

    def _name(self, path: str) -> str:
        top = str(self.top)
        return path[len(top) + 1 :] if path.startswith(top + "/") else ""

    def _parent(self, path: str) -> tuple[Node, str]:
        parent, _, last = path.rpartition("/")
        return self._live[parent], last

    def _change(self, path: str, node: Node | None) -> None:
        directory, name = self._parent(path)
        directory.pending.append({name: node})
        self._point(path, node)

    def _move(self, path: str, other: str, node: Node) -> None:
        assert node.names is None, "directories are not renamed"
        (directory, name), (target, new) = self._parent(path), self._parent(other)
        if directory is target:  # one change, which is there as a whole or not at all
            directory.pending.append({name: None, new: node})
        else:
            target.pending.append({new: node})
            directory.pending.append({name: None})
        self._point(path, None)
        self._point(other, node)

    def _point(self, path: str, node: Node | None) -> None:
        if node is None:
            self._live.pop(path, None)
        else:
            self._live[path] = node
            if node.names is None:
                whole = bytearray(node.content)
                for change in (*node.lost, *node.pending):
                    assert isinstance(change, tuple)
                    _write(whole, *change)
                self.named[path] = bytes(whole)

    def _sync(self, node: Node, *, failed: bool) -> None:
        if failed and node.names is not None:
            return  # a change of names stays in the journal's hands
        if failed:
            node.lost.extend(node.pending)
        else:
            for change in node.pending:
                _apply(node, change)
        node.pending.clear()

    def pending(self) -> list[tuple[Node, object]]:
        """Return all that is on its way, each with the node that it is for."""
        nodes = {
            id(node): node for node in (self.root, *self._live.values(), *self.inodes.values())
        }
        return [(node, change) for node in nodes.values() for change in (*node.lost, *node.pending)]

    def state(self, kept: list[tuple[Node, object]]) -> dict[str, bytes]:
        """Return the files that there are when of all that is pending this was ``kept``."""
        by_node: dict[int, list[object]] = {}
        for node, change in kept:
            by_node.setdefault(id(node), []).append(change)
        return dict(_files(self.root, "", by_node))


def _apply(node: Node, change: object) -> None:
    if isinstance(change, dict):
        assert node.names is not None
        for name, target in change.items():
            if target is None:
                node.names.pop(name, None)
            else:
                node.names[name] = target
        return
    assert isinstance(change, tuple)
    _write(node.content, *change)


def _write(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(offset - len(content), 0)))
    content[offset : offset + len(data)] = data


def _files(node: Node, path: str, kept: dict[int, list[object]]) -> Iterator[tuple[str, bytes]]:
    changes = kept.get(id(node), [])
    if node.names is None:
        content = bytearray(node.content) if changes else node.content
        for change in changes:
            assert isinstance(change, tuple)
            _write(content, *change)
        yield path, bytes(content)
        return
    seen = Node(names=dict(node.names))
    for change in changes:
        _apply(seen, change)
    assert seen.names is not None
    for name, child in seen.names.items():
        yield from _files(child, f"{path}/{name}" if path else name, kept)


@dataclass
class Call:
    """One line of the log."""

    what: str
    result: int
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


def read_log(log: bytes) -> Iterator[Call]:
    """Yield the calls of a log, in their order."""
    at = 0
    while at < len(log):
        end = log.index(b"\n", at)
        what, result, inode, offset, length, path, other = log[at:end].decode().split("\t")
        data = log[end + 1 : end + 1 + int(length)]
        at = end + 1 + int(length)
        yield Call(what, int(result), int(inode), int(offset), path, other, data)


def crash_states(disk: Disk, chance: random.Random) -> Iterator[dict[str, bytes]]:
    """Yield what a power cut just now may leave."""
    pending = disk.pending()
    yield disk.state([])
    if not pending:
        return
    yield disk.state(pending)
    chosen = chance.sample(range(len(pending)), min(len(pending), _MOST_ALONE))
    for number in chosen:
        yield disk.state([pending[number]])
        yield disk.state(pending[:number] + pending[number + 1 :])
    for number in chosen:
        node, change = pending[number]
        if isinstance(change, tuple) and change[1]:
            half = (change[0], change[1][: len(change[1]) // 2])
            yield disk.state([*pending[:number], (node, half), *pending[number + 1 :]])
    for _ in range(_RANDOM_STATES):
        yield disk.state([one for one in pending if chance.random() < 0.5])


def check_power_loss(
    world: World, known: Known, outcome: Outcome, calls: list[Call], disk: Disk, *, seed: int
) -> tuple[int, list[str]]:
    """Return how many states were looked at, and what was wrong in them."""
    chance = random.Random(seed)
    wrong: list[str] = []
    seen: dict[int, dict[str, bytes]] = {}
    for call in [*calls, None]:
        acknowledged = outcome.value if call is None and outcome.end == "done" else {}
        for state in crash_states(disk, chance):
            mark = hash((bool(acknowledged), frozenset(state.items())))
            if mark not in seen:
                seen[mark] = state
                wrong.extend(check_state(state, known, acknowledged))
        if call is not None:
            disk.replay(call)
            known.written.update(disk.named)
    for state in chance.sample(list(seen.values()), min(len(seen), _GONE_ON_WITH)):
        wrong.extend(_check_going_on(world, known, state))
    return len(seen), wrong


@dataclass(frozen=True)
class Known:
    """What a state is compared with.

    Args:
        workload: What was done.
        before: The files that there were.
        written: What each name has stood for since.
        final: The files that there are in the end.
    """

    workload: Workload
    before: dict[str, bytes]
    written: dict[str, bytes]
    final: dict[str, bytes]


def check_state(
    state: dict[str, bytes], known: Known, acknowledged: dict[str, Any]
) -> Iterator[str]:
    """Yield what is wrong in the files that a power cut left, by comparing them with whole ones."""
    for place in ("store", "second"):
        names = [f"{place}/{name}" for name in snapshots_in(state, place)]
        told = [f"{place}/{name}" for name in acknowledged.get(place, [])]
        old = [f"{place}/{name}" for name in snapshots_in(known.before, place)]
        if known.workload.removes:
            old_ones = [] if known.workload.replaces else _out_of_trash(old, known.before)
            must = [*told, *old_ones]
        else:
            must = [*told, *old]
        yield from (f"{name} is gone" for name in must if name not in names)
        if known.workload.replaces and set(old) - set(names) and not set(names) - set(old):
            yield "old snapshots are gone, and nothing new is there"
        whole = known.before | known.written
        for one in (one for name in names for one in beside(name)):
            if state.get(one) != whole.get(one):
                yield f"{one} is not what was written, and its snapshot is listed"
    if "key" in acknowledged and state.get("keys/key", b"").decode().strip() != acknowledged["key"]:
        yield "the key is gone"
    signing = "state/host-signing-key"
    if acknowledged and known.final.get(signing) != state.get(signing):
        yield "the signing key of a snapshot is gone"


def _out_of_trash(names: list[str], before: dict[str, bytes]) -> list[str]:
    return [name for name in names if marker(name) not in before]


def _check_going_on(world: World, known: Known, state: dict[str, bytes]) -> Iterator[str]:
    """Yield what is wrong when the machine is on again and the next run comes."""
    shutil.rmtree(world.now)
    world.now.mkdir()
    for name, content in state.items():
        path = world.now / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    yield from checks_of(known.workload, world, Outcome("killed"), known.before)
