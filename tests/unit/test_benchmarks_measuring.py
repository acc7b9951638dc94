"""What a run takes is measured over all of its processes, and none of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import ROOT

from benchmarks import command, measure, measuring
from benchmarks.contenders import Step, step
from benchmarks.results import load

MIB = 1 << 20
WAITING = 1.0  # seconds; some twenty looks at the memory, fewer on a busy machine

FORKING = f"""
import mmap, os, time
shared = mmap.mmap(-1, 64 * {MIB})
for at in range(0, len(shared), 4096):
    shared[at] = 1
child = os.fork()
if child == 0:
    for at in range(0, len(shared), 4096):
        shared[at]
    own = bytearray(os.urandom(1)) * (32 * {MIB})
    time.sleep({WAITING})
    os._exit(0)
os.waitpid(child, 0)
"""
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
"""


def python(code, *arguments):
    return step(sys.executable, "-I", "-S", "-c", code, *arguments)


@pytest.fixture
def run(tmp_path):
    def measured(one, limit=60.0):
        environment = {"PATH": os.environ["PATH"]}
        log = tmp_path / "log"
        return measuring.run(one, environment=environment, cwd=tmp_path, log=log, limit=limit)

    return measured


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestMemory:
    def test_is_that_of_all_processes_with_shared_pages_once(self, run):
        done = run(python(FORKING))

        assert done.exact
        assert 96 * MIB < done.peak < 96 * MIB + 40 * MIB  # twice the shared ones would be 160

    def test_of_a_process_is_seen_while_it_has_it(self, run):
        assert (
            run(python(f"x = bytearray(80 * {MIB}); import time; time.sleep({WAITING})")).peak
            > 80 * MIB
        )

    def test_of_a_run_that_was_hardly_there_is_not_known(self, run):
        assert run(step("true")).peak == 0

    def test_of_what_has_ended_is_nothing(self):
        process = subprocess.Popen(["true"])
        process.wait()

        assert measure.memory(process.pid) == (0, True)

    def test_of_one_that_hides_itself_is_told_as_a_bound(self, as_nobody):
        with as_nobody():
            size, exact = measure.memory(1)

        assert size > 0
        assert not exact

    def test_children_of_any_thread_are_found(self):
        with subprocess.Popen(["sleep", "30"]) as process:
            try:
                assert process.pid in measure.descendants(os.getpid())
            finally:
                process.kill()


class TestTime:
    def test_is_that_of_the_clock_and_of_all_processors(self, run):
        busy = "import time\nwhile time.process_time() < 0.3: pass"
        done = run(Step((python(busy).stages[0], python(busy).stages[0])))

        assert 0.6 <= done.cpu < 2
        assert done.wall >= 0.3

    def test_of_sleeping_costs_no_processor(self, run):
        done = run(step("sleep", "0.3"))

        assert done.wall >= 0.3
        assert done.cpu < 0.1


class TestPipelines:
    def test_each_stage_reads_what_the_one_before_prints(self, run, tmp_path):
        stages = (("printf", "b\\na\\n"), ("sort",), ("tr", "-d", "\\n"))
        run(Step(stages, output=tmp_path / "sorted"))

        assert (tmp_path / "sorted").read_text() == "ab"

    def test_a_stage_that_fails_fails_the_run_with_its_last_words(self, run):
        stages = (("sh", "-c", "echo first; echo no disk >&2; exit 3"), ("cat",))

        with pytest.raises(measuring.FailedError, match=r"^sh: status 3: no disk$"):
            run(Step(stages, output=Path(os.devnull)))

    def test_a_command_that_is_not_there_fails_the_run(self, run):
        with pytest.raises(measuring.FailedError, match="nosuchcommand"):
            run(Step((("sleep", "60"), ("nosuchcommand",))))

    def test_one_that_takes_too_long_is_ended(self, run, tmp_path):
        code = (
            "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
        )

        with pytest.raises(measuring.FailedError, match="not done after 1 s"):
            run(python(code, tmp_path / "pid"), limit=1)

        assert not is_running((tmp_path / "pid").read_text())

    def test_what_stays_in_the_background_is_ended(self, run, tmp_path):
        run(python(DAEMON, tmp_path / "pid"))

        assert not is_running((tmp_path / "pid").read_text())


class TestWhole:
    WORKS = ("first", "restore", "restore-one", "verify")

    def arguments(self, work, *more):
        kernel = work.parent / "kernel"
        for number in range(30):
            path = kernel / f"{number % 4}" / f"{number}.c"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"int f{number}(void);\n" * 50)
        return ["--work", str(work), "--kernel", str(kernel), "--data", "kernel", *more]

    def test_ours_and_tar_on_a_small_tree(self, tmp_path, capsys):
        work = tmp_path / "work"
        tools = ("--only", "ours-zstd,tar-zstd", "--rounds", "1", "--quick")

        assert command.main(self.arguments(work, *tools)) == 0

        found = load(work / "results" / "results.json")
        assert found.ended == "complete"
        done = {(run.contender, run.work) for run in found.runs if not run.failed}
        assert done == {(key, one) for key in ("ours-zstd", "tar-zstd") for one in self.WORKS}
        assert all(run.wall > 0 and run.cpu > 0 for run in found.runs)
        assert all(run.peak > 0 for run in found.runs if run.contender == "ours-zstd")
        assert all(run.stored > 0 for run in found.runs if run.work == "first")
        assert "kernel, restore: " in capsys.readouterr().out
        assert (work / "results" / "kernel.svg").is_file()
        assert not (work / "run").exists()

    def test_a_tool_that_fails_or_loses_files_is_a_row_and_the_others_go_on(
        self, tmp_path, monkeypatch
    ):
        bin_ = tmp_path / "bin"
        bin_.mkdir()
        fakes = {
            "borg": "case $1 in --version) echo 1.4.0;; create) echo disk on fire; exit 2;; esac",
            "restic": "case $1 in version) echo restic 0.19.1;; init) touch repository;; esac",
        }
        for name, script in fakes.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
            (bin_ / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(bin_), prepend=":")
        work = tmp_path / "work"
        tools = ("--only", "borg,restic,tar-zstd", "--rounds", "2", "--do", "first,restore")

        assert command.main(self.arguments(work, *tools)) == 0

        found = load(work / "results" / "results.json")
        failed = {(run.contender, run.work): run.failed for run in found.runs if run.failed}
        assert failed["borg", "first"] == "borg: status 2: disk on fire"
        assert failed["restic", "restore"].startswith("nothing was restored")
        assert len([run for run in found.runs if run.contender == "tar-zstd"]) == 4

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_it_leaves_results_that_say_so_and_no_process(self, how, tmp_path):
        bin_ = tmp_path / "bin"
        bin_.mkdir()
        script = (
            f'[ "$1" = version ] && exec echo restic 0.19.1\necho $$ > {tmp_path}/pid\nsleep 60\n'
        )
        (bin_ / "restic").write_text(f"#!/bin/sh\n{script}")
        (bin_ / "restic").chmod(0o755)
        work = tmp_path / "work"
        arguments = self.arguments(work, "--only", "tar-zstd,restic", "--rounds", "1")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "compare.py"), *arguments],
            env=os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)

        process.send_signal(how)
        time.sleep(0.05)
        process.send_signal(how)  # as timeout(1) does
        _, told = process.communicate(timeout=30)

        assert process.returncode == 130, told
        assert b"interrupted" in told
        assert b"Traceback" not in told
        assert not is_running((tmp_path / "pid").read_text().strip())
        assert load(work / "results" / "results.json").ended == "interrupted"
        assert "Not complete (interrupted)" in (work / "results" / "results.md").read_text()
        assert not (work / "run").exists()
