"""``config init``: on a terminal, where it asks, and elsewhere, where it does not."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest

from backup.config.reading import load_configuration
from backup.config.survey import in_container
from backup.retention import parse_keep
from backup.snapshot.hpke import HpkeIdentity
from tests.cli import done, environment, run, run_on_terminal, start
from tests.needs import needs

KEEP = "last=3,daily=14,weekly=8,monthly=12"
WHAT, WHERE, COMPRESSION, HOW_MANY = "what to save", "where to", "compression", "what to keep"
QUESTIONS = (WHAT, WHERE, COMPRESSION, HOW_MANY)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "config.yaml"


@pytest.fixture
def docs(tmp_path, private_home):
    """Return a directory to save; the home is not empty either, so that it is found."""
    (private_home / "letter").touch()
    for name in ("docs", "my photos"):
        (tmp_path / name).mkdir()
    return tmp_path / "docs"


def answered(path, *lines, options=()):
    """Run it on a terminal, where ``lines`` are typed; return status and what was shown."""
    typed = "".join(f"{line}\n" for line in lines).encode()
    return run_on_terminal("config", "init", "--config", path, *options, typed=typed)


def made(path):
    return load_configuration(path).configuration


def only_job(path):
    configuration = made(path)
    (name,) = configuration.jobs
    return configuration.job(name)


def asked(shown):
    """Return the questions that were asked, one for each time."""
    return [
        one
        for line in shown.splitlines()
        for one in QUESTIONS
        if f"auto-backup: {one} (" in line and "]: " in line
    ]


def wait_until_it_reads(pid):
    """Wait until a process sleeps: a signal just before it reads would be noticed only after."""
    stat_of = Path(f"/proc/{pid}/stat")
    while stat_of.read_text().rpartition(") ")[2][0] != "S":
        time.sleep(0.01)


class TestTerminal:
    def test_enter_takes_what_stands_in_brackets(self, path, docs):
        status, shown = answered(path, *[""] * 4)

        assert (status, asked(shown)) == (0, [*QUESTIONS])
        job = only_job(path)
        assert shlex.join(str(one.path) for one in job.sources) in shown
        assert f"[{made(path).stores['disk'].url}]" in shown
        assert (job.compression, job.keep) == ("xz", parse_keep([KEEP]))

    def test_answers_are_what_the_configuration_says(self, path, docs, tmp_path, store):
        status, _ = answered(path, f"{docs} '{tmp_path}/my photos'", store, "zstd", "7")

        assert status == 0
        job = only_job(path)
        assert [one.path for one in job.sources] == [docs, tmp_path / "my photos"]
        assert made(path).stores["disk"].url == str(store)
        assert (job.compression, job.keep) == ("zstd", parse_keep(["last=7"]))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_all_keeps_everything(self, path, docs, store):
        answered(path, docs, store, "", "all")

        assert only_job(path).keep is None

    @pytest.mark.parametrize(
        ("place", "wrong"),
        [
            (
                0,
                {
                    "/absent": "cannot back up /absent: No such file",
                    "/etc /": "the source /etc lies inside the source /",
                    "'/etc": "a quote is opened and not closed",
                    "  ": "there is nothing to back up",
                },
            ),
            (
                1,
                {
                    "gopher://x": "gopher",
                    "/dev/null/x": "/dev/null is not a directory",
                    "/": "or lies in it",
                },
            ),
            (2, {"zip": "there is no compression 'zip'"}),
            (3, {"0": "at least 1 snapshot is kept", "dayly=3": "did you mean daily?"}),
        ],
    )
    def test_an_answer_that_means_nothing_is_asked_for_again(self, path, docs, store, place, wrong):
        lines = [docs, store, "zstd", "last=2"]
        lines[place:place] = wrong

        status, shown = answered(path, *lines)

        assert status == 0
        assert [told for told in wrong.values() if told not in shown] == []
        again = [QUESTIONS[place]] * len(wrong)
        assert asked(shown) == [*QUESTIONS[:place], *again, *QUESTIONS[place:]]
        job = only_job(path)
        assert (job.sources[0].path, job.compression) == (docs, "zstd")
        assert job.keep == parse_keep(["last=2"])

    def test_what_was_found_is_told_before(self, path, docs):
        _, shown = answered(path, *[""] * 4)

        told = shown.partition(f"auto-backup: {WHAT}")[0]
        assert "found on this machine:" in told
        for source in only_job(path).sources:
            assert f"to save  {source.path} (" in told
        assert "disk     " in told
        assert "auto-backup-key, which is not made yet" in told

    def test_what_an_option_says_is_not_asked(self, path, docs, store):
        options = ("--source", docs, "-s", store, "--job", "mine")

        status, shown = answered(path, "", "", options=options)

        assert (status, asked(shown)) == (0, [COMPRESSION, HOW_MANY])
        assert list(made(path).jobs) == ["mine"]

    def test_yes_asks_nothing(self, path, docs, store):
        status, shown = answered(path, options=("--source", docs, "-s", store, "--yes"))

        assert (status, asked(shown)) == (0, [])
        assert only_job(path).sources[0].path == docs

    @pytest.mark.parametrize("answers", [0, 3])
    def test_an_end_of_input_leaves_nothing(self, path, docs, store, answers):
        lines = [f"{line}\n" for line in (docs, store, "xz", "7")][:answers]
        typed = "".join(lines).encode() + b"\x04"

        status, shown = run_on_terminal("config", "init", "--config", path, typed=typed)

        assert (status, asked(shown)) == (130, [*QUESTIONS[: answers + 1]])
        assert "interrupted" in shown
        assert not path.parent.exists()

    @pytest.mark.parametrize("question", QUESTIONS)
    def test_ctrl_c_leaves_nothing(self, path, docs, store, question):
        lines = {WHAT: docs, WHERE: store, COMPRESSION: "xz", HOW_MANY: "7"}
        ours, theirs = pty.openpty()
        options = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        env = environment() | {"TERM": "xterm"}
        with start("config", "init", "--config", path, env=env, **options) as process:
            os.close(theirs)
            shown = b""
            for name, line in lines.items():
                while f"auto-backup: {name} (".encode() not in shown or not shown.endswith(b"]: "):
                    shown += os.read(ours, 65536)
                if name == question:
                    wait_until_it_reads(process.pid)
                    process.send_signal(signal.SIGINT)
                    break
                os.write(ours, f"{line}\n".encode())
            with suppress(OSError):  # how Linux tells that the other end is closed
                while block := os.read(ours, 65536):
                    shown += block
            os.close(ours)

        assert process.returncode == 130
        assert b"interrupted" in shown
        assert b"Traceback" not in shown
        assert not path.parent.exists()

    def test_in_a_container_its_name_is_asked_for(self, path, docs, store, monkeypatch):
        needs(in_container(), "this is no container")
        monkeypatch.delenv("AUTO_BACKUP_HOST")
        options = ("--source", docs, "-s", store)

        status, shown = answered(path, "", "two words", "shop-1", "", "", options=options)

        assert status == 0
        assert shown.count("this machine's name in the stores: ") == 3
        assert made(path).host == "shop-1"

    def test_in_a_container_without_anybody_to_ask_it_has_to_be_told(
        self, path, docs, store, monkeypatch
    ):
        needs(in_container(), "this is no container")
        monkeypatch.delenv("AUTO_BACKUP_HOST")
        call = ("config", "init", "--config", path, "--source", docs, "-s", store)

        result = run(*call)

        assert result.status == 2
        assert "--host NAME" in result.err
        assert not path.parent.exists()
        done(*call, "--host", "shop-1")
        assert made(path).host == "shop-1"


class TestElsewhere:
    def test_options_and_defaults_are_taken(self, path, docs, store):
        done("config", "init", "--config", path, "--source", docs, "--store", store)

        configuration = made(path)
        job = configuration.job("docs")
        assert (configuration.host, configuration.stores["disk"].url) == ("testhost", str(store))
        assert [one.path for one in job.sources] == [docs]
        assert (job.stores, job.keep) == (("disk",), parse_keep([KEEP]))

    def test_several_sources_and_stores(self, path, docs, tmp_path):
        stores = [f"--store={tmp_path / name}" for name in ("one", "two")]

        done("config", "init", "--config", path, "--source", docs, "/etc", *stores)

        assert made(path).stores_of("system") == ("disk", "disk-2")
        assert [one.path.name for one in only_job(path).sources] == ["docs", "etc"]

    def test_a_home_is_saved_without_its_cache_which_is_told(self, path, private_home, store):
        result = done("config", "init", "--config", path, "--source", private_home, "-s", store)

        assert only_job(path).sources[0].exclude == (".cache/",)
        assert f"  saves {private_home}, without .cache/" in result.lines

    def test_it_ends_with_what_to_do_next(self, path, docs, store, private_home):
        result = done("config", "init", "--config", path, "--source", docs, "-s", store)

        key = private_home / "auto-backup-key"
        assert result.lines[result.lines.index("next:") + 1 :] == [
            "  auto-backup key new",
            f"  copy {key} off this machine, or print it: auto-backup key export",
            f"  auto-backup config validate --config {path}",
            f"  auto-backup --now --config {path}",
        ]

    def test_a_key_that_is_there_is_not_made_again(self, path, docs, store, key_file):
        result = done("config", "init", "--config", path, "--source", docs, "-s", store)

        assert made(path).key_file == key_file
        assert "key new" not in result.out
        assert f"copy {key_file} off this machine" in result.out

    def test_a_host_that_seals_for_others_alone_gets_no_key(self, path, docs, store, monkeypatch):
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
        monkeypatch.setenv("AUTO_BACKUP_RECIPIENTS", HpkeIdentity.generate().recipient().text())

        result = done("config", "init", "--config", path, "--source", docs, "-s", store)

        assert made(path).key_file is None
        assert "key" not in result.out

    def test_the_next_commands_work(self, path, docs, store):
        result = done("config", "init", "--config", path, "--source", docs, "-s", store)

        commands = [line.split()[1:] for line in result.lines if " auto-backup " in line]
        new, validate = (one for one in commands if one[0] in {"key", "config"})
        done(*new)
        done(*validate)

    @pytest.mark.parametrize(
        ("options", "status", "told"),
        [
            (["--source", "/absent"], 1, "No such file"),
            (["--job", "two words"], 2, "cannot be the name of a job"),
            (["--store", "gopher://x"], 2, "gopher"),
        ],
    )
    def test_what_cannot_be_is_refused(  # noqa: PLR0917 - fixtures
        self, path, docs, store, options, status, told
    ):
        known = ["--source", docs, "-s", store]

        result = run("config", "init", "--config", path, *known, *options)

        assert (result.status, path.parent.exists()) == (status, False)
        assert told in result.err

    def test_json_tells_what_was_made(self, path, docs, store, private_home):
        call = ("config", "init", "--config", path, "--source", docs, "-s", store, "--json")

        assert done(*call).json == {
            "path": str(path),
            "old": None,
            "host": "testhost",
            "job": "docs",
            "sources": [{"path": str(docs), "exclude": []}],
            "stores": {"disk": str(store)},
            "key_file": str(private_home / "auto-backup-key"),
            "key_exists": False,
        }

    def test_quiet_says_nothing(self, path, docs, store):
        result = done("config", "init", "--config", path, "--source", docs, "-s", store, "-q")

        assert (result.out, result.err) == ("", "")
        assert path.exists()


class TestOneThatIsThere:
    @pytest.fixture(autouse=True)
    def _mine(self, path):
        path.parent.mkdir()
        path.write_text("# mine\n")

    def test_it_is_refused_before_anything_is_asked(self, path):
        status, shown = answered(path)

        assert (status, asked(shown)) == (2, [])
        assert f"there is a configuration already: {path}" in shown
        assert "--force" in shown
        assert path.read_text() == "# mine\n"

    def test_with_force_it_is_kept_beside_the_new_one(self, path, docs, store):
        call = ("config", "init", "--config", path, "--source", docs, "-s", store, "--force")

        result = done(*call)

        old = path.with_name("config.yaml.old")
        assert old.read_text() == "# mine\n"
        assert f"  the old one is {old}" in result.lines
        assert list(made(path).jobs) == ["docs"]

    def test_a_dry_run_prints_it_and_writes_nothing(self, path, docs, store, tmp_path):
        call = ("config", "init", "--config", path, "--source", docs, "-s", store, "-n")

        result = done(*call)

        (tmp_path / "printed.yaml").write_text(result.out)
        assert list(made(tmp_path / "printed.yaml").jobs) == ["docs"]
        assert "only --force replaces" in result.err
        assert [one.name for one in path.parent.iterdir()] == ["config.yaml"]
        assert path.read_text() == "# mine\n"
        told = done(*call, "--json").json
        assert (told["path"], told["exists"], told["text"]) == (str(path), True, result.out)
