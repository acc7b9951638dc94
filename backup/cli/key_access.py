"""``key add``, ``key remove``, ``key passphrase``: who can open what is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from backup.cli.help_text import MORE
from backup.cli.invocation import Invocation, invocation
from backup.cli.output import count_text, print_error, print_json, print_line
from backup.cli.secrets import ask_passphrase
from backup.errors import ConfigError, IntegrityError, SecretKeyError
from backup.keys import load_passphrase_file
from backup.listing import find_snapshot
from backup.locating import locate
from backup.manager.rewrapping import Change, Rewrap, plan_rewrapping, rewrap
from backup.public_files import (
    append_recipient,
    load_recipients,
    recipients_to_add,
    remove_recipient,
)
from backup.snapshot.recipients import (
    FernetKey,
    Identity,
    PassphraseIdentity,
    PassphraseRecipient,
    Recipient,
)
from backup.storage.base import BaseStorage
from backup.wiring import expanded

_SNAPSHOTS = Annotated[
    list[str] | None, typer.Argument(metavar="SNAPSHOT", help="Which; else all, and new ones.")
]
_SHORTEST_ID = 4
_TOLD = 10


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("add", epilog=MORE)(add)
    app.command("remove", epilog=MORE)(remove)
    app.command("passphrase", epilog=MORE)(passphrase)


def add(
    context: typer.Context,
    recipient: Annotated[
        str, typer.Argument(metavar="RECIPIENT", help="A public key, a file of them, a key file.")
    ],
    snapshots: _SNAPSHOTS = None,
) -> None:
    """Let a recipient open snapshots that you can open, and those to come."""
    call = invocation(context)
    added = recipients_to_add(recipient)
    ids = {one.id for one in added}
    identity = call.settings.keyring().identity
    proofs: list[Identity] = [one for one in added if isinstance(one, FernetKey)]
    if identity is not None and identity.recipient().id in ids:
        proofs.append(identity)
    change = Change(add=tuple(added), proofs=tuple(proofs))
    _change(call, "key add", change, snapshots or [], lambda: _remember(call, added, snapshots))


def _remember(call: Invocation, added: Sequence[Recipient], only: Sequence[str] | None) -> str:
    """Seal new snapshots for ``added``, too; return what to tell."""
    if only:
        return ""
    if any(isinstance(one, FernetKey) for one in added):
        return (
            "new snapshots are not sealed for it: a list of recipients holds public keys only;"
            " 'auto-backup key new --public' makes one"
        )
    if call.settings.recipients_are_named():
        return "for whom new snapshots are sealed is said by AUTO_BACKUP_RECIPIENTS: add it there"
    path = call.settings.recipients_path()
    if not call.dry_run:
        for one in added:
            append_recipient(path, one)
    return f"new snapshots of this host are sealed for it, too ({path})"


def remove(
    context: typer.Context,
    recipient: Annotated[
        str, typer.Argument(metavar="ID", help="As 'key list' tells it, or its beginning.")
    ],
    snapshots: _SNAPSHOTS = None,
) -> None:
    """Take a recipient out of keys files, and of the list for new snapshots."""
    call = invocation(context)
    key_id = _whole_id(call, recipient)
    change = Change(remove=frozenset({key_id}))
    _change(call, "key remove", change, snapshots or [], lambda: _forget(call, key_id, snapshots))


def _whole_id(call: Invocation, start: str) -> str:
    """Return the one id that begins with ``start``, of those in the stores and in the list."""
    known = {one.id for one in _listed(call)}
    for store in call.settings.open_stores():
        for snapshot in call.list_snapshots(store):
            try:
                header = locate(store, snapshot.name).newest_header()
            except IntegrityError:
                continue
            known.update(slot.id for slot in header.slots)
    found = sorted(one for one in known if one.startswith(start.lower()) and one)
    if len(found) == 1 and len(start) >= _SHORTEST_ID:
        return found[0]
    raise ConfigError(
        f"{start[:40]!r} is not the id of one recipient",
        hint="there are: " + ", ".join(sorted(known)[:8]) if known else None,
    )


def _listed(call: Invocation) -> list[Recipient]:
    path = call.settings.recipients_path()
    return load_recipients(path, least=0) if os.path.lexists(path) else []


def _forget(call: Invocation, key_id: str, only: Sequence[str] | None) -> str:
    if only:
        return ""
    path = call.settings.recipients_path()
    is_listed = key_id in {one.id for one in _listed(call)}
    if not call.dry_run:
        remove_recipient(path, key_id)
    ring = call.settings.keyring()
    if ring.key is not None and ring.key.id == key_id:
        return (
            f"new snapshots are still sealed for it: it is the key file {call.settings.key_path()}"
        )
    return (
        f"new snapshots of this host are not sealed for it any more ({path})" if is_listed else ""
    )


def passphrase(
    context: typer.Context,
    snapshots: _SNAPSHOTS = None,
    new: Annotated[
        Path | None,
        typer.Option("--new-passphrase-file", metavar="FILE", help="It; else you are asked."),
    ] = None,
) -> None:
    """Let a passphrase open snapshots; an old one of --passphrase-file goes."""
    call = invocation(context)
    old = call.settings.keyring().passphrase
    if new is not None:
        text = load_passphrase_file(Path(expanded(str(new))))
    else:
        text = ask_passphrase("new passphrase: ", again="the same again: ")
    if text == old:
        raise SecretKeyError("the new passphrase is the old one")
    identity = PassphraseIdentity(text)
    change = Change(
        add=(_known_recipient(call, identity) or PassphraseRecipient(text),),
        replace=None if old is None else PassphraseIdentity(old),
        proofs=(identity,),
    )
    told = "new snapshots are sealed for it where 'backup' gets it with --passphrase-file"
    _change(call, "key passphrase", change, snapshots or [], lambda: told)


def _known_recipient(call: Invocation, identity: PassphraseIdentity) -> PassphraseRecipient | None:
    """Return the passphrase with the salt that it has in a snapshot, if it has one already."""
    for store in call.settings.open_stores():
        for snapshot in call.list_snapshots(store)[-1:]:
            header = locate(store, snapshot.name).newest_header()
            return identity.recipient_of(header.core, header.slots)
    return None


def _change(
    call: Invocation,
    action: str,
    change: Change,
    wanted: Sequence[str],
    for_new_ones: Callable[[], str],
) -> None:
    """Plan the change in all stores, tell it or do it, and then what it means for new snapshots."""
    stores = call.settings.open_stores()
    names = {store: _names(call, store, wanted) for store in stores}
    identities = call.identities() if any(names.values()) else []
    planned = {store: plan_rewrapping(store, names[store], identities, change) for store in stores}
    if call.dry_run:
        _tell(call, planned, change, for_new_ones(), tense="would be ")
        return
    call.start_action(
        action,
        stores=[str(store) for store in stores],
        add=[one.id for one in change.add],
        remove=sorted(change.remove),
        snapshots=sum(map(len, names.values())),
    )
    done: dict[BaseStorage, list[Rewrap]] = {}
    for store in stores:
        done[store] = list(rewrap(store, names[store], identities, change))
    refused = [one.refused for plans in done.values() for one in plans if one.refused]
    call.status = refused[0].exit_code if refused else 0
    _tell(call, done, change, for_new_ones(), tense="")
    call.end_action(
        "failed" if refused else "done",
        changed=sum(one.changes for plans in done.values() for one in plans),
        refused=len(refused),
        exit_status=call.status,
    )


def _names(call: Invocation, store: BaseStorage, wanted: Sequence[str]) -> list[str]:
    if not wanted:
        return [one.name for one in call.list_snapshots(store)]
    host = call.settings.host_name()
    return [find_snapshot(store, one, host=host).name for one in wanted]


def _tell(
    call: Invocation,
    plans: dict[BaseStorage, list[Rewrap]],
    change: Change,
    future: str,
    *,
    tense: str,
) -> None:
    if call.json:
        print_json([_json(store, one) for store, some in plans.items() for one in some])
    elif not call.quiet:
        for store, some in plans.items():
            _tell_store(store, some, change, tense)
        if future:
            print_line(future)
        if tense:
            print_line("nothing has been changed")
    for one in [one for some in plans.values() for one in some if one.refused][:_TOLD]:
        call.note(f"not changed: {one.name}")
        if one.refused is not None:
            print_error(one.refused)


def _tell_store(store: BaseStorage, plans: Sequence[Rewrap], change: Change, tense: str) -> None:
    total = count_text(len(plans), "snapshot")
    for one in change.add:
        count = sum(one.id in plan.added for plan in plans)
        print_line(f"{store}: {count} of {total} {tense}opened to {one.id}")
        had = sum(not plan.refused and one.id not in plan.added for plan in plans)
        if had:
            print_line(f"  {had} had it already")
    gone = sorted({key_id for plan in plans for key_id in plan.removed} | change.remove)
    for key_id in gone:
        count = sum(key_id in plan.removed for plan in plans)
        print_line(f"{store}: {key_id} {tense}taken out of the keys files of {count} of {total}")
        still = sum(key_id in plan.still_open for plan in plans)
        if still:
            print_line(f"  it STILL OPENS {still}: their .enc files were sealed for it, and never")
            print_line("  change; if it is in wrong hands, delete them, and take new snapshots")
        if count:
            print_line("  who has a copy of a keys file or a data key keeps what that opens")


def _json(store: BaseStorage, one: Rewrap) -> dict[str, object]:
    return {
        "store": str(store),
        "name": one.name,
        "added": one.added,
        "removed": one.removed,
        "still_open": one.still_open,
        "refused": None if one.refused is None else one.refused.message,
    }
