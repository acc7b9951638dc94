from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from backup._version import PROGRAM
from backup.cli.app import new_app
from backup.cli.arguments import sort_arguments
from backup.cli.help_text import ALL, COMMANDS, HELP
from backup.errors import ConfigError
from tests.checkout import ROOT
from tests.cli import COMMAND, done, environment, run, run_process, take
from tests.needs import needs

KEY_COMMANDS = [
    f"key {word}"
    for word in ["new", "show", "list", "add", "remove", "passphrase", "export", "trust"]
]
HEAVY = {"typer", "rich", "msgspec", "cryptography", "schedule", "boto3", "daemon", "platformdirs"}


@pytest.fixture(autouse=True)
def _with_a_key(key_file):
    """Let every test have the key file."""


class TestHelp:
    def test_it_fits_a_terminal_of_24_lines_and_80_columns(self):
        lines = HELP.splitlines()

        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80

    def test_it_names_every_command_of_the_parser_and_no_other(self):
        assert set(COMMANDS) == set(typer.main.get_command(new_app()).commands)
        for command in COMMANDS:
            assert f"\n  {command} " in ALL

    def test_each_command_is_found_without_the_modules_of_all_others(self):
        together = typer.main.get_command(new_app()).commands
        alone = {name: set(typer.main.get_command(new_app(name)).commands) for name in COMMANDS}

        assert all(name in found for name, found in alone.items())
        assert max(map(len, alone.values())) <= 2 < len(together)

    @pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], ["--json", "--help"]])
    def test_asking_for_it_is_no_error(self, arguments):
        result = run(*arguments)

        assert (result.status, result.out, result.err) == (0, HELP, "")

    @pytest.mark.parametrize("arguments", [[], ["-q"], ["--json"]])
    def test_without_a_command_it_is_shown_with_status_2(self, arguments):
        result = run(*arguments)

        assert (result.status, result.out) == (2, HELP)

    @pytest.mark.parametrize("command", [*COMMANDS, *KEY_COMMANDS])
    def test_each_command_tells_its_options_within_80_columns(self, command):
        result = done(*command.split(), "--help")

        assert f"auto-backup {command}" in result.lines[0]
        assert max(map(len, result.lines)) <= 80
        assert done("help", *command.split()).out == result.out

    def test_on_a_pipe_bare_arguments_give_it_too(self):
        result = run_process()

        assert (result.status, result.out) == (2, HELP)

    def test_all_commands_are_listed_on_demand(self):
        assert done("help", "all").out == ALL
        assert max(map(len, ALL.splitlines())) <= 80


class TestBareNow:
    def test_it_tells_what_is_missing_with_two_examples(self):
        result = run("--now")

        assert result.status == 2
        examples = [line for line in result.err.splitlines() if line.startswith("  auto-backup")]
        assert len(examples) == 2
        assert all("--now --source" in example for example in examples)

    @pytest.mark.parametrize("arguments", [["backup"], ["--now", "-n"], ["backup", "--now"]])
    def test_other_ways_to_say_it_get_the_same_answer(self, arguments):
        assert run(*arguments) == run("--now")


class TestTheOrderOfArguments:
    @pytest.mark.parametrize(
        ("given", "sorted_"),
        [
            (["ls", "x", "--store", "S"], ["--store=S", "ls", "x"]),
            (["ls", "x", "--store=S"], ["--store=S", "ls", "x"]),
            (["ls", "x", "-s", "S"], ["--store=S", "ls", "x"]),
            (["ls", "x", "-sS"], ["--store=S", "ls", "x"]),
            (["ls", "x", "-s=S"], ["--store=S", "ls", "x"]),
            (["ls", "x", "--dest", "S=T"], ["--store=S=T", "ls", "x"]),
            (["ls", "x", "--dest=S=T"], ["--store=S=T", "ls", "x"]),
            (["-n", "ls", "-q", "x", "-v"], ["--dry-run", "--quiet", "--verbose", "ls", "x"]),
            (["ls", "-qlv", "x"], ["--quiet", "--verbose", "ls", "-l", "x"]),
            (["ls", "x", "--", "--store", "-q"], ["ls", "x", "--", "--store", "-q"]),
            (["--source", "A", "--now"], ["backup", "--source", "A"]),
            (["--now", "backup"], ["backup"]),
            (["--source", "A", "B", "C"], ["--source", "A", "--source", "B", "--source", "C"]),
            (
                ["--source", "A", "B", "-q", "--source", "C"],
                ["--quiet", "--source", "A", "--source", "B", "--source", "C"],
            ),
            (["--source=A", "--now"], ["backup", "--source=A"]),
            (["ls", "--no-such-option"], ["ls", "--no-such-option"]),
            (["ls", "--", "--now"], ["ls", "--", "--now"]),
        ],
    )
    def test_global_options_go_in_front_and_now_becomes_backup(self, given, sorted_):
        assert sort_arguments(given) == sorted_

    @pytest.mark.parametrize(
        "given",
        [
            ["--store"],
            ["ls", "x", "--host"],
            ["--store", "-q", "ls"],
            ["--store", "--now"],
            ["--now", "--source"],
            ["--source", "--now"],
        ],
    )
    def test_an_option_is_no_value_of_another_one(self, given):
        with pytest.raises(ConfigError, match="needs a value"):
            sort_arguments(given)

    def test_a_store_may_stand_before_and_behind_the_command(self, tree, store):
        take("--source", tree, "--store", store)

        outputs = {
            done("--store", store, "ls", "latest").out,
            done("ls", "latest", f"--store={store}").out,
            done("ls", "-s", store, "latest").out,
            done("ls", f"-s{store}", "latest").out,
            done("ls", "latest", "--dest", store).out,
            done("-s", store, "ls", "--", "latest").out,
        }

        assert len(outputs) == 1

    def test_behind_two_dashes_a_path_may_look_like_an_option(self, source, store):
        (source / "-q").write_text("odd")
        take("--source", source, "--store", store)

        result = done("cat", "-s", store, "latest", "--", source / "-q")

        assert result.out == "odd"

    def test_several_sources_behind_one_option(self, tmp_path, store):
        for name in "abc":
            (tmp_path / name).write_text(name)

        result = done(
            "--source", *(tmp_path / name for name in "abc"), "-n", "--now", "-s", store, "--json"
        )

        assert result.json["sources"] == [str(tmp_path / name) for name in "abc"]

    def test_an_option_wins_over_the_environment(self, tree, store, tmp_path, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_STORE", str(tmp_path / "other"))
        monkeypatch.setenv("AUTO_BACKUP_HOST", "other")

        path = take("--source", tree, "--store", store, "--host", "mine", "--job", "work")

        assert path.parent == store / "mine" / "work"

    def test_the_environment_wins_over_the_default(self, tree, store, monkeypatch):
        monkeypatch.setenv("AUTO_BACKUP_STORE", str(store))
        monkeypatch.setenv("AUTO_BACKUP_HOST", "other")

        path = take("--source", tree)

        assert path.parent == store / "other" / "source"

    @pytest.mark.parametrize("how", ["option", "environment"])
    def test_a_tilde_that_no_shell_expanded_is_the_home(
        self, how, tree, private_home, monkeypatch, tmp_path
    ):
        monkeypatch.chdir(tmp_path)
        options = ["--store=~/backups"]
        if how == "environment":
            monkeypatch.setenv("AUTO_BACKUP_STORE", "~/backups")
            options = []

        path = take("--source", tree, *options)

        assert path.is_relative_to(private_home / "backups")
        assert not (tmp_path / "~").exists()


class TestWrongCalls:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["backp"], "did you mean 'backup'?"),
            (["no-such-thing"], "no such command 'no-such-thing'"),
            (["key", "shwo"], "did you mean 'show'?"),
            (["key"], "missing command"),
            (["--sotre=x", "ls", "y"], "did you mean --store?"),
            (["snapshots", "--stroe=x"], "did you mean --store?"),
            (["--now", "--compresion", "xz"], "did you mean --compression?"),
            (["ls"], "missing argument 'SNAPSHOT'"),
            (["cat", "latest"], "missing argument 'PATH'"),
            (["snapshots", "x"], "unexpected extra argument"),
            (["backup", "/etc"], "what to save stands behind --source"),
            (["--now", "--source", "a", "--exclude", "b", "c"], "a pattern in quotes"),
            (["--now", "--source", "a", "--store", "b", "c"], "a --store of its own"),
            (["--now", "snapshots"], "no job 'snapshots'"),
            (["verify", "--level", "all"], "'all' is not one of 'checksum', 'content'"),
            (["--now", "--source", "/etc", "--level", "x"], "not a whole number"),
            (["--now", "--source", "/etc", "--level", "10"], "levels 0 to 9, not 10"),
            (["--now", "--source", "/etc", "--compression", "lz5"], "no compression 'lz5'"),
            (["--now", "--source", "/etc", "/etc"], "named twice"),
            (["--now", "--source", "/etc", "/"], "lies inside"),
            (["--now", "--source", "/etc", "--host", "a b"], "cannot be the name of a host"),
            (["--now", "--source", "/etc", "--job", "../x"], "cannot be the name of a job"),
            (["restore", "latest"], "--target"),
            (["ls", "latest", "-s", "a", "-s", "b"], "name one --store"),
            (["snapshots", "-s", "a", "-s", "b"], "name one --store"),
            (["key", "list", "-s", "a", "-s", "b"], "name one --store"),
            (["snapshots", "--store="], "not the path of a directory"),
            (["snapshots", "--store", "gopher://x"], "begin with gopher://"),
        ],
    )
    def test_they_are_refused_with_status_2_and_a_word_of_help(self, arguments, told, monkeypatch):
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")

        result = run(*arguments)

        assert result.status == 2
        assert result.out == ""
        assert told in result.err
        assert "Traceback" not in result.err
        assert all(line.startswith(("auto-backup: ", "  ")) for line in result.err.splitlines())

    def test_a_wrong_call_makes_no_key_and_no_log(self, tree, store, private_home, monkeypatch):
        monkeypatch.delenv("AUTO_BACKUP_KEY_FILE")
        before = sorted(private_home.rglob("*"))

        for wrong in (["--level", "99"], ["--host", "a b"], ["--job", "a b"], ["--nope"]):
            run("--now", "--source", tree, "-s", store, *wrong)

        assert sorted(private_home.rglob("*")) == before
        assert not store.exists()


class TestEntryPoints:
    @pytest.mark.parametrize(
        "command",
        [
            COMMAND,
            (sys.executable, str(ROOT / "backup.py")),
            (str(Path(sys.executable).with_name("auto-backup")),),
        ],
        ids=["module", "script", "console"],
    )
    def test_each_is_the_same_command(self, command, tree, store, tmp_path):
        needs(Path(command[0]).exists(), f"{command[0]} is not installed")

        taken = run_process("--now", "--source", tree, "-s", store, "--json", command=command)
        wrong = run_process("backp", command=command)
        version = run_process("--version", command=command, cwd=tmp_path)

        assert taken.status == 0
        assert Path(taken.json["files"][0]).is_file()
        assert wrong.status == 2
        assert (version.status, version.out) == (0, PROGRAM + "\n")

    def test_the_version_is_told_before_anything_heavy_is_loaded(self):
        code = (
            "import sys, json; from backup.cli import main; main(['--version']);"
            " print(json.dumps(sorted(sys.modules)))"
        )

        result = subprocess.run(
            [sys.executable, "-c", code], env=environment(), capture_output=True, check=True
        )

        version, modules = result.stdout.splitlines()
        assert version.decode() == PROGRAM
        assert set(json.loads(modules)) & HEAVY == set()

    def test_the_version_wins_wherever_it_stands(self):
        assert done("snapshots", "--version").out == PROGRAM + "\n"
