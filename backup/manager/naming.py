"""Which job a source belongs to when nobody gives it a name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import PurePosixPath

from backup.errors import IntegrityError, SecretKeyError
from backup.listing import list_snapshots
from backup.locating import locate
from backup.manager.chain_memory import ChainMemory
from backup.snapshot.names import slug
from backup.snapshot.recipients import Identity
from backup.sources.roots import Root
from backup.storage.base import BaseStorage

_LONGEST = 56


def default_job(
    roots: Sequence[Root],
    storage: BaseStorage,
    host: str,
    identities: Sequence[Identity],
    memory: ChainMemory | None = None,
) -> str:
    """Return the job that snapshots of ``roots`` belong to: the first source's name.

    Where the store has that job with other sources, the name gets a few characters of the path's
    digest, so that two directories called ``data`` do not become one job.
    """
    path = roots[0].path.decode("utf-8", "replace")
    name = slug(PurePosixPath(path).name)[:_LONGEST] if path else "root"
    if not _is_taken(name, roots, storage, host, identities=identities, memory=memory):
        return name
    return f"{name}-{sha256(roots[0].path).hexdigest()[:4]}"


def _is_taken(
    name: str,
    roots: Sequence[Root],
    storage: BaseStorage,
    host: str,
    *,
    identities: Sequence[Identity],
    memory: ChainMemory | None,
) -> bool:
    sources = {root.path for root in roots}
    for stored in reversed(list_snapshots(storage, host=host, job=name)):
        with suppress(IntegrityError, SecretKeyError):
            return not sources & set(locate(storage, stored.name).open(identities).record.sources)
    before = memory.recall(storage, host, name) if memory and not identities else None
    if memory is None or before is None:
        return False
    return not set(map(memory.source_mark, sources)) & set(before.sources)
