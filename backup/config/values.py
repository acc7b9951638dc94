"""What single values of a configuration may be, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    Strict,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from backup.errors import BackupError, ConfigError
from backup.keys import IDENTITY_START
from backup.masking import masked
from backup.model import ExcludeRules
from backup.public_files import RECIPIENT_START
from backup.retention.policy import parse_duration
from backup.snapshot.compression import COMPRESSIONS, archive_type
from backup.snapshot.names import check_word
from backup.sources.rules import Excluder, parse_size
from backup.storage import open_storage

_NOWHERE = "a service has no directory of its own"
_HERE = "here"
_Value = TypeVar("_Value")


def ours(check: Callable[[], _Value]) -> _Value:
    """Return what ``check`` returns; our errors are problems of a value here."""
    try:
        return check()
    except BackupError as error:
        raise ValueError(error.message + (f"; {error.hint}" if error.hint else "")) from error


def _one_or_more(value: object) -> object:
    """Take one text for a list of one."""
    return [value] if isinstance(value, str) else value


class _OneOrMore:
    """Tells the schema of a list that one of its items may stand alone."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        whole = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [whole["items"], whole]}


def _word(what: str) -> AfterValidator:
    return AfterValidator(lambda text: ours(lambda: check_word(text, what)))


def _compression(text: str) -> str:
    close = get_close_matches(text, COMPRESSIONS, n=1)
    if close and text not in COMPRESSIONS:
        raise ValueError(f"there is no compression {text!r}; did you mean {close[0]}?")
    ours(lambda: archive_type(text))
    return text


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path has no NUL in it")
    path = _expanded(path)
    if not path.is_absolute():
        raise ValueError(f"it has to be an absolute path: {_NOWHERE}")
    return path


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("nobody is called that whose home it names") from None


def _store_url(text: str) -> str:
    if "://" not in text:
        return str(_absolute(Path(text)))
    reason = url_problem(text)
    if reason:
        raise ValueError(reason)
    return text


def url_problem(url: str) -> str:
    """Return why no store can be at ``url``, else nothing."""
    try:
        open_storage(url)
    except BackupError as error:
        reason = error.message + (f"; {error.hint}" if error.hint else "")
        return reason.replace(url, masked(url))
    return ""


def _recipient(text: str) -> str:
    """Check the form alone: whether a public key is one is told where it is used."""
    if text.startswith(RECIPIENT_START):
        return text
    if text.lstrip().startswith(IDENTITY_START):
        raise ValueError("a private key does not belong into a configuration")
    return str(_absolute(Path(text)))


def _pattern(text: str) -> str:
    try:
        Excluder(ExcludeRules(exclude=(text,)), [_HERE])
    except ConfigError as error:
        said = error.message.replace(f" ({_HERE})", "")
        raise ValueError(f"{said}; {error.hint}" if error.hint else said) from error
    return text


def _marker(text: str) -> str:
    ours(lambda: Excluder(ExcludeRules(if_present=(text,))))
    return text


def _size(text: str) -> str:
    ours(lambda: parse_size(text))
    return text


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("it has to be a number and a unit, such as 30 days")  # noqa: TRY004 - pydantic's
    return ours(lambda: parse_duration(value))


HostName = Annotated[str, _word("host")]
JobName = Annotated[str, _word("job")]
StoreName = Annotated[str, _word("store")]
Tag = Annotated[str, _word("tag")]
Whole = Annotated[int, Strict()]
Compression = Annotated[
    str, AfterValidator(_compression), WithJsonSchema({"enum": list(COMPRESSIONS)})
]
AbsolutePath = Annotated[Path, AfterValidator(_absolute), WithJsonSchema({"type": "string"})]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
RecipientText = Annotated[str, AfterValidator(_recipient)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Marker = Annotated[str, AfterValidator(_marker)]
Size = Annotated[str, AfterValidator(_size)]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "examples": ["12h", "30 days", "8 weeks"]}),
]

Several = Annotated[tuple[_Value, ...], BeforeValidator(_one_or_more), _OneOrMore()]
"""A list, in place of which one text alone may stand."""

AtLeastOne = Annotated[
    tuple[_Value, ...], Field(min_length=1), BeforeValidator(_one_or_more), _OneOrMore()
]
"""The same, and not empty."""
