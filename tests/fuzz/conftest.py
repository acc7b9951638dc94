"""Tells at the end how much was tried."""

from __future__ import annotations

from tests.fuzz.counting import accepted, given


def pytest_terminal_summary(terminalreporter):
    if not given:
        return
    terminalreporter.section("fuzzing: inputs per target")
    for name, inputs in sorted(given.items()):
        terminalreporter.write_line(f"{inputs:9,} {name} ({accepted[name]:,} accepted)")
    terminalreporter.write_line(f"{given.total():9,} in all")
