"""The tar stream in a file: decompressed from its beginning to its end, in little memory."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from typing import TYPE_CHECKING, Protocol

from backup.errors import IntegrityError, MalformedError, TrailingBytesError, TruncatedError
from backup.plain.arranging import Limits
from backup.plain.formats import Format
from backup.snapshot.source import ByteSource

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

_STEP = 256 * 1024
_FEED = 16 * 1024
"""What is behind the end of a stream is handed back: of many small ones that is not to be much."""

_LONGEST_MAGIC = 6
_XZ_MEMORY = 192 * 1024 * 1024
_ZSTD_WINDOW_LOG = 27
_ERRORS = (lzma.LZMAError, zlib.error, zstd.ZstdError, OSError, EOFError, ValueError)
_MAGICS: dict[Format, tuple[bytes, ...]] = {
    Format.TAR_GZ: (b"\x1f\x8b",),
    Format.TAR_BZ2: (b"BZh",),
    Format.TAR_XZ: (b"\xfd7zXZ\0",),
    # A frame, or one of 16 that are skipped.
    Format.TAR_ZST: (
        b"\x28\xb5\x2f\xfd",
        *(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16)),
    ),
}
CHECKED_BY = {
    Format.TAR: "",
    Format.TAR_GZ: "gzip's CRC-32",
    Format.TAR_BZ2: "bzip2's CRC-32",
    Format.TAR_XZ: "xz's checks",
    Format.TAR_ZST: "zstd's checksums, where it has them,",
}
"""What tells of damage to contents."""


class _Decoder(Protocol):
    """Decompresses one stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Inflater:
    """What zlib makes, with the interface of the other decoders."""

    def __init__(self, wbits: int) -> None:
        self._inflater = zlib.decompressobj(wbits=wbits)
        self._full = False

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._inflater.eof

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out of what it has been given."""
        return not self._inflater.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        """What came behind the end of the stream."""
        return self._inflater.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most ``max_length`` bytes."""
        most = max(max_length, 0)
        plain = self._inflater.decompress(self._inflater.unconsumed_tail + data, most)
        self._full = len(plain) == most and not self._inflater.eof
        return plain


def _decoder(one: Format) -> _Decoder:
    match one:
        case Format.TAR_GZ:
            return Inflater(31)
        case Format.TAR_BZ2:
            return bz2.BZ2Decompressor()
        case Format.TAR_XZ:
            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        case _:
            options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
            return zstd.ZstdDecompressor(options=options)


class PlainStream:
    """Gives the bytes of a tar archive in order; ``at`` is how many have been given.

    Args:
        source: The file.
        form: How it is compressed.
        limits: How much may come out of it.
    """

    def __init__(self, source: ByteSource, form: Format, limits: Limits) -> None:
        self.at = 0
        self._source = source
        self._form = form
        self._limits = limits
        self._read = 0  # of the file
        self._input = b""
        self._next = 0  # of the input
        self._decoder: _Decoder | None = None
        self._streams = 0
        self._made = 0
        self._left = memoryview(b"")

    @property
    def place(self) -> int:
        """How far the file has been read."""
        return self._read - len(self._input) + self._next

    def read(self, length: int) -> memoryview | bytes:
        """Return ``length`` bytes, fewer only at the end of the stream.

        Raises:
            IntegrityError: It is damaged.
            LimitError: More comes out of it than may.
        """
        if length <= len(self._left):
            return self._give(length)
        parts = []
        while length and self._fill():
            parts.append(self._give(min(length, len(self._left))))
            length -= len(parts[-1])
        return b"".join(parts)

    def some(self, most: int) -> memoryview:
        """Return up to ``most`` bytes, at least one where the stream has not ended."""
        return self._give(min(most, len(self._left))) if self._fill() else memoryview(b"")

    def skip(self, length: int) -> bool:
        """Pass over ``length`` bytes; tell whether there were so many."""
        while length:
            passed = len(self.some(length))
            if not passed:
                return False
            length -= passed
        return True

    def _give(self, length: int) -> memoryview:
        given, self._left = self._left[:length], self._left[length:]
        self.at += length
        return given

    def _fill(self) -> bool:
        """See to it that something is left; tell whether there is."""
        while not self._left:
            block = self._raw() if self._form is Format.TAR else self._decompressed()
            if block is None:
                return False
            self._made += len(block)
            if self._form is not Format.TAR:
                self._limits.check_size(self._made, self._source.size, self._source.name)
            self._left = memoryview(block)
        return True

    def _raw(self) -> bytes | None:
        block = self._source.read_at(self._read, _STEP)
        self._read += len(block)
        return block or None

    def _refill(self) -> bool:
        """See to it that there is input; tell whether there is."""
        if self._next == len(self._input):
            self._input, self._next = self._raw() or b"", 0
        return bool(self._input)

    def _decompressed(self) -> bytes | None:
        """Return some more bytes, maybe none; ``None`` behind the last stream."""
        if self._decoder is None and not self._begin():
            return None
        decoder = self._decoder or _decoder(self._form)
        data = b""
        if decoder.needs_input:
            if not self._refill():
                raise TruncatedError(f"{self._what()} ends too early, at byte {self._read:,}")
            data = self._input[self._next : self._next + _FEED]
            self._next += len(data)
        try:
            block = decoder.decompress(data, _STEP)
        except _ERRORS as error:
            raise self._damage(error) from error
        if decoder.eof:
            self._next -= len(decoder.unused_data)
            self._decoder = None
        return block

    def _begin(self) -> bool:
        """Begin with the next stream; tell whether there is one."""
        if len(self._input) - self._next < _LONGEST_MAGIC:
            self._input, self._next = self._input[self._next :] + (self._raw() or b""), 0
        if not self._input:
            return False
        if self._input.startswith(_MAGICS[self._form], self._next):
            self._decoder = _decoder(self._form)
            self._streams += 1
            return True
        at = self.place
        while not any(self._input[self._next :]):
            self._next = len(self._input)
            if not self._refill():
                return False
        text = f"{self._source.name}: what stands at byte {at:,} is not {self._form}"
        raise (TrailingBytesError if self._streams else MalformedError)(text)

    def _damage(self, error: Exception) -> IntegrityError:
        at = f"at or before byte {self._read:,}"
        if "memory" in str(error).lower():
            return MalformedError(f"{self._what()} needs more memory than a reader may take, {at}")
        return MalformedError(f"{self._what()} is damaged {at}")

    def _what(self) -> str:
        return f"the {str(self._form).removeprefix('tar.')} stream of {self._source.name}"
