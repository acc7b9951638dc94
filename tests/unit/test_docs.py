"""The documents say what the program does: compared both ways."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

import backup.errors
from backup.cli.app import new_app
from backup.cli.arguments import GLOBAL_OPTIONS
from backup.cli.help_text import ALL
from tests.checkout import ROOT, files
from tests.cli import run

COMMANDS = (ROOT / "docs" / "COMMANDS.md").read_text()
USAGE = (ROOT / "USAGE.md").read_text()
README = (ROOT / "README.md").read_text()
FEATURES = (ROOT / "FEATURES.md").read_text()
DOCUMENTS = sorted(path for path in files() if path.suffix == ".md")

LONG_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
VARIABLE = re.compile(r"AUTO_BACKUP_[A-Z_]+")
HELP_OPTIONS = {"--help", "-h"}
OF_THE_TESTS = re.compile(r"AUTO_BACKUP_TEST")


def parsers():
    """Return the parser of every command by its name: ``ls``, ``key new``."""
    found = {}
    for name, command in typer.main.get_command(new_app()).commands.items():
        below = getattr(command, "commands", {})
        found |= {f"{name} {word}": one for word, one in below.items()} or {name: command}
    return found


def options_of(parser):
    named = {option for parameter in parser.params for option in parameter.opts}
    return {option for option in named if option.startswith("-")} - HELP_OPTIONS


def all_options():
    own = (options_of(parser) for parser in parsers().values())
    return set(GLOBAL_OPTIONS).union(HELP_OPTIONS, *own)


def sources():
    for path in sorted((ROOT / "backup").rglob("*.py")):
        yield path.relative_to(ROOT / "backup").as_posix(), path.read_text()


def exit_statuses():
    """Return every exit status: of the errors that some module knows, and of ``backup.cli``."""
    known = {0, 3, 130}
    texts = [text for name, text in sources() if name not in {"errors.py", "__init__.py"}]
    for name, one in vars(backup.errors).items():
        if isinstance(one, type) and any(re.search(rf"\b{name}\b", text) for text in texts):
            known.add(one.exit_code)
    return known


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def code_spans(text):
    return re.findall(r"`([^`\n]+)`", text)


def shown_calls(text):
    """Return the arguments of each ``$ auto-backup …`` in the console blocks of ``text``."""
    for block in blocks(text, "console"):
        for line in block.splitlines():
            found = re.match(r"\$ (?:auto-backup|\./setup\.sh) +([^#|]*[^#| ])", line)
            if found:
                yield shlex.split(found[1])


class TestCommands:
    def test_the_normative_list_has_each_with_its_options(self):
        listed = {}
        for span in code_spans(COMMANDS.partition("\n\nGlobal options")[0]):
            words = re.match(
                r"((?:key|catalog|config|daemon|schedule|service) \w+|\w+)(?: |$)",
                span.replace("\\|", "|"),
            )
            if words and not span.endswith(".md"):
                listed.setdefault(words[1], set()).update(LONG_OPTION.findall(span))

        expected = {
            name: {option for option in options_of(parser) if option.startswith("--")}
            for name, parser in parsers().items()
        }
        assert listed == expected

    def test_the_normative_list_has_the_global_options_and_no_other(self):
        listed = COMMANDS.partition("Global options: ")[2].partition("\n\n")[0]

        words = {word for span in code_spans(listed) for word in re.findall(r"--?[a-z-]+", span)}
        assert words == set(GLOBAL_OPTIONS) - {"--now", "--daemon"}

    def test_every_command_is_explained(self):
        for name in parsers():
            assert re.search(rf"auto-backup {name}\b", USAGE), name
            assert re.search(rf"^  {name.split()[0]} ", ALL, re.MULTILINE), name

    def test_every_option_is_explained(self):
        missing = {option for option in all_options() if f"{option}" not in USAGE}

        assert missing - {"-h", "--quiet", "--verbose", "--long"} == set()

    @pytest.mark.parametrize("document", ["docs/COMMANDS.md", "USAGE.md", "FEATURES.md"])
    def test_no_option_is_told_that_does_not_exist(self, document):
        told = set(LONG_OPTION.findall((ROOT / document).read_text()))

        assert told - all_options() == set()

    @pytest.mark.parametrize("document", ["README.md", "USAGE.md", "docs/RECOVERY.md"])
    def test_each_call_that_is_shown_is_one_that_the_program_takes(self, document):
        for arguments in shown_calls((ROOT / document).read_text()):
            words = [re.sub(r"[\[\]]|\.\.\.", "", word) for word in arguments]
            words = ["checksum" if word == "checksum|content" else word for word in words]
            result = run(*words, "--dry-run", "--help")

            assert result.status == 0, (arguments, result.err)


class TestTheRest:
    @pytest.mark.parametrize("text", [COMMANDS, USAGE], ids=["COMMANDS", "USAGE"])
    def test_variables_are_those_that_are_read(self, text):
        read = {
            f"AUTO_BACKUP_{name}"
            for _, source in sources()
            for name in re.findall(r"variable\(\"([A-Z_]+)\"", source)
        }

        assert set(VARIABLE.findall(text)) == read

    def test_exit_statuses_are_those_that_there_are(self):
        in_commands = COMMANDS.partition("Exit statuses: ")[2]
        in_usage = USAGE.partition("## Exit statuses")[2].partition("\n## ")[0]

        assert {int(one) for one in re.findall(r"\b\d+\b", in_commands)} == exit_statuses()
        assert {
            int(one) for one in re.findall(r"^\| (\d+) ", in_usage, re.MULTILINE)
        } == exit_statuses()

    def test_every_feature_names_tests_that_exist(self):
        rows = [line.split("|") for line in FEATURES.splitlines() if line.startswith("| ")][1:]
        rows = [row for row in rows if not row[1].strip().startswith("**")]
        named = {path.strip() for row in rows for path in row[3].split(",")}

        assert rows
        assert all(row[3].strip() for row in rows)
        assert sorted(path for path in named if not (ROOT / path).exists()) == []

    def test_the_readme_is_short(self):
        assert len(README.splitlines()) <= 200

    @pytest.mark.parametrize("document", DOCUMENTS, ids=str)
    def test_links_lead_to_files(self, document):
        text = (ROOT / document).read_text()
        links = re.findall(
            r"\]\(([^)#]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        )
        local = [link for link in links if "://" not in link]

        assert [link for link in local if not (ROOT / document.parent / link).exists()] == []

    @pytest.mark.parametrize(
        ("document", "text"), [("README.md", README), ("USAGE.md", USAGE)], ids=["README", "USAGE"]
    )
    def test_the_python_that_is_shown_runs(self, document, text, tmp_path, key_file, key):
        documents = tmp_path / "Documents"
        documents.mkdir()
        (documents / "letter.txt").write_text("dear reader")
        replaced = {
            "/home/ann": tmp_path,
            "/mnt/disk": tmp_path / "disk",
            "/tmp/back": tmp_path / "back",  # noqa: S108 - what the documents say
        }

        shown = blocks(text, "python")
        for block in shown:
            for path, real in replaced.items():
                block = block.replace(path, str(real))  # noqa: PLW2901
            exec(compile(block, document, "exec"), {"key": key})  # noqa: S102

        restored = Path(f"{tmp_path}/back{documents}/letter.txt")
        assert shown
        assert restored.read_text() == "dear reader"
