"""Cutting large files by content, so that a later snapshot finds again what did not change.

FastCDC (Xia et al., USENIX ATC 2016): the cuts depend on the bytes around them, so an insertion
moves them along. The average is 256 KiB below 64 GiB and 1 MiB from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backup.errors import BackupError

_KIB = 1024
_LARGE = 64 * _KIB**3
_WINDOW = 8 * _KIB**2


def average_chunk(file_size: int) -> int:
    """Return the average length in bytes of the chunks of a file of ``file_size`` bytes."""
    return 256 * _KIB if file_size < _LARGE else _KIB**2


def chunk_lengths(read: Callable[[int, int], bytes], size: int, longest: int) -> Iterator[int]:
    """Yield the lengths of the chunks of a file, in order; they add up to ``size``.

    Args:
        read: Gives ``length`` bytes at ``offset``, fewer only at the end of the file.
        size: The file's size in bytes. A file that turns out shorter is taken as padded.
        longest: No chunk may be longer.
    """
    average = average_chunk(size)
    most = min(4 * average, longest)
    average = min(average, most // 2)
    at = 0
    while at < size:
        window = read(at, min(_WINDOW, size - at))
        last = at + len(window) >= size or len(window) < min(_WINDOW, size - at)
        for length in _settled(window, average, most, last=last):
            yield length
            at += length
        if last:
            break
    while at < size:  # the file became shorter since it was listed
        length = min(most, size - at)
        yield length
        at += length


def _settled(window: bytes, average: int, most: int, *, last: bool) -> Iterator[int]:
    """Yield the chunks of ``window`` that more bytes behind it would not change."""
    if not window:
        return
    left = len(window)
    for length in _fastcdc(window, average, most):
        if not last and left < most:
            return
        yield length
        left -= length


def _fastcdc(window: bytes, average: int, most: int) -> Iterator[int]:
    try:
        from pyfastcdc import FastCDC  # noqa: PLC0415 - only large files need it
    except ImportError as error:
        raise _no_cutter() from error
    if not FastCDC.__module__.startswith("pyfastcdc.cy"):
        # Its fallback in pure Python is 200 times slower, and would be taken without a word.
        raise _no_cutter()
    cutter = FastCDC(average, min_size=average // 4, max_size=most)
    for chunk in cutter.cut_buf(window):
        yield chunk.length


def _no_cutter() -> BackupError:
    return BackupError(
        "large files cannot be cut: the compiled part of the package 'pyfastcdc' is missing",
        hint="install a wheel of it: pip install --force-reinstall --only-binary :all: pyfastcdc",
    )
