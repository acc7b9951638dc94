"""The text of a new configuration, and the file that it goes to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from backup.config.choices import DEFAULT_KEEP
from backup.config.models import Source
from backup.config.reading import load_configuration
from backup.config.template import Answers, Part, render, render_part, scalar
from backup.config.writing import check_place, mode_of, place_of, write_configuration, write_part
from backup.environment import SYSTEM_CONFIG
from backup.errors import BackupError, ConfigError
from backup.retention import NOTHING_GOES, parse_keep


def answers(**fields):
    known = {
        "host": "web1",
        "key_file": Path("/etc/auto-backup/key"),
        "stores": {"disk": "/var/backups/auto-backup"},
        "compression": "xz",
        "keep": parse_keep([DEFAULT_KEEP]),
        "schedule": "at 02:30",
        "job": "system",
        "sources": [Source(path=Path("/etc")), Source(path=Path("/home"), exclude=(".cache/",))],
    }
    return Answers(**known | fields)


words = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFFF, blacklist_categories=["Cs"]), min_size=1
).filter(lambda text: "/" not in text and text not in {".", ".."})
paths = st.lists(words, min_size=1, max_size=3).map(lambda names: Path("/" + "/".join(names)))
patterns = st.sampled_from(
    ["*.log", "!keep", "# x".replace("# ", "\\#"), "ä b/", "a: b", "on", "-"]
)
policies = st.sampled_from(
    [NOTHING_GOES, *(parse_keep([one]) for one in ("last=3,daily=14", "within=36h,tag=a,tag=on"))]
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)


def places_differ(stores):
    """Tell whether no two names are of one place, which a configuration may not say."""
    return len({os.path.realpath(one) for one in stores.values()}) == len(stores)


some_answers = st.builds(
    answers,
    host=names,
    key_file=st.none() | paths,
    stores=st.dictionaries(names, paths.map(str), min_size=1, max_size=2).filter(places_differ),
    compression=st.sampled_from(["xz", "zstd", "none"]),
    keep=policies,
    schedule=st.sampled_from(["", "at 02:30", "every 6 hours", "cron 30 2 * * 1-5"]),
    job=names,
    sources=st.lists(
        st.builds(Source, path=paths, exclude=st.lists(patterns, max_size=2).map(tuple)),
        min_size=1,
        max_size=2,
    ),
)


class TestText:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(said=some_answers)
    def test_it_says_what_was_answered_whatever_that_is(self, tmp_path, said):
        path = tmp_path / "config.yaml"
        path.write_text(render(said), encoding="utf-8", newline="\n")

        read = load_configuration(path).configuration

        job = read.job(said.job)
        assert (read.host, read.key_file) == (said.host, said.key_file)
        assert {name: store.url for name, store in read.stores.items()} == said.stores
        assert job.stores == tuple(said.stores)
        assert job.compression == said.compression
        assert (job.keep or NOTHING_GOES) == said.keep
        assert list(job.sources) == said.sources

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(first=some_answers, second=some_answers)
    def test_a_part_adds_a_job_to_it(self, tmp_path, first, second):
        assume(first.job != second.job and not {*first.stores} & {*second.stores})
        assume(places_differ(first.stores | second.stores))
        path = tmp_path / "config.yaml"
        path.write_text(render(first), encoding="utf-8", newline="\n")
        part = Part(
            stores=second.stores,
            job=second.job,
            sources=second.sources,
            into=[*second.stores, *first.stores],
            schedule=second.schedule,
        )
        written = write_part(path, second.job, render_part(part))

        read = load_configuration(path).configuration
        written.unlink()

        assert written.parent == tmp_path / "conf.d"
        assert {*read.jobs} == {first.job, second.job}
        assert list(read.job(second.job).sources) == second.sources
        assert read.stores_of(second.job) == (*second.stores, *first.stores)
        assert {name: one.url for name, one in read.stores.items()} == first.stores | second.stores

    def test_each_thing_that_it_says_has_a_comment(self):
        lines = render(answers()).splitlines()

        for number, line in enumerate(lines):
            if line and not line.startswith((" ", "#")) and not line.startswith("version"):
                assert lines[number - 1].startswith("#"), line
        assert max(map(len, lines)) <= 100

    def test_what_is_shown_as_an_example_can_be_used(self, tmp_path):
        """Each comment that looks like a line of YAML is one."""
        path = tmp_path / "config.yaml"
        text = render(answers(keep=NOTHING_GOES))
        for line in ("second:", "url: /mnt", "keep:", "exclude:", "exclude_c", "exclude_l", "one_"):
            assert f"# {line}" in text or f"#   {line}" in text
            text = text.replace(f"  #   {line}", f"    {line}").replace(f"# {line}", line)
        path.write_text(text)

        read = load_configuration(path).configuration

        assert set(read.stores) == {"disk", "second"}
        assert read.defaults.exclude == ("*.tmp", "node_modules/")
        assert read.defaults.one_file_system

    def test_what_no_configuration_can_say_is_refused(self):
        with pytest.raises(ConfigError, match=r"/caf\\xe9 is not UTF-8"):
            scalar(os.fsdecode(b"/caf\xe9"))

    @pytest.mark.parametrize("text", ["no", "Null", "1", "1e3", "~", "", "a: b", "a #b", "-", "ON"])
    def test_what_would_be_something_else_stands_in_quotes(self, text):
        assert scalar(text) == f'"{text}"'


class TestFile:
    def test_it_is_for_its_owner_alone(self, tmp_path):
        path = tmp_path / "new" / "config.yaml"

        assert write_configuration(path, "version: 1\n", force=False) is None

        assert path.read_text() == "version: 1\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_machine_s_own_may_be_read_by_its_group(self, tmp_path):
        path = tmp_path / "config.yaml"

        write_configuration(path, "x", force=False, mode=mode_of(SYSTEM_CONFIG / "config.yaml"))

        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert mode_of(path) == 0o600

    def test_one_that_is_there_is_not_replaced(self, tmp_path):
        path = tmp_path / "config.yaml"
        path.write_text("mine")

        with pytest.raises(ConfigError, match="already") as caught:
            write_configuration(path, "new", force=False)

        assert "--force" in caught.value.hint
        assert [one.name for one in tmp_path.iterdir()] == ["config.yaml"]
        assert path.read_text() == "mine"

    def test_with_force_it_is_kept(self, tmp_path):
        path = tmp_path / "config.yaml"
        for text in ("first", "second", "third"):
            old = write_configuration(path, text, force=True)

        assert old == tmp_path / "config.yaml.old"
        assert (path.read_text(), old.read_text()) == ("third", "second")
        assert sorted(one.name for one in tmp_path.iterdir()) == ["config.yaml", "config.yaml.old"]

    def test_another_name_that_counts_too_is_refused_with_force_as_well(self, tmp_path):
        (tmp_path / "settings.json").write_text("{}")

        with pytest.raises(ConfigError, match=r"settings\.json"):
            check_place(tmp_path / "config.yaml", force=True)
        check_place(tmp_path / "mine.yaml", force=False)

    def test_a_directory_of_that_name_is_refused(self, tmp_path):
        (tmp_path / "config.yaml").mkdir()

        with pytest.raises(ConfigError, match="not a file"):
            check_place(tmp_path / "config.yaml", force=True)

    def test_one_that_cannot_be_written_leaves_the_old_one(self, tmp_path, monkeypatch):
        path = tmp_path / "config.yaml"
        path.write_text("mine")

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(BackupError, match="No space"):
            write_configuration(path, "new", force=True)

        assert [one.name for one in tmp_path.iterdir()] == ["config.yaml"]
        assert path.read_text() == "mine"

    def test_it_goes_where_it_is_looked_for(self, tmp_path, monkeypatch, private_home):
        (tmp_path / "link.yaml").symlink_to("real.yaml")
        usual = private_home / "config" / "auto-backup" / "config.yaml"

        assert place_of(None, is_root=True) == Path("/etc/auto-backup/config.yaml")
        assert place_of(None, is_root=False) == usual
        assert place_of(tmp_path, is_root=True) == tmp_path / "config.yaml"
        assert place_of(tmp_path / "x.yaml", is_root=False) == tmp_path / "x.yaml"
        assert place_of(tmp_path / "link.yaml", is_root=False) == tmp_path / "real.yaml"
        monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "named.yaml"))
        assert place_of(None, is_root=True) == tmp_path / "named.yaml"


class TestPart:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "config.yaml"
        write_configuration(path, "version: 1\n", force=False, mode=0o640)
        return path

    def test_who_may_read_the_configuration_may_read_it_and_nobody_else_change_it(self, path):
        path.parent.chmod(0o777)

        part = write_part(path, "docs", "jobs: {}\n")

        assert stat.S_IMODE(part.stat().st_mode) == 0o640
        assert stat.S_IMODE(part.parent.stat().st_mode) == 0o755
        assert part.stat().st_gid == path.stat().st_gid

    def test_one_that_is_there_stays(self, path):
        part = write_part(path, "docs", "jobs: {}\n")

        with pytest.raises(ConfigError, match="there is a file of that name already"):
            write_part(path, "docs", "stores: {}\n")

        assert part.read_text() == "jobs: {}\n"
