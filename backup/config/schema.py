"""The JSON Schema of a configuration, which editors complete and check it with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from backup.config.models import WITHOUT, Configuration

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TITLE = "Configuration of auto-backup"
_NAMES = frozenset({"properties", "$defs"})
"""Keywords below which stand names of keys, not keywords."""


class _Schema(GenerateJsonSchema):
    """What is not said is left out of a configuration, rather than said to be nothing."""

    schema_dialect = DIALECT

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def make_schema(model: type[BaseModel] = Configuration) -> dict[str, Any]:
    """Return the schema, in which each key has a description."""
    schema: dict[str, Any] = _polished(model.model_json_schema(schema_generator=_Schema))
    return {"$schema": DIALECT, **schema, "title": _TITLE}


def _polished(schema: Any, *, are_names: bool = False) -> Any:
    """Return ``schema`` with what happens without a key as a part of its description."""
    if isinstance(schema, list):
        return [_polished(one) for one in schema]
    if isinstance(schema, str):
        return schema.replace("``", "")
    if not isinstance(schema, dict):
        return schema
    polished = {
        key: _polished(value, are_names=key in _NAMES and not are_names)
        for key, value in schema.items()
        if are_names or key not in {WITHOUT, "title"}
    }
    if not are_names and WITHOUT in schema:
        polished["description"] = f"{schema['description']} Without it: {schema[WITHOUT]}."
    return polished
