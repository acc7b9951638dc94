"""What the commands about a service have in common: from options to what a service needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backup.cli.invocation import Invocation
from backup.cli.output import print_line
from backup.environment import PREFIX, config_path, variable
from backup.errors import ConfigError
from backup.pool.machine import this_machine
from backup.service.credentials import Credential, credentials_of
from backup.service.facts import Facts, gather
from backup.service.fitness import Misfit, Service, misfits, paths_to_look_at
from backup.service.needs import (
    files_of,
    in_homes,
    in_temporary,
    local_stores,
    most_memory,
    most_tasks,
    needs_network,
    sources_of,
    writable_paths,
)
from backup.service.places import USER, Places
from backup.service.program import Program, this_program
from backup.service.site import user_number
from backup.service.steps import Command, Remove, Run, Step, Write, run_command
from backup.service.unit import Needs, Profile
from backup.snapshot.recipients import Recipient

if TYPE_CHECKING:
    from backup.config.models import Configuration
    from backup.config.reading import Loaded


@dataclass(frozen=True)
class Ground:
    """The machine on which a service is installed.

    Args:
        places: Where its files go.
        run: Runs commands.
        program: What the service runs.
        is_root: Whether root installs it.
        user: The number of the service's user, ``None`` where there is none yet.
    """

    places: Places
    run: Run
    program: Program
    is_root: bool
    user: int | None

    def has_systemd(self) -> bool:
        """Whether systemd is at work, and can be told."""
        return self.places.systemd.is_dir()

    def service(self, profile: Profile) -> Service:
        """Return as whom a service runs here."""
        return Service(profile, self.user)


def this_ground() -> Ground:
    """Return this machine."""
    home_config = config_path("").parent
    places = Places(Path("/"), home_config)
    return Ground(places, run_command, this_program(), os.geteuid() == 0, user_number(USER))


def open_configuration(call: Invocation) -> Loaded:
    """Return the configuration of which a service is to be made.

    Raises:
        ConfigError: There is none, or no job in it.
    """
    loaded = call.settings.loaded()
    if loaded is None:
        raise ConfigError(
            "there is no configuration", hint="'auto-backup config init' makes a first one"
        )
    if not loaded.configuration.jobs:
        raise ConfigError(f"there are no jobs in {loaded.path}, and so nothing to do")
    return loaded


def secrets_of(call: Invocation) -> list[Credential]:
    """Return the files of secrets that runs need, whether or not they are there."""
    settings = call.settings
    key, passphrase = settings.key_path(), settings.passphrase_path()
    others = settings.has_identity_file() or passphrase is not None
    needs_key = os.path.lexists(key) or not (others or settings.only_writes())
    found = {
        "KEY_FILE": key.absolute() if needs_key else None,
        "IDENTITY": settings.identity_path().absolute() if settings.has_identity_file() else None,
        "PASSPHRASE_FILE": passphrase.absolute() if passphrase else None,
    }
    return list(credentials_of(found))


def fit(call: Invocation, loaded: Loaded, service: Service) -> tuple[Facts, list[Misfit]]:
    """Return what was found on this machine, and the jobs that a service could not run."""
    configuration = loaded.configuration
    secrets = [one.path for one in secrets_of(call)]
    facts = gather(local_stores(configuration), paths_to_look_at(configuration, secrets))
    return facts, list(misfits(configuration, facts, service, secrets))


def misfits_of(call: Invocation, loaded: Loaded, profile: Profile) -> list[Misfit]:
    """Return the jobs of a configuration that a service could not run on this machine."""
    call.settings = call.settings._replace(config=loaded.path)  # whose keys are meant
    return fit(call, loaded, Service(profile, user_number(USER)))[1]


def needs_of(
    call: Invocation, loaded: Loaded, ground: Ground, facts: Facts, profile: Profile
) -> Needs:
    """Return what a unit has to grant."""
    configuration, path = loaded.configuration, loaded.path.absolute()
    of_user = profile is Profile.USER
    environment = tuple(_environment(call, configuration, of_user=of_user))
    said = [Path(one) for _, value in environment for one in value.split(":") if one[:1] == "/"]
    files = [path, *map(Path.resolve, ground.program.files), *said, *files_of(configuration)]
    everything = [*sources_of(configuration), *local_stores(configuration), *files]
    machine = this_machine()
    mounts = [str(one.path) for one in facts.mounts]
    return Needs(
        command=(*ground.program.words, f"--config={path}", "daemon", "run"),
        environment=environment,
        credentials=() if of_user else tuple(secrets_of(call)),
        writable=tuple(dict.fromkeys(writable_paths(configuration, mounts))),
        network=needs_network(configuration),
        homes=in_homes(everything),
        temporary=in_temporary(everything),
        memory=most_memory(configuration, machine),
        tasks=most_tasks(configuration, machine),
    )


def _environment(
    call: Invocation, configuration: Configuration, *, of_user: bool
) -> list[tuple[str, str]]:
    """Return what options and variables say of this call, for the service as well."""
    settings = call.settings
    said: dict[str, str | None] = {
        "HOST": settings.host or variable("HOST"),
        "SIGNERS": _present(settings.signers_path()),
        "RECIPIENTS": _recipients(call, configuration),
    }
    if of_user:
        said |= {
            "STATE_DIR": _absolute(settings.state or variable("STATE_DIR")),
            "KEY_FILE": _absolute(settings.key_file or variable("KEY_FILE")),
            "IDENTITY": _absolute(settings.identity_file or variable("IDENTITY")),
            "PASSPHRASE_FILE": _absolute(settings.passphrase_path()),
        }
    return [(PREFIX + name, value) for name, value in said.items() if value]


def _present(path: Path) -> str | None:
    return str(path.absolute()) if os.path.lexists(path) else None


def _absolute(said: Path | str | None) -> str | None:
    return str(Path(said).expanduser().absolute()) if said else None


def _recipients(call: Invocation, configuration: Configuration) -> str | None:
    """Return for whom to seal, where the configuration does not say it: the service has a home."""
    from backup.public_files import RECIPIENT_START  # noqa: PLC0415 - few need it

    said = variable("RECIPIENTS")
    if said:
        texts = said.split(":")
        return ":".join(
            one if one.startswith(RECIPIENT_START) else str(Path(one).expanduser().absolute())
            for one in texts
            if one
        )
    listed: list[Recipient] = [] if configuration.recipients else call.settings.public_recipients()
    return _present(call.settings.recipients_path()) if listed else None


def options_of(call: Invocation, loaded: Loaded) -> list[str]:
    """Return the options that a command of cron gets, which has no environment of its own."""
    settings = call.settings
    said = {
        "config": loaded.path,
        "host": settings.host or variable("HOST"),
        "state-dir": settings.state or variable("STATE_DIR"),
        "key-file": settings.key_file or variable("KEY_FILE"),
        "identity": settings.identity_file or variable("IDENTITY"),
        "passphrase-file": settings.passphrase_path(),
    }
    return [
        f"--{name}={value if name == 'host' else _absolute(value)}"
        for name, value in said.items()
        if value
    ]


def tell_step(step: Step) -> None:
    """Tell a step of a plan: files with all that they say."""
    if isinstance(step, Write):
        print_line(f"write   {step.path} (mode {step.mode:04o})")
        _tell_text(step.text)
    elif isinstance(step, Remove):
        print_line(f"remove  {step.path}")
    else:
        print_line(f"run     {step}")
        _tell_text(step.given or "")


def _tell_text(text: str) -> None:
    for line in text.splitlines():
        print_line(f"    {line}".rstrip())


def short_text(step: Step) -> str:
    """Return what has been done, on a line."""
    if isinstance(step, Command):
        return f"ran      {step}"
    return f"{'wrote   ' if isinstance(step, Write) else 'removed '} {step.path}"


def step_json(step: Step) -> dict[str, object]:
    """Return a step as it is told in JSON."""
    if isinstance(step, Write):
        return {"write": str(step.path), "mode": f"{step.mode:04o}", "text": step.text}
    if isinstance(step, Remove):
        return {"remove": str(step.path)}
    return {"run": step.words, "why": step.why, "input": step.given}
