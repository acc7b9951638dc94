"""Whatever is in the files: a configuration, or problems with places, and nothing else."""

from __future__ import annotations

import io
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from backup.config.dotenv import read_dotenv
from backup.config.models import Configuration, Job, Source, Store, Work
from backup.config.reading import examine, load_configuration
from backup.errors import ConfigError
from backup.retention import RetentionPolicy

KEYS = [
    *Configuration.model_fields, *Job.model_fields, *Source.model_fields, *Store.model_fields,
    "last", "daily", "within", "a", "b.c",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["/etc", "~", "~nobody", "zstd", "100M", "3 days", "file:///a", "s3://a", "a"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=4),
        st.dictionaries(st.sampled_from(KEYS), below, max_size=5),
    ),
    max_leaves=25,
)
WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
PATHS = st.text("aé /.:#'\"-%", min_size=1, max_size=9).map(lambda name: Path("/" + name))
COUNTS = st.none() | st.integers(1, 1000)
POLICIES = st.builds(
    RetentionPolicy,
    last=st.integers(1, 9),
    daily=COUNTS,
    monthly=COUNTS,
    within=st.none() | st.integers(1, 1000).map(lambda hours: timedelta(hours=hours)),
    tags=st.lists(WORDS, max_size=2).map(tuple),
)
SAID = {
    "tags": st.lists(WORDS, max_size=3).map(tuple),
    "keep": POLICIES,
    "workers": st.integers(1, 256),
    "exclude": st.lists(WORDS, max_size=2).map(tuple),
    "exclude_caches": st.booleans(),
    "exclude_larger_than": st.sampled_from(["1", "100M", "1.5GiB"]),
    "stores": st.lists(PATHS.map(str), min_size=1, max_size=2).map(tuple),
    "compression": st.sampled_from(["xz", "zstd", "none"]),
}
SOURCES = st.builds(Source, path=PATHS, exclude=st.lists(WORDS, max_size=2).map(tuple))


def some_of(model, **required):
    return st.fixed_dictionaries(required, optional=SAID).map(lambda said: model(**said))


CONFIGURATIONS = st.builds(
    Configuration,
    version=st.just(1),
    host=WORDS,
    stores=st.dictionaries(WORDS, st.builds(Store, url=PATHS.map(str), keep=POLICIES), max_size=1),
    defaults=some_of(Work),
    jobs=st.dictionaries(
        WORDS,
        some_of(Job, sources=st.lists(SOURCES, min_size=1, max_size=2).map(tuple)),
        max_size=3,
    ),
)


def in_a_file(content, read, name="config.yaml"):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_bytes(content)
        path.chmod(0o600)
        return read(path)


def loaded_or_refused(content):
    """Return what came of it; anything that is raised and is no ConfigError fails a test."""

    def read(path):
        examined = examine(path)
        try:
            loaded = load_configuration(path)
        except ConfigError as error:
            message, loaded = error.message, None
        if loaded is not None:
            assert examined.problems == ()
            return loaded.configuration
        assert examined.problems
        assert all(str(one) in message for one in examined.problems)
        return None

    return in_a_file(content, read)


def as_yaml(value):
    out = io.StringIO()
    YAML(typ="safe", pure=True).dump(value, out)
    return out.getvalue().encode("utf-8", "surrogatepass")


@given(st.binary(max_size=200))
@example(b"a: \xe2\x80\xa8b: 1\n")
@example(b"!<tag:yaml.org,2002:str> ? x")
@example(b"%YAML 9.9\n---\na: b")
@example(b'"\\U99999999"')
def test_no_bytes_make_it_raise_anything_else(content):
    loaded_or_refused(content)


@given(st.text("abn:-[]{},&*!|>'\"%@`#?~ \t\n0.\\/<=ux\ufeff\x85\u2028", max_size=80))
def test_no_text_that_looks_like_yaml_does(text):
    loaded_or_refused(b"version: 1\n" + text.encode())


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
@example({"stores": {"a": {"url": "/"}}, "defaults": {"stores": {"a": 1}, "level": 2}})
def test_no_values_do(value):
    loaded_or_refused(as_yaml({"version": 1} | value))


@given(st.binary(max_size=120) | st.text(max_size=60).map(lambda text: text.encode()))
@example(b"AUTO_BACKUP_HOST=\x00")
def test_no_dotenv_file_does(content):
    try:
        in_a_file(b"AUTO_BACKUP_HOST=x\n" + content, read_dotenv, ".env")
    except ConfigError as error:
        message = error.message
    else:
        return
    assert "does not set a variable" in message


@given(CONFIGURATIONS)
def test_models_become_yaml_and_the_same_models_again(configuration):
    plain = configuration.model_dump(mode="json", exclude_unset=True)

    assert loaded_or_refused(as_yaml(plain)) == configuration
