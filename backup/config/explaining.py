"""What the models' library complains about, in our words, with the line that it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from backup.config.problems import KeyPath, Problem, did_you_mean, dotted
from backup.config.tree import Node

_LONGEST = 60
_FEW = 8
_WANTED = {
    "string": "it has to be a text",
    "path": "it has to be a text",
    "int": "it has to be a whole number",
    "float": "it has to be a number",
    "bool": "it has to be true or false",
    "tuple": "it has to be a list",
    "list": "it has to be a list",
    "dict": "it has to be a mapping of names",
    "model": "it has to be a mapping with keys of its own",
    "greater_than_equal": "it has to be at least {ge}",
    "greater_than": "it has to be more than {gt}",
    "less_than_equal": "it has to be at most {le}",
    "less_than": "it has to be less than {lt}",
    "too_short": "it needs at least one",
}
"""By the whole name of an error, or its first word."""


def explain(error: ValidationError, root: Node, model: type[BaseModel]) -> Iterator[Problem]:
    """Yield all that ``error`` tells about the values of ``root``, each thing once."""
    told: set[Problem] = set()
    for one in error.errors(include_url=False):
        path, node = _locate(root, one["loc"])
        if _is_told_already(str(one["type"]), path, node):
            continue
        problem = Problem(node.place, dotted(path), _words(one, node, path, model))
        if problem not in told:
            told.add(problem)
            yield problem


def _is_told_already(kind: str, path: KeyPath, node: Node) -> bool:
    """Whether it is about an empty value, or about a list because of what is in it."""
    return (node.value is None and bool(path)) or (kind == "too_short" and bool(node.value))


def _locate(root: Node, loc: tuple[int | str, ...]) -> tuple[KeyPath, Node]:
    """Return the value that the library means; it adds words of its own to the way."""
    path: list[int | str] = []
    node = root
    for one in loc:
        below = dict(node.below())
        if one in below:
            node = below[one]
            path.append(one)
    return tuple(path), node


def _words(one: Any, node: Node, path: KeyPath, model: type[BaseModel]) -> str:
    kind, context = str(one["type"]), one.get("ctx", {})
    if kind == "extra_forbidden":
        known = known_keys(_schema(model), path[:-1])
        return "unknown key" + did_you_mean(str(path[-1]), known)
    if kind == "missing":
        return f"{one['loc'][-1]} is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"it has to be {context['expected']}, not {_shown(node)}"
    text = _wanted(kind, context) or "it cannot be used here"
    if kind == "string_type" and isinstance(node.value, int | float):
        return f"it has to be a text: write {_shown(node)} in quotes"
    if kind in {"model_type", "model_attributes_type"}:
        known = known_keys(_schema(model), path)
        text += f" ({', '.join(sorted(known))})" if 0 < len(known) <= _FEW else ""
    return f"{text}, not {_shown(node)}"


def _wanted(kind: str, context: Mapping[str, Any]) -> str:
    words = _WANTED.get(kind) or _WANTED.get(kind.partition("_")[0], "")
    return words.format_map(context)


def _shown(node: Node) -> str:
    """Return a value for people, without what may be a secret in it."""
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONGEST and "://" not in value else "this text"
    return str(value)


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def known_keys(schema: Mapping[str, Any], path: KeyPath) -> set[str]:
    """Return the keys that may stand in the mapping at ``path``, as a JSON Schema tells them."""
    places = [schema]
    for one in path:
        places = [below for place in places for below in _below(schema, place, one)]
    return {
        key
        for place in places
        for part in _parts(schema, place)
        for key in part.get("properties", ())
    }


def _below(schema: Mapping[str, Any], place: Mapping[str, Any], one: str | int) -> Iterator[Any]:
    for part in _parts(schema, place):
        if isinstance(one, int):
            found = part.get("items")
        else:
            found = part.get("properties", {}).get(one) or part.get("additionalProperties")
        if isinstance(found, dict):
            yield found


def _parts(schema: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a place may be: references followed, alternatives one by one."""
    if "$ref" in place:
        yield from _parts(schema, schema["$defs"][place["$ref"].rpartition("/")[2]])
    for one in (*place.get("anyOf", ()), *place.get("oneOf", ()), *place.get("allOf", ())):
        yield from _parts(schema, one)
    yield place
