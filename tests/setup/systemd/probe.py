"""Runs below systemd: installs the service, tries it in every way, and writes down what it found.

``/out/facts.json`` has what each step found, or why it could not go on. The tests judge it.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from asking import (
    DROP_INS,
    PROPERTIES,
    UNIT,
    ask,
    drop_in,
    history,
    job,
    journal,
    main_pid,
    must,
    names,
    owners,
    show,
    status_text,
    wait,
)

CONFIG = Path("/etc/auto-backup/config.yaml")
KEY = Path("/etc/auto-backup/key")
STATE, RUNTIME = Path("/var/lib/auto-backup"), Path("/run/auto-backup")
STORE = Path("/var/backups/auto-backup")
CLOSED = Path("/srv/closed/letter")
ANSWER = STATE / "answer"
FACTS = Path("/out/facts.json")

BASE = """\
version: 1
host: web1
key_file: /etc/auto-backup/key
stores: {disk: {url: /var/backups/auto-backup}}
defaults: {compression: zstd, verify: {checksum: never, content: never}}
jobs:
  before: {sources: [/srv/before], schedule: {on: 1st at 04:00}}
  closed: {sources: [/srv/closed], schedule: every 6 hours}
"""
ASKED = """\
  asked: {sources: [/srv/closed], schedule: every 6 hours, only_if: {command: [/usr/bin/may-begin]}}
"""
LONG = "  long: {sources: [/usr], compression: xz, schedule: every 6 hours}\n"
# A condition's command: it tells who it is, and agrees if it can read what only root may.
COMMAND = f"""\
#!/bin/sh
umask 022
{{ id -un; grep -E 'Cap(Eff|Amb)' /proc/self/status; env; }} >{ANSWER}.new
cat {CLOSED} >/dev/null 2>&1
status=$?
mv {ANSWER}.new {ANSWER}
exit $status
"""


def configure(text):
    """Put another configuration there; owner and mode stay."""
    CONFIG.write_text(text)


# --- The steps, in their order ------------------------------------------------


def prepare(profile):
    """A key, a configuration and one snapshot that root has taken; who else there is."""
    for name in ("before", "closed"):
        Path(f"/srv/{name}").mkdir(mode=0o700)
        Path(f"/srv/{name}/letter").write_text("Dear Ann\n")
        Path(f"/srv/{name}/letter").chmod(0o600)
    CONFIG.parent.mkdir()
    CONFIG.write_text(BASE)
    CONFIG.chmod(0o600)
    command = Path("/usr/bin/may-begin")
    command.write_text(COMMAND)
    command.chmod(0o755)
    if profile == "root":
        must("groupadd", "--system", "auto-backup")  # which reader gets from the installation
    must("auto-backup", "key", "new", "--key-file", str(KEY))
    by_hand = ask("auto-backup", "--now", "before")
    drop_in("test.conf", "[Service]\nRestartSec=100ms\n")
    return {"by_hand": by_hand, "names": names()}


def install(profile):
    fit = ask("auto-backup", "config", "validate", "--service", profile)
    done = ask("auto-backup", "service", "install", "--profile", profile)
    found = {"fit": fit, "done": done, "unit": show()}
    for name, *groups in (("ann", "--groups=auto-backup"), ("otto",)):
        must("useradd", "--create-home", *groups, name)
    return found


def run(profile):
    """Look at the process, and wait for what is due at once."""
    pid = main_pid()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    networks = [Path(f"/proc/{one}/ns/net").stat().st_ino for one in ("self", pid)]
    wait("the first run", lambda: job("closed").get("last_done"))
    wait("what is next", lambda: status_text().startswith("next:"))
    return {
        "process": dict(line.split(":\t", 1) for line in lines if ":\t" in line),
        "variables": dict(one.split("=", 1) for one in variables if one),
        "has_own_network": len(set(networks)) == 2,
        "credential": owners(Path("/run/credentials") / UNIT),
        "key": owners(KEY),
        "letter": ask("auto-backup", "cat", "web1/closed", str(CLOSED)),
        "earlier": ask("auto-backup", "cat", "web1/before", "/srv/before/letter"),
        "snapshots": json.loads(must("auto-backup", "snapshots", "--json")),
        "unit": show(),
        "security": ask("systemd-analyze", "--no-pager", "security", UNIT)["out"],
    }


def condition(profile):
    """Let the unit follow a configuration that has a command."""
    configure(BASE + ASKED)
    again = ask("auto-backup", "service", "install", "--profile", profile)
    wait("the command", ANSWER.exists)
    # What it said is known when the run has ended, or when the next look is planned.
    outcome = wait("what it said", lambda: job("asked").get("waits_for") or job("asked")["last"])
    return {
        "again": again,
        "answer": ANSWER.read_text(),
        "outcome": outcome,
        "job": job("asked"),
        "security": ask("systemd-analyze", "--no-pager", "security", UNIT)["out"],
    }


def hand_over(profile):
    """Ask the service for a run, and how things are: root, a member of the group, another one."""
    begun = journal().count("closed begins")
    done = ask("auto-backup", "--now", "closed")
    connect = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    socket = str(RUNTIME / "control.sock")
    found = {}
    for user in ("ann", "otto"):
        found[user] = {
            "status": ask("auto-backup", "status", user=user),
            "socket": ask("python3", "-c", connect, socket, user=user),
        }
    return found | {
        "done": done,
        "begun": journal().count("closed begins") - begun,
        "last": history("closed")[0],
        "status": ask("auto-backup", "status", "--json"),
    }


def reload(profile):
    """A configuration that is broken, and then one that is right."""
    pid = main_pid()
    configure(BASE.replace("every 6 hours", "every blue moon"))
    bad = ask("systemctl", "reload", UNIT)
    wait("a status line about it", lambda: "blue moon" in status_text())
    found = {"bad": bad, "unit": show(), "journal": journal()}
    found["by_command"] = ask("auto-backup", "daemon", "reload")
    found["jobs"] = [
        one["job"] for one in json.loads(ask("auto-backup", "status", "--json")["out"])["jobs"]
    ]
    configure(BASE + LONG)
    good = ask("systemctl", "reload", UNIT)
    wait("the job that it has got", lambda: job("long").get("running_since"))
    wait("a status line about it", lambda: status_text().startswith("running: long"))
    return found | {"good": good, "same": main_pid() == pid}


def kill(profile):
    """Kill the daemon while a run goes on."""
    before, pid = show(), main_pid()
    os.kill(pid, signal.SIGKILL)
    wait("a new daemon", lambda: main_pid() not in {0, pid} and show()["ActiveState"] == "active")
    found = {"before": before, "unit": show(), "first": wait("its end", lambda: history("long"))[0]}
    found["job"] = wait("when it is tried again", lambda: job("long"))
    if "deep" in sys.argv:
        found["again"] = bool(
            wait("the second run", lambda: job("long").get("running_since"), seconds=90)
        )
    return found


def stop(profile):
    """Stop it while a run goes on."""
    if not job("long").get("running_since"):
        must("auto-backup", "--now", "long", "--no-wait")
    wait("a long run", lambda: job("long").get("running_since"))
    ended = journal().count("the daemon has ended")
    begin = time.monotonic()
    must("systemctl", "stop", UNIT)
    seconds = time.monotonic() - begin
    return {
        "seconds": seconds,
        "unit": show(),
        "ended": journal().count("the daemon has ended") - ended,
        "last": history("long")[0],
        "partial": [str(one) for one in STORE.rglob("*.partial*")],
    }


def hang(profile):
    """Stop the daemon's process, as if it hung."""
    configure(BASE)
    drop_in("watchdog.conf", "[Service]\nWatchdogSec=3s\n")
    must("systemctl", "start", UNIT)
    pid = main_pid()
    os.kill(pid, signal.SIGSTOP)
    wait("a new daemon", lambda: main_pid() not in {0, pid} and show()["ActiveState"] == "active")
    (DROP_INS / "watchdog.conf").unlink()
    must("systemctl", "daemon-reload")
    return {"unit": show(), "journal": journal(), "owners": owners(STATE, RUNTIME, STORE)}


def uninstall(profile):
    done = ask("auto-backup", "service", "uninstall")
    (DROP_INS / "test.conf").unlink()
    DROP_INS.rmdir()
    return {"done": done, "unit": show(), "names": names(), "owners": owners(CONFIG.parent)}


def of_user(profile):
    """A service of a user's own manager."""
    if profile == "root":
        return {}
    home, number = Path("/home/ann"), pwd.getpwnam("ann").pw_uid
    runtime = Path(f"/run/user/{number}")
    runtime.mkdir(parents=True, mode=0o700)
    variables = {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(home)}
    config = home / ".config/auto-backup/config.yaml"
    config.parent.mkdir(parents=True)
    jobs = f"jobs: {{mine: {{sources: [{home}/.profile], schedule: every 6 hours}}}}\n"
    stores = f"stores: {{disk: {{url: {home}/snapshots}}}}\n"
    config.write_text(f"version: 1\nhost: web1\n{stores}{jobs}")
    (home / ".profile").touch()
    for path in (runtime, *home.rglob("*")):
        shutil.chown(path, "ann", "ann")
    settings = [f"--setenv={name}={value}" for name, value in variables.items()]
    must(
        *("systemd-run", "--unit=ann", "--uid=ann", "--gid=ann", "-p", "Type=notify"),
        *("-p", "Delegate=yes", *settings, "/usr/lib/systemd/systemd", "--user"),
    )
    options = {"user": "ann", "variables": variables}
    must("auto-backup", "key", "new", **options)
    done = ask("auto-backup", "service", "install", "--user", **options)
    snapshot = "auto-backup", "cat", "web1/mine", f"{home}/.profile"
    wait("a snapshot", lambda: ask(*snapshot, **options)["status"] == 0)
    shown = must("systemctl", "--user", "show", UNIT, "-p", PROPERTIES, **options)
    gone = ask("auto-backup", "service", "uninstall", **options)
    active = ask("systemctl", "--user", "is-active", UNIT, **options)["out"].strip()
    return {"done": done, "unit": shown, "gone": gone, "active": active}


STEPS = (prepare, install, run, condition, hand_over, reload, kill, stop, hang, uninstall, of_user)


def main():
    """Take each step; after one that failed the others are taken, too."""
    facts = {"process_1": Path("/proc/1/comm").read_text().strip(), "seconds": {}}
    for step in STEPS:
        begin = time.monotonic()
        try:
            facts[step.__name__] = step(sys.argv[1])
        except Exception:  # noqa: BLE001 - whatever it is, the test tells it
            facts[step.__name__] = {"failed": traceback.format_exc(), "journal": journal()}
        facts["seconds"][step.__name__] = round(time.monotonic() - begin, 1)
        new = FACTS.with_suffix(".new")
        new.write_text(json.dumps(facts, indent=1))
        new.replace(FACTS)
    must("systemctl", "poweroff", "--force", "--force")


if __name__ == "__main__":
    main()
