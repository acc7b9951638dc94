"""``service install``, ``service uninstall``."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup.cli.consent import ask
from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import print_json, print_line, print_note
from backup.errors import ConfigError

if TYPE_CHECKING:
    from backup.cli.service_plans import Plan
    from backup.cli.servicing import Ground
    from backup.config.reading import Loaded
    from backup.service.steps import Step
    from backup.service.unit import Profile

app = typer.Typer(rich_markup_mode=None)


def register(program: typer.Typer) -> None:
    """Add the commands to ``program``."""
    program.add_typer(app, name="service", help="Have systemd or cron run what is due.")


@app.callback()
def _group() -> None:
    """Have systemd or cron run what is due."""


@app.command("install", epilog=MORE)
def install(
    context: typer.Context,
    *,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="reader|root",
            help="As a user of its own that may read every file (reader), or as root.",
        ),
    ] = None,
    user: Annotated[
        bool, typer.Option("--user", help="As yourself, by your own systemd; needs no root.")
    ] = False,
    cron: Annotated[
        bool, typer.Option("--cron", help="By cron, on machines without systemd.")
    ] = False,
) -> None:
    """Run what is due from now on, and after each boot; -n shows all that would be done."""
    from backup.cli import servicing  # noqa: PLC0415 - costs start-up time

    call = invocation(context)
    if sum((profile is not None, user, cron)) > 1:
        raise ConfigError("--profile, --user and --cron are three ways: say one of them")
    chosen = profile_named(profile or "reader")
    loaded = servicing.open_configuration(call)
    ground = servicing.this_ground()
    plan = _plan(call, loaded, ground, None if user or cron else chosen, by_cron=cron)
    plan = plan._replace(obstacles=[*plan.obstacles, *_without_schedule(loaded)])
    if call.dry_run:
        _tell_plan(call, plan)
    else:
        _install(call, plan, ground)


def profile_named(word: str) -> Profile:
    """Return the profile of that name.

    Raises:
        ConfigError: There is none.
    """
    from backup.service.unit import Profile  # noqa: PLC0415 - see above

    if word not in {Profile.READER, Profile.ROOT}:
        raise ConfigError(f"there is no profile {word!r}", hint="there are: reader, root")
    return Profile(word)


def _without_schedule(loaded: Loaded) -> list[ConfigError]:
    """Return what speaks against a service that would have nothing to do, and so not start."""
    from backup.daemon.opening import refuse_unscheduled  # noqa: PLC0415 - see above

    try:
        refuse_unscheduled(loaded)
    except ConfigError as error:
        return [error]
    return []


def _plan(
    call: Invocation, loaded: Loaded, ground: Ground, profile: Profile | None, *, by_cron: bool
) -> Plan:
    from backup.cli import service_plans  # noqa: PLC0415 - see above

    if by_cron:
        return service_plans.plan_cron(call, loaded, ground)
    if profile is None:
        return service_plans.plan_user(call, loaded, ground)
    return service_plans.plan_system(call, loaded, ground, profile)


def _install(call: Invocation, plan: Plan, ground: Ground) -> None:
    """Carry a plan out, unless something speaks against it: then nothing has been changed."""
    from backup.service.steps import carry_out  # noqa: PLC0415 - see above

    if plan.obstacles:
        raise plan.obstacles[0]
    for one in plan.misfits:
        print_note(str(one))
    if plan.misfits:
        ask(call, "install a service that cannot run these jobs")
    carry_out(plan.steps, ground.run)
    if call.json:
        print_json(_plan_json(plan, done=True))
    elif not call.quiet:
        _tell_done(call, plan)


def _tell_plan(call: Invocation, plan: Plan) -> None:
    """Tell all that would be done, and why it would be refused."""
    call.status = plan.obstacles[0].exit_code if plan.obstacles else 0
    if call.json:
        print_json(_plan_json(plan, done=False))
        return
    _tell_steps(plan.steps)
    for misfit in plan.misfits:
        call.note(str(misfit))
    for error in plan.obstacles:
        print_note(f"it would be refused: {error.message}")
        for line in (error.hint or "").splitlines():
            call.note(f"  {line}")


def _tell_steps(steps: Sequence[Step]) -> None:
    from backup.cli.servicing import tell_step  # noqa: PLC0415 - see above

    for step in steps:
        tell_step(step)


def _plan_json(plan: Plan, *, done: bool) -> dict[str, object]:
    from backup.cli.servicing import step_json  # noqa: PLC0415 - see above

    return {
        "kind": str(plan.kind),
        "done": done,
        "steps": [step_json(one) for one in plan.steps],
        "obstacles": [one.message for one in plan.obstacles],
        "jobs_that_cannot_run": [one._asdict() for one in plan.misfits],
        "state_dir": str(plan.state),
    }


def _tell_done(call: Invocation, plan: Plan) -> None:
    from backup.cli.servicing import short_text  # noqa: PLC0415 - see above

    for step in plan.steps:
        print_line(short_text(step))
    if plan.kind == "cron":
        print_line("cron runs what is due every five minutes: auto-backup schedule list")
    else:
        option = "--user " if plan.kind == "user" else ""
        print_line(f"the service runs: systemctl {option}status auto-backup")
        print_line(f"what it writes:   journalctl {option}--unit auto-backup")
    print_line(f"its state is in {plan.state}")
    if plan.kind == "user":
        name = getpass.getuser()
        call.note(f"it ends when you log out, unless: loginctl enable-linger {name}")


@app.command("uninstall", epilog=MORE)
def uninstall(context: typer.Context) -> None:
    """Stop it and remove what 'service install' wrote; keys, state and snapshots stay."""
    from backup.cli import servicing  # noqa: PLC0415 - see above
    from backup.cli.service_plans import own_crontab  # noqa: PLC0415 - see above
    from backup.service.removing import (  # noqa: PLC0415 - see above
        judge_files,
        refuse_changed,
        removal_steps,
    )
    from backup.service.steps import carry_out  # noqa: PLC0415 - see above

    call = invocation(context)
    ground = servicing.this_ground()
    places = ground.places
    of_system = (places.unit, places.sysusers, places.cron)
    found = judge_files((*(of_system if ground.is_root else ()), places.user_unit))
    refuse_changed(found, agreed=call.yes)
    crontab = own_crontab(ground)
    steps = removal_steps(places, found, crontab, has_systemd=ground.has_systemd())
    if not call.dry_run:
        carry_out(steps, ground.run)
    if call.json:
        print_json({"done": not call.dry_run, "steps": [servicing.step_json(one) for one in steps]})
        return
    if call.dry_run:
        _tell_steps(steps)
    elif not call.quiet:
        for step in steps:
            print_line(servicing.short_text(step))
    _tell_what_stays(call, ground, is_gone=bool(steps))


def _tell_what_stays(call: Invocation, ground: Ground, *, is_gone: bool) -> None:
    if not is_gone:
        whose = "" if ground.is_root else " of yours; root has those of the system"
        call.note(f"there is no service{whose}: nothing has been changed")
        return
    of_machine = [ground.places.state] if ground.is_root else []
    state: list[Path] = [call.settings.state_dir(), *of_machine]
    there = dict.fromkeys(str(one) for one in state if os.path.isdir(one))  # noqa: PTH112 - never raises
    call.note(f"what stays: keys, snapshots, the configuration, the state ({', '.join(there)})")
    if ground.is_root and ground.places.state.exists():
        call.note("the user auto-backup stays as well, as files are its own")
