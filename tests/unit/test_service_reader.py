"""What the profile reader may do, with real processes that may do no more than that."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from backup.service.unit import CALLS, Profile
from tests.cli import COMMAND, environment
from tests.conftest import NOBODY
from tests.needs import needs
from tests.ordinary_user import python_for_all
from tests.unit_files import allowed_calls

READER = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    "--bounding-set=-all,+dac_read_search",
)
OTHER_USER = READER[:5]


@pytest.fixture
def ground(open_dir, key):
    """Return a directory with a file that only root may read, and a configuration."""
    (open_dir / "closed").mkdir(mode=0o700)
    (open_dir / "closed" / "secret").write_text("for root alone")
    (open_dir / "closed" / "secret").chmod(0o600)
    mine = open_dir / "mine"
    mine.mkdir(mode=0o700)
    (mine / "key").write_text(key)
    (mine / "key").chmod(0o600)
    job = {
        "sources": [str(open_dir / "closed")],
        "stores": [str(mine / "store")],
        "compression": "zstd",
    }
    text = {"version": 1, "host": "h", "key_file": str(mine / "key"), "jobs": {"job": job}}
    (open_dir / "config.json").write_text(json.dumps(text))
    for one in (mine, mine / "key"):
        shutil.chown(one, NOBODY, NOBODY)
    return open_dir


def run_as(prefix, ground, *arguments):
    """Run the command as another user; return its exit status and all that it wrote."""
    needs(shutil.which("setpriv"), "setpriv is not installed")
    python, env = python_for_all()
    env |= {"HOME": str(ground / "mine"), "AUTO_BACKUP_KEY_FILE": "", "AUTO_BACKUP_HOST": "h"}
    options = (f"--config={ground / 'config.json'}", f"--state-dir={ground / 'mine' / 'state'}")
    command = [*prefix, python, "-m", "backup", *options, *map(str, arguments)]
    done = subprocess.run(
        command, env=env, cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


class TestTheCapability:
    def test_a_file_of_root_alone_is_in_the_snapshot(self, ground):
        status, told = run_as(READER, ground, "--now", "job")
        assert status == 0, told
        status, told = run_as(READER, ground, "cat", "h/job", ground / "closed" / "secret")

        assert (status, told) == (0, "for root alone")

    def test_also_where_the_run_is_begun_by_another_one(self, ground):
        status, told = run_as(READER, ground, "schedule", "run", "job")

        assert status == 0, told
        assert "saved 2 entries" in told

    def test_what_it_took_it_verifies_and_rotates(self, ground):
        for words in (("--now", "job"), ("verify",), ("rotate", "--keep", "last=1")):
            status, told = run_as(READER, ground, *words)
            assert status == 0, told

    def test_without_it_that_user_reads_nothing_there(self, ground):
        status, _ = run_as(OTHER_USER, ground, "--now", "job")

        assert status != 0

    def test_it_changes_nothing_of_root(self, ground):
        run_as(READER, ground, "--now", "job")
        target = ground / "closed" / "out"
        status, _ = run_as(READER, ground, "restore", "h/job", "--target", target)

        assert status != 0
        assert [one.name for one in (ground / "closed").iterdir()] == ["secret"]


WORK = {
    "take": ("--now", "job"),
    "verify": ("verify",),
    "rotate": ("rotate", "--keep", "last=1"),
    "restore": ("restore", "h/job", "--target"),
    "scheduled": ("schedule", "run", "job"),
}
"""What a service does, all of it as a process of its own."""

AS_ROOT = {"fchown", "fchownat", "chown", "lchown"}
"""Gives files to their owners, which only root does; tests run as root."""


@pytest.fixture(scope="module")
def traced(tmp_path_factory, key):
    """Return the names of the system calls that each work has used."""
    needs(shutil.which("strace"), "strace is not installed")
    top = tmp_path_factory.mktemp("traced")
    (top / "source").mkdir()
    for number in range(20):
        (top / "source" / str(number)).write_bytes(os.urandom(1_000_000))
    os.setxattr(top / "source" / "1", "user.colour", b"green")
    os.link(top / "source" / "1", top / "source" / "again")
    (top / "key").write_text(key)
    (top / "key").chmod(0o600)
    job = {"sources": [str(top / "source")], "stores": [str(top / "store")], "workers": 2}
    job["compression"] = "zstd"
    text = {"version": 1, "host": "h", "key_file": str(top / "key"), "jobs": {"job": job}}
    (top / "config.json").write_text(json.dumps(text))
    return {name: _calls(top, name, words) for name, words in WORK.items()}


def _calls(top, name, words):
    env = environment() | {"HOME": str(top), "AUTO_BACKUP_KEY_FILE": "", "AUTO_BACKUP_HOST": "h"}
    words = (*words, str(top / "out")) if name == "restore" else words
    options = (f"--config={top / 'config.json'}", f"--state-dir={top / 'state'}")
    trace = ("strace", "-f", "-qq", "-c", "-U", "name", "-o", str(top / name))
    done = subprocess.run(
        [*trace, *COMMAND, *options, *words], env=env, capture_output=True, check=False, text=True
    )
    needs("ptrace" not in done.stderr, "processes cannot be traced here")
    assert done.returncode == 0, done.stderr
    lines = (top / name).read_text().split()
    return {one for one in lines if one[0].isalpha() and one not in {"syscall", "total"}}


class TestSystemCalls:
    @pytest.mark.parametrize("work", WORK)
    @pytest.mark.parametrize("profile", Profile)
    def test_all_that_a_service_does_passes_the_filter(self, traced, profile, work):
        as_root = AS_ROOT if profile is not Profile.ROOT else set()

        assert {"openat", "execve"} < traced[work]
        assert traced[work] - as_root - allowed_calls(CALLS[profile]) == set()

    def test_a_restore_may_confine_itself(self, traced):
        wanted = {name for name in traced["restore"] if name.startswith("landlock")}

        assert wanted <= allowed_calls(CALLS[Profile.READER])

    @pytest.mark.parametrize("call", ["mount", "ptrace", "bpf", "init_module", "settimeofday"])
    @pytest.mark.parametrize("profile", Profile)
    def test_what_no_service_needs_is_refused(self, profile, call):
        assert call not in allowed_calls(CALLS[profile])


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Return what starts a command as the reader's unit does: its calls, no memory made code."""
    needs(shutil.which("gcc"), "gcc, which knows the numbers of system calls, is not installed")
    told = subprocess.run(
        ["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", os.devnull],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    numbers = {n: int(v) for n, v in re.findall(r"^#define __NR_(\w+) (\d+)$", told, re.MULTILINE)}
    allowed = [numbers[one] for one in allowed_calls(CALLS[Profile.READER]) if one in numbers]
    assert len(allowed) > 200
    script = Path(tempfile.mkdtemp(prefix="auto-backup-test-")) / "confined.py"
    script.parent.chmod(0o755)
    script.write_text(CONFINED.format(allowed=sorted(allowed)))
    yield [*READER, python_for_all()[0], "-I", str(script)]
    shutil.rmtree(script.parent)


CONFINED = """\
import ctypes, os, struct, sys
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # EPERM
code = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # the call's number
for number in {allowed}:
    code += [struct.pack("HBBI", 0x15, 0, 1, number), struct.pack("HBBI", 0x06, 0, 0, ALLOW)]
code.append(struct.pack("HBBI", 0x06, 0, 0, REFUSE))
block = ctypes.create_string_buffer(b"".join(code))
program = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(block)))
libc, zero = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong(0)
libc.prctl(65, ctypes.c_ulong(1), zero, zero, zero)  # MemoryDenyWriteExecute, where there is it
arguments = [one.encode() for one in sys.argv[1:]]
array = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
if libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(program), zero, zero):
    sys.exit("no filter")
os.execv(sys.argv[1], sys.argv[1:])
"""


class TestTheWholeFilter:
    def test_it_holds(self, confined, ground):
        code = "import os; os.chown('/', 0, 0)"
        done = subprocess.run(
            [*confined, "/usr/bin/python3", "-c", code], capture_output=True, check=False, text=True
        )

        assert "Operation not permitted" in done.stderr

    def test_a_service_does_all_its_work_in_it(self, confined, ground):
        for number in range(30):
            (ground / "closed" / str(number)).write_bytes(os.urandom(1_000_000))
        for words in (*(WORK[one] for one in ("take", "verify", "rotate", "scheduled")),):
            status, told = run_as(confined, ground, *words)
            assert status == 0, told

    def test_a_restore_in_it_gives_back_all_but_owners(self, confined, ground):
        run_as(confined, ground, "--now", "job", "--host=h")
        out = ground / "mine" / "out"
        status, told = run_as(confined, ground, "restore", "h/job", f"--target={out}")

        assert status == 3, told
        assert "not set: only root may" in told
        back = out / str(ground / "closed" / "secret").lstrip("/")
        assert back.read_text() == "for root alone"
