"""The files that belong to this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def files() -> list[Path]:
    """Return the files of the checkout, relative to ``ROOT``: those git has, or would take in."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:  # unpacked from an archive
        found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
        return sorted(path for path in found if not _is_made(path))
    ask = ["git", "-c", "safe.directory=*", "ls-files", "-coz", "--exclude-standard"]
    names = subprocess.run(ask, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
    found = {Path(os.fsdecode(name)) for name in names if name}
    return sorted(path for path in found if (ROOT / path).is_file())


def copy_to(directory: Path) -> None:
    """Copy the files of the checkout to ``directory``."""
    for path in files():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)


def _is_made(path: Path) -> bool:
    """Tell whether a file was made by a tool, in an unpacked archive that knows no git."""
    kept = {".ci", ".gitignore"}
    return any(
        (part.startswith(".") and part not in kept) or part == "__pycache__" for part in path.parts
    )
