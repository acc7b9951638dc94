"""Making one archive: where it goes, made and tested, told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backup.cli.consent import ask
from backup.cli.excluding import Excludes, remarks
from backup.cli.forecast import measure, tell_measured
from backup.cli.invocation import Invocation
from backup.cli.sealing import prepare_sealing
from backup.cli.telling_archives import report_json, tell_choice, tell_report
from backup.clock import system_clock
from backup.errors import BackupError, ConfigError, RestoreError
from backup.keys import load_or_create_host_key
from backup.manager import SnapshotRequest
from backup.manager.own_stores import directories_of, refuse_stores
from backup.model import ArchiveType, path_text
from backup.plain.making import make_archive, make_encrypted
from backup.plain.naming import Chosen, check_stem, choose_format, file_name, stem_of
from backup.plain.places import FilePlace, Place, StorePlace
from backup.plain.request import ArchiveReport, ArchiveRequest
from backup.snapshot.names import check_word, slug
from backup.sources.roots import Root, prepare_roots
from backup.storage.base import BaseStorage, check_name
from backup.storage.local import LocalStorage
from backup.wiring import open_all

_SOME_OF_IT = 3


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An archive to make, as options say it; ``None`` where nothing was said.

    ``output`` is a file or a directory, ``format`` a word, ``name`` what to call it.
    """

    sources: Sequence[Path]
    excludes: Excludes
    output: str | None = None
    format: str | None = None
    name: str | None = None
    encrypt: bool = False


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is to be made of what, and where."""

    roots: Sequence[Root]
    chosen: Chosen
    stores: list[BaseStorage]
    places: list[Place]
    unseen: list[tuple[int, int]]


def archive_sources(call: Invocation, wanted: Wanted) -> dict[str, object]:
    """Make an archive and tell of it, or with ``--dry-run`` what it would hold.

    Returns what is to be told in JSON; all else has been told.
    """
    task = _plan(call, wanted)
    for remark in remarks(wanted.excludes, task.roots):
        call.note(remark)
    if call.dry_run:
        return _tell_plan(call, wanted, task)
    task = replace(task, places=[_with_consent(call, place) for place in task.places])
    return _make(call, wanted, task)


def _plan(call: Invocation, wanted: Wanted) -> _Task:
    directory, given = _split_output(wanted.output)
    if wanted.name is not None:
        check_stem(wanted.name)
        if given is not None:
            raise ConfigError(
                f"--name says {wanted.name!r}, and -o names the file {given!r}",
                hint="leave one of them out, or name a directory: -o DIR/",
            )
    chosen = choose_format(wanted.format, given or wanted.name, encrypt=wanted.encrypt)
    roots = prepare_roots(wanted.sources)
    stores = open_all(call.settings.store_urls()) if call.settings.stores else []
    refuse_stores(roots, stores)
    stem = stem_of(roots, wanted.name, system_clock())
    if stores and wanted.name is None:
        stem = slug(stem)
    name = file_name(given, stem, chosen.format, encrypt=wanted.encrypt)
    places: list[Place] = [StorePlace(store, check_name(name)) for store in stores]
    if wanted.output is not None or not stores:
        places.insert(0, FilePlace(directory, name))
    own = [identity for place in places for identity in place.own_files()]
    _refuse_itself(roots, own)
    return _Task(roots=roots, chosen=chosen, stores=stores, places=places, unseen=own)


def _split_output(output: str | None) -> tuple[Path, str | None]:
    """Return the directory that ``-o`` means, and the file's name where it has one.

    Raises:
        ConfigError: There is no such directory, or it is nothing that could be read back.
    """
    if output is None:
        return Path.cwd(), None
    if output in {"", "-"}:
        raise ConfigError(
            "an archive is tested before it gets its name, so it has to be a file",
            hint="name a file or a directory: -o docs.tar.gz",
        )
    is_directory = output.endswith(("/", "/.", "/..")) or output in {os.curdir, os.pardir}
    path = Path(output).absolute()
    if is_directory or path.is_dir():
        directory, name = path, None
    else:
        directory, name = path.parent, path.name
    if not directory.is_dir():
        raise ConfigError(
            f"there is no directory {directory}", hint=f"make it first: mkdir -p {directory}"
        )
    return directory, name


def _refuse_itself(roots: Sequence[Root], own: Sequence[tuple[int, int]]) -> None:
    """Refuse to replace a source by an archive from which it would be missing."""
    for root in roots:
        status = os.stat(b"/" + root.path)  # noqa: PTH116 - its numbers are what counts
        if (status.st_dev, status.st_ino) in own:
            raise ConfigError(
                f"{path_text(root.path)} is to be archived, and is where the archive would go",
                hint="name another file with -o",
            )


def _with_consent(call: Invocation, place: Place) -> Place:
    """Return ``place``, which may replace what is there once somebody has agreed."""
    if not place.is_taken():
        return place
    try:
        ask(call, f"replace {place}")
    except RestoreError as error:
        raise BackupError(error.message, hint=error.hint) from error
    return replace(place, replace=True)


def _tell_plan(call: Invocation, wanted: Wanted, task: _Task) -> dict[str, object]:
    for place in task.places:
        if place.is_taken():
            call.note(f"this would replace {place}")
    tell_choice(call, task.chosen, made=False)
    found = measure(task.roots, wanted.excludes.rules, task.stores, unseen=task.unseen)
    told = tell_measured(call, task.roots, found, [str(place) for place in task.places])
    return told | {"format": str(task.chosen.format), "encrypted": wanted.encrypt}


def _make(call: Invocation, wanted: Wanted, task: _Task) -> dict[str, object]:
    request = _sealed_request(call, wanted, task) if wanted.encrypt else None
    files = [str(place) for place in task.places]
    call.start_action(
        "archive",
        sources=[path_text(root.path) for root in task.roots],
        files=files,
        format=str(task.chosen.format),
        encrypted=wanted.encrypt,
    )
    if request is None:
        report = _make_plain(call, wanted, task)
    else:
        report = _make_encrypted(call, request, task)
    call.status = _SOME_OF_IT if report.problems else 0
    call.end_action(
        "incomplete" if report.problems else "done",
        size=report.size,
        entries=report.counts.entries,
        source_bytes=report.counts.bytes,
        unreadable=len(report.problems),
        left_out=report.left_out.total,
        exit_status=call.status,
    )
    tell_choice(call, task.chosen, made=True)
    tell_report(call, report, files)
    return report_json(report, files)


def _make_plain(call: Invocation, wanted: Wanted, task: _Task) -> ArchiveReport:
    rules = wanted.excludes.rules
    request = ArchiveRequest(
        roots=task.roots,
        format=task.chosen.format,
        rules=rules,
        skip=directories_of(task.stores),
    )
    with call.progress("counting") as line:
        if line.is_shown:
            found = measure(task.roots, rules, task.stores, line.set, task.unseen)
            line.begin(task.places[0].name, found.bytes)
        return make_archive(request, task.places, on_read=line.set)


def _sealed_request(call: Invocation, wanted: Wanted, task: _Task) -> SnapshotRequest:
    """Return what to take a snapshot of; a missing key is made, or told, before anything else."""
    host, job = call.settings.host_name(), call.settings.job
    source = os.fsdecode(task.roots[0].path.rpartition(b"/")[2])
    job = check_word(job, "job") if job else slug(source or "root")
    sealing = prepare_sealing(call, task.stores, ())
    first = task.places[0]
    store = first.storage if isinstance(first, StorePlace) else LocalStorage(first.directory)
    return SnapshotRequest(
        sources=wanted.sources,
        host=host,
        job=job,
        recipients=sealing.recipients(store, host, job),
        identities=sealing.identities,
        host_key=load_or_create_host_key(call.settings.state_dir()),
        archive=task.chosen.format.archive_type or ArchiveType.TAR_XZ,
        rules=wanted.excludes.rules,
    )


def _make_encrypted(call: Invocation, request: SnapshotRequest, task: _Task) -> ArchiveReport:
    with call.progress("counting") as line:
        if line.is_shown:
            found = measure(task.roots, request.rules, task.stores, line.set, task.unseen)
            line.begin(task.places[0].name, found.bytes)
        return make_encrypted(
            request,
            task.roots,
            task.places,
            skip=directories_of(task.stores),
            on_progress=lambda at: line.set(at.read),
        )
