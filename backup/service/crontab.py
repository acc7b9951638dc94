"""What cron is told on machines without systemd."""

from __future__ import annotations

from collections.abc import Sequence

from backup.service.marking import marked
from backup.service.quoting import cron_command

_EVERY = "*/5 * * * *"
_FILE = """\
# Every five minutes: what is due by the configuration runs. What goes wrong is mailed.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
MAILTO=root
{every} root {command}
"""
_BEGIN = "# begin auto-backup service install: 'auto-backup service uninstall' removes these lines"
_END = "# end auto-backup service install"


def cron_file(command: Sequence[str]) -> str:
    """Return the text of a file for /etc/cron.d."""
    return marked(_FILE.format(every=_EVERY, command=cron_command(command)))


def with_lines(crontab: str, command: Sequence[str]) -> str:
    """Return a user's crontab with our lines, once; all else is as it was."""
    rest = without_lines(crontab)
    gap = "" if not rest or rest.endswith("\n") else "\n"
    return f"{rest}{gap}{_BEGIN}\n{_EVERY} {cron_command(command)}\n{_END}\n"


def without_lines(crontab: str) -> str:
    """Return a user's crontab without our lines; one whose end is missing loses but its own."""
    kept, ours = [], False
    lines = crontab.splitlines(keepends=True)
    for number, line in enumerate(lines):
        text = line.rstrip("\n")
        ends = (one.rstrip("\n") == _END for one in lines[number:])
        if text == _BEGIN:
            ours = any(ends)
        elif text == _END:
            ours = False
        elif not ours:
            kept.append(line)
    return "".join(kept)


def has_lines(crontab: str) -> bool:
    """Tell whether our lines are in a user's crontab."""
    return without_lines(crontab) != crontab
