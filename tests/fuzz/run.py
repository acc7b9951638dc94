"""Coverage-guided fuzzing: ``python tests/fuzz/run.py TARGET --seconds N``; ``--list`` tells them.

It needs ``atheris``: ``pip install -e '.[fuzz]'``. What it finds is written to ``crash-…`` in the
working directory, and belongs, made small, into ``test_found.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import atheris  # noqa: E402 - the path comes first

with atheris.instrument_imports(include=["backup"]):
    from tests.fuzz.bounds import bounded
    from tests.fuzz.targets import TARGETS, run

LONGEST = 65536


def main() -> int:
    """Fuzz one target for a while; the status is not 0 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--list", action="store_true", help="tell the targets and stop")
    parser.add_argument("--corpus", help="where inputs are kept; else nowhere")
    given = parser.parse_args()
    if given.list or given.target is None:
        sys.stdout.writelines(f"{name}\n" for name in sorted(TARGETS))
        return 0
    if given.corpus is not None:
        fuzz(given.target, given.seconds, Path(given.corpus))
    # The fuzzer ends its process without a word to Python: another one has to clear up.
    with tempfile.TemporaryDirectory(prefix="auto-backup-corpus-") as corpus:
        call = [sys.executable, *sys.argv, "--corpus", corpus]
        return subprocess.run(call, check=False).returncode


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz a target, and end this process."""
    for number, seed in enumerate(TARGETS[name].seeds):
        run(name, seed)  # loads what is loaded when it is needed
        (corpus / f"seed-{number}").write_bytes(seed)

    def take(data: bytes) -> None:
        with bounded():
            run(name, data)

    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10"]
    options += ["-rss_limit_mb=1024", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *options], take)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
