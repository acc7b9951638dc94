"""Zip and tar files that mean harm: made by somebody who wants out of the target, or to fill it."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.hostile import BAD_PATHS, LINKS, OUTSIDE

TAR_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "unknown": b"Z",
}
ZIP_MODES = {
    "file": stat.S_IFREG | 0o777,
    "dir": stat.S_IFDIR | 0o777,
    "link": stat.S_IFLNK | 0o777,
    "fifo": stat.S_IFIFO | 0o777,
    "char": stat.S_IFCHR | 0o777,
}


class Thing(NamedTuple):
    """A member: ``to`` is where a link leads."""

    kind: str
    path: str
    to: str = OUTSIDE
    content: bytes = b"written"
    fields: tuple[tuple[str, object], ...] = ()


class HostileArchive(NamedTuple):
    """One archive, told by a sentence; ``make`` gives its bytes, ``end`` is its suffix."""

    sentence: str
    end: str
    make: Callable[[Path], bytes]

    def write(self, directory: Path, outside: Path) -> Path:
        """Make it; return its path."""
        path = directory / f"evil.{self.end}"
        path.write_bytes(self.make(outside))
        return path


def tar_of(things: Sequence[Thing], *, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for thing in things:
            info = tarfile.TarInfo(thing.path)
            info.type = TAR_TYPES[thing.kind]
            info.mode, info.mtime = 0o777, 1_600_000_000
            info.linkname = thing.to if thing.kind in {"link", "hard link"} else ""
            info.devmajor, info.devminor = 1, 3
            if thing.kind in {"file", "unknown"}:
                info.size = len(thing.content)
            for name, value in thing.fields:
                setattr(info, name, value)
            archive.addfile(info, io.BytesIO(thing.content) if info.size else None)
    return file.getvalue()


def zip_of(things: Sequence[Thing], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for thing in things:
            info = zipfile.ZipInfo("x", (2020, 9, 13, 12, 26, 40))
            info.filename = thing.path
            info.create_system, info.compress_type = 3, method
            info.external_attr = ZIP_MODES.get(thing.kind, ZIP_MODES["file"]) << 16
            for name, value in thing.fields:
                setattr(info, name, value)
            archive.NameToInfo.clear()  # which would warn of a second one
            archive.writestr(info, thing.to if thing.kind == "link" else thing.content)
    return file.getvalue()


def _filled(things: Sequence[Thing], outside: Path) -> list[Thing]:
    return [
        one._replace(
            path=one.path.replace(OUTSIDE, str(outside)), to=one.to.replace(OUTSIDE, str(outside))
        )
        for one in things
    ]


def _case(sentence: str, things: Sequence[Thing], form: str) -> HostileArchive:
    make = tar_of if form == "tar" else zip_of
    return HostileArchive(
        f"{sentence}, in a {form}", form, lambda outside: make(_filled(things, outside))
    )


def cases() -> Iterator[HostileArchive]:
    """Yield all of them."""
    for form, kinds in (("tar", TAR_TYPES), ("zip", ZIP_MODES)):
        for (words, path), kind in product(BAD_PATHS.items(), kinds):
            if form == "tar" or path:
                yield _case(f"{words}, as a {kind}", [Thing(kind, path)], form)
        for (words, to), kind in product(LINKS.items(), kinds):
            link, below = Thing("link", "l", to), Thing(kind, "l/secret")
            yield _case(f"a {kind} below a link to {words}", [link, below], form)
            yield _case(f"a {kind}, then a link to {words} above it", [below, link], form)
            deep = Thing(kind, "l/a/b/secret")
            yield _case(f"a {kind} far below a link to {words}", [link, deep], form)
            twice = Thing("link", "x", to), Thing(kind, "x"), Thing(kind, "x/secret")
            yield _case(f"a link to {words} and a {kind} of the same name", twice, form)
            turned = Thing("dir", "x"), Thing(kind, "x/secret"), Thing("link", "x", to)
            yield _case(f"a directory with a {kind} becomes a link to {words}", turned, form)
        for one, two in product(kinds, kinds):
            both = [Thing(one, "x"), Thing(two, "x"), Thing(two, "x/y")]
            yield _case(f"a {one}, then a {two} of the same name", both, form)
        for odd in ("\x1b]0;x\x07\x1b[2J\n\r", "--delete", ".auto-backup-0123.partial", "..."):
            yield _case(f"the name {odd!r}", [Thing("file", odd)], form)
        deep_path = "d/" * 5000 + "x"
        yield _case("a path of 5,000 directories", [Thing("file", deep_path)], form)
        yield _case("setuid of root", [Thing("file", "x", fields=_setuid(form))], form)
    yield from _hard_links()
    yield from _odd_tars()
    yield from _odd_zips()


def _setuid(form: str) -> tuple[tuple[str, object], ...]:
    if form == "tar":
        return (("mode", 0o6777), ("uid", 0), ("gid", 0))
    return (("external_attr", (stat.S_IFREG | 0o6777) << 16),)


def _hard_links() -> Iterator[HostileArchive]:
    for to in (OUTSIDE + "/secret", "../outside/secret", "/etc/passwd", "x", "nothing", ".", ".."):
        link = Thing("hard link", "x", to)
        yield _case(f"a hard link to {to}", [link], "tar")
        again = Thing("file", "x", content=b"written through")
        yield _case(f"a hard link to {to}, then a file of its name", [link, again], "tar")
        more = [Thing("hard link", "y", "x"), link]
        yield _case(f"a hard link to a hard link to {to}", more, "tar")
    through = [Thing("link", "l"), Thing("hard link", "h", "l/secret"), Thing("file", "h")]
    yield _case("a hard link to a file below a link", through, "tar")
    of_link = [Thing("link", "l"), Thing("hard link", "h", "l"), Thing("file", "h/secret")]
    yield _case("a file below a hard link to a link", of_link, "tar")
    of_dir = [Thing("dir", "d"), Thing("hard link", "h", "d"), Thing("file", "h/secret")]
    yield _case("a file below a hard link to a directory", of_dir, "tar")


def _odd_tars() -> Iterator[HostileArchive]:
    fields = {
        "a size beyond the file": ("size", 10**12),
        "an owner beyond 32 bits": ("uid", 2**40),
        "a negative time": ("mtime", -(10**9)),
        "a time beyond all": ("mtime", 10**18),
        "a device beyond all": ("devmajor", 2**20),
    }
    for words, field in fields.items():
        kind = "char" if field[0] == "devmajor" else "file"
        data = Thing(kind, "x", fields=(field,))
        yield HostileArchive(words, "tar", lambda _, data=data: _tolerant_tar(data))
    records = {
        "a path that leads out": {"path": "../outside/x"},
        "a path with NUL": {"path": "a\0b"},
        "a link that leads out": {"linkpath": "../outside/secret"},
        "a size of minus one": {"size": "-1"},
        "a size that is huge": {"size": "9" * 18},
        "a sparse map that overlaps": {"GNU.sparse.map": "0,5,3,2", "GNU.sparse.size": "99"},
        "a sparse map beyond the end": {"GNU.sparse.map": "90,7", "GNU.sparse.size": "9"},
        "a sparse file of 8 EiB": {"GNU.sparse.map": "0,7", "GNU.sparse.size": str(2**63 - 1)},
        "a sparse name that leads out": {"GNU.sparse.name": "../outside/x"},
        "a sparse map in its content": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        "an attribute of the system": {"SCHILY.xattr.security.capability": "x" * 20},
        "an attribute with NUL": {"SCHILY.xattr.user.a\0b": "x"},
        "an ACL that is none": {"SCHILY.acl.access": "user:root:rwx,nonsense"},
        "a time that is none": {"mtime": "yesterday"},
        "an owner that is none": {"uid": "root"},
    }
    for (words, one), kind in product(records.items(), ("file", "hard link", "dir", "link")):
        thing = Thing(kind, "x", fields=(("pax_headers", one),))
        yield HostileArchive(
            f"a record with {words}, of a {kind}", "tar", lambda _, thing=thing: tar_of([thing])
        )
    for all_of in ({"path": "../outside/x"}, {"size": "0"}, {"linkpath": "/etc/passwd"}):
        yield HostileArchive(
            f"a global record {all_of}", "tar", lambda _, all_of=all_of: _global_tar(all_of)
        )
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = b"x", 2**33
    yield HostileArchive(
        "an extended header of 8 GiB", "tar", lambda _: huge.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    )
    long = tarfile.TarInfo("x")
    long.type, long.size = b"L", 2**40
    yield HostileArchive(
        "a long name of a TiB", "tar", lambda _: long.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    )
    yield HostileArchive("a bomb of 1.1 GiB in gzip", "tar.gz", lambda _: _bomb_of_zeros())


def _tolerant_tar(thing: Thing) -> bytes:
    """Return a tar whose header says what its content does not keep."""
    info = tarfile.TarInfo(thing.path)
    info.type, info.size = TAR_TYPES[thing.kind], 7
    for name, value in thing.fields:
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT) + b"written".ljust(512, b"\0") + bytes(1024)


def _global_tar(records: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers=records
    ) as archive:
        info = tarfile.TarInfo("x")
        info.size = 7
        archive.addfile(info, io.BytesIO(b"written"))
    return file.getvalue()


@cache
def _bomb_of_zeros() -> bytes:
    info = tarfile.TarInfo("zeros")
    info.size = 1100 * 2**20
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(info.tobuf())]
    block = bytes(2**20)
    parts += [packer.compress(block) for _ in range(1100)]
    return b"".join([*parts, packer.compress(bytes(1024)), packer.flush()])


def _odd_zips() -> Iterator[HostileArchive]:
    plain = [Thing("file", "x", content=b"content " * 100), Thing("file", "y")]
    changes = {
        "another name in its header": (_local(0) + 30, b"z"),
        "another size in its header": (_local(0) + 22, struct.pack("<I", 5)),
        "another CRC in its header": (_local(0) + 14, b"\0\0\0\0"),
        "another method in its header": (_local(0) + 8, b"\0\0"),
        "no magic in its header": (_local(0), b"PK\5\5"),
    }
    for words, (at, new) in changes.items():
        yield HostileArchive(
            words, "zip", lambda _, at=at, new=new: _patched(zip_of(plain), at, new)
        )
    in_directory = {
        "a size that is too small": (24, struct.pack("<I", 5)),
        "a size that is too large": (24, struct.pack("<I", 10**9)),
        "a packed size beyond the file": (20, struct.pack("<I", 10**9)),
        "an offset beyond the file": (42, struct.pack("<I", 10**9)),
        "the place of another member": (42, struct.pack("<I", 0)),
        "an unknown method": (10, struct.pack("<H", 99)),
        "a password": (8, struct.pack("<H", 1)),
        "zip64 sizes without zip64": (20, b"\xff" * 8),
    }
    for words, (at, new) in in_directory.items():
        yield HostileArchive(
            f"a directory with {words}",
            "zip",
            lambda _, at=at, new=new: _in_last_record(zip_of(plain), at, new),
        )
    yield HostileArchive("members that overlap", "zip", lambda _: overlapping(200))
    yield HostileArchive("a bomb of 1.2 GiB", "zip", lambda _: _zipped_bomb())
    yield HostileArchive(
        "a link whose target is damaged",
        "zip",
        lambda _: zip_of([Thing("link", "l", "to/there")], method=0).replace(b"to/", b"ot/", 1),
    )
    yield HostileArchive(
        "a link of 100,000 bytes", "zip", lambda _: zip_of([Thing("link", "l", "x" * 100_000)])
    )


@cache
def _zipped_bomb() -> bytes:
    return zip_of([Thing("file", f"x{n}", content=bytes(3 * 2**27)) for n in range(3)])


def _local(at: int) -> int:
    return at


def _patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _in_last_record(data: bytes, at: int, new: bytes) -> bytes:
    return _patched(data, data.rfind(b"PK\1\2") + at, new)


def overlapping(count: int) -> bytes:
    """Return a zip of many members that are all the same bytes."""
    content = bytes(10_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    crc = zlib.crc32(content)
    head = struct.pack("<5H3I", 20, 0, 8, 0, 0x21, crc, len(packed), len(content))
    local = b"PK\3\4" + head + struct.pack("<2H", 1, 0) + b"x" + packed
    record = b"PK\1\2" + struct.pack("<H", 0x314) + head
    record += struct.pack("<5H2I", 1, 0, 0, 0, 0, 0o100644 << 16, 0) + b"x"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, count * len(record), len(local), 0)
    return local + record * count + end
