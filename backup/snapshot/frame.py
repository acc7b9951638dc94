"""Frames: one Fernet token each, whose message says which place it has.

Fernet authenticates nothing beside its message, so a message begins with its section, the
snapshot's id and its number. ``u32 length | token`` is how a frame lies in the file.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from backup.errors import ForeignFrameError, FrameError, FrameOutOfPlaceError, MalformedError
from backup.model import ArchiveType
from backup.snapshot.derive import FRAMES, derive_key
from backup.snapshot.header import Core
from backup.snapshot.token import (
    TAG_BYTES,
    TokenDamagedError,
    TokenKey,
    open_token,
    seal_token,
    token_length,
    token_room,
    token_tag,
    token_time,
)

LENGTH = struct.Struct(">I")
_PLACE = struct.Struct(">B16sII")
PLACE_BYTES = _PLACE.size
_PAD_STEP = 4096
_SLACK = 4096
MOST_FRAMES = 2**32 - 1


class Section(IntEnum):
    """What a frame's piece belongs to."""

    ABSENT = 0
    ARCHIVE = 1
    INDEX = 2
    CHUNKS = 3
    END = 4


_IN_FILES = frozenset(Section) - {Section.ABSENT}


class FrameRow(NamedTuple):
    """What the end of a snapshot records of one frame.

    ``offset`` is where its length field stands in the file, ``length`` the token's length in bytes,
    ``plain`` the length of the uncompressed piece, ``tag`` the token's last 32 bytes.
    """

    section: Section
    offset: int
    length: int
    plain: int
    tag: bytes


class SealedFrame(NamedTuple):
    """One frame ready to be written."""

    section: Section
    number: int
    plain: int
    token: bytes | bytearray | memoryview


def piece_capacity(archive: ArchiveType, cap: int) -> int:
    """Return how many uncompressed bytes a piece may have in a snapshot with this frame cap.

    A little less than the cap, so that a piece which does not compress still fits: bzip2 may add
    1 % and 600 bytes, the others less than 4 KiB.
    """
    slack = max(_SLACK, cap // 64) if archive is ArchiveType.TAR_BZ2 else _SLACK
    return cap - slack if cap > 2 * slack else cap // 2


def padded_length(length: int, cap: int) -> int:
    """Return the length that a message of ``length`` bytes is padded to.

    A multiple of 4 KiB and of Padmé's step (https://lbarman.ch/blog/padme/), so that lengths tell
    little: at most 3 % are added above 128 KiB; never beyond ``cap``.
    """
    exponent = max(length, 2).bit_length() - 1
    step = 1 << max(exponent - exponent.bit_length(), 0)
    step = max(step, _PAD_STEP)
    return max(length, min(-(-length // step) * step, cap))


class FrameKeys:
    """Seals and opens the frames of one snapshot.

    Args:
        core: The snapshot's core.
        data_key: Its 32-byte data key.
    """

    def __init__(self, core: Core, data_key: bytes) -> None:
        self.core = core
        self._key = TokenKey.from_bytes(derive_key(data_key, core.digest, FRAMES))

    def longest_token(self) -> int:
        """Return the length in bytes that no token of this snapshot exceeds."""
        return token_length(self.core.cap)

    def room(self) -> int:
        """Return how many bytes it takes to seal any frame of this snapshot."""
        return token_room(self.core.cap)

    def seal(
        self,
        section: Section,
        number: int,
        piece: bytes | memoryview,
        plain: int,
        into: bytearray | None = None,
    ) -> SealedFrame:
        """Return the frame that holds ``piece``, a compressed stream of ``plain`` bytes.

        Its token lies in ``into``, where that is given, of ``room`` bytes; see ``seal_token``.

        Raises:
            MalformedError: The piece is larger than a frame may be.
        """
        length = PLACE_BYTES + len(piece)
        if length > self.core.cap:
            raise MalformedError(f"a piece of {len(piece)} bytes does not fit a frame")
        place = _PLACE.pack(section, self.core.id, number, len(piece))
        padding = bytes(padded_length(length, self.core.cap) - length)
        token = seal_token(self._key, self.core.time, place, piece, padding, into=into)
        return SealedFrame(section, number, plain, token)

    def open(
        self,
        section: Section,
        number: int,
        token: bytes | memoryview,
        *,
        tag: bytes | None = None,
    ) -> memoryview:
        """Return the compressed piece of the frame at place ``number`` of ``section``.

        Args:
            section: Which section it must belong to.
            number: Its place.
            token: Its bytes.
            tag: The tag that the snapshot's end records for that place, where that is known.

        Raises:
            FrameError: Its bytes are damaged.
            FrameOutOfPlaceError: It belongs elsewhere in this snapshot.
            ForeignFrameError: It belongs to another snapshot.
        """
        found, at, piece = self.open_anywhere(token, place=number, tag=tag)
        if at != number or found != section:
            raise FrameOutOfPlaceError(f"frame {at} stands in the place of frame {number}")
        if tag is not None and token_tag(token) != tag:
            raise ForeignFrameError(f"frame {number} is of another writing of this snapshot")
        return piece

    def open_anywhere(
        self, token: bytes | memoryview, *, place: int, tag: bytes | None = None
    ) -> tuple[Section, int, memoryview]:
        """Return the section, the number and the compressed piece that ``token`` tells.

        Args:
            token: The frame's bytes.
            place: Where it was found, for messages.
            tag: See ``open``; here it only tells a damaged frame from a foreign one.
        """
        try:
            message = open_token(self._key, token)
        except TokenDamagedError:
            raise self._explain(place, token, tag) from None
        if len(message) < PLACE_BYTES:
            raise MalformedError(f"frame {place} does not tell its place")
        section, snapshot_id, number, length = _PLACE.unpack_from(message)
        end = PLACE_BYTES + length
        if snapshot_id != self.core.id:
            raise ForeignFrameError(f"frame {place} belongs to another snapshot")
        if section not in _IN_FILES or token_time(token) != self.core.time:
            raise MalformedError(f"frame {place} tells an unknown section or another time")
        if len(message) > self.core.cap:
            raise MalformedError(f"frame {place} is larger than a frame may be")
        if end > len(message) or bytes(message[end:]).strip(b"\0"):
            raise MalformedError(f"frame {place} does not keep to its own length")
        return Section(section), number, message[PLACE_BYTES:end]

    def _explain(
        self, number: int, token: bytes | memoryview, tag: bytes | None
    ) -> FrameError | ForeignFrameError:
        # A token tells its time in clear. The check below only chooses between two refusals.
        whole = len(token) > TAG_BYTES
        same = tag is not None and whole and token_tag(token) == tag
        if whole and not same and token[0] == 0x80 and token_time(token) != self.core.time:  # noqa: PLR2004
            return ForeignFrameError(f"frame {number} belongs to another snapshot")
        return FrameError(f"frame {number} is damaged or was changed")
