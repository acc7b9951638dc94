"""The text of a unit: what each profile may do, and what a configuration needs of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from backup.service.credentials import Credential
from backup.service.marking import marked
from backup.service.places import NAME, USER
from backup.service.quoting import unit_command, unit_path, unit_word, unit_words


class Profile(StrEnum):
    """As whom the service runs."""

    READER = "reader"
    ROOT = "root"
    USER = "user"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a unit has to grant.

    Args:
        command: What is run, the program's absolute path first.
        environment: Variables and their values.
        credentials: Secrets that are handed over.
        writable: What the service may write to beside its state, with ``-`` where it may be absent.
        network: Whether anything of the configuration may need it.
        homes: Whether anything of it lies in a home.
        temporary: Whether anything of it lies in /tmp or /var/tmp.
        memory: So many bytes at most, ``None`` for what the machine has.
        tasks: So many processes and threads at most.
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    credentials: tuple[Credential, ...] = ()
    writable: tuple[str, ...] = ()
    network: bool = False
    homes: bool = False
    temporary: bool = False
    memory: int | None = None
    tasks: int = 128


_HEAD = """\
# Changes belong into 'systemctl {user}edit {name}', which outlives a new install.
[Unit]
Description=Auto-Backup: encrypted snapshots that are proven to be restorable
"""
_AFTER = """\
After=local-fs.target remote-fs.target nss-user-lookup.target time-sync.target{network}
"""
_ONLINE = "Wants=network-online.target\n"
_RUNNING = """\
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=:{command}
ExecReload=kill -HUP $MAINPID
Restart=always
RestartSec=30s
WatchdogSec=5min
# It needs 5 seconds; what hangs on a dead disk gets no more than these.
TimeoutStopSec=30s
KillMode=mixed
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
UMask=0077
LimitCORE=0
LimitNOFILE=4096
TasksMax={tasks}
"""
_OF_SYSTEM = """\
StateDirectory={name}
StateDirectoryMode=0700
RuntimeDirectory={name}
RuntimeDirectoryMode=0750
Environment=AUTO_BACKUP_STATE_DIR=%S/{name}
"""
_AS_READER = """\

# Reads every file and may do nothing else that its user may not.
User={user}
Group={user}
AmbientCapabilities=CAP_DAC_READ_SEARCH
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
SecureBits=noroot-locked
RestrictSUIDSGID=yes
ProcSubset=pid
"""
_AS_ROOT = """\

# Reads and writes files of all users, gives files back to their owners with modes, capabilities and
# setuid bits, runs commands as other users and ends them: what jobs, restores and commands need.
# Mounts, modules, devices, the clock, the network's settings and other processes are out of reach.
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_FSETID
CapabilityBoundingSet=CAP_SETFCAP CAP_SETUID CAP_SETGID CAP_KILL
"""
_SANDBOX = """\

ProtectSystem=strict
ProtectHome={homes}
PrivateTmp={private_tmp}
PrivateDevices=yes
DevicePolicy=closed
PrivateIPC=yes
PrivateMounts=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RemoveIPC=yes
KeyringMode=private
"""
_OFFLINE = """\
# No store and no condition of the configuration needs the network.
PrivateNetwork=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX
"""
_ONLINE_FAMILIES = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"
_CONFINED = """\

NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
"""
_LANDLOCK = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
_FORBIDDEN = "@obsolete @debug @mount @swap @reboot @module @raw-io @clock @cpu-emulation"
CALLS = {
    Profile.READER: (f"@system-service {_LANDLOCK}", f"~@privileged @resources {_FORBIDDEN}"),
    Profile.ROOT: (f"@system-service {_LANDLOCK}", f"~{_FORBIDDEN}"),
    Profile.USER: (f"@system-service {_LANDLOCK}", f"~@privileged @resources {_FORBIDDEN}"),
}
"""The system calls of each profile, as the lines of its filter."""

_REFUSED = """\
# What is not allowed fails, so that calls of newer kernels fall back to older ones.
SystemCallErrorNumber=EPERM
"""
_INSTALL = """\

[Install]
WantedBy={target}
"""


def unit_text(profile: Profile, needs: Needs) -> str:
    """Return the text of a unit.

    Raises:
        ConfigError: systemd could not take one of the names in it.
    """
    return marked("".join(_parts(profile, needs)))


def _parts(profile: Profile, needs: Needs) -> Iterator[str]:
    of_user = profile is Profile.USER
    yield _HEAD.format(user="--user " if of_user else "", name=NAME)
    if not of_user:
        yield _AFTER.format(network=" network-online.target" if needs.network else "")
        yield _ONLINE if needs.network else ""
    yield _RUNNING.format(command=unit_command(needs.command), tasks=needs.tasks)
    yield "" if needs.memory is None else f"MemoryMax={needs.memory}\n"
    yield "" if of_user else _OF_SYSTEM.format(name=NAME)
    yield from _said(needs)
    if not of_user:
        yield _AS_READER.format(user=USER) if profile is Profile.READER else _AS_ROOT
        yield from _sandbox(needs)
    yield _CONFINED
    yield "RestrictSUIDSGID=yes\n" if of_user else ""
    yield "".join(f"SystemCallFilter={one}\n" for one in CALLS[profile])
    yield _REFUSED
    yield _INSTALL.format(target="default.target" if of_user else "multi-user.target")


def _said(needs: Needs) -> Iterator[str]:
    for name, value in needs.environment:
        yield f"Environment={unit_word(f'{name}={value}')}\n"
    for one in needs.credentials:
        load = "LoadCredentialEncrypted" if one.encrypted else "LoadCredential"
        yield f"{load}={one.name}:{unit_path(str(one.path))}\n"
        yield f"Environment={one.variable}=%d/{one.name}\n"


def _sandbox(needs: Needs) -> Iterator[str]:
    yield _SANDBOX.format(
        homes="read-only" if needs.homes else "yes",
        private_tmp="no" if needs.temporary else "yes",
    )
    if needs.writable:
        yield f"ReadWritePaths={unit_words(needs.writable)}\n"
    yield _ONLINE_FAMILIES if needs.network else _OFFLINE
