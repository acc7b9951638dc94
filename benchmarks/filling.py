"""What the made data sets consist of: the same bytes on every machine and in every run."""

from __future__ import annotations

import random
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import trees

_MIB = 1 << 20
_SEED = 20_261_120
_PER_DIRECTORY = 1000
_FILES_OF_RANDOM = 32


def random_files(top: Path, amount: int) -> None:
    """Make ``amount`` bytes that nothing compresses, in some files of one size."""
    for number in range(_FILES_OF_RANDOM):
        chance = random.Random(_SEED + number)
        _write(top / f"{number:02}.bin", _pieces(chance.randbytes, amount // _FILES_OF_RANDOM))


def large_file(top: Path, amount: int) -> None:
    """Make one file: half of it random, most of the rest a log, some zeros, a MiB at a time."""
    chance = random.Random(_SEED)
    words = [word.decode() for word in _words(chance)]

    def piece(size: int) -> bytes:
        kind = chance.randrange(16)
        if kind < 8:
            return chance.randbytes(size)
        return _lines(chance, words, size) if kind < 15 else bytes(size)

    _write(top / "large.img", _pieces(piece, amount))


def small_files(top: Path, amount: int) -> None:
    """Make ``amount`` files of 20 to 400 bytes of text, a thousand in a directory."""
    chance = random.Random(_SEED)
    words = _words(chance)
    for number in range(amount):
        directory = top / f"{number // _PER_DIRECTORY:04}"
        if number % _PER_DIRECTORY == 0:
            directory.mkdir()
        text = _text(chance, words, chance.randint(12, 392))
        (directory / f"{number % _PER_DIRECTORY:03}.txt").write_bytes(b"%07d " % number + text)


def slice_of(whole: Path, top: Path, amount: int) -> None:
    """Copy every so many-th file of a tree, about ``amount`` bytes of them."""
    files = [(path, status) for path, status in trees.walk(whole) if stat.S_ISREG(status.st_mode)]
    files.sort(key=lambda one: one[0])
    share = min(1.0, amount / max(1, sum(status.st_size for _, status in files)))
    for number, (path, _) in enumerate(files):
        if int((number + 1) * share) > int(number * share):
            target = top / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(whole / path, target)


def _words(chance: random.Random) -> list[bytes]:
    letters = b"etaoinshrdlucmfw"
    return [bytes(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(4096)]


def _text(chance: random.Random, words: list[bytes], size: int) -> bytes:
    text = b" ".join(chance.choices(words, k=size // 4 + 1))
    return (text + b"." * size)[:size]


def _lines(chance: random.Random, words: list[str], size: int) -> bytes:
    """Return what a log may look like."""
    lines = []
    length = 0
    while length < size:
        said = " ".join(words[chance.getrandbits(8) + number] for number in range(6))
        key, took = chance.getrandbits(64), chance.getrandbits(12)
        lines.append(
            f'{{"key": "{key:016x}", "said": "{said}", "level": "info", "took": {took}}}\n'
        )
        length += len(lines[-1])
    return "".join(lines).encode()[:size]


def _pieces(make: Callable[[int], bytes], amount: int) -> Iterator[bytes]:
    for at in range(0, amount, _MIB):
        yield make(min(_MIB, amount - at))


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)


FILLERS: dict[str, Callable[[Path, int], None]] = {
    "random": random_files,
    "large": large_file,
    "small": small_files,
}
