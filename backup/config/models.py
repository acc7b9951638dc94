"""What a configuration may say. Each key appears here together with the thing it configures.

A key's description, and what happens without it, are what the schema, ``config show`` and the
reference tell of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from backup.config.keeping import Keep
from backup.config.problems import did_you_mean
from backup.config.scheduling import OnlyIf, Retrying, Schedule, StallAfter, Timeout, Verify
from backup.config.values import (
    AbsolutePath,
    AtLeastOne,
    Compression,
    HostName,
    JobName,
    Marker,
    Pattern,
    RecipientText,
    Several,
    Size,
    StoreName,
    StoreUrl,
    Tag,
    Whole,
)
from backup.errors import ConfigError

VERSION = 1
WITHOUT = "without"
KEEPS_ALL = "nothing is ever deleted"


def key(description: str, *, without: str) -> Any:
    """Return the field of a key that may be left out; ``without`` tells what is done then."""
    return Field(None, description=description, json_schema_extra={WITHOUT: without})


class Model(BaseModel):
    """A mapping of the configuration: what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Store(Model):
    """A place for snapshots."""

    url: StoreUrl = Field(description="A directory's absolute path, or a URL.")
    keep: Keep | None = key("What to keep here; it wins over the job's.", without="the job's")


def _source(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Source(Model):
    """A directory or a single file, and what to leave out of it."""

    path: AbsolutePath = Field(description="A directory or a single file.")
    exclude: Several[Pattern] = Field(
        (), description="Patterns as in a .gitignore file, relative to this source."
    )


class Work(Model):
    """What a job says, or ``defaults`` say for all jobs; ``None`` where nothing is said."""

    stores: AtLeastOne[str] | None = key(
        "Names of stores, or their paths or URLs; the first one is written first,"
        " the others get copies.",
        without="the only one of stores, else the default directory",
    )
    compression: Compression | None = key(
        "How to compress: xz (smallest), zstd (fastest), gzip, bzip2 or none.", without="xz"
    )
    level: Whole | None = key(
        "How hard to compress: xz 0-9, zstd 1-19, gzip and bzip2 1-9.",
        without="the compression's usual one",
    )
    workers: Annotated[Whole, Field(ge=1, le=256)] | None = key(
        "How many processes read and compress.", without="what the machine allows"
    )
    recipients: Several[RecipientText] | None = key(
        "Public keys, or files of them, to seal for as well.", without="the top level's"
    )
    tags: Several[Tag] | None = key("Words to keep with each snapshot.", without="none")
    keep: Keep | None = key("What to keep.", without=KEEPS_ALL)
    exclude: Several[Pattern] | None = key(
        "Patterns as in a .gitignore file, relative to each source.", without="none"
    )
    exclude_if_present: Several[Marker] | None = key(
        "Leave out what is in directories that hold a file of this name.", without="none"
    )
    exclude_caches: bool | None = key(
        "Leave out what a CACHEDIR.TAG marks as a cache.", without="false"
    )
    exclude_larger_than: Size | None = key(
        "Leave out larger files: 100M, 1.5GiB.", without="no limit"
    )
    one_file_system: bool | None = key("Leave out what is mounted in the sources.", without="false")
    schedule: Schedule | None = key(
        "When to run: one of every, at, on and cron.", without="by hand alone"
    )
    only_if: OnlyIf | None = key("What has to hold before it begins.", without="nothing")
    retry: Retrying | None = key(
        "How to try again what has failed.", without="3 times, after 1, 4 and 16 minutes"
    )
    timeout: Timeout | None = key("How long a run may take.", without="as long as it takes")
    stall_after: StallAfter | None = key(
        "After what time without a byte moved a run counts as stalled, which is told.",
        without="30 minutes",
    )
    verify: Verify | None = key(
        "How often to verify its snapshots.",
        without="checksum: 1 day, content: 30 days",
    )


class Job(Work):
    """What to save, and all that ``defaults`` may say."""

    sources: Annotated[
        tuple[
            Annotated[Source, BeforeValidator(_source, json_schema_input_type=str | Source)], ...
        ],
        Field(min_length=1),
    ] = Field(description="What to save: paths, or mappings with a path and what to leave out.")


class Configuration(Model):
    """A whole configuration, files below ``conf.d`` merged in."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    host: HostName | None = key(
        "This machine's name in the stores; containers need it.", without="its short host name"
    )
    key_file: AbsolutePath | None = key(
        "The key; hosts that may only write have none.", without="the user's own"
    )
    recipients: Several[RecipientText] | None = key(
        "Public keys, or files of them, to seal for as well.", without="the user's list"
    )
    stores: dict[StoreName, Store] = Field(
        default_factory=dict, description="Places for snapshots, by name."
    )
    defaults: Work = Field(Work(), description="What holds for each job that says nothing else.")
    jobs: dict[JobName, Job] = Field(default_factory=dict, description="What to save, by name.")

    def job(self, name: str) -> Job:
        """Return a job with everything that ``defaults`` say and it does not."""
        own = self.jobs[name]
        said = {key: getattr(self.defaults, key) for key in self.defaults.model_fields_set}
        said |= {key: getattr(own, key) for key in own.model_fields_set}
        return Job.model_construct(_fields_set=set(said), **said)

    def store(self, said: str) -> Store:
        """Return the store that ``said`` names, or the one at that path or URL."""
        return self.stores.get(said) or Store(url=said)

    def url_of(self, named: str) -> str:
        """Return where the store is that an option names, or the directory here of that name.

        Raises:
            ConfigError: There is neither.
        """
        if self.stores and named not in self.stores and not Path(named).is_dir():
            raise ConfigError(
                f"there is no store {named!r}{did_you_mean(named, self.stores)}",
                hint=f"if it is a directory to be made here, write it as ./{named}",
            )
        return self.stores[named].url if named in self.stores else named

    def stores_of(self, job: str) -> tuple[str, ...]:
        """Return what a job's stores are called; none where the default one is meant.

        Where it says none there is one at most: with several, a job has to say which.
        """
        said = self.job(job).stores
        return tuple(self.stores) if said is None else said

    def usual_urls(self) -> tuple[str, ...]:
        """Return where snapshots lie where no job is asked; nothing where the default one is meant.

        Where neither ``defaults`` nor ``stores`` say it, those count that jobs have of their own.
        """
        own = dict.fromkeys(one for job in self.jobs.values() for one in job.stores or ())
        return tuple(self.store(one).url for one in self.defaults.stores or self.stores or own)
