"""Whether a daemon may detach itself from who started it."""

from __future__ import annotations

from typing import NamedTuple


class Surroundings(NamedTuple):
    """What a process knows of where it is.

    Args:
        pid: Its id.
        parent: Its parent's id; 0 for one that came into a container from outside.
        exec_pid: ``SYSTEMD_EXEC_PID``: the process that systemd executed for a unit.
        is_notified: Whether there is a ``NOTIFY_SOCKET``.
        in_container: Whether this is a container.
    """

    pid: int
    parent: int
    exec_pid: str = ""
    is_notified: bool = False
    in_container: bool = False


def reason_against_detaching(found: Surroundings) -> str | None:
    """Return why a daemon that detaches itself would be ended or lost there.

    A shell of a unit, such as one of a login, may detach; the process that is the unit may not: for
    systemd the service ends with it. In a container all ends with process 1, so neither it nor what
    it has started and waits for may go away; a shell that was opened in there may start a daemon.
    """
    if found.exec_pid == str(found.pid) or found.is_notified:
        return "this process is a service of systemd, which supervises it: it must not detach"
    if found.in_container and (found.pid == 1 or found.parent == 1):
        return (
            "this is the main process of a container, which ends with it: a daemon that detaches"
            " would be ended at once"
        )
    return None
