"""``restore`` and ``decrypt``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backup.cli.consent import ask
from backup.cli.help_text import MORE
from backup.cli.invocation import SNAPSHOT, Invocation, invocation
from backup.cli.output import is_terminal, print_bytes
from backup.cli.plain_archives import limits_of, note_archive
from backup.cli.restoring import consent_text, note_plan, place_text, tell_plan, tell_report
from backup.errors import BackupError, ConfigError, RestoreError
from backup.model import SnapshotKind
from backup.plain.reading import find_archive
from backup.plain.restoring import plan_archive
from backup.restore import Overwrite, RestorePlan
from backup.restore.options import RestoreOptions
from backup.restore.origin import Origin
from backup.restore.paths import entry_path
from backup.restore.plan import refuse_conflicts
from backup.restore.run import run_restore
from backup.snapshot.frame import Section
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity
from backup.wiring import expanded

_SOME_OF_IT = 3
_DAMAGED = 13


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("restore", epilog=MORE)(restore)
    app.command("decrypt", epilog=MORE)(decrypt)


def restore(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="What of it; else everything.")
    ] = None,
    *,
    target: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A directory; entries get their whole path below it."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Restore to where it was, in place of --target.")
    ] = False,
    overwrite: Annotated[
        Overwrite | None,
        typer.Option(help="What becomes of what exists; without it that is refused."),
    ] = None,
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Delete what restored directories have and it has not."),
    ] = False,
    strip: Annotated[
        int, typer.Option(metavar="N", min=0, help="Take N leading components off every path.")
    ] = 0,
    system: Annotated[
        bool,
        typer.Option("--system", help="In place: also what says which machine this is."),
    ] = False,
) -> None:
    """Restore a snapshot, or a zip or tar file, or some paths of it.

    What exists stays unless --overwrite says else.
    """
    call = invocation(context)
    place = _place(target, in_place=in_place)
    settings = call.settings
    own = [settings.key_path(), settings.state_dir(), *filter(None, [call.log_file])]
    archive = find_archive(snapshot)
    if archive is not None:
        options = RestoreOptions(
            overwrite=overwrite, delete=delete, strip=strip, stores=_stores(call), own=tuple(own)
        )
        _restore_archive(call, archive, place, [entry_path(one) for one in paths or []], options)
        return
    manager = call.reader()
    plan = manager.plan_restore(
        call.wanted(snapshot),
        place,
        paths or [],
        overwrite=overwrite,
        delete=delete,
        strip=strip,
        in_place=in_place,
        system=system,
        own=own,
    )
    opener = partial(plan.snapshot.open, manager.identities, trusted=manager.trusted)
    _carry_out(call, plan, opener, manager.identities, "its SHA-256")


def _stores(call: Invocation) -> tuple[Path, ...]:
    """Return the store into which nothing is restored, where one is named."""
    with suppress(BackupError):
        root = call.settings.open_store().local_root()
        return () if root is None else (root,)
    return ()


def _restore_archive(
    call: Invocation,
    path: Path,
    place: Path | None,
    paths: Sequence[bytes],
    options: RestoreOptions,
) -> None:
    if place is None:
        raise ConfigError(
            f"--in-place is refused for {path}: the names in a plain archive are relative,"
            " and it does not tell where they were",
            hint="name the directory below which they belong with --target",
        )
    plan, origin = plan_archive(path, place, paths, options, limits_of(call))
    note_archive(call, origin.archive)
    if origin.sets_owner is False:
        call.note("owners are not set: only root may")
    _carry_out(call, plan, lambda: origin, (), origin.archive.checked_by)


def _carry_out(
    call: Invocation,
    plan: RestorePlan,
    opener: Callable[[], SnapshotReader | Origin],
    identities: Sequence[Identity],
    checked_by: str,
) -> None:
    """Tell the plan, or ask where somebody has to agree to it, and do it."""
    if call.dry_run:
        tell_plan(call, plan, identities)
        return
    refuse_conflicts(plan)
    if plan.needs_consent:
        if not call.quiet or not call.yes:
            note_plan(plan)
        ask(call, consent_text(plan))
    call.start_action("restore", snapshot=plan.snapshot.name, target=place_text(plan))
    _restore(call, plan, opener, checked_by)


def _place(target: Path | None, *, in_place: bool) -> Path | None:
    if in_place and target is not None:
        raise ConfigError("--target and --in-place are two places: name one of them")
    if target is None and not in_place:
        raise ConfigError(
            "there is no --target: where is it to be restored?",
            hint="name a directory, which need not exist: --target /tmp/restored;"
            " or say --in-place",
        )
    return None if target is None else Path(expanded(str(target)))


def _restore(
    call: Invocation,
    plan: RestorePlan,
    opener: Callable[[], SnapshotReader | Origin],
    checked_by: str,
) -> None:
    started = time.monotonic()
    with call.progress("restoring", plan.written_size) as line:
        report = run_restore(
            opener(),
            plan,
            confined=call.alone,
            on_restored=lambda at, _: line.set(at.size + at.compared),
        )
    call.status = _DAMAGED if report.damaged else _SOME_OF_IT if report.problems else 0
    call.end_action(
        "damaged" if report.damaged else "incomplete" if report.problems else "done",
        entries=report.entries,
        size=report.size,
        replaced=report.replaced,
        deleted=report.deleted,
        damaged=len(report.damaged),
        problems=len(report.problems),
        exit_status=call.status,
    )
    tell_report(call, plan, report, time.monotonic() - started, checked_by)


def decrypt(
    context: typer.Context,
    snapshot: Annotated[str, SNAPSHOT],
) -> None:
    """Write a snapshot's plain archive to standard output: decrypt latest | tar xJ."""
    call = invocation(context)
    reader = call.open(snapshot)
    if is_terminal():
        raise ConfigError(
            "the archive is not for a terminal",
            hint=f"put it into a pipe or a file: auto-backup decrypt {snapshot} | tar x"
            f"  (it is a {reader.core.archive})",
        )
    if reader.record.kind is not SnapshotKind.FULL:
        raise RestoreError(
            f"the archive of this {reader.record.kind} snapshot holds only what was added",
            hint="use restore, which knows where all the rest is",
        )
    call.start_action("decrypt", snapshot=reader.core.id.hex())
    size = 0
    for number, row in enumerate(reader.rows):
        if row.section is Section.ARCHIVE:
            piece = reader.compressed_piece(Section.ARCHIVE, number)
            print_bytes(piece)
            size += len(piece)
    call.end_action("done", size=size, exit_status=0)
