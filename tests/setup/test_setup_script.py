"""setup.sh on fresh copies of the checkout, in directories with a space in their names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import copy_to
from needs import needs

from backup._version import VERSION

UNREACHABLE = {
    "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
}
# As it is before fixtures change it: pip has its settings and its cache at home.
OUTSIDE = {
    name: value
    for name, value in os.environ.items()
    if name not in {"VIRTUAL_ENV", "CI"} and not name.startswith(("AUTO_BACKUP_", "XDG_"))
}


def environment(**changes):
    """Return an environment in which the Python of these tests makes new virtual environments."""
    return OUTSIDE | {"PYTHON": sys.executable} | changes


def run(command, *arguments, cwd="/", **changes):
    return subprocess.run(
        [str(command), *arguments],
        cwd=cwd,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def duration_of(*command):
    start = time.perf_counter()
    subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, env=environment(), check=True)
    return time.perf_counter() - start


def fresh_copy(directory):
    place = directory / "a check out"
    copy_to(place)
    return place


def python_that_prints(directory, text):
    """Make a command that answers whatever it is asked with ``text``."""
    command = directory / "python3"
    command.write_text(f"#!/bin/sh\necho '{text}'\n")
    command.chmod(0o755)
    return command


def directory_of_tools(directory, *names):
    """Make a directory that has only these commands, as a PATH without any Python."""
    directory.mkdir()
    for name in names:
        (directory / name).symlink_to(shutil.which(name))
    return directory


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Ask for a package that every set-up needs."""
    target = str(tmp_path_factory.mktemp("download"))
    command = ["-m", "pip", "download", "-q", "--no-deps", "--dest", target, "hatchling"]
    needs(run(sys.executable, *command).returncode == 0, "no registry of packages answers")


@pytest.fixture(scope="module")
def ready(tmp_path_factory, registry):
    """A copy in which two calls of setup.sh at once have set everything up."""
    place = fresh_copy(tmp_path_factory.mktemp("ready"))
    command = [str(place / "setup.sh"), "--version"]
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    children = [
        subprocess.Popen(command, cwd="/", env=environment(), text=True, **outputs)
        for _ in range(2)
    ]
    said = [child.communicate(timeout=300) for child in children]
    return SimpleNamespace(
        place=place,
        script=place / "setup.sh",
        statuses=[child.returncode for child in children],
        outputs=[output for output, _ in said],
        errors=[error for _, error in said],
    )


@pytest.mark.network
class TestAFreshCheckout:
    def test_two_calls_at_once_set_it_up_once(self, ready):
        assert ready.statuses == [0, 0], ready.errors
        assert [VERSION in output for output in ready.outputs] == [True, True]
        assert "".join(ready.errors).count("setup: installing auto-backup") == 1

    def test_what_set_up_says_goes_to_standard_error(self, ready):
        assert [len(output.splitlines()) for output in ready.outputs] == [1, 1]

    def test_alone_it_says_what_to_run_next(self, ready):
        done = run(ready.script)
        assert (done.returncode, done.stderr) == (0, "")
        assert 2 <= len(done.stdout.splitlines()) <= 4
        assert "--now --source" in done.stdout


@pytest.mark.network
class TestASecondCall:
    def test_runs_neither_pip_nor_any_other_python(self, ready, tmp_path):
        log = tmp_path / "pip.log"
        done = run(ready.script, "--version", PYTHON="/bin/false", PIP_LOG=str(log), **UNREACHABLE)
        assert (done.returncode, done.stderr) == (0, "")
        assert VERSION in done.stdout
        assert not log.exists()

    def test_costs_next_to_nothing(self, ready):
        command = ready.place / ".venv/bin/auto-backup"
        kept = command.rename(command.with_name("kept"))
        command.symlink_to("/bin/true")
        try:
            assert min(duration_of(ready.script, "--version") for _ in range(10)) < 0.05
        finally:
            kept.rename(command)

    def test_through_a_symbolic_link_and_from_another_directory(self, ready, tmp_path):
        link = tmp_path / "bin" / "a backup"
        link.parent.mkdir()
        link.symlink_to(os.path.relpath(ready.script, link.parent))
        done = run(f"./bin/{link.name}", "--version", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert VERSION in done.stdout

    def test_by_the_name_of_the_script_alone(self, ready):
        done = run("bash", "setup.sh", "--version", cwd=ready.place)
        assert (done.returncode, done.stderr) == (0, "")

    def test_hands_on_the_status_of_the_command(self, ready):
        assert run(ready.script, "--no-such-option").returncode == 2

    def test_takes_a_snapshot_of_a_relative_path(self, ready, tmp_path):
        here = tmp_path / "here"
        (here / "docs").mkdir(parents=True)
        (here / "docs" / "letter").write_text("Dear Ann")
        home = tmp_path / "home"
        home.mkdir()
        arguments = ["--now", "--source", "docs", "--store", "../store"]
        done = run(ready.script, *arguments, cwd=here, HOME=str(home))
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "store").rglob("*.enc")), done.stdout
        assert [path.name for path in here.iterdir()] == ["docs"]


@pytest.mark.network
class TestRepair:
    def test_another_pyproject_is_installed(self, ready):
        with (ready.place / "pyproject.toml").open("a") as file:
            file.write("# a later version\n")
        done = run(ready.script, "--version")
        assert done.returncode == 0, done.stderr
        assert "installing" in done.stderr
        assert "making" not in done.stderr
        assert run(ready.script, "--version").stderr == ""

    def test_a_python_that_is_gone_is_replaced(self, ready):
        for python in (ready.place / ".venv/bin").glob("python*"):
            python.unlink()
            python.symlink_to("/usr/bin/python3-that-was-removed")
        done = run(ready.script, "--version")
        assert done.returncode == 0, done.stderr
        assert "making .venv" in done.stderr
        assert run(ready.script, "--version").stderr == ""

    def test_a_checkout_that_was_moved_gets_its_own(self, ready, tmp_path):
        moved = tmp_path / "moved out"
        shutil.copytree(ready.place, moved, symlinks=True)
        python = python_that_prints(tmp_path, "good /bin/false")
        done = run(moved / "setup.sh", "--version", PYTHON=str(python))
        assert "making .venv with /bin/false" in done.stderr

    def test_what_was_killed_half_way_is_made_anew(self, tmp_path):
        place = fresh_copy(tmp_path)
        python = place / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to("/bin/true")
        (place / ".venv" / ".auto-backup-unfinished").touch()
        new = python_that_prints(tmp_path, "good /bin/false")
        done = run(place / "setup.sh", "--version", PYTHON=str(new))
        assert "making .venv with /bin/false" in done.stderr


class TestFailure:
    def test_of_installing_shows_pip_and_leaves_nothing_half_made(self, tmp_path):
        place = fresh_copy(tmp_path)
        done = run(place / "setup.sh", "--version", **UNREACHABLE)
        assert (done.returncode, done.stdout) == (1, "")
        assert "setup: error: installing failed" in done.stderr
        assert "hatchling" in done.stderr
        assert not (place / ".venv").exists()

    @pytest.mark.parametrize("answer", ["old 3.10.13", "bare 3.12.1"])
    def test_a_python_that_will_not_do(self, tmp_path, answer):
        place = fresh_copy(tmp_path)
        python = python_that_prints(tmp_path, answer)
        done = run(place / "setup.sh", "--version", PYTHON=str(python))
        assert done.returncode == 2
        assert f"{python} ({answer.split()[1]})" in done.stderr
        if answer.startswith("bare"):
            assert "apt install python3-venv" in done.stderr
        else:
            assert "Python 3.11 or newer" in done.stderr
        assert not (place / ".venv").exists()

    @pytest.mark.parametrize("answer", [None, "old 3.9.18", "bare 3.11.2"])
    def test_no_suitable_python_in_path(self, tmp_path, answer):
        place = fresh_copy(tmp_path)
        tools = directory_of_tools(tmp_path / "tools", "bash", "env", "flock", "mktemp", "rm")
        if answer is not None:
            python_that_prints(tools, answer)
        done = run(place / "setup.sh", "--version", PATH=str(tools), PYTHON="")
        assert done.returncode == 2, done.stderr
        assert "hint: " in done.stderr
        if answer is None:
            assert "there is none in PATH" in done.stderr
        else:
            assert f"python3 ({answer.split()[1]})" in done.stderr
        assert not (place / ".venv").exists()

    def test_a_python_that_does_not_run(self, tmp_path):
        place = fresh_copy(tmp_path)
        done = run(place / "setup.sh", "--version", PYTHON="/no/python")
        assert done.returncode == 2
        assert "PYTHON is /no/python" in done.stderr

    def test_a_directory_that_is_no_environment_is_left_alone(self, tmp_path):
        place = fresh_copy(tmp_path)
        (place / ".venv").mkdir()
        (place / ".venv" / "notes").write_text("mine")
        done = run(place / "setup.sh", "--version")
        assert done.returncode == 1
        assert "is not a virtual environment" in done.stderr
        assert (place / ".venv" / "notes").read_text() == "mine"

    def test_no_log_is_left(self, tmp_path):
        place = fresh_copy(tmp_path)
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        run(place / "setup.sh", PYTHON="/no/python", TMPDIR=str(temporary))
        assert list(Path(temporary).iterdir()) == []


class TestTestCommand:
    def test_hands_arguments_to_pytest(self, tmp_path):
        """The environment is a stand-in, whose Python prints what it is asked to run."""
        place = fresh_copy(tmp_path)
        (place / ".ci/system-packages").unlink()
        programs = place / ".venv" / "bin"
        programs.mkdir(parents=True)
        (programs / "auto-backup").write_text("#!/bin/sh\n")
        (programs / "python").write_text(
            '#!/bin/sh\nif [ "$1" = -m ]; then echo "${AUTO_BACKUP_TEST_DEPTH-}: $*"; fi\n'
        )
        for program in programs.iterdir():
            program.chmod(0o755)
        (place / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")

        def asked(*arguments):
            done = run(place / "setup.sh", "test", *arguments, AUTO_BACKUP_TEST_DEPTH="ci")
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        assert asked() == "ci: -m pytest tests/"
        assert asked("-k", "tar and not slow") == "ci: -m pytest tests/ -k tar and not slow"
        assert asked("-x", "--deep") == "deep: -m pytest tests/ -x"
        assert asked("tests/unit", "-q") == "ci: -m pytest tests/unit -q"
        one = "tests/unit/test_architecture.py::TestFacade"
        assert asked(one) == f"ci: -m pytest {one}"
