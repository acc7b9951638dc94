from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

import backup.environment
from backup.config.finding import find_configuration
from backup.config.models import Configuration, Source, Work
from backup.config.reading import load_configuration
from backup.errors import ConfigError
from backup.retention import RetentionPolicy
from backup.wiring import Settings
from tests.checkout import ROOT

SMALL = "version: 1\njobs:\n  etc: {sources: [/etc]}\n"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file below the configuration's directory."""

    def writing(text, name="config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return writing


@pytest.fixture
def load(write):
    """Return a function that loads a configuration from its text."""
    return lambda text, name="config.yaml": load_configuration(write(text, name))


def refused(path):
    with pytest.raises(ConfigError) as caught:
        load_configuration(path)
    return caught.value.message


class TestWhatItSays:
    def test_a_job_has_what_defaults_say_and_it_does_not(self, load):
        configuration = load("""
version: 1
defaults: {compression: zstd, level: 9, tags: [a, b]}
jobs:
  shop:
    sources: [/etc, {path: /srv, exclude: cache/}]
    level: 3
""").configuration

        job = configuration.job("shop")
        assert (job.compression, job.level, job.tags) == ("zstd", 3, ("a", "b"))
        assert job.sources == (
            Source(path=Path("/etc")),
            Source(path=Path("/srv"), exclude=("cache/",)),
        )
        assert job.keep is None
        assert job.model_fields_set == {"compression", "level", "tags", "sources"}

    def test_keep_becomes_a_policy(self, load):
        text = "version: 1\ndefaults:\n  keep: {last: 3, within: 8 weeks, tags: release}"

        assert load(text).configuration.defaults.keep == RetentionPolicy(
            last=3, within=timedelta(weeks=8), tags=("release",)
        )

    def test_a_jobs_keep_replaces_that_of_defaults_and_an_empty_one_keeps_all(self, load):
        configuration = load("""
version: 1
defaults: {keep: {last: 3, daily: 14}}
jobs:
  some: {sources: [/a], keep: {last: 1}}
  all: {sources: [/a], keep: {}}
""").configuration

        assert configuration.job("some").keep == RetentionPolicy(last=1)
        assert not configuration.job("all").keep

    @pytest.mark.parametrize("word", ["on", "yes", "02-30", "null1", "1e5x", "~x"])
    def test_words_are_texts_as_yaml_1_2_has_it(self, load, word):
        text = f"version: 1\ndefaults: {{exclude: {word}}}"

        assert load(text).configuration.defaults.exclude == (word,)

    def test_a_time_is_a_text_and_a_name_of_digits_is_a_name(self, load):
        configuration = load(
            "version: 1\ndefaults: {exclude: [02:30, 2026-11-20]}\nstores: {1: {url: /a}}"
        ).configuration

        assert configuration.defaults.exclude == ("02:30", "2026-11-20")
        assert list(configuration.stores) == ["1"]

    def test_an_anchor_can_be_used_again_and_is_found_where_it_is_used(self, load):
        loaded = load("""version: 1
jobs:
  a: {sources: [/a], exclude: &most [x, y]}
  b:
    sources: [/b]
    exclude: *most
""")

        assert loaded.configuration.jobs["b"].exclude == ("x", "y")
        assert loaded.origins["jobs.b.exclude"].line == 6

    def test_sections_that_are_commented_out_say_nothing(self, load):
        assert load("version: 1\njobs:\n#  a: x\nstores:\ndefaults:\n").configuration.jobs == {}

    def test_where_one_store_is_known_it_is_meant(self, load):
        configuration = load(SMALL + "stores: {disk: {url: /mnt}}").configuration

        assert configuration.stores_of("etc") == ("disk",)
        assert configuration.store("disk").url == "/mnt"
        assert configuration.store("/elsewhere").url == "/elsewhere"
        assert load(SMALL).configuration.stores_of("etc") == ()

    def test_home_is_expanded(self, load, private_home):
        configuration = load("version: 1\nkey_file: ~/key\njobs: {a: {sources: ['~']}}")

        assert configuration.configuration.key_file == private_home / "key"
        assert configuration.configuration.jobs["a"].sources[0].path == private_home


class TestJson:
    def test_a_settings_json_works_indented_with_tabs(self, write, tmp_path):
        text = (
            '{\n\t"version": 1,\n\t"jobs": {\n\t\t"a": {"sources": ["\\/\\u00e9\\ud83d\\ude00"]}}}'
        )
        write(text, "settings.json")

        path = find_configuration(tmp_path)
        loaded = load_configuration(path)

        assert path.name == "settings.json"
        assert loaded.configuration.jobs["a"].sources[0].path == Path("/é😀")
        assert loaded.origins["jobs.a.sources[0]"] == (path, 4)

    def test_a_byte_order_mark_is_no_part_of_it(self, load):
        assert load(b"\xef\xbb\xbf" + SMALL.encode()).configuration.jobs


class TestOrigins:
    def test_each_key_has_its_file_and_line(self, write):
        path = write(SMALL + "stores:\n  web.1:\n    url: /a\n")
        beside = write("defaults:\n\n  level: 3\n", "conf.d/x.yaml")

        loaded = load_configuration(path)

        places = {key: (place.file, place.line) for key, place in loaded.origins.items()}
        assert places["jobs.etc.sources[0]"] == (path, 3)
        assert places['stores."web.1".url'] == (path, 6)
        assert places["defaults.level"] == (beside, 3)
        assert (loaded.path, loaded.files) == (path, (path, beside))


class TestFilesBeside:
    def test_they_are_merged_by_name_in_the_order_of_their_names(self, write):
        path = write("version: 1\ndefaults: {level: 3}\nstores: {a: {url: /a}}")
        write("jobs: {two: {sources: [/two], stores: b}}", "conf.d/20-two.yml")
        write('{"jobs": {"one": {"sources": ["/one"], "stores": "a"}}}', "conf.d/10-one.json")
        write("stores: {b: {url: /b}}\ndefaults: {compression: zstd}", "conf.d/30.yaml")
        for other in ("conf.d/notes.txt", "conf.d/.40.yaml.swp", "conf.d/.hidden.yaml"):
            write("no: [configuration", other)
        write("", "conf.d/empty.yaml")

        loaded = load_configuration(path)

        configuration = loaded.configuration
        assert list(configuration.jobs) == ["one", "two"]
        assert list(configuration.stores) == ["a", "b"]
        assert configuration.defaults == Work(level=3, compression="zstd")
        assert [one.name for one in loaded.files] == [
            "config.yaml", "10-one.json", "20-two.yml", "30.yaml", "empty.yaml",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("jobs: {etc: {sources: [/x]}}", "jobs.etc"),
            ("defaults: {level: 3}", "defaults.level"),
            ("stores: {disk: {url: /x}}", "stores.disk"),
            ("host: web1", "host"),
        ],
    )
    def test_what_is_told_twice_is_refused_with_both_places(self, write, text, key):
        path = write(
            SMALL + "defaults: {level: 3}\nstores: {disk: {url: /mnt}}\nhost: web1", "config.yaml"
        )
        beside = write("\n" + text, "conf.d/x.yaml")

        message = refused(path)

        assert message.startswith(f"{beside}:2: {key}: it is told twice, first in {path}:")

    def test_the_version_may_be_said_in_each_and_has_to_be_the_same(self, write):
        path = write(SMALL)
        write("version: 1", "conf.d/x.yaml")
        assert load_configuration(path).configuration.version == 1

        write("version: 2", "conf.d/x.yaml")
        assert "version: it is told twice" in refused(path)


class TestFinding:
    def test_what_is_given_wins_over_the_variable_and_that_over_the_place(
        self, write, tmp_path, private_home, monkeypatch
    ):
        given, named = write(SMALL, "given.yaml"), write(SMALL, "named.yaml")
        home = private_home / "config" / "auto-backup"
        home.mkdir(parents=True)
        assert find_configuration(None) is None
        (home / "config.yml").write_text(SMALL)

        assert find_configuration(None) == home / "config.yml"
        monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(named))
        assert find_configuration(None) == named
        assert find_configuration(given) == given
        assert find_configuration(home) == home / "config.yml"

    def test_root_looks_at_the_machines_first(self, tmp_path, private_home, monkeypatch):
        monkeypatch.setattr(backup.environment, "SYSTEM_CONFIG", tmp_path)
        own = private_home / "config" / "auto-backup" / "config.yaml"
        own.parent.mkdir(parents=True)
        for path in (tmp_path / "config.yaml", own):
            path.write_text(SMALL)

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert find_configuration(None) == tmp_path / "config.yaml"
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert find_configuration(None) == own

    def test_two_of_them_in_one_directory_are_refused(self, write, tmp_path):
        write(SMALL), write("{}", "settings.json")

        with pytest.raises(ConfigError, match=r"2 configurations in .*: config.yaml, settings"):
            find_configuration(tmp_path)

    def test_a_directory_without_one_is_told(self, tmp_path):
        with pytest.raises(ConfigError, match="there is no configuration in"):
            find_configuration(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root refuses it")
class TestWhoMayChangeIt:
    @pytest.mark.parametrize(
        ("mode", "owner", "group"), [(0o646, 0, 0), (0o664, 0, 1234), (0o600, 1234, 0)]
    )
    def test_root_refuses_what_others_can_change(self, write, mode, owner, group):
        path = write(SMALL)
        path.chmod(mode)
        os.chown(path, owner, group)

        message = refused(path)

        assert message.startswith(f"{path}: others can change it (mode {mode:04o}, owner {owner})")
        assert f"chown root {path}; chmod go-w {path}" in message

    def test_roots_group_may_change_it_and_everybody_may_read_it(self, write):
        path = write(SMALL)
        path.chmod(0o664)

        assert load_configuration(path)

    def test_a_directory_to_which_others_can_add_is_refused(self, write):
        path = write(SMALL)
        write("", "conf.d/x.yaml").parent.chmod(0o777)

        assert refused(path).startswith(f"{path.parent / 'conf.d'}: others can change it")

    def test_others_use_what_is_theirs(self, open_dir, as_nobody):
        path = open_dir / "config.yaml"
        path.write_text(SMALL)
        path.chmod(0o666)

        with as_nobody():
            assert load_configuration(path)

    def test_what_cannot_be_read_is_told(self, open_dir, as_nobody):
        path = open_dir / "config.yaml"
        path.write_text(SMALL)
        path.chmod(0o600)

        with as_nobody():
            assert refused(path) == f"{path}: it cannot be read: Permission denied"


def test_a_file_of_conf_d_that_is_changed_in_place_counts_in_the_same_process(write):
    settings = Settings(config=write("version: 1\n"))
    part = write("jobs: {a: {sources: [/a]}}", "conf.d/part.yaml")
    first = settings.configuration()
    part.write_text("jobs: {b: {sources: [/b]}}")
    os.utime(part, ns=(1, 1))

    assert (list(first.jobs), list(settings.configuration().jobs)) == (["a"], ["b"])


class TestExamples:
    EXAMPLES = sorted(
        path
        for path in (ROOT / "configs").rglob("*.yaml")
        if path.parent.name != "conf.d"
    )  # fmt: skip

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
    def test_each_can_be_loaded_and_saves_something(self, path):
        configuration = load_configuration(path).configuration

        assert all(configuration.job(name).keep for name in configuration.jobs)
        assert all(configuration.stores_of(name) for name in configuration.jobs)
        assert configuration.jobs
        assert isinstance(configuration, Configuration)

    def test_there_is_one_for_each_kind_of_user(self):
        names = {path.relative_to(ROOT / "configs").parts[0] for path in self.EXAMPLES}

        assert names == {"one-server.yaml", "laptop.yaml", "container.yaml", "team"}
