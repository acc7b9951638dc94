"""What must stay true of the code as a whole, read off the files."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from checkout import ROOT, files
from needs import needs

import backup

PACKAGE = ROOT / "backup"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
BY_ITSELF = "recover.py"  # is copied next to snapshots, and runs without this package

LOADED_WHEN_USED = {
    "boto3",
    "botocore",
    "cryptography.hazmat.primitives.hpke",
    "daemon",
    "dotenv",
    "pathspec",
    "pyfastcdc",
    "platformdirs",
    "pydantic",
    "rich",
    "ruamel",
    "schedule",
    "sqlite3",
    "typer",
}


def tree(module):
    return ast.parse((PACKAGE / module).read_bytes(), filename=module)


def names_in(module):
    """Return ``time.time`` and the like: what is imported by name, and attributes of names."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return found


def imports_of(module):
    """Return the libraries that a module imports, other than for type checkers alone."""
    found = set()
    whole = tree(module)
    for node in ast.walk(whole):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(whole):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def in_a_new_python(code):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def importing(modules, wanted):
    """Return those of ``modules`` that hold one of the dotted names ``wanted``."""
    return [module for module in modules if names_in(module) & wanted]


class TestLayers:
    def test_imports_point_down(self):
        lint_imports = Path(sys.executable).with_name("lint-imports")
        needs(lint_imports.exists(), "import-linter is not installed")
        command = [str(lint_imports), "--no-cache"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_only_the_clock_reads_the_wall_clock(self):
        clocks = {"time.time", "time.time_ns", "time.localtime", "time.gmtime"}
        for home in ("datetime", "datetime.datetime", "datetime.date", "date"):
            clocks.update(f"{home}.{name}" for name in ("now", "utcnow", "today"))
        assert importing(MODULES, clocks) == ["clock.py"]

    def test_only_one_module_reads_the_environment(self):
        reading = {f"os.{name}" for name in ("environ", "environb", "getenv", "getenvb", "putenv")}
        allowed = {"environment.py", BY_ITSELF}
        assert set(importing(MODULES, reading)) - allowed == set()

    def test_nothing_reads_or_writes_archives_through_tarfile(self):
        assert [module for module in MODULES if "tarfile" in imports_of(module)] == []

    def test_commands_are_never_text_for_a_shell(self):
        # recover.py pipes a frame through the zstd command: constant text and a number.
        others = [module for module in MODULES if module != BY_ITSELF]
        keywords = [
            (module, keyword.lineno)
            for module in others
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "shell"
        ]
        assert keywords == []
        assert importing(MODULES, {"os.system", "os.popen", "subprocess.getoutput"}) == []


class TestSizeAndNames:
    @pytest.mark.parametrize("module", MODULES)
    def test_no_module_is_long(self, module):
        limit = 850 if module == BY_ITSELF else 301
        assert len((PACKAGE / module).read_bytes().splitlines()) < limit

    def test_no_module_is_a_drawer_for_odds_and_ends(self):
        drawers = {"utils", "util", "helpers", "helper", "common", "misc", "core"}
        parts = {part for module in MODULES for part in Path(module).with_suffix("").parts}
        assert parts & drawers == set()

    def test_no_file_names_a_directory_of_the_machine_it_was_written_on(self):
        path = re.compile(rb"(?<![\w.~*{}()-])/" + b"work" + rb"/")
        assert [str(name) for name in files() if path.search((ROOT / name).read_bytes())] == []


class TestFacade:
    def test_its_names_are_there(self):
        for name in backup.__all__:
            assert getattr(backup, name).__name__ == name
        assert {"BackupError", "BackupManager", "RestoreManager"} <= set(backup.__all__)

    def test_its_names_are_sorted_constants_first_then_classes(self):
        def place(name):
            return 0 if name.isupper() else 1 if name[0].isupper() else 2, name

        assert list(backup.__all__) == sorted(set(backup.__all__), key=place)

    def test_other_names_are_missed(self):
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = backup.no_such_name

    def test_importing_it_loads_no_library_that_only_some_calls_need(self):
        code = "import json, sys, backup; print(json.dumps(sorted(sys.modules)))"
        assert set(in_a_new_python(code)) & LOADED_WHEN_USED == set()

    def test_the_package_goes_before_the_script_of_the_same_name(self):
        where = in_a_new_python("import json, backup; print(json.dumps(backup.__file__))")
        assert Path(where) == PACKAGE / "__init__.py"

    def test_the_script_does_nothing_when_it_is_imported(self):
        script = ast.parse((ROOT / "backup.py").read_bytes())
        first, *rest = script.body
        assert isinstance(first, ast.Expr), "a docstring"
        tests = [ast.unparse(node.test) for node in rest if isinstance(node, ast.If)]
        assert tests == ["__name__ == '__main__'"]
        assert all(isinstance(node, ast.If | ast.ImportFrom) for node in rest)


def declared(extra=None):
    """Return the names of the libraries that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {re.match(r"[\w.-]+", line)[0] for line in lines}


class TestProject:
    @pytest.mark.parametrize("name", ["cryptography", "schedule", "python-daemon", "boto3"])
    def test_a_library_that_was_asked_for_is_a_dependency(self, name):
        assert name in declared()

    def test_pytest_is_what_tests_run_with(self):
        assert "pytest" in declared("test")

    def test_every_import_of_the_package_is_of_a_dependency(self):
        modules = {
            "python-daemon": "daemon",
            "backports.zstd": "backports",
            "python-dotenv": "dotenv",
            "ruamel.yaml": "ruamel",
        }
        known = {modules.get(name, name) for name in declared()} | sys.stdlib_module_names
        others = {"backup", "compression", "__future__", "pydantic_core"}  # 3.14; pydantic's own
        used = set().union(*(imports_of(module) for module in MODULES if module != BY_ITSELF))
        assert used - known - others == set()
