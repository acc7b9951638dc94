"""What a test needs and may not find: a server, a tool, a privilege."""

from __future__ import annotations

import os

import pytest

STRICT = os.environ.get("AUTO_BACKUP_TEST_STRICT", "") not in {"", "0"}


def needs(condition: object, reason: str) -> None:
    """Go on where ``condition`` holds; else skip, or fail where nothing may be missing (CI).

    ``reason`` says what is missing: ``needs(shutil.which("bsdtar"), "bsdtar is not installed")``.
    May be called in tests, in fixtures and at the top of a module.
    """
    if condition:
        return
    if STRICT:
        pytest.fail(f"nothing may be missing here, but: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
