"""The command line: which tools, which data, how often."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.comparison import Comparison, Wanted, draw, status
from benchmarks.contenders import WORKS, Contender, Place
from benchmarks.data import KINDS, NotThereError
from benchmarks.ours import everybody
from benchmarks.results import UnreadableError, load
from benchmarks.rounds import Conditions

_WORK = Path("/var/tmp/auto-backup-benchmark")  # noqa: S108 - a name to be changed by --work
_ROUNDS, _QUICK_ROUNDS = 5, 1


def main(arguments: Sequence[str]) -> int:
    """Compare, and return the exit status: 0, 1 when a run of this tool failed, 130 interrupted."""
    options = parser().parse_args(arguments)
    try:
        if options.from_json:
            draw(load(options.from_json), options.out or options.from_json.parent)
            return 0
        contenders = chosen(everybody(), options.only)
        wanted = wanted_by(options)
        if options.dry_run:
            _tell_plan(wanted, contenders)
            return 0
        wanted.work.mkdir(parents=True, exist_ok=True)
        wanted.out.mkdir(parents=True, exist_ok=True)
        with signals_at(Interruption()):
            results = Comparison(wanted).run(contenders)
        draw(results, wanted.out)
        return status(results)
    except (UnreadableError, NotThereError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2


class Interruption:
    """Ends everything, whichever signal came; those that follow at once count as the same one.

    Who ends a command often ends its process group, too, and it would be told twice.
    """

    def __init__(self) -> None:
        self._again = 0.0  # when the next one counts

    def __call__(self, *_: object) -> None:
        now = time.monotonic()
        if now >= self._again:
            self._again = now + 1
            raise KeyboardInterrupt


@contextmanager
def signals_at(handler: Callable[..., None]) -> Iterator[None]:
    """Let a function handle the signals that end a program."""
    before = {one: signal.signal(one, handler) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, former in before.items():
            signal.signal(one, former)


def parser() -> argparse.ArgumentParser:
    """Return what understands the arguments."""
    made = argparse.ArgumentParser(
        prog="compare.py", description="Compare Auto-Backup with other tools on the same data."
    )
    add = made.add_argument
    add(
        "--work",
        type=Path,
        default=_WORK,
        metavar="DIR",
        help="data and repositories (%(default)s)",
    )
    add("--out", type=Path, metavar="DIR", help="tables, chart, JSON (default: results in --work)")
    add("--kernel", type=Path, metavar="PATH", help="kernel source: a directory or a tar file")
    add("--data", type=_words(KINDS), default=list(KINDS), metavar="NAME,…", help=", ".join(KINDS))
    add("--do", type=_words(WORKS), default=list(WORKS), metavar="WORK,…", help=", ".join(WORKS))
    keys = [one.key for one in everybody()]
    add("--only", type=lambda text: text.split(","), metavar="TOOL,…", help=", ".join(keys))
    add("--rounds", type=_count, metavar="N", help=f"({_ROUNDS}; --quick: {_QUICK_ROUNDS})")
    add("--quick", action="store_true", help="a look in two minutes: small data, no figures")
    add("--cold", action="store_true", help="empty the page cache before each run (as root)")
    add("--limit", type=float, default=3600, metavar="S", help="seconds for one run (%(default)s)")
    add("-n", "--dry-run", action="store_true", help="tell what would be run")
    add("--from-json", type=Path, metavar="FILE", help="draw tables and charts of a former run")
    return made


def chosen(contenders: Sequence[Contender], only: list[str] | None) -> list[Contender]:
    """Return those that were asked for, by key or by its first word.

    Raises:
        NotThereError: A word fits none.
    """
    if only is None:
        return list(contenders)
    for word in only:
        if not any(_fits(one, word) for one in contenders):
            known = ", ".join(one.key for one in contenders)
            raise NotThereError(f"--only {word}: not one of {known}")
    return [one for one in contenders if any(_fits(one, word) for word in only)]


def _fits(contender: Contender, word: str) -> bool:
    return contender.key == word or contender.key.partition("-")[0] == word


def _words(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word}: not one of {', '.join(known)}")
        return [word for word in known if word in words]

    return parse


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def wanted_by(options: argparse.Namespace) -> Wanted:
    """Return what the options ask for.

    Raises:
        NotThereError: It cannot be had.
    """
    if options.cold and os.geteuid() != 0:
        raise NotThereError("--cold: only root can empty the page cache")
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    work = options.work.resolve()
    return Wanted(
        work=work,
        out=options.out or work / "results",
        kernel=options.kernel,
        data=options.data,
        works=[one for one in WORKS if one == "first" or one in options.do],
        conditions=Conditions(rounds, options.quick, options.cold, options.limit),
    )


def _tell_plan(wanted: Wanted, contenders: list[Contender]) -> None:
    """Print what would be run, without running or making anything."""
    print(f"{wanted.conditions.rounds} rounds on {', '.join(wanted.data)}, in {wanted.work}")
    for one in contenders:
        found = one.found()
        print(f"\n{one.key}: {found.version} {found.why}".rstrip())
        place = Place(Path("/RUN"), Path("/SOURCE"), Path("/SOURCE/FILE"))
        for step in one.prepare(place):
            print(f"  not counted  {step}")
        for work in wanted.works:
            print(f"  {work:12} {one.doing(work, replace(place, work=work))}")
