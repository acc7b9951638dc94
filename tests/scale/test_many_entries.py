"""However many entries there are: memory grows little with each of them, and time in proportion."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.cli import COMMAND, start

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
FEW, MANY = 20_000, 200_000
MOST_BYTES_EACH = 800
"""Of memory. A restore keeps most: links and directories, which it finishes at the end."""
SPREAD_BYTES = 20_000_000
MOST_BYTES = 300_000_000
pytestmark = [pytest.mark.timeout(3600), pytest.mark.usefixtures("key_file")]


class Cost(NamedTuple):
    """What a process took: bytes of memory at its peak, seconds of processor time."""

    memory: int
    seconds: float


def files(top, count):
    for number in range(count):
        (top / f"entry-{number:06}").write_text(str(number))


def tree(top, count):
    for directory in range(count // 50):
        (top / f"{directory:04}").mkdir()
        for number in range(49):
            (top / f"{directory:04}" / f"{number:04}").write_text(str(number))


def hard_links(top, count):
    for number in range(count):
        path, first = top / f"{number:06}", number - number % 10_000
        path.hardlink_to(top / f"{first:06}") if number % 10_000 else path.write_text(str(number))


def symlinks(top, count):
    for number in range(count):
        (top / f"{number:06}").symlink_to(f"../target/of/{number}")


# A process counts the memory of the one that it was forked from: so that one has to be small.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)
"""


def measure(*arguments):
    wrapper = (sys.executable, "-c", MEASURE, *COMMAND)
    with start(*arguments, command=wrapper) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    memory, seconds = out.split()
    return Cost(int(memory), float(seconds))


def costs(top, make, count):
    """Return what each command takes for so many entries."""
    source, options = top / "source", ("--store", top / "store")
    source.mkdir(parents=True)
    make(source, count)
    saving = ("backup", "--source", source, "--compression", "zstd")
    return {
        "backup": measure(*saving, *options),
        "ls": measure("ls", "latest", *options),
        "verify": measure("verify", *options),
        "restore": measure("restore", "latest", "--target", top / "back", *options),
    }


@pytest.mark.skipif(not DEEP, reason="takes minutes: --deep")
@pytest.mark.parametrize("make", [files, tree, hard_links, symlinks])
def test_entries_cost_in_proportion(make, tmp_path):
    few, many = (costs(tmp_path / str(count), make, count) for count in (FEW, MANY))

    for name, cost in many.items():
        more = cost.memory - few[name].memory
        assert more < (MANY - FEW) * MOST_BYTES_EACH + SPREAD_BYTES, (name, few, many)
        assert cost.memory < MOST_BYTES
        assert cost.seconds < 2 * MANY / FEW * few[name].seconds, (name, few, many)


CHAIN = """
import os, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
for _ in range(int(sys.argv[2])):
    os.mkdir("d", dir_fd=directory)
    below = os.open("d", os.O_RDONLY, dir_fd=directory)
    os.close(directory)
    directory = below
os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=directory))
"""


def chain(top, count):
    subprocess.run(["python3", "-c", CHAIN, top, str(count)], check=True)


def test_a_chain_of_directories_is_restored_in_bounded_time(tmp_path):
    """Its paths are up to 8 kB long. It took minutes when each step began at the root."""
    taken = costs(tmp_path / "chain", chain, 4_000 if DEEP else 1_000)
    subprocess.run(["rm", "-rf", tmp_path / "chain"], check=True)

    assert taken["restore"].seconds < (60 if DEEP else 3)
    assert max(cost.memory for cost in taken.values()) < MOST_BYTES
