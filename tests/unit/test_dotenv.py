from __future__ import annotations

import os
import re

import pytest

from backup.config.dotenv import read_dotenv, use_dotenv_files
from backup.environment import VARIABLES, set_defaults, variable, variable_origin
from backup.errors import ConfigError
from tests.checkout import ROOT
from tests.cli import done, run


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch, tmp_path):
    for name in VARIABLES:
        if name != "STATE_DIR":
            monkeypatch.delenv(f"AUTO_BACKUP_{name}", raising=False)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    yield
    set_defaults({})


@pytest.fixture
def here(tmp_path):
    return tmp_path / "here"


@pytest.fixture
def beside(private_home):
    """Return the directory of the configuration."""
    path = private_home / "config" / "auto-backup"
    path.mkdir(parents=True)
    return path


def write(directory, text):
    path = directory / ".env"
    path.write_text(text)
    path.chmod(0o600)
    return path


class TestWhatIsTaken:
    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("AUTO_BACKUP_HOST=web1", "web1"),
            ("export AUTO_BACKUP_HOST = 'web1'  # the first", "web1"),
            ('AUTO_BACKUP_HOST="web 1"', "web 1"),
            ("AUTO_BACKUP_HOST=${HOME}/$USER", "${HOME}/$USER"),
        ],
    )
    def test_a_line_sets_a_variable_and_expands_nothing(self, here, line, value):
        path = write(here, f"\n= nonsense\n{line}\n")

        found = read_dotenv(path)

        assert found.values["HOST"] == (value, f"{path}:3")
        assert found.remarks == ()

    def test_the_environment_wins_also_where_it_says_nothing(self, here, monkeypatch):
        write(here, "AUTO_BACKUP_HOST=file\nAUTO_BACKUP_STORE=/file\nAUTO_BACKUP_YES=1")
        monkeypatch.setenv("AUTO_BACKUP_HOST", "environment")
        monkeypatch.setenv("AUTO_BACKUP_STORE", "")

        use_dotenv_files(None)

        assert [variable(name) for name in ("HOST", "STORE", "YES")] == ["environment", None, "1"]
        assert variable_origin("HOST") == "environment AUTO_BACKUP_HOST"
        assert variable_origin("STORE") is None
        assert variable_origin("YES") == f"{here / '.env'}:3"

    def test_that_of_the_current_directory_wins_over_the_one_beside_the_configuration(
        self, here, beside
    ):
        write(here, "AUTO_BACKUP_HOST=here")
        write(beside, "AUTO_BACKUP_HOST=beside\nAUTO_BACKUP_KEY_FILE=/beside")

        use_dotenv_files(None)

        assert (variable("HOST"), variable("KEY_FILE")) == ("here", "/beside")

    def test_the_configuration_that_is_named_says_what_is_beside_it(self, here, beside, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        write(other, "AUTO_BACKUP_HOST=other")
        write(beside, "AUTO_BACKUP_HOST=beside")

        for config in (other, other / "config.yaml"):
            use_dotenv_files(config)
            assert variable("HOST") == "other"
        write(here, f"AUTO_BACKUP_CONFIG={other}/config.yaml")
        use_dotenv_files(None)
        assert variable("HOST") == "other"

    def test_a_configuration_where_one_may_not_look_is_no_fault(self, monkeypatch, tmp_path):
        if os.geteuid() != 0:
            pytest.skip("only root can become somebody else")
        run("status")  # loads what another user may not be able to
        tmp_path.chmod(0o700)
        monkeypatch.setenv("AUTO_BACKUP_CONFIG", str(tmp_path / "config.yaml"))
        os.seteuid(65534)
        try:
            told = run("status")
        finally:
            os.seteuid(0)
        assert told.status == 2
        assert f"{tmp_path}/config.yaml: " in told.err
        assert "ermission denied" in told.err

    def test_nothing_of_a_call_is_left_for_the_next_one(self, here):
        path = write(here, "AUTO_BACKUP_HOST=here")
        use_dotenv_files(None)
        path.unlink()

        use_dotenv_files(None)

        assert variable("HOST") is None

    def test_nothing_of_it_reaches_the_environment_of_other_processes(self, here):
        write(here, "AUTO_BACKUP_HOST=here")

        use_dotenv_files(None)

        assert "AUTO_BACKUP_HOST" not in os.environ


class TestWhatIsNot:
    def test_without_one_of_our_names_a_file_is_of_no_interest(self, here):
        path = write(here, "DATABASE_URL=x\n= nonsense\n")
        path.chmod(0o666)

        assert read_dotenv(path) == ({}, ())

    @pytest.mark.parametrize("make", ["mkdir", "mkfifo", "symlink"])
    def test_what_is_no_file_is_passed_over(self, here, make):
        path = here / ".env"
        {"mkdir": path.mkdir, "mkfifo": lambda: os.mkfifo(path), "symlink": lambda: path.symlink_to(
            "nowhere")}[make]()  # fmt: skip

        assert read_dotenv(path) == ({}, ())

    def test_an_unknown_name_is_told_with_a_suggestion(self, here):
        path = write(here, "# AUTO_BACKUP_X\nAUTO_BACKUP_STOER=/a\nAUTO_BACKUP_ZZ=1")

        assert read_dotenv(path).remarks == (
            f"{path}:2: AUTO_BACKUP_STOER: unknown variable; did you mean AUTO_BACKUP_STORE?",
            f"{path}:3: AUTO_BACKUP_ZZ: unknown variable",
        )

    @pytest.mark.parametrize(
        "line", ["AUTO_BACKUP_HOST", "AUTO_BACKUP_HOST='x", "AUTO_BACKUP_ A=1"]
    )
    def test_a_line_that_sets_nothing_is_refused_without_its_text(self, here, line):
        path = write(here, f"A=1\n{line}\n")

        with pytest.raises(ConfigError) as caught:
            read_dotenv(path)

        assert caught.value.message == f"{path}:2: it does not set a variable"

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    def test_one_that_others_can_change_is_refused(self, here, mode):
        path = write(here, "AUTO_BACKUP_HOST=x")
        path.chmod(mode)

        with pytest.raises(ConfigError, match=f"others can change {path}"):
            read_dotenv(path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_one_of_another_user_does_not_count(self, here):
        path = write(here, "AUTO_BACKUP_HOST=x")
        os.chown(path, 1234, 1234)

        assert read_dotenv(path) == ({}, (f"{path} belongs to another user, and does not count",))


class TestTheCommand:
    def test_it_uses_what_is_set_there(self, here, source, tmp_path):
        (source / "file").write_text("content")
        write(here, f"AUTO_BACKUP_STORE={tmp_path}/store\nAUTO_BACKUP_HOST=fromfile\n")

        taken = done("--json", "--now", "--source", source)

        assert taken.json["files"][0].startswith(f"{tmp_path}/store/fromfile/")
        assert not done("snapshots", "--json", "--store", tmp_path).json

    def test_it_tells_what_it_does_not_know(self, here, store):
        path = write(here, "AUTO_BACKUP_HOSTS=x")

        assert f"auto-backup: {path}:1: AUTO_BACKUP_HOSTS: unknown variable; did you" in done(
            "snapshots", "-s", store
        ).err  # fmt: skip
        assert "HOSTS" not in done("snapshots", "-q", "-s", store).err

    def test_what_cannot_be_believed_ends_it(self, here):
        write(here, "AUTO_BACKUP_HOST=x").chmod(0o666)

        assert run("snapshots").status == 2


class TestTheExample:
    TEXT = (ROOT / ".env.example").read_text()

    def test_it_has_each_variable_with_a_comment_and_no_other(self):
        found = re.findall(r"^# \S.*\n#(AUTO_BACKUP_\w+)=\S+$", self.TEXT, re.MULTILINE)

        assert found == [f"AUTO_BACKUP_{name}" for name in VARIABLES]

    def test_it_can_be_used_as_it_is_and_with_each_line_in_force(self, here):
        assert read_dotenv(write(here, self.TEXT)) == ({}, ())

        active = self.TEXT.replace("#AUTO", "AUTO")
        assert set(read_dotenv(write(here, active)).values) == set(VARIABLES)

    @pytest.mark.parametrize("name", [".env", "recovery.key", "backup.log"])
    def test_git_does_not_see_what_is_secret(self, name):
        patterns = (ROOT / ".gitignore").read_text().split()

        assert name in patterns or f"*.{name.rpartition('.')[2]}" in patterns
        assert ".env.example" not in patterns
