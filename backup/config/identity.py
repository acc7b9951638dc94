"""Whether two processes go by the same configuration."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

from backup.environment import variable

if TYPE_CHECKING:
    from backup.config.models import Configuration

# Those that decide what a run does. Others say where things lie, which may differ.
_DECIDING = ("STORE", "HOST", "KEY_FILE", "IDENTITY", "PASSPHRASE_FILE", "RECIPIENTS", "SIGNERS")


def digest_of(configuration: Configuration) -> str:
    """Return what is the same for configurations that say the same, wherever they say it."""
    return _digest(configuration.model_dump_json(exclude_unset=True))


def variable_digests() -> dict[str, str]:
    """Return the digests of the variables that decide what a run does, of those that are set."""
    said = {name: variable(name) for name in _DECIDING}
    return {name: _digest(value) for name, value in said.items() if value}


def contradictions(own: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """Return the variables that are set here and not the same there; both as ``variable_digests``.

    What is set there alone is how that process does what this one asks of it.
    """
    return [name for name, digest in own.items() if others.get(name) != digest]


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
