"""Which directories a restore is confined to."""

from __future__ import annotations

from contextlib import ExitStack

from backup.errors import RestoreError
from backup.restore.descriptors import close_quietly
from backup.restore.landlock import confine
from backup.restore.plan import RestorePlan
from backup.restore.tree_writer import TreeWriter


def confine_to_plan(plan: RestorePlan, writer: TreeWriter) -> bool:
    """Let this process write only below what ``plan`` restores into; see ``confine``.

    In place that is each directory that is restored with all that is in it, made here where it is
    missing, and for anything else the directory that it lies in.

    Returns:
        False where the kernel has no Landlock that fits, or all of the file system is written to.
    """
    if not plan.options.in_place:
        return confine(plan.target)
    with ExitStack() as stack:
        descriptors = []
        for root, is_directory in plan.roots.items():
            directory = root if is_directory else root.rpartition(b"/")[0]
            if not directory:
                return False
            try:
                descriptor = writer.open_directory(directory)
            except RestoreError:  # nothing can be written there, so nothing need be allowed
                continue
            stack.callback(close_quietly, descriptor)
            descriptors.append(descriptor)
        return confine(*descriptors)
