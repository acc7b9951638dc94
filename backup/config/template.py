"""The text of a new configuration, with a comment for each thing that it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup.config.keeping import keep_rules
from backup.config.models import VERSION, Source
from backup.errors import ConfigError
from backup.retention import RetentionPolicy

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*", re.ASCII)
_NOT_TEXT = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}

_HEAD = """\
# Auto-Backup: what this machine saves, and where to.
# Made by auto-backup of a few answers; it is yours to change. After a change:
#   auto-backup config validate     tells every mistake with its line
#   auto-backup config show         tells what counts, and where each value comes from
version: {version}
"""
_HOST = """
# This machine's name in the stores; it keeps its snapshots together when the machine is renamed.
host: {host}
"""
_KEY = """
# Seals the snapshots, and opens them. Without it nobody, you included, can ever read them: keep a
# copy off this machine ('auto-backup key export' puts it on paper).
key_file: {key_file}
"""
_STORES = """
# Where snapshots lie: each is written to the first store and copied to the others.
stores:
"""
_SECOND = """\
  # One disk fails, one house burns: have a second store elsewhere, and name it below, too.
  # second:
  #   url: /mnt/other-disk/auto-backup
"""
_DEFAULTS = """
# What holds for every job that does not say otherwise.
defaults:
  stores: [{stores}]
  compression: {compression}{space}# xz is smallest, zstd many times as fast; gzip, bzip2, none
"""
_KEEP = """\
  # What stays; anything else goes to the trash first. Without keep nothing is ever deleted.
  keep: {{{keep}}}
"""
_NO_KEEP = """\
  # Without keep nothing is ever deleted. What it may look like:
  # keep: {last: 3, daily: 14, weekly: 8, monthly: 12}
"""
_SCHEDULE = """\
  # When jobs run: every, at, on, or cron. Something has to look what is due:
  #   auto-backup service install     has systemd do it; --cron where there is no systemd
  schedule: {schedule}
"""
_NO_SCHEDULE = """\
  # Jobs run when they are called by hand. What a schedule may look like:
  # schedule: at 02:30          # every 6 hours, on sunday at 03:00, cron 30 2 * * 1-5
"""
_LEAVE_OUT = """\
  # What is left out everywhere. A snapshot that leaves something out cannot be restored with
  # --delete: nobody could tell what it never had.
  # exclude: ["*.tmp", node_modules/]     # as in a .gitignore file
  # exclude_caches: true                  # what a CACHEDIR.TAG marks as a cache
  # exclude_larger_than: 10GB
  # one_file_system: true                 # nothing that is mounted inside
"""
_JOBS = """
# What to save. 'auto-backup --now' runs all jobs, 'auto-backup --now {job}' this one.
jobs:
  {job}:
    sources:
"""


_PART = """\
# The job {job}, made of a few answers; it is yours to change. After a change:
#   auto-backup config validate     tells every mistake with its line
#   auto-backup config show {job}
"""
_PART_JOBS = """\
jobs:
  {job}:
    sources:
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a file says that adds a job to a configuration.

    Args:
        stores: URLs or paths, by name, that the configuration does not have.
        job: The name of the job.
        sources: What it saves.
        into: The names of its stores.
        schedule: When it runs; empty for by hand.
    """

    stores: dict[str, str]
    job: str
    sources: Sequence[Source]
    into: Sequence[str]
    schedule: str


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a new configuration is to say.

    Args:
        host: This machine's name in the stores.
        key_file: The key; ``None`` on a host that only writes.
        stores: Their URLs or paths, by name; the first one is written first.
        compression: Its name.
        keep: What to keep, a policy without rules for everything.
        schedule: When it runs, as ``schedule:`` says it in a text; empty for by hand.
        job: The name of the only job.
        sources: What it saves.
    """

    host: str
    key_file: Path | None
    stores: dict[str, str]
    compression: str
    keep: RetentionPolicy
    schedule: str
    job: str
    sources: Sequence[Source]


def render(answers: Answers) -> str:
    """Return the text of a configuration.

    Raises:
        ConfigError: A path is not UTF-8, which no configuration can say.
    """
    return "".join(_parts(answers))


def render_part(part: Part) -> str:
    """Return the text of a file that adds a job; see ``render``."""
    return "".join(_parts_of_part(part))


def _parts_of_part(part: Part) -> Iterator[str]:
    yield _PART.format(job=scalar(part.job))
    if part.stores:
        yield "stores:\n" + _stores(part.stores)
    yield _PART_JOBS.format(job=scalar(part.job))
    yield from map(_source, part.sources)
    yield f"    stores: {_value(list(part.into))}\n"
    if part.schedule:
        yield f"    schedule: {scalar(part.schedule)}\n"


def _parts(answers: Answers) -> Iterator[str]:
    yield _HEAD.format(version=VERSION)
    yield _HOST.format(host=scalar(answers.host))
    if answers.key_file is not None:
        yield _KEY.format(key_file=scalar(str(answers.key_file)))
    yield _STORES + _stores(answers.stores)
    if len(answers.stores) == 1:
        yield _SECOND
    yield _DEFAULTS.format(
        stores=", ".join(map(scalar, answers.stores)),
        compression=answers.compression,
        space=" " * (8 - len(answers.compression)),
    )
    rules = keep_rules(answers.keep)
    keep = ", ".join(f"{word}: {_value(value)}" for word, value in rules.items())
    yield _KEEP.format(keep=keep) if rules else _NO_KEEP
    yield _SCHEDULE.format(schedule=scalar(answers.schedule)) if answers.schedule else _NO_SCHEDULE
    yield _LEAVE_OUT
    yield _JOBS.format(job=scalar(answers.job))
    yield from map(_source, answers.sources)


def _stores(stores: dict[str, str]) -> str:
    return "".join(f"  {scalar(name)}:\n    url: {scalar(url)}\n" for name, url in stores.items())


def _source(source: Source) -> str:
    text = f"      - path: {scalar(str(source.path))}\n"
    return text + (f"        exclude: {_value(source.exclude)}\n" if source.exclude else "")


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(scalar, value))}]"
    return str(value) if isinstance(value, int) else scalar(str(value))


def scalar(text: str) -> str:
    """Return ``text`` as YAML has it, in quotes where it would be something else without them.

    Raises:
        ConfigError: It is not UTF-8.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise ConfigError(
            f"{shown} is not UTF-8, and a configuration is",
            hint="name a directory above it, or rename it",
        ) from None
    return f'"{"".join(_escaped(one) for one in text)}"'


def _escaped(letter: str) -> str:
    if letter in _SHORT:
        return _SHORT[letter]
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
