"""Confining this process by Landlock, so that it can change files below some directories only."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from backup.errors import RestoreError

# The same numbers on every architecture that Python supports on Linux.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_SET_NO_NEW_PRIVS = 38

_WRITE_FILE = 1 << 1
_REMOVE_AND_MAKE = 0x1FF0  # REMOVE_DIR to MAKE_SYM, as <linux/landlock.h> numbers them
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_REFER_VERSION, _TRUNCATE_VERSION = 2, 3


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface, 0 where there is none."""
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    except OSError:
        return 0


def confine(*targets: int | Path) -> bool:
    """Let this thread, and what it starts, change files below ``targets`` only, for good.

    Meant for a process whose last work this is; the null device stays writable. Writing, creating,
    removing, linking and renaming are refused elsewhere, to root as well; truncating is from
    version 3 of Landlock on.
    Reading stays allowed everywhere, and so do descriptors that are open already. Landlock does not
    know changes of mode, owner, times and attributes. No program started from here gains rights by
    a setuid bit.

    Args:
        targets: The directories, as paths or as open descriptors.

    Returns:
        False, with nothing changed, where the kernel has no Landlock, or only its version 1, which
        would forbid hard links between two directories even below one of ``targets``.

    Raises:
        RestoreError: The kernel has Landlock and refuses.
    """
    version = landlock_version()
    if version < _REFER_VERSION:
        return False
    try:
        _restrict(targets, _rights(version))
    except OSError as error:
        names = ", ".join(repr(str(target)) for target in targets)
        message = f"cannot confine the restore to {names}: {error.strerror}"
        raise RestoreError(message) from error
    return True


def _rights(version: int) -> int:
    rights = _WRITE_FILE | _REMOVE_AND_MAKE | _REFER
    return rights | _TRUNCATE if version >= _TRUNCATE_VERSION else rights


def _restrict(targets: Sequence[int | Path], rights: int) -> None:
    attributes = _Ruleset(rights)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    ruleset = _syscall(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        for target in targets:
            _allow(ruleset, target, rights)
        _allow(ruleset, Path(os.devnull), rights & (_WRITE_FILE | _TRUNCATE))
        _prctl(_SET_NO_NEW_PRIVS, 1)
        _syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, target: int | Path, rights: int) -> None:
    directory = target if isinstance(target, int) else os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = ctypes.byref(_PathBeneath(rights, directory))
        _syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        if directory != target:
            os.close(directory)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return _checked(libc.syscall(ctypes.c_long(number), *arguments))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    _checked(libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
