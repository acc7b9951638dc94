"""A process that does one workload after the other, each in a child in which a call goes wrong.

It has the library of ``shim.c`` preloaded and all modules imported, so that a fault costs a fork
and not the start of an interpreter. It reads a line of JSON for each, and answers with one.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.invariants import checks_of
from tests.faults.power_loss import Disk, Known, check_power_loss, read_log
from tests.faults.shim import Action, Shim
from tests.faults.workloads import ALONE, WORKLOADS
from tests.faults.world import Outcome, Workload, World, files_below, outcome_of
from tests.vectors.reading import read, read_vector, vector_names

READS = ("read", "open", "stat", "list")
_LONGEST_SECONDS = 10


class Server:
    """What the process knows between two lines."""

    def __init__(self, base: Path) -> None:
        self.world = World(base / "world")
        self.shim = Shim()
        self.writes = [name for name in self.shim.names if name not in {"none", *READS}]
        self.templates: dict[str, dict[str, bytes]] = {}
        self._kept = base / "templates"
        self._log = base / "log"
        self.second: Outcome | None = None

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks for."""
        if "vectors" in asked:
            return {"end": "done", "fired": "", "wrong": list(_check_vectors(asked["vectors"]))}
        workload = (WORKLOADS | ALONE)[asked["workload"]]
        self.second = None
        before = self._lay_out(asked["workload"], workload)
        power = asked.get("power", False)
        disk = Disk(self.world.now) if power else None
        outcome, log = self._run(workload, asked, power=power)
        answer = {"end": outcome.end, "error": outcome.error, "fired": self.shim.fired}
        if self.second is not None:
            answer["second"] = asdict(self.second)
            outcome.value.setdefault("store", []).extend(self.second.value.get("store", []))
            outcome.others = True
        if asked.get("calls"):
            answer["calls"] = self.shim.calls()
        if disk is not None:
            answer["states"], answer["wrong"] = check_power_loss(
                self.world,
                Known(workload, before, {}, files_below(self.world.now)),
                outcome,
                list(read_log(log)),
                disk,
                seed=asked.get("seed", 0),
            )
        else:
            answer["wrong"] = checks_of(workload, self.world, outcome, before)
        if not asked.get("action") and outcome.end != "done":
            answer["wrong"].append(f"it failed though nothing went wrong: {outcome.text}")
        if asked.get("action") == "SHORT" and outcome.end != "done":
            answer["wrong"].append(f"half of what was asked for was too little: {outcome.text}")
        return answer

    def _lay_out(self, name: str, workload: Workload) -> dict[str, bytes]:
        """Let the world be as it is before the workload; return its files."""
        kept, now = self._kept / name, self.world.now
        shutil.rmtree(now, ignore_errors=True)
        if name not in self.templates:
            for place in (self.world.store, self.world.state, self.world.second):
                place.parent.mkdir(parents=True, exist_ok=True)
            self.world.set_clock(minutes=-30)
            workload.prepare(self.world)
            shutil.copytree(now, kept)
            self.templates[name] = files_below(now)
        else:
            shutil.copytree(kept, now)
        self.world.set_clock()
        return self.templates[name]

    def _run(
        self, workload: Workload, asked: dict[str, Any], *, power: bool
    ) -> tuple[Outcome, bytes]:
        names = asked.get("below") or workload.below
        log = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND) if power else -1
        below = [self.world.now] if power else [getattr(self.world, name) for name in names]
        self.shim.set(
            below,
            READS if asked.get("domain") == "reads" else self.writes,
            at=asked.get("at", 0),
            action=Action[asked.get("action", "NONE")],
            error=getattr(errno, asked.get("error", "EIO")),
            eligible=asked.get("eligible"),
            log=log,
        )
        outcome = self._in_a_child(workload, stops=asked.get("action") == "STOP_BEFORE")
        outcome.lasting = asked.get("action") == "FAIL_ON"
        outcome.lies = asked.get("action") == "FLIP"
        outcome.on_source = tuple(names) == ("source",)
        if log < 0:
            return outcome, b""
        os.close(log)
        return outcome, self._log.read_bytes()

    def _in_a_child(self, workload: Workload, *, stops: bool = False) -> Outcome:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _do(workload, self.world, self.shim, writing)
        os.close(writing)
        if stops:
            self._meanwhile(workload, child)
        with os.fdopen(reading, "rb") as pipe:
            text = _read_within(pipe.fileno(), _LONGEST_SECONDS)
        if text is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if text is None:
            return Outcome("hung", text=f"no end within {_LONGEST_SECONDS} s")
        if os.WIFSIGNALED(status):
            return Outcome("killed")
        return Outcome(**json.loads(text)) if text else Outcome("foreign", text=f"exit {status}")

    def _meanwhile(self, workload: Workload, child: int) -> None:
        """Do the same in this process while the child stands still; then let the child go on."""
        _, status = os.waitpid(child, os.WUNTRACED)
        assert os.WIFSTOPPED(status), status
        self.second = outcome_of(workload, self.world)
        os.kill(child, signal.SIGCONT)


def _check_vectors(start: str) -> Iterator[str]:
    for name in vector_names():
        if name.startswith(start):
            vector = read_vector(name)
            found = read(vector)
            if found.result != vector.expect:
                yield f"{name} gave {found.result}, not {vector.expect}"


def _read_within(pipe: int, seconds: float) -> bytes | None:
    end = time.monotonic() + seconds
    text = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], max(end - time.monotonic(), 0))
        if not ready:
            return None
        block = os.read(pipe, 1 << 16)
        if not block:
            return text
        text += block


def _do(workload: Workload, world: World, shim: Shim, writing: int) -> None:
    """Run the workload, tell its end, and end this process without any tidying."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    told = asdict(outcome_of(workload, world, around=shim.armed))
    os.write(writing, json.dumps(told).encode())
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    server = Server(Path(arguments[0]))
    for line in sys.stdin:
        try:
            answer = server.answer(json.loads(line))
        except Exception:  # noqa: BLE001 - told to whoever asked
            answer = {"crash": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
