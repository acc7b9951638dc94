"""The fuzzer that is led by coverage runs on every target, and finds nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.counting import count
from tests.fuzz.targets import TARGETS

DEEP = os.environ.get("AUTO_BACKUP_TEST_DEPTH") == "deep"
SECONDS = 300 if DEEP else 1
SCRIPT = Path(__file__).with_name("run.py")

if importlib.util.find_spec("atheris") is None:
    # Not by needs(): it has wheels for some Pythons only, and is a second engine beside hypothesis.
    pytest.skip("atheris is not installed: pip install '.[fuzz]'", allow_module_level=True)


@pytest.mark.timeout(SECONDS * 2 + 120)
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_holds(name, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, name, "--seconds", str(SECONDS)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    inputs = re.search(r"Done (\d+) runs", done.stderr)
    assert inputs is not None
    assert int(inputs[1]) > len(TARGETS[name].seeds)
    count(f"{name}, by coverage", int(inputs[1]), 0)
