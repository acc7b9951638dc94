"""The data sets: made once in the work directory, the same everywhere, reused when complete."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks import filling, trees
from benchmarks.contenders import WORKS

MIB = 1 << 20
PACKAGED = Path("/usr/src")  # where Debian's linux-source packages put theirs


class NotThereError(Exception):
    """A data set cannot be made here; the message tells why and what would help."""


@dataclass(frozen=True)
class Kind:
    """What a data set is about, and how large it is: in full, and for a quick look."""

    about: str
    full: int
    quick: int
    works: tuple[str, ...] = tuple(WORKS)
    against: str = ""  # the contender that others are compared with, in place of the fastest peer
    without: tuple[str, ...] = ()  # contenders that tell nothing here, for all the time they take


KINDS = {
    "kernel": Kind("a Linux kernel source tree", 0, 12 * MIB),
    "random": Kind("incompressible files", 2048 * MIB, 8 * MIB, without=("tar-xz-gpg",)),
    "large": Kind(
        "one large file: random, a log, zeros",
        4096 * MIB,
        16 * MIB,
        works=("first", "restore", "verify"),  # one file is all of it
        without=("tar-xz", "tar-xz-gpg"),
    ),
    "small": Kind("very many small files", 1_000_000, 1_000, without=("tar-xz-gpg",)),
    "slice": Kind(
        "a slice of the kernel tree",
        200 * MIB,
        4 * MIB,
        against="tar-xz",
        without=("restic", "kopia", "rustic", "borg"),  # this is about xz
    ),
}


@dataclass(frozen=True)
class DataSet:
    """A tree that is there, whole."""

    name: str
    about: str
    path: Path
    one: str  # relative path of a file somewhere in the middle
    entries: int
    size: int  # bytes
    room: int  # bytes on the disk


def data_set(name: str, work: Path, *, quick: bool, kernel: Path | None) -> DataSet:
    """Return a data set, which is made if it is not there.

    Raises:
        NotThereError: There is nothing to make it from.
    """
    kind = KINDS[name]
    if name == "kernel" and not quick:
        whole = kernel_tree(work, kernel)
        return described(name, kind.about, whole)
    path = work / "data" / (f"quick-{name}" if quick else name)
    amount = kind.quick if quick else kind.full
    recipe = f"2 {name} {amount}"
    fill = filling.FILLERS.get(name)
    if fill is None:
        whole = kernel_tree(work, kernel)
        recipe += f" {whole}"
        fill = partial(filling.slice_of, whole)
    return described(name, kind.about, made(path, recipe, lambda top: fill(top, amount)))


def kernel_tree(work: Path, given: Path | None) -> Path:
    """Return the directory with the kernel's source: the given one, or a tar file unpacked."""
    origin = given or packaged()
    if origin.is_dir():
        return origin.resolve()
    if not origin.is_file():
        raise NotThereError(f"{origin} is neither a directory nor a file")
    status = origin.stat()
    recipe = f"1 {origin.name} {status.st_size} {status.st_mtime_ns}"
    return made(work / "data" / "linux", recipe, lambda top: _unpack(origin, top))


def packaged() -> Path:
    """Return the source that a package of the system brought."""
    found = sorted(PACKAGED.glob("linux-source-*"), key=lambda path: (path.is_dir(), path.name))
    if not found:
        raise NotThereError("no kernel source: install linux-source, or give --kernel")
    return found[-1]


def _unpack(origin: Path, top: Path) -> None:
    command = ["tar", "-xf", str(origin), "-C", str(top), "--no-same-owner"]
    if subprocess.run(command, check=False).returncode:
        raise NotThereError(f"{origin} could not be unpacked")


def made(path: Path, recipe: str, fill: Callable[[Path], None]) -> Path:
    """Return ``path``, filled by ``fill`` unless it was filled by the same recipe before."""
    marker = path.with_name(f"{path.name}.recipe")
    if marker.is_file() and marker.read_text(encoding="utf-8") == recipe and path.is_dir():
        return path
    marker.unlink(missing_ok=True)
    unfinished = path.with_name(f"{path.name}.partial")
    for old in (path, unfinished):
        if old.exists():
            shutil.rmtree(old)
    unfinished.mkdir(parents=True)
    fill(unfinished)
    unfinished.rename(path)
    marker.write_text(recipe, encoding="utf-8")
    return path


def described(name: str, about: str, path: Path) -> DataSet:
    """Return a data set of what lies at ``path``."""
    files = sorted(
        where
        for where, status in trees.walk(path)
        if stat.S_ISREG(status.st_mode) and status.st_size
    )
    if not files:
        raise NotThereError(f"there are no files in {path}")
    size = trees.measured(path)
    one = files[len(files) // 2]
    return DataSet(name, about, path, one, size.entries, size.size, size.room)


def as_json(one: DataSet) -> dict[str, object]:
    """Return what results tell of a data set: no paths of this machine."""
    told = asdict(one)
    return {key: told[key] for key in ("name", "about", "one", "entries", "size")} | {
        "against": KINDS[one.name].against,
        "without": KINDS[one.name].without,
    }
