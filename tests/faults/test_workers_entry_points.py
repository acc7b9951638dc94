"""Workers start, and do the work, however the program or the library is begun."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from backup.restore.manager import RestoreManager
from tests.checkout import ROOT, files
from tests.cli import environment
from tests.conftest import NOBODY
from tests.ordinary_user import python_for_all
from tests.processes import Watch

PYTHON = sys.executable
SCRIPT = ROOT / "backup.py"
LIBRARIES = sysconfig.get_path("purelib")
SIZE = 42_000_000
DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("key_file")]


@pytest.fixture(scope="module")
def much(tmp_path_factory):
    """Return a directory of as much as several workers are worth."""
    top = tmp_path_factory.mktemp("much")
    (top / "large").write_bytes(random.Random(1).randbytes(SIZE))
    (top / "small").write_text("a little")
    return top


@pytest.fixture
def saves(much, store, key, tmp_path):
    """Return a function that runs a command with workers, and looks at what came of it."""

    def check(*command, options=True, count=1, **given):
        more = ["--now", "--workers", 2, "--source", much, "--store", store] if options else []
        if options:
            more += ["--compression", "none"]
        known = {"cwd": tmp_path, "env": environment(), "stdout": subprocess.DEVNULL}
        arguments = [str(one) for one in (*command, *more)]
        with (
            subprocess.Popen(arguments, stderr=subprocess.PIPE, **known | given) as process,
            Watch(process.pid) as watch,
        ):
            err = process.communicate(timeout=60)[1].decode()
        assert (process.returncode, err) == (0, "")
        assert len(watch.workers) == 2 * count
        manager = RestoreManager(store, key)
        assert len(manager.list_snapshots()) == count
        for one in manager.list_snapshots():
            assert manager.validate(one.name).holds

    return check


class TestTheCommand:
    @pytest.mark.parametrize(
        "command",
        [
            (SCRIPT,),
            ("-m", "backup"),
            ("-I", "-m", "backup"),
            ("-P", "-m", "backup"),
            *([("-I", SCRIPT), ("-B", "-W", "error", "-m", "backup")] if DEEP else []),
        ],
        ids=lambda command: " ".join(getattr(one, "name", one) for one in command),
    )
    def test_by_python(self, command, saves):
        saves(PYTHON, *command)

    def test_by_its_name(self, saves):
        saves(Path(PYTHON).with_name("auto-backup"))

    def test_by_a_relative_path_from_elsewhere(self, saves, tmp_path):
        place = tmp_path / "else" / "where"
        place.mkdir(parents=True)
        python = os.path.relpath(Path(PYTHON).parent.resolve() / Path(PYTHON).name, place)

        saves(python, os.path.relpath(SCRIPT, place), cwd=place)

    def test_without_installation(self, saves):
        path = os.pathsep.join((str(ROOT), LIBRARIES))
        base = Path(sys.base_exec_prefix) / "bin" / f"python{sysconfig.get_python_version()}"

        saves(base, "-S", "-m", "backup", env=environment() | {"PYTHONPATH": path})

    def test_from_a_zip_file(self, saves, tmp_path):
        archive = tmp_path / "auto-backup.pyz"
        with zipfile.ZipFile(archive, "w") as file:
            for name in files():
                if name.parts[0] == "backup":
                    file.write(ROOT / name, name)
            file.writestr("__main__.py", "from backup.cli import main\nraise SystemExit(main())\n")

        env = environment() | {"PYTHONPATH": LIBRARIES}
        saves(PYTHON, archive, env=env)

    @pytest.mark.parametrize(
        "shell",
        [
            'exec "$@" <&- >&- 2>&-',
            *(['exec "$@" <&-', 'exec "$@" >&- 2>&-'] if DEEP else []),
            "trap '' CHLD INT HUP; exec \"$@\"",
            'mkdir gone; cd gone; rmdir ../gone; exec "$@"',
            'ulimit -c unlimited; ulimit -n 64; exec "$@"',
        ],
    )
    def test_by_a_shell(self, shell, saves):
        saves("/bin/sh", "-c", shell, "sh", PYTHON, "-m", "backup")


IMPORTED = """
import os
from pathlib import Path
with Path({counter!r}).open("a") as file:
    file.write(f"{{os.getpid()}}\\n")
from backup import BackupManager
def save(job="job"):
    manager = BackupManager({much!r}, {store!r}, job=job, compression="none", workers=2)
    return manager.create_snapshot()
"""

PROGRAMS = {
    "the main thread": "import imported; imported.save()",
    "a thread beside busy ones": """
import sys, threading, time
import imported
over = threading.Event()
def work():
    while not over.is_set():
        with open("/dev/null") as file:
            sum(range(1000))
        time.sleep(0.001)
busy = [threading.Thread(target=work) for _ in range(8)]
sys.setswitchinterval(0.0005)
for one in busy: one.start()
thread = threading.Thread(target=imported.save)
thread.start(); thread.join()
over.set()
""",
    "asyncio": """
import asyncio
import imported
async def main():
    ticks = 0
    task = asyncio.create_task(asyncio.to_thread(imported.save))
    while not task.done():
        ticks += 1
        await asyncio.sleep(0.01)
    await task
    assert ticks > 3
asyncio.run(main())
""",
    "a forked child": """
import os
import imported
child = os.fork()
if not child:
    imported.save()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
    "a program with own handlers": """
import os, signal
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
signal.signal(signal.SIGCHLD, reap)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
import imported
imported.save()
""",
    "another name of Python": """
import sys
sys.executable = "/usr/sbin/uwsgi"
import imported
imported.save()
""",
}

PROCESSES = """
import multiprocessing
import imported
if __name__ == "__main__":
    context = multiprocessing.get_context({how!r})
    child = context.Process(target=imported.save, daemon={daemon})
    child.start(); child.join()
    raise SystemExit(child.exitcode)
"""


@pytest.fixture
def program(much, store, tmp_path, saves):
    """Return a function that runs a program that saves; it returns how often modules were run."""

    def run(text, **given):
        counter = tmp_path / "imports"
        counter.touch()
        names = {"counter": str(counter), "much": str(much), "store": str(store)}
        (tmp_path / "imported.py").write_text(IMPORTED.format(**names))
        (tmp_path / "program.py").write_text(text)
        saves(PYTHON, tmp_path / "program.py", options=False, **given)
        return len(counter.read_text().splitlines())

    return run


class TestTheLibrary:
    @pytest.mark.parametrize("place", PROGRAMS)
    def test_in(self, place, program):
        assert program(PROGRAMS[place]) == 1

    @pytest.mark.parametrize("daemon", [False, True] if DEEP else [True])
    @pytest.mark.parametrize(("how", "imports"), [("fork", 1), ("forkserver", 2), ("spawn", 2)])
    def test_in_processes_of_the_program(self, how, imports, daemon, program):
        """They import the program again themselves; workers never do."""
        assert program(PROCESSES.format(how=how, daemon=daemon)) == imports

    def test_in_two_threads_at_once(self, program):
        two = """
import threading
import imported
threads = [threading.Thread(target=imported.save, args=[name]) for name in ("one", "two")]
for one in threads: one.start()
for one in threads: one.join()
"""
        assert program(two, count=2) == 1


class TestAnOrdinaryUser:
    def test_saves_what_that_user_may_read(self, much, open_dir, key):
        python, env = python_for_all()
        source, store = open_dir / "source", open_dir / "store"
        source.mkdir(mode=0o755)
        (source / "large").write_bytes((much / "large").read_bytes())
        (source / "closed").touch(mode=0o600)
        (open_dir / "key").write_text(key)
        (open_dir / "key").chmod(0o600)
        os.chown(open_dir / "key", NOBODY, NOBODY)

        own = {"HOME": open_dir, "AUTO_BACKUP_KEY_FILE": open_dir / "key"}
        own |= {"AUTO_BACKUP_STATE_DIR": open_dir / "state"}
        command = [python, "-B", "-m", "backup", "--now", "--workers", "2", "--source", source]
        with (
            subprocess.Popen(
                [*command, "--store", store, "--compression", "none"],
                env=env | {name: str(value) for name, value in own.items()},
                cwd=open_dir,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
            ) as process,
            Watch(process.pid, owners=True) as watch,
        ):
            err = process.communicate(timeout=60)[1].decode()

        assert process.returncode == 3, err
        assert "closed: Permission denied" in err
        assert len(watch.workers) == 2
        assert watch.owners <= {0}, "another process of the user could read the keys"
        (one,) = RestoreManager(store, key).list_snapshots()
        assert RestoreManager(store, key).validate(one.name).holds
