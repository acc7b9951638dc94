"""Words for people: sizes, durations, tables, JSON. Data to stdout, all else to stderr."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec

from backup.errors import BackupError, ConfigError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_MINUTE = 60
_HOUR = 3600
_DAY = 86_400
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE = {"id", "time", "started", "entries", "size", "purged from", "newest", "oldest", "state"}
_NUMBERS = {"entries", "size"}
_BAD = ("damaged", "error", "not well", "failed", "timed out")
_GAP = 2
_HIDDEN_BYTES = 0xDC00
_FIRST_HIDDEN_BYTE = 0x80
_LAST_HIDDEN_BYTE = 0xFF


class OutputClosed(Exception):  # noqa: N818 - it is no error
    """Whoever read standard output has seen enough.

    Not a ``BrokenPipeError``, because the parser's library exits on those.
    """


def size_text(size: float) -> str:
    """Return a size in bytes for people: ``1.5 MiB``."""
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} {_UNITS[-1]}"


def count_text(count: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 file`` or ``2,000 files``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration_text(seconds: float) -> str:
    """Return a duration for people: ``0.4 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds) // _MINUTE} min {int(seconds) % _MINUTE} s"
    return f"{int(seconds) // _HOUR} h {int(seconds) % _HOUR // _MINUTE} min"


def age_text(seconds: float) -> str:
    """Return how long ago something was, shortly: ``now``, ``5m``, ``3h``, ``12d``."""
    if seconds < _MINUTE:
        return "now"
    if seconds < _HOUR:
        return f"{int(seconds) // _MINUTE}m"
    return f"{int(seconds) // _HOUR}h" if seconds < 2 * _DAY else f"{int(seconds) // _DAY}d"


def time_text(time: datetime, *, short: bool = False) -> str:
    """Return a moment in the local zone: to the minute, or to the second with its offset."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M" if short else "%Y-%m-%d %H:%M:%S %z")


def print_line(text: str) -> None:
    """Write a line of data, which does nothing to a terminal."""
    print_text(safe_text(text) + "\n")


def print_json(value: object) -> None:
    """Write one JSON document on a line."""
    print_text(json_text(value) + "\n")


def print_text(text: str) -> None:
    """Write text as it is."""
    with _told_if_refused():
        sys.stdout.write(text)


def print_bytes(data: bytes | memoryview) -> None:
    """Write the bytes of a file as they are."""
    with _told_if_refused():
        sys.stdout.buffer.write(data)


def flush_output() -> None:
    """Hand over what has been written; a full disk behind ``>`` may show only now."""
    with _told_if_refused():
        sys.stdout.flush()


def discard_output() -> None:
    """Write nothing more: keeps the interpreter from failing with what is left when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _told_if_refused() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        discard_output()
        raise BackupError(f"cannot write to standard output: {error.strerror}") from error


def is_terminal() -> bool:
    """Tell whether a person reads standard output."""
    return sys.stdout.isatty()


def print_note(text: str) -> None:
    """Tell the user something that is not data."""
    _tell(f"auto-backup: {safe_text(text)}")


def print_error(error: BackupError) -> None:
    """Tell what failed and what to do next; several problems each on a line of its own."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    print_note(f"error: {error.message.split(chr(10))[0] if problems else error.message}")
    for problem in problems:
        _tell(f"  {safe_text(problem)}")
    if error.hint:
        first, *more = error.hint.split("\n")
        print_note(f"hint: {first}")
        for line in more:
            _tell(f"  {safe_text(line.strip())}")


def _tell(line: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # the two may go to the same place
        sys.stdout.flush()
    with suppress(OSError):  # where nobody listens, nobody can be told
        sys.stderr.write(line + "\n")


def safe_text(text: str) -> str:
    """Return ``text`` without what a terminal would act upon: names may hold anything."""
    escaped = _without_raw_bytes(text)
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
        for one in escaped
    )


def json_text(value: object) -> str:
    """Return ``value`` as JSON on one line, with bytes of names that are not UTF-8 escaped."""
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode(_cleaned(msgspec.to_builtins(value, enc_hook=str))).decode()


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return _without_raw_bytes(value)
    if isinstance(value, dict):
        return {key: _cleaned(one) for key, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, list | tuple) else value


def _without_raw_bytes(text: str) -> str:
    """Return ``text`` with the bytes that Python hides in surrogates escaped, as paths are."""
    return _SURROGATE.sub(_escape_surrogate, text)


def _escape_surrogate(found: re.Match[str]) -> str:
    number = ord(found[0])
    hidden = _FIRST_HIDDEN_BYTE <= number - _HIDDEN_BYTES <= _LAST_HIDDEN_BYTE
    return f"\\x{number - _HIDDEN_BYTES:02x}" if hidden else f"\\u{number:04x}"


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, optional: Sequence[str] = ()
) -> None:
    """Write a table: drawn on a terminal, plain columns in a pipe.

    A terminal on which the lines do not fit gets no ``optional`` columns, the first ones first.
    """
    table_rows = [[safe_text(cell) for cell in row] for row in rows]
    if is_terminal():
        _draw_table(*_fitting(columns, table_rows, optional))
        return
    widths = [max(map(len, column)) for column in zip(columns, *table_rows, strict=True)]
    for row in [columns, *table_rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_line("  ".join(cells).rstrip())


def _fitting(
    columns: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return columns and rows without as many optional columns as do not fit."""
    room = shutil.get_terminal_size().columns
    for name in optional:
        widths = (max(map(len, column)) for column in zip(columns, *rows, strict=True))
        if sum(width + _GAP for width in widths) <= room:
            break
        at = list(columns).index(name)
        columns = [*columns[:at], *columns[at + 1 :]]
        rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    return columns, rows


def _draw_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - only terminals need it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column,
            overflow="fold",
            no_wrap=column in _WHOLE,
            justify="right" if column in _NUMBERS else "left",
        )
    for row in rows:
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    Console().print(table)


def _style(cell: str) -> str:
    if cell in {"ok", "holds", "done"}:
        return "green"
    return "bold red" if cell.startswith(_BAD) else ""
