from __future__ import annotations

import json
import re

import pytest

from backup.config.keeping import KeepRules
from backup.config.models import WITHOUT, Configuration, Job, Source, Store, Work
from backup.config.scheduling import OnlyIfRules, RetryRules, ScheduleRules, VerifyRules
from backup.config.schema import make_schema
from backup.environment import set_defaults
from backup.masking import masked
from tests.checkout import ROOT
from tests.cli import done, run, run_on_terminal

TEXT = """\
version: 1
recipients: /etc/recovery.pub
stores:
  disk: {url: file:///mnt/disk}
  offsite: {url: /mnt/offsite}
defaults:
  stores: [disk, offsite]
  compression: zstd
  keep: {last: 3, within: 36h}
jobs:
  shop:
    sources:
      - /
      - {path: /nowhere/shop, exclude: [cache/, "*.log"]}
    tags: shop
  wiki:
    sources: [/]
    stores: /mnt/own
    keep: {}
"""
REFERENCE = (ROOT / "docs" / "CONFIGURATION.md").read_text()


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture(autouse=True)
def _no_defaults_are_left():
    yield
    set_defaults({})


def shown(*arguments):
    """Return the rows of each part of ``config show``."""
    parts = {"": []}
    for line in done("config", "show", *arguments).lines:
        if line.startswith("job "):
            parts[line] = rows = []
        elif line:
            (rows if len(parts) > 1 else parts[""]).append(re.split(r"  +", line))
    return parts


class TestValidate:
    def test_a_line_tells_what_there_is(self, config):
        assert done("config", "validate", config).lines == [
            f"{config} is right: 2 jobs, 2 stores, 1 file"
        ]
        assert done("config", "validate", "--config", config, "-q").out == ""

    def test_what_may_not_be_meant_is_told(self, config):
        assert done("config", "validate", config).err.splitlines() == [
            "auto-backup: job shop: there is no /nowhere/shop on this machine",
            "auto-backup: job wiki: without keep, nothing of it is ever deleted",
        ]

    def test_a_job_that_could_not_be_run_is_told(self, config, tmp_path):
        config.write_text(
            "version: 1\nstores: {disk: {url: /}}\ndefaults: {keep: {last: 3}}\n"
            f"jobs:\n  a: {{sources: [{tmp_path}]}}\n"
            f"  b: {{sources: [{tmp_path}, {config}], stores: /mnt/own}}\n"
        )

        first, second = done("config", "validate", config).err.splitlines()

        assert first.startswith("auto-backup: job a cannot be run: the source")
        assert "is the store" in first
        assert second.startswith("auto-backup: job b cannot be run: the source")
        assert "lies inside the source" in second

    def test_what_is_wrong_is_told_with_status_2(self, config):
        config.write_text("version: 1\nhost: 5\njob: {}\n")

        result = run("config", "validate", config)

        assert (result.status, result.out) == (2, "")
        assert result.err.splitlines() == [
            "auto-backup: error: 2 problems in the configuration:",
            f"  {config}:2: host: it has to be a text: write 5 in quotes",
            f"  {config}:3: job: unknown key; did you mean jobs?",
        ]

    def test_in_json(self, config):
        right = done("config", "validate", config, "--json").json
        assert (right["files"], right["jobs"]) == ([str(config)], ["shop", "wiki"])
        assert (right["stores"], right["problems"]) == (["disk", "offsite"], [])
        assert len(right["remarks"]) == 2

        config.write_text("version: 1\njob: {}\n")
        wrong = run("config", "validate", config, "--json")
        assert (wrong.status, wrong.err) == (2, "")
        assert wrong.json["problems"] == [
            {
                "file": str(config),
                "line": 2,
                "key": "job",
                "text": "unknown key; did you mean jobs?",
            }
        ]

    def test_without_one_it_tells_where_it_has_looked(self, private_home):
        result = run("config", "validate")

        assert result.status == 2
        assert f"{private_home}/config/auto-backup" in result.err

    def test_the_variable_names_it(self, config, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(config))

        assert done("config", "validate").out.startswith(f"{config} is right")


class TestShow:
    def test_each_value_has_its_origin(self, config):
        job = shown("shop", "--config", config)["job shop"]

        assert job == [
            ["key", "value", "from"],
            ["sources", "/", f"{config}:13"],
            ["sources", "/nowhere/shop without cache/, *.log", f"{config}:14"],
            ["stores", "disk (file:///mnt/disk), offsite (/mnt/offsite)", f"{config}:7"],
            ["compression", "zstd", f"{config}:8"],
            ["level", "3", "default"],
            ["workers", "what the machine allows", "default"],
            ["recipients", "/etc/recovery.pub", f"{config}:2"],
            ["tags", "shop", f"{config}:15"],
            ["keep", "last 3, within 36h", f"{config}:9"],
            ["exclude", "none", "default"],
            ["exclude_if_present", "none", "default"],
            ["exclude_caches", "false", "default"],
            ["exclude_larger_than", "no limit", "default"],
            ["one_file_system", "false", "default"],
            ["schedule", "by hand alone", "default"],
            ["only_if", "nothing", "default"],
            ["retry", "3 times, after 1, 4 and 16 minutes", "default"],
            ["timeout", "as long as it takes", "default"],
            ["stall_after", "30 minutes", "default"],
            ["verify", "checksum: 1 day, content: 30 days", "default"],
        ]

    def test_all_jobs_where_none_is_named(self, config):
        parts = shown("--config", config)

        assert list(parts) == ["", "job shop", "job wiki"]
        assert ["stores", "/mnt/own", f"{config}:18"] in parts["job wiki"]
        assert ["keep", "nothing is ever deleted", f"{config}:19"] in parts["job wiki"]
        assert list(shown("--config", config, "--job", "wiki")) == ["", "job wiki"]

    def test_a_name_that_no_store_has_is_refused(self, config):
        result = run("config", "show", "--config", config, "--store", "dsk")

        assert result.status == 2
        assert "did you mean disk?" in result.err

    def test_one_that_is_left_aside_is_none(self):
        result = done("config", "show", "--config", "/dev/null")

        assert "there is no configuration" in result.err

    def test_what_a_store_keeps_is_told_of_jobs_that_are_stored_there(self, config):
        text = "{url: /mnt/offsite, keep: {daily: 30}}"
        config.write_text(TEXT.replace("{url: /mnt/offsite}", text))
        parts = shown("--config", config)

        assert ["keep in offsite", "daily 30", f"{config}:5"] in parts["job shop"]
        assert not [row for row in parts["job wiki"] if row[0].startswith("keep in")]

    def test_options_win_over_variables_and_these_over_files(self, config, monkeypatch, tmp_path):
        monkeypatch.delenv("AUTO_BACKUP_STORE")
        monkeypatch.delenv("AUTO_BACKUP_HOST")
        (tmp_path / ".env").write_text("AUTO_BACKUP_HOST=fromfile\nAUTO_BACKUP_STORE=disk\n")
        parts = shown("--config", config)
        assert ["host", "fromfile", f"{tmp_path}/.env:1"] in parts[""]
        assert ["stores", "disk (file:///mnt/disk)", f"{tmp_path}/.env:2"] in parts["job wiki"]

        monkeypatch.setenv("AUTO_BACKUP_HOST", "fromvariable")
        parts = shown("--config", config)
        assert ["host", "fromvariable", "environment AUTO_BACKUP_HOST"] in parts[""]

        parts = shown("--config", config, "--host", "x", "-s", "/s", "--key-file", "/k")
        assert ["host", "x", "--host"] in parts[""]
        assert ["key_file", "/k", "--key-file"] in parts[""]
        assert ["stores", "/s", "--store"] in parts["job shop"]

    def test_what_the_top_level_says_counts_where_nobody_else_says_it(self, config, monkeypatch):
        monkeypatch.delenv("AUTO_BACKUP_HOST")
        config.write_text("version: 1\nhost: web1\nkey_file: /etc/key\n")
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")

        rows = shown("--config", config)[""]

        assert ["host", "web1", f"{config}:2"] in rows
        assert ["key_file", "/etc/key", f"{config}:3"] in rows

    def test_in_json_as_data(self, config):
        told = done("config", "show", "shop", "--config", config, "--json").json

        assert told["files"] == [str(config)]
        assert told["machine"]["host"] == {
            "value": "testhost", "from": "environment AUTO_BACKUP_HOST",
        }  # fmt: skip
        job = told["jobs"]["shop"]
        assert job["sources"][1] == {
            "value": {"path": "/nowhere/shop", "exclude": ["cache/", "*.log"]},
            "from": f"{config}:14",
        }
        assert job["keep"] == {"value": {"last": 3, "within": "36h"}, "from": f"{config}:9"}
        assert job["workers"] == {"value": None, "from": "default"}

    def test_secrets_are_masked(self, config):
        config.write_text(TEXT.replace("file:///mnt/disk", "file:///mnt/disk?token=geheim"))

        for more in ([], ["--json"]):
            result = done("config", "show", "--config", config, *more)
            assert "geheim" not in result.out
        result = done("config", "show", "--config", config, "-s", "s3://u:geheim@host/x", "--json")
        assert result.json["jobs"]["shop"]["stores"]["value"] == ["s3://u:***@host/x"]

    def test_a_job_that_is_not_there_is_told_with_a_suggestion(self, config):
        result = run("config", "show", "shpo", "--config", config)

        assert result.status == 2
        assert "the configuration has no job 'shpo'; did you mean shop?" in result.err

    def test_without_a_configuration_the_rest_is_told(self):
        result = done("config", "show")

        assert "there is no configuration" in result.err
        assert "environment AUTO_BACKUP_HOST" in result.out
        assert done("config", "show", "--json").json["configuration"] is None

    def test_a_terminal_is_drawn_to(self, config):
        status, text = run_on_terminal("config", "show", "wiki", "--config", config, columns=120)

        assert status == 0
        assert "job wiki" in text
        assert "/mnt/own" in text


def mappings(schema):
    """Return each mapping with keys of its own in a schema, by its name."""
    return {"Configuration": schema, **schema["$defs"]}


class TestSchema:
    SCHEMA = make_schema()

    def test_it_is_what_the_command_writes(self):
        assert json.loads(done("config", "schema").out) == self.SCHEMA
        assert self.SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def test_each_key_is_described_and_others_are_refused(self):
        for name, mapping in mappings(self.SCHEMA).items():
            assert mapping["additionalProperties"] is False, name
            for key, one in mapping["properties"].items():
                assert one.get("description"), (name, key)

    def test_it_tells_what_is_done_without_a_key_and_has_no_words_of_its_own(self):
        text = json.dumps(self.SCHEMA)

        assert '"null"' not in text
        assert f'"{WITHOUT}"' not in text
        work = self.SCHEMA["$defs"]["Work"]["properties"]
        assert work["compression"]["description"].endswith("Without it: xz.")

    def test_short_forms_are_allowed(self):
        sources = self.SCHEMA["$defs"]["Job"]["properties"]["sources"]["items"]["anyOf"]
        tags = self.SCHEMA["$defs"]["Work"]["properties"]["tags"]["anyOf"]

        assert sources == [{"type": "string"}, {"$ref": "#/$defs/Source"}]
        assert tags == [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]


class TestReference:
    @pytest.mark.parametrize(
        ("heading", "model", "keys"),
        [
            ("The top level", Configuration, None),
            ("`stores.NAME`", Store, None),
            ("`defaults` and `jobs.NAME`", Work, None),
            ("`jobs.NAME` alone", Job, set(Job.model_fields) - set(Work.model_fields)),
            ("`sources` of a job", Source, None),
            ("`keep`", KeepRules, None),
            ("`schedule`", ScheduleRules, None),
            ("`only_if`", OnlyIfRules, None),
            ("`retry`", RetryRules, None),
            ("`verify`", VerifyRules, None),
        ],
    )
    def test_it_has_each_key_with_what_is_done_without_it(self, heading, model, keys):
        section = REFERENCE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section, re.MULTILINE)

        fields = model.model_fields
        assert [row[0] for row in rows] == [key for key in fields if keys is None or key in keys]
        for key, _, without in rows:
            if fields[key].json_schema_extra:
                assert without == fields[key].json_schema_extra[WITHOUT], key
            assert (without == "refused") == fields[key].is_required(), key

    def test_no_key_is_missing_in_it(self):
        known = {key for one in mappings(make_schema()).values() for key in one["properties"]}

        assert known == set(re.findall(r"^\| `(\w+)` \|", REFERENCE, re.MULTILINE))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/path", "s3://bucket/path"),
        ("sftp://ann@host/x", "sftp://ann@host/x"),
        ("sftp://ann:geheim@host:22/x@y", "sftp://ann:***@host:22/x@y"),
        ("https://:a@b@host", "https://:***@host"),
        ("s3://b/x?region=eu&secret_key=a/b&x=1", "s3://b/x?region=eu&secret_key=***&x=1"),
        ("s3://AKIA:a/b+c?d@bucket/x", "s3://AKIA:***@bucket/x"),
        ("sftp://host:22/x@y", "sftp://host:22/x@y"),
        ("/mnt/a:b@c", "/mnt/a:b@c"),
    ],
)
def test_secrets_of_urls_are_masked(url, shown):
    assert masked(url) == shown
