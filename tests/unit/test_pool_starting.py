"""Which Python workers are started with, and where it finds its modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from backup.pool.slots import SlotSize
from backup.pool.starting import find_python, import_path
from tests.checkout import ROOT, files
from tests.cli import environment
from tests.pool_work import make_pool, results

NAME = f"python{sys.version_info.major}.{sys.version_info.minor}"


def executable(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return the directory of an installation that this program is made to believe in."""
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path / "base"))
    return tmp_path


class TestThePython:
    def test_is_the_one_that_runs_this(self):
        assert find_python() == sys.executable

    @pytest.mark.parametrize(
        "name", ["python", "python3", NAME, "python3.13t", "python3d", "pypy3"]
    )
    def test_has_one_of_these_names(self, name, installed, monkeypatch):
        path = executable(installed / "bin" / name)
        monkeypatch.setattr(sys, "executable", path)

        assert find_python() == path

    @pytest.mark.parametrize(
        "name", ["uwsgi", "gunicorn", "python3-config", "blender", "pythonista"]
    )
    def test_of_a_program_that_embeds_it_is_that_of_the_environment(
        self, name, installed, monkeypatch
    ):
        monkeypatch.setattr(sys, "executable", executable(installed / "bin" / name))
        expected = executable(installed / "venv" / "bin" / NAME)
        executable(installed / "base" / "bin" / NAME)

        assert find_python() == expected

    @pytest.mark.parametrize("own", ["", None, "/gone/python3"])
    def test_that_is_not_known_is_that_of_the_installation(self, own, installed, monkeypatch):
        monkeypatch.setattr(sys, "executable", own)
        expected = executable(installed / "base" / "bin" / NAME)

        assert find_python() == expected

    def test_of_another_version_is_none(self, installed, monkeypatch):
        monkeypatch.setattr(sys, "executable", "")
        executable(installed / "venv" / "bin" / "python3.2")
        executable(installed / "venv" / "bin" / "python3")

        with pytest.raises(OSError, match="no Python"):
            find_python()

    def test_of_a_frozen_program_is_none(self, monkeypatch):
        monkeypatch.setattr(sys, "frozen", True, raising=False)

        with pytest.raises(OSError, match="no Python"):
            find_python()

    def test_that_may_not_be_executed_is_none(self, installed, monkeypatch):
        path = Path(executable(installed / "bin" / "python3"))
        path.chmod(0o644)
        monkeypatch.setattr(sys, "executable", str(path))

        with pytest.raises(OSError, match="no Python"):
            find_python()


class TestTheImportPath:
    def test_is_as_it_is_here(self):
        assert import_path() == [str(Path(one).absolute()) for one in sys.path]

    @pytest.mark.parametrize(("given", "means"), [("", "."), ("lib", "lib"), ("a/b", "a/b")])
    def test_has_relative_places_as_they_are_meant(self, given, means, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [given, *sys.path])

        assert import_path()[0] == str(tmp_path / means)

    def test_has_this_package_however_it_was_found(self, monkeypatch):
        monkeypatch.setattr(sys, "path", ["/nowhere"])

        assert import_path() == ["/nowhere", str(ROOT)]

    def test_leaves_out_what_is_relative_to_a_directory_that_is_gone(self, tmp_path, monkeypatch):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        monkeypatch.setattr(sys, "path", ["", "lib", "/absolute", str(ROOT)])

        assert import_path() == ["/absolute", str(ROOT)]

    def test_leaves_out_what_is_no_text(self, monkeypatch):
        monkeypatch.setattr(sys, "path", [b"/bytes", Path("/path"), None, str(ROOT)])

        assert import_path() == [str(ROOT)]


class TestWorkersStart:
    """All of these would go on in one process, if no worker could be started."""

    def jobs_are_done_by_workers(self, **size):
        with make_pool(**size) as pool:
            found = list(results(pool, [(number, "nothing") for number in range(4)]))
        return os.getpid() not in {one.process for one in found}

    def test_with_names_that_are_no_ascii_on_the_path(self, tmp_path, monkeypatch):
        odd = tmp_path / "verzeichnis-ä-\udcff-'\"\\"
        odd.mkdir()
        monkeypatch.setattr(sys, "path", [str(odd), *sys.path])
        monkeypatch.setenv("LC_ALL", "C")

        assert self.jobs_are_done_by_workers()

    def test_with_modules_of_these_names_in_the_current_directory(self, tmp_path, monkeypatch):
        for name in ("socket", "msgspec", "backup", "signal", "sitecustomize"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
        monkeypatch.chdir(tmp_path)

        assert self.jobs_are_done_by_workers()

    def test_with_an_environment_that_misleads_python(self, tmp_path, monkeypatch):
        (tmp_path / "socket.py").write_text("raise SystemExit(1)")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("PYTHONHOME", str(tmp_path))
        monkeypatch.setenv("PYTHONINSPECT", "1")

        assert self.jobs_are_done_by_workers()

    def test_with_a_set_up_of_a_hundred_kilobytes(self):
        with make_pool(bytes(100_000), slot=SlotSize(4096, 200_000)) as pool:
            (found,) = results(pool, [(0, "set_up")])

        assert found.process != os.getpid()
        assert len(found.body) == 100_000

    def test_from_a_zip_file(self, tmp_path):
        archive = tmp_path / "app.pyz"
        with zipfile.ZipFile(archive, "w") as file:
            for name in files():
                if name.parts[0] == "backup" and name.suffix == ".py":
                    file.write(ROOT / name, name)
            for name in ("pool_work.py", "checkout.py"):
                file.write(ROOT / "tests" / name, f"tests/{name}")
            file.writestr("__main__.py", IN_A_ZIP)
        others = [one for one in sys.path if one.endswith("site-packages")]
        env = environment() | {"PYTHONPATH": os.pathsep.join(others)}
        command = [sys.executable, archive]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

        assert (done.stdout, done.stderr) == ("workers\n", "")

    def test_and_write_no_bytecode_where_the_program_does_not(self, tmp_path):
        package = tmp_path / "place"
        shutil.copytree(ROOT / "backup", package / "backup", ignore=no_bytecode)
        (package / "tests").mkdir()
        shutil.copy(ROOT / "tests" / "pool_work.py", package / "tests")
        others = [one for one in sys.path if one.endswith("site-packages")]
        env = environment() | {"PYTHONPATH": os.pathsep.join(others)}
        command = [sys.executable, "-B", "-c", f"import sys; sys.path[0] = {str(package)!r}\n{USE}"]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

        assert (done.stdout, done.stderr) == ("workers\n", "")
        assert not list(package.rglob("*.pyc"))


USE = """
import os
from tests.pool_work import make_pool, results
with make_pool() as pool:
    (found,) = results(pool, [(0, "nothing")])
print("this process" if found.process == os.getpid() else "workers")
"""
IN_A_ZIP = USE + "import backup\nassert '.pyz' in backup.__file__\n"


def no_bytecode(_directory, names):
    return [name for name in names if name == "__pycache__"]
