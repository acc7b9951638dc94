"""What another user than the one who runs the tests can run: a Python, and this checkout."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.checkout import ROOT
from tests.cli import environment
from tests.needs import needs

_LIBRARIES = Path(sysconfig.get_path("purelib"))


def python_for_all():
    """Return a Python that every user may run, and the environment in which it finds all modules.

    Skips the test where root does not run it, or nobody else may read this checkout.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    for directory in (ROOT, _LIBRARIES):
        if not all(one.stat().st_mode & 0o005 == 0o005 for one in (directory, *directory.parents)):
            pytest.skip("this checkout is for its owner alone")
    python = shutil.which(f"python{sysconfig.get_python_version()}", path="/usr/bin:/bin")
    needs(python, "there is no Python of this version that all may use")
    return python, environment() | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(_LIBRARIES)))}
