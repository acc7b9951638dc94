"""What a configuration may say. Each key appears here together with the thing it configures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from backup.errors import BackupError
from backup.retention import RetentionPolicy, make_policy
from backup.snapshot.compression import archive_type
from backup.snapshot.names import check_word

VERSION = 1


class Model(BaseModel):
    """A mapping of the configuration: what it does not know it refuses."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True
    )


def _word(text: str) -> str:
    return _ours(lambda: check_word(text, "name"))


def _ours(check: Any) -> Any:
    """Return what ``check`` returns; our errors are problems of a value here."""
    try:
        return check()
    except BackupError as error:
        raise ValueError(error.message + (f"; {error.hint}" if error.hint else "")) from error


def _policy(value: object) -> object:
    if isinstance(value, RetentionPolicy):
        return value
    if not isinstance(value, dict):
        raise ValueError("it needs a mapping such as {last: 3, daily: 14}")
    return _ours(lambda: make_policy(value))


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _compression(text: str) -> str:
    _ours(lambda: archive_type(text))
    return text


def _absolute(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_absolute():
        raise ValueError("it has to be an absolute path: a service has no directory of its own")
    return path


Name = Annotated[str, AfterValidator(_word)]
Keep = Annotated[RetentionPolicy, BeforeValidator(_policy)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Compression = Annotated[str, AfterValidator(_compression)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]


class Store(Model):
    """A place for snapshots; ``keep`` wins over the job's."""

    url: str
    keep: Keep | None = None


class Source(Model):
    """A directory or a single file, and what to leave out of it."""

    path: AbsolutePath
    exclude: Texts = ()


def _source(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Work(Model):
    """What a job says, or ``defaults`` say for all jobs; ``None`` where nothing is said."""

    stores: Texts | None = None
    compression: Compression | None = None
    level: int | None = None
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    recipients: Texts | None = None
    tags: Texts | None = None
    keep: Keep | None = None
    exclude: Texts | None = None
    exclude_if_present: Texts | None = None
    exclude_caches: bool | None = None
    exclude_larger_than: str | None = None
    one_file_system: bool | None = None


class Job(Work):
    """What to save, and all that ``defaults`` may say."""

    sources: Annotated[tuple[Annotated[Source, BeforeValidator(_source)], ...], Field(min_length=1)]


class Configuration(Model):
    """A whole configuration, files below ``conf.d`` merged in."""

    version: Literal[1]
    host: Name | None = None
    key_file: AbsolutePath | None = None
    recipients: Texts | None = None
    stores: dict[Name, Store] = Field(default_factory=dict)
    defaults: Work = Work()
    jobs: dict[Name, Job] = Field(default_factory=dict)

    def job(self, name: str) -> Job:
        """Return a job with everything that ``defaults`` say and it does not."""
        own = self.jobs[name]
        said = {key: getattr(self.defaults, key) for key in self.defaults.model_fields_set}
        said |= {key: getattr(own, key) for key in own.model_fields_set}
        return Job.model_construct(_fields_set=set(said), **said)
