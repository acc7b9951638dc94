"""The page with a key on it: as text, and as HTML to print, with a code to scan."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import NamedTuple

_LINE = 24
_GROUP = 4
_QUIET_ZONE = 2


class PaperKey(NamedTuple):
    """What stands on the page. ``places`` are stores with the jobs of this host in each."""

    secret: str
    option: str
    type: str
    id: str
    host: str
    date: str
    places: tuple[Place, ...]
    program: str
    recover_digest: str

    def __repr__(self) -> str:
        """Return the id alone: never the secret."""
        return f"PaperKey({self.id})"


class Place(NamedTuple):
    """A store by what ``--store`` takes; ``path`` is its local directory, empty elsewhere."""

    store: str
    path: str
    jobs: tuple[str, ...]


def text_page(paper: PaperKey) -> str:
    """Return the page as lines of text."""
    return "\n".join(_lines(paper)) + "\n"


def html_page(paper: PaperKey) -> str:
    """Return the page as one HTML file that needs nothing else."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>auto-backup key {escape(paper.id)}</title>
<style>
@page {{ size: A4; margin: 15mm }}
body {{ font-family: monospace; color: #000; background: #fff; max-width: 180mm; margin: auto }}
pre {{ font-size: 8.5pt; white-space: pre-wrap; overflow-wrap: anywhere }}
span {{ white-space: nowrap }}
svg {{ float: right; width: 55mm; height: 55mm }}
</style></head><body>
{_svg(paper.secret)}
<pre>{_unbroken(escape(text_page(paper)))}</pre>
</body></html>
"""


def _unbroken(html: str) -> str:
    """Keep a line from ending within an option: who types it would put a blank there."""
    return re.sub(r"--[a-z-]+", r"<span>\g<0></span>", html)


def _svg(secret: str) -> str:
    return str(_code(secret).svg_inline(scale=4, omitsize=True))


def terminal_code(secret: str) -> str:
    """Return the code in half blocks, dark on light as scanners want it."""
    rows = [list(row) for row in _code(secret).matrix_iter(border=_QUIET_ZONE)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    lines = (
        "".join(blocks[int(bool(a)), int(bool(b))] for a, b in zip(*two, strict=True))
        for two in pairs
    )
    return "\n".join(lines) + "\n"


def _code(secret: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - segno's own class
    import segno  # noqa: PLC0415 - only this page needs it

    return segno.make_qr(secret, error="q")


def grouped(secret: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a secret in groups, each with four characters to check it by."""
    for start in range(0, len(secret), _LINE):
        line = secret[start : start + _LINE]
        groups = [line[at : at + _GROUP] for at in range(0, len(line), _GROUP)]
        yield " ".join(groups), sha256(line.encode()).hexdigest()[:4]


def _lines(paper: PaperKey) -> Iterator[str]:
    yield f"auto-backup key   {paper.type} {paper.id}"
    yield f"of host {paper.host}, printed {paper.date} by {paper.program}"
    yield ""
    yield "WHO HAS THIS PAGE CAN READ EVERYTHING THAT IS SEALED FOR THIS KEY."
    yield "Keep it where fire and thieves do not come, and not with the snapshots."
    yield ""
    for line, check in grouped(paper.secret):
        yield f"    {line:<{_LINE + _LINE // _GROUP}}  [{check}]"
    yield ""
    yield "Blanks do not count. In brackets: the beginning of the line's SHA-256, without blanks:"
    yield "    printf %s LINE | sha256sum"
    yield ""
    yield "1. Put the key into a file (type it, Enter, Ctrl-D; or scan the code); compare its id:"
    yield "$ umask 077; cat > key"
    yield f"$ auto-backup key show {paper.option} key | grep {paper.id}"
    for place in paper.places:
        yield ""
        yield from _steps(paper, place)


def _steps(paper: PaperKey, place: Place) -> Iterator[str]:
    store = shlex.quote(place.store)
    yield f"2. With auto-backup, out of {place.store}:"
    yield f"$ auto-backup {paper.option} key --store {store} snapshots"
    for job in place.jobs:
        yield f"$ auto-backup {paper.option} key --store {store} restore {job} --target back"
    yield ""
    oldest = 47 if paper.type == "hpke" else 38
    yield f"3. Without it: Python 3.9 or newer, and its package cryptography, {oldest} or newer."
    yield "   Compare recover.py first, and run it only if it has this SHA-256:"
    yield f"   {paper.recover_digest}"
    if not place.path:
        yield "   Get recover.py, and the newest .enc file with its .enc.keys, out of the store."
        yield "   python3 recover.py extract SNAPSHOT.enc back --key key"
        return
    path = shlex.quote(place.path)
    yield f"$ sha256sum {path}/recover.py"
    for job in place.jobs:
        newest = f"\"$(find {path}/{job} -name '*.enc' | sort | tail -n 1)\""
        yield f"$ python3 {path}/recover.py extract {newest} back --key key"
