"""From a step to what it took: starts ``measure.py`` and understands what that says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import Step

_PROGRAM = Path(__file__).with_name("measure.py")
_PATIENCE = 15.0  # seconds for a run that is told to end


@dataclass(frozen=True)
class Measured:
    """What a run took: seconds, bytes; a peak of 0 is not known, as the run was too short."""

    wall: float
    cpu: float
    peak: int
    exact: bool  # otherwise the peak is an upper bound


class FailedError(Exception):
    """A run failed; the message tells why, in one line."""


def run(step: Step, *, environment: dict[str, str], cwd: Path, log: Path, limit: float) -> Measured:
    """Carry out a step and return what it took.

    Raises:
        FailedError: It could not be started, took longer than ``limit`` seconds, or ended with
            another status than 0.
    """
    spec = {
        "stages": step.stages,
        "cwd": str(step.cwd or cwd),
        "env": environment,
        "log": str(log),
        "output": str(step.output) if step.output else None,
    }
    return _judged(step, _ask(spec, limit), log)


def _ask(spec: dict[str, Any], limit: float) -> dict[str, Any]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us to hand on
    )
    try:
        said, _ = process.communicate(json.dumps(spec), timeout=limit)
    except subprocess.TimeoutExpired:
        raise FailedError(f"not done after {limit:.0f} s") from None
    finally:
        _end(process)
    if process.returncode:
        raise FailedError(f"it could not be measured (status {process.returncode})")
    answer: dict[str, Any] = json.loads(said)
    return answer


def _end(process: subprocess.Popen[str]) -> None:
    """See to it that nothing of a run is left."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def _judged(step: Step, said: dict[str, Any], log: Path) -> Measured:
    if "error" in said:
        raise FailedError(said["error"])
    for stage, status in zip(step.stages, said["statuses"], strict=True):
        if status:
            raise FailedError(f"{Path(stage[0]).name}: status {status}: {_last_words(log)}")
    return Measured(said["wall"], said["cpu"], said["peak"], said["exact"])


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:160] if said else "it says nothing"
