"""Every error that leaves this package.

Rules:
1. No foreign exception crosses the package's boundary: whoever calls a library translates, with
   ``raise … from error``.
2. The message says what failed and on what: lower case, no full stop, no secret. ``hint`` says what
   to do next.
3. Library code neither prints nor exits; ``cli.main`` turns an error into its exit status.
4. ``exit_code`` is part of the interface (docs/COMMANDS.md).

::

    BackupError                        1
    ├── ConfigError                    2
    │   └── InvalidArgumentError       2   also a ValueError
    ├── SourceError                    1   a source as a whole cannot be read
    ├── StateError                     1   a database of this machine cannot be used
    │   ├── CatalogError               1   what is known of its stores
    │   └── RunStateError              1   what is known of its runs
    ├── WorkerError                    1   a worker process was killed, or has failed
    ├── DaemonError                    1   the daemon does not do what it is asked for
    ├── SnapshotNotFoundError         10
    ├── LockedError                   11
    ├── SecretKeyError                12
    │   ├── KeyMissingError           12   there is no key, or none of this snapshot's recipients
    │   └── WrongKeyError             12   no slot opens with the key that was given
    ├── IntegrityError                13   stored bytes are not those written
    │   ├── NotASnapshotError
    │   ├── UnknownVersionError
    │   ├── UnknownSuiteError
    │   ├── HeaderError
    │   ├── FooterError
    │   ├── FrameError                     a frame's bytes are damaged
    │   ├── FrameOutOfPlaceError           an authentic frame stands in another one's place
    │   ├── ForeignFrameError              a frame of another snapshot
    │   ├── TruncatedError
    │   ├── TrailingBytesError
    │   ├── MalformedError                 authentic, but not what the format allows
    │   ├── LimitError                     more than a reader may take in
    │   ├── DigestError                    a content or file digest differs
    │   ├── MissingSnapshotError           a snapshot that is referred to is absent
    │   ├── UnsignedError
    │   ├── SignatureError
    │   └── UnknownSignerError
    ├── StorageError                  14
    ├── RestoreError                  16   refused
    │   └── UnsafePathError           16
    └── InterruptedRunError          130
"""

from __future__ import annotations

from typing import ClassVar, Self


class BackupError(Exception):
    """What every error of this package is.

    Args:
        message: What failed, on what.
        hint: What to do next, where there is something to do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(BackupError):
    """The call or the configuration does not say something that can be done.

    ``problems`` are the lines of a message that tells several things at once.
    """

    exit_code = 2
    problems: tuple[str, ...] = ()

    @classmethod
    def of_problems(cls, where: str, problems: tuple[str, ...], *, hint: str | None = None) -> Self:
        """Return the error that tells all ``problems`` of one thing, each on a line."""
        if len(problems) == 1:
            return cls(problems[0], hint=hint)
        lines = "".join(f"\n  {one}" for one in problems)
        error = cls(f"{len(problems)} problems in {where}:{lines}", hint=hint)
        error.problems = problems
        return error


class InvalidArgumentError(ConfigError, ValueError):
    """An argument of a library call is out of range."""


class SourceError(BackupError):
    """A source as a whole cannot be read."""


class StateError(BackupError):
    """A database in which this machine keeps what it knows cannot be used.

    Args:
        message: What failed, on what.
        hint: What to do next, where there is something to do.
        is_newer: Whether a newer version of this program made it: one that runs should end.
    """

    def __init__(self, message: str, *, hint: str | None = None, is_newer: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_newer = is_newer


class CatalogError(StateError):
    """The catalog of this machine cannot be used; snapshots and stores can."""


class RunStateError(StateError):
    """What is known of the runs of this machine's jobs cannot be read, or not be recorded."""


class WorkerError(BackupError):
    """A process that works for this one was killed twice, or has failed."""


class DaemonError(BackupError):
    """The daemon does not answer, or has ended meanwhile."""


class SnapshotNotFoundError(BackupError):
    """No snapshot fits what was asked for."""

    exit_code = 10


class LockedError(BackupError):
    """Something else is at work there, or it is not allowed."""

    exit_code = 11


class SecretKeyError(BackupError):
    """A key is missing, malformed, or not the right one."""

    exit_code = 12


class KeyMissingError(SecretKeyError):
    """There is no key to open or to seal with."""


class WrongKeyError(SecretKeyError):
    """The snapshot is sealed for other keys than those that were given."""


class IntegrityError(BackupError):
    """Stored bytes are not those that were written."""

    exit_code = 13


class NotASnapshotError(IntegrityError):
    """The file is something else."""


class UnknownVersionError(IntegrityError):
    """The file has a format version that this reader does not know."""


class UnknownSuiteError(IntegrityError):
    """The file uses a cipher suite or an archive type that this reader does not know."""


class HeaderError(IntegrityError):
    """The header is damaged or was changed."""


class FooterError(IntegrityError):
    """The footer is damaged, while all frames are in place."""


class FrameError(IntegrityError):
    """The bytes of a frame are damaged or were changed."""


class FrameOutOfPlaceError(IntegrityError):
    """A frame of this snapshot stands where another one belongs."""


class ForeignFrameError(IntegrityError):
    """A frame of another snapshot stands in this file."""


class TruncatedError(IntegrityError):
    """The file ends too early."""


class TrailingBytesError(IntegrityError):
    """Bytes follow after the end of the snapshot."""


class MalformedError(IntegrityError):
    """What is authentic does not keep to the format."""


class LimitError(IntegrityError):
    """A length or a count is larger than a reader may take in."""


class DigestError(IntegrityError):
    """A digest that was recorded does not fit the bytes."""


class MissingSnapshotError(IntegrityError):
    """A snapshot that this one refers to is absent."""


class UnsignedError(IntegrityError):
    """The snapshot carries no signature."""


class SignatureError(IntegrityError):
    """The signature does not fit the snapshot."""


class UnknownSignerError(IntegrityError):
    """The snapshot is signed by a host that is not among the trusted ones."""


class StorageError(BackupError):
    """A store refused, or lost the way.

    Args:
        message: What failed, on what.
        hint: What to do next, where there is something to do.
        transient: Whether trying again may help.
    """

    exit_code = 14

    def __init__(self, message: str, *, hint: str | None = None, transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient


class RestoreError(BackupError):
    """A restore was refused before anything was changed, or could not go on."""

    exit_code = 16


class UnsafePathError(RestoreError):
    """A name in a snapshot would lead out of the restore's target."""


class InterruptedRunError(BackupError):
    """Somebody asked the run to stop."""

    exit_code = 130
