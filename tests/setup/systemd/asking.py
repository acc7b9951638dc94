"""What the probe asks systemd, the service and the file system."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import time
from contextlib import suppress
from pathlib import Path

UNIT = "auto-backup.service"
DROP_INS = Path("/run/systemd/system") / f"{UNIT}.d"
PROPERTIES = "ActiveState,SubState,Result,NRestarts,MainPID,StatusText,User,Type,UnitFileState"


def ask(*words, user=None, seconds=30.0, variables=None):
    """Run a command to its end; return its status, and what it wrote."""
    become = () if user is None else ("runuser", "-u", user, "--")
    done = subprocess.run(
        [*become, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        env=dict(os.environ) | (variables or {}),
        cwd="/",
    )
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def must(*words, **options):
    done = ask(*words, **options)
    if done["status"]:
        raise RuntimeError(f"{words}: {done}")
    return done["out"]


def wait(what, condition, seconds=25.0):
    """Wait until ``condition()`` is true; return what it was."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)
    return found


def show(*options):
    lines = must("systemctl", *options, "show", UNIT, "-p", PROPERTIES).splitlines()
    return dict(line.split("=", 1) for line in lines)


def status_text():
    return show()["StatusText"]


def main_pid():
    return int(show()["MainPID"])


def job(name):
    told = json.loads(ask("auto-backup", "status", "--json")["out"] or "{}").get("jobs", [])
    return next((one for one in told if one["job"] == name), {})


def history(name):
    return json.loads(must("auto-backup", "history", name, "--json"))


def journal():
    ask("journalctl", "--sync")
    return ask("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)["out"]


def drop_in(name, text):
    DROP_INS.mkdir(parents=True, exist_ok=True)
    (DROP_INS / name).write_text(text)
    must("systemctl", "daemon-reload")


def owners(*tops):
    """Return owner, group and mode of everything below some directories."""
    found = {}
    for top in tops:
        for path in (top, *sorted(top.rglob("*"))):
            with suppress(FileNotFoundError):
                status = path.lstat()
                user = pwd.getpwuid(status.st_uid).pw_name
                group = grp.getgrgid(status.st_gid).gr_name
                found[str(path)] = f"{user}:{group} {status.st_mode & 0o7777:04o}"
    return found


def names():
    """Return the names that an installation could have left."""
    deep = map(Path, ("/etc", "/run/systemd/system", "/root/.config", "/root/.local"))
    found = [*Path("/var/lib").iterdir(), *Path("/var/spool").rglob("*"), *Path("/root").iterdir()]
    return sorted(map(str, (*found, *(path for top in deep for path in top.rglob("*")))))
