"""Doing what a plan says, entry by entry; what goes wrong with one does not end the others."""

from __future__ import annotations

from contextlib import closing, suppress

from backup.errors import RestoreError, WorkerError
from backup.restore.carrying_out import StepCarrier
from backup.restore.decision import Action
from backup.restore.jail import confine_to_plan
from backup.restore.lookup import Lookup
from backup.restore.options import Overwrite
from backup.restore.origin import Origin, as_origin
from backup.restore.placement import Placement
from backup.restore.plan import RestorePlan
from backup.restore.report import OnRestored, RestoreReport
from backup.restore.steps import Steps
from backup.restore.tree_writer import TreeWriter
from backup.snapshot.reader import SnapshotReader


def nobody(_: RestoreReport, __: bytes) -> None:
    """Tell nobody."""
    return


def run_restore(
    reader: SnapshotReader | Origin,
    plan: RestorePlan,
    *,
    confined: bool = False,
    on_restored: OnRestored = nobody,
    workers: int | None = None,
) -> RestoreReport:
    """Do what ``plan`` says; what cannot be restored is left out and reported.

    What exists is looked at again, and decided on by the same rules as in the plan; only what the
    plan has is deleted, after all else.

    Args:
        reader: The snapshot, or what else there is.
        plan: What to restore, and where to.
        confined: Let this process write nowhere else from now on, for good, where the kernel can.
        on_restored: Is told after every entry.
        workers: How many processes write files; ``None`` for what the machine allows.

    Raises:
        RestoreError: The target is full or fails, or takes nothing of it at all.
        WorkerError: A worker process was killed twice.
        IntegrityError: The index has entries in a wrong order or number.
    """
    report = RestoreReport(left=plan.tallies[Action.LEAVE].count)
    origin = as_origin(reader)
    owner, doomed = origin.sets_owner, plan.cleared
    with TreeWriter(plan.target, set_owner=owner, doomed=doomed) as writer:
        report.confined = confined and confine_to_plan(plan, writer)
        report.problems = writer.problems
        try:
            _carry_out(origin, plan, writer, report, on_restored=on_restored, workers=workers)
            _delete(plan, writer, report)
            writer.finish(tell=True)
        except (RestoreError, WorkerError, KeyboardInterrupt) as error:
            with suppress(RestoreError):
                writer.dress_directories(tell=True)
            if not isinstance(error, KeyboardInterrupt) and report.entries:
                raise _with_account(error, report) from error
            raise
    return report


def _carry_out(
    origin: Origin,
    plan: RestorePlan,
    writer: TreeWriter,
    report: RestoreReport,
    *,
    on_restored: OnRestored,
    workers: int | None,
) -> None:
    options = plan.options
    lookup = Lookup(plan.target, details=options.overwrite is Overwrite.IF_CHANGED)
    try:
        placement = Placement(plan.target, plan.paths, origin.sources, options, origin.unfit)
        steps = Steps(lookup, placement, options, planned=plan.cleared)
        carrier = StepCarrier(
            origin, writer, report, options.overwrite, on_restored=on_restored, workers=workers
        )
        with closing(carrier):
            for step in steps.of(origin.select(plan.paths, carrier.lose)):
                carrier.carry_out(step)
            carrier.finish()
    finally:
        lookup.close()


def _delete(plan: RestorePlan, writer: TreeWriter, report: RestoreReport) -> None:
    writer.flush()
    for path, doomed in plan.deletions.items():
        with writer.problems_told(path):
            writer.remove(path, doomed)
            report.deleted += doomed.names


def _with_account(
    error: RestoreError | WorkerError, report: RestoreReport
) -> RestoreError | WorkerError:
    """Return ``error`` with what has been done before it."""
    done = f"{report.entries:,} entries have been restored before, and are whole"
    return type(error)(f"{error.message}; {done}", hint=error.hint)
