"""What holds in the end, and where it was said: for each job, and for the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from backup.config.checking import DEFAULT_COMPRESSION
from backup.config.keeping import keep_rules
from backup.config.models import KEEPS_ALL, WITHOUT, Configuration, Job, Model
from backup.config.problems import dotted
from backup.config.reading import Loaded
from backup.environment import default_store_dir
from backup.masking import masked
from backup.snapshot.compression import COMPRESSIONS, DEFAULT_LEVELS

DEFAULT = "default"


class Effective(NamedTuple):
    """A value that holds; ``value`` is ``None`` where only words tell what is done.

    Args:
        key: As the configuration has it.
        value: Plain data, secrets masked.
        text: The same for people.
        origin: ``FILE:LINE``, a variable, an option, or ``default``.
    """

    key: str
    value: object
    text: str
    origin: str


class Said(NamedTuple):
    """What an option or a variable says, which wins over the configuration."""

    value: object
    origin: str


def effective_job(loaded: Loaded, name: str, said: Mapping[str, Said]) -> Iterator[Effective]:
    """Yield all that holds for a job.

    Args:
        loaded: The configuration.
        name: The job.
        said: What options and variables say, by the keys that they win over.
    """
    job = loaded.configuration.job(name)
    plain = job.model_dump(mode="json")
    for number, source in enumerate(plain.pop("sources")):
        way = ("jobs", name, "sources", number)
        yield Effective("sources", source, _source_text(source), str(loaded.origins[dotted(way)]))
    for key, value in plain.items():
        if key in said:
            yield _effective(key, said[key].value, said[key].origin, loaded.configuration)
        elif key in job.model_fields_set:
            origin = _origin(loaded, name, key)
            yield _effective(key, value, origin, loaded.configuration)
        else:
            yield _without(loaded, job, name, key)
        if key == "keep":
            yield from _keep_of_stores(loaded, name, said)


def _keep_of_stores(loaded: Loaded, job: str, said: Mapping[str, Said]) -> Iterator[Effective]:
    """Yield what stores of a job say of their own to keep, which wins there."""
    configuration = loaded.configuration
    named = said["stores"].value if "stores" in said else configuration.stores_of(job)
    for name in named if isinstance(named, list | tuple) else ():
        store = configuration.stores.get(name)
        if store is not None and store.keep is not None:
            origin = str(loaded.origins[dotted(("stores", name, "keep"))])
            yield _effective(f"keep in {name}", keep_rules(store.keep), origin, None)


def effective_key(loaded: Loaded | None, key: str, said: Mapping[str, Said]) -> Effective | None:
    """Return what holds for a key of the top level, ``None`` where nobody says it."""
    if key in said:
        return _effective(key, said[key].value, said[key].origin, None)
    if loaded is None or key not in loaded.configuration.model_fields_set:
        return None
    value = loaded.configuration.model_dump(mode="json", include={key})[key]
    return _effective(key, value, str(loaded.origins[key]), None)


def _origin(loaded: Loaded, name: str, key: str) -> str:
    own = loaded.origins.get(dotted(("jobs", name, key)))
    return str(own or loaded.origins[dotted(("defaults", key))])


def _effective(
    key: str, value: object, origin: str, configuration: Configuration | None
) -> Effective:
    shown = _masked(value)
    if key == "stores" and configuration is not None and isinstance(value, list | tuple):
        text = ", ".join(_store_text(configuration, str(one)) for one in value)
    elif value == {}:  # of all keys, keep alone may have no rule
        text = KEEPS_ALL
    else:
        text = plain_text(shown)
    return Effective(key, shown, text, origin)


def _without(loaded: Loaded, job: Job, name: str, key: str) -> Effective:
    """Return what is done where neither the job nor the defaults say it."""
    configuration = loaded.configuration
    if key == "stores":
        stores = list(configuration.stores_of(name))
        if stores:
            origin = str(loaded.origins[dotted(("stores", stores[0]))])
            return _effective(key, stores, origin, configuration)
        return _effective(key, [str(default_store_dir())], DEFAULT, configuration)
    if key == "recipients" and configuration.recipients is not None:
        return _effective(key, configuration.recipients, str(loaded.origins[key]), None)
    if key == "compression":
        return _effective(key, DEFAULT_COMPRESSION, DEFAULT, None)
    if key == "level":
        level = DEFAULT_LEVELS[COMPRESSIONS[job.compression or DEFAULT_COMPRESSION]]
        return _effective(key, level, DEFAULT, None)
    model: type[Model] = Configuration if key in Configuration.model_fields else Job
    extra: Any = model.model_fields[key].json_schema_extra or {}
    text = str(extra.get(WITHOUT, "nothing"))
    return Effective(key, False if text == "false" else None, text, DEFAULT)


def _store_text(configuration: Configuration, said: str) -> str:
    known = configuration.stores.get(said)
    return masked(said) if known is None else f"{said} ({masked(known.url)})"


def _source_text(source: Mapping[str, Any]) -> str:
    path, exclude = str(source["path"]), source["exclude"]
    return f"{path} without {plain_text(exclude)}" if exclude else path


def plain_text(value: object) -> str:
    """Return plain data for people: ``last 3, daily 14``."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain_text(one)}" for key, one in value.items()) or "nothing"
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(one) for one in value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else str(value)


def _masked(value: object) -> object:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: _masked(one) for key, one in value.items()}
    return [_masked(one) for one in value] if isinstance(value, list | tuple) else value
