"""Words for people: sizes, durations, tables, JSON. Data to stdout, all else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from backup.errors import BackupError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_MINUTE = 60
_HOUR = 3600


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


def time_text(time: datetime) -> str:
    """Return a moment in the local zone, with its offset."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def print_line(text: str = "") -> None:
    """Write a line of data."""
    sys.stdout.write(text + "\n")


def print_json(value: object) -> None:
    """Write one JSON document on a line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_note(text: str) -> None:
    """Tell the user something that is not data."""
    sys.stderr.write(f"auto-backup: {text}\n")


def print_error(error: BackupError) -> None:
    """Tell what failed and what to do next."""
    sys.stderr.write(f"auto-backup: error: {safe_text(error.message)}\n")
    if error.hint:
        first, *more = error.hint.split("\n")
        sys.stderr.write(f"auto-backup: hint: {safe_text(first)}\n")
        for line in more:
            sys.stderr.write(f"  {safe_text(line.strip())}\n")


def safe_text(text: str) -> str:
    """Return ``text`` without what a terminal would act upon: names may hold anything."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table: drawn on a terminal, plain columns in a pipe."""
    table_rows = [[safe_text(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw_table(columns, table_rows)
        return
    widths = [max(map(len, column)) for column in zip(columns, *table_rows, strict=True)]
    for row in [columns, *table_rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print_line("  ".join(cells).rstrip())


def _draw_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - only terminals need it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column == "size" else "left")
    for row in rows:
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    Console().print(table)


def _style(cell: str) -> str:
    if cell in {"ok", "holds"}:
        return "green"
    return "bold red" if cell.startswith(("damaged", "error")) else ""
