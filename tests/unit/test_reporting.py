"""What a run tells its supervisor, through a pipe that nobody waits for and nobody trusts."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.child_run import ChildRun
from backup.environment import environment_of_run
from backup.reporting import Report, Reporter, Reports, name_of_pipe, own_reporter
from tests.checkout import ROOT


@pytest.fixture
def pipe():
    """Return both ends of a pipe; a test may close them."""
    ends = os.pipe()
    os.set_blocking(ends[1], False)
    yield ends
    for one in ends:
        try:
            os.close(one)
        except OSError:
            continue


def heard(reader):
    os.set_blocking(reader, False)
    try:
        return [json.loads(line) for line in os.read(reader, 1 << 20).splitlines()]
    except BlockingIOError:
        return []


class TestARun:
    def test_tells_the_first_and_the_last_of_each_phase_and_little_between(self, pipe):
        reader, writer = pipe
        reporter = Reporter(writer)
        for done in range(1000):
            reporter.tell("reading", done, 999)
        reporter.tell("proving", 0, None)
        reporter.flush()

        told = [(one["what"], one["done"], one["total"]) for one in heard(reader)]
        assert told[0] == ("reading", 0, 999)
        assert told[-2:] == [("reading", 999, 999), ("proving", 0, None)]
        assert len(told) < 6

    def test_tells_at_most_twice_a_second(self, pipe):
        reader, writer = pipe
        reporter = Reporter(writer)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            reporter.tell("reading", time.monotonic(), None)

        assert 2 <= len(heard(reader)) <= 3

    def test_does_not_wait_where_nobody_reads(self, pipe):
        _, writer = pipe
        reporter = Reporter(writer)
        began = time.monotonic()
        for number in range(5000):
            reporter.tell(f"phase {number}", number, None)

        assert time.monotonic() - began < 2
        assert reporter.is_heard

    def test_goes_on_when_its_supervisor_is_gone(self, pipe):
        reader, writer = pipe
        reporter = Reporter(writer)
        os.close(reader)
        reporter.tell("reading", 1, None)
        reporter.tell_details({"size": 1})

        assert not reporter.is_heard

    def test_tells_nobody_where_there_is_none(self):
        reporter = Reporter()
        reporter.tell("reading", 1, None)
        reporter.tell_details({})
        reporter.close()

        assert not reporter.is_heard

    def test_finds_its_pipe_once(self, pipe, monkeypatch):
        _, writer = pipe
        for name, value in environment_of_run(name_of_pipe(writer)).items():
            monkeypatch.setenv(name, value)
        os.set_inheritable(writer, True)

        assert own_reporter().is_heard
        assert not os.get_inheritable(writer)
        assert not own_reporter().is_heard

    @pytest.mark.parametrize(
        "said", ["", "x", "1", "-1:1:1", "99999999999:1:1", "700:1:1", "²:1:1"]
    )
    def test_takes_nothing_else_for_it(self, said, monkeypatch):
        for name, value in environment_of_run(said).items():
            monkeypatch.setenv(name, value)

        assert not own_reporter().is_heard

    def test_takes_no_other_pipe_of_that_number_for_it(self, pipe, monkeypatch):
        _, writer = pipe
        said = name_of_pipe(writer)
        other = os.pipe()
        os.dup2(other[1], writer)
        for name, value in environment_of_run(said).items():
            monkeypatch.setenv(name, value)

        assert not own_reporter().is_heard
        for one in other:
            os.close(one)


WORDS = st.text(max_size=40)
AMOUNTS = st.integers(0, 1 << 60)
DETAILS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True),
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | WORDS,
    max_size=8,
)


class TestASupervisor:
    @given(WORDS, AMOUNTS, st.none() | AMOUNTS, DETAILS, st.integers(1, 50))
    def test_hears_what_was_told_however_it_is_cut(self, what, done, total, details, cut):
        reader, writer = os.pipe()
        reporter, reports = Reporter(writer), Reports()
        reporter.tell(what, done, total)
        reporter.tell_details(details)
        reporter.close()
        with open(reader, "rb") as file:  # noqa: PTH123 - a descriptor
            told = file.read()
        for at in range(0, len(told), cut):
            reports.feed(told[at : at + cut])

        assert reports.last == Report(what, done, total)
        assert reports.details == details

    @given(st.binary(max_size=300))
    def test_takes_anything_and_goes_on(self, garbage):
        reports = Reports()
        reports.feed(garbage + b"\n")

        assert reports.feed(b'{"what": "reading", "done": 7}\n')
        assert reports.last == Report("reading", 7, None)

    @pytest.mark.parametrize(
        "line",
        [
            b"[" * 4000,
            b'{"details": ' + b'{"a": ' * 600 + b"}",
            b'{"what": "x", "done": -1}',
            b'{"what": "x", "done": 1e400}',
            b'{"what": "x", "done": 99999999999999999999999999}',
            b'{"what": 5, "done": 1}',
            b'{"details": {"size": [1]}}',
            b"\xff\xfe{}",
            b"null",
        ],
    )
    def test_drops_what_makes_no_sense(self, line):
        reports = Reports()

        assert not reports.feed(line + b"\n")
        assert (reports.last, reports.details) == (None, {})

    def test_takes_no_line_without_an_end(self):
        reports = Reports()
        for _ in range(1000):
            reports.feed(b"x" * 65536)

        assert sys.getsizeof(reports._begun) < 10_000
        assert reports.feed(b'x"}\n{"what": "y", "done": 1}\n')
        assert reports.last == Report("y", 1, None)

    def test_takes_details_that_can_be_written_down_and_not_too_many(self):
        reports = Reports()
        said = {"good": 1, "Bad Name": 1, "huge": 1 << 63, "nan": 1.5, "text": "x" * 3000}
        reports.feed(json.dumps({"details": said}).encode() + b"\n")
        assert reports.details == {"good": 1, "nan": 1.5, "text": "x" * 500}

        reports.feed(json.dumps({"details": {f"k{n}": n for n in range(99)}}).encode() + b"\n")
        assert len(reports.details) == 32

    def test_hears_of_names_that_are_no_text(self, pipe):
        reader, writer = pipe
        reporter, reports = Reporter(writer), Reports()
        reporter.tell("a\udcff", 1, None)
        reporter.tell_details({"name": "\udcff"})

        assert reports.feed(os.read(reader, 4096))
        assert (reports.last.what, reports.details) == ("a?", {"name": "?"})


CHILD = """
import os, subprocess, sys
sys.path.insert(0, {root!r})
from backup.reporting import own_reporter
reporter = own_reporter()
look = '''
import os, stat
pipes = [n for n in range(3, 50) if os.path.exists(f"/proc/self/fd/{{n}}")
    and stat.S_ISFIFO(os.stat(f"/proc/self/fd/{{n}}").st_mode)]
print(pipes, [n for n in os.environ if "REPORT" in n])
'''
subprocess.run([sys.executable, '-c', look], close_fds=False)
reporter.tell('reading', 5, 10)
reporter.tell_details({{'size': 10}})
"""


class TestThroughAProcess:
    def test_what_a_run_tells_arrives_and_what_it_starts_has_no_part_in_it(self):
        told = []
        child = ChildRun(
            [sys.executable, "-c", CHILD.format(root=str(ROOT))], on_report=told.append
        )
        end = child.run()

        assert (end.status, end.out) == (0, b"[] []\n"), end.err
        assert told == [Report("reading", 5, 10)]
        assert end.details == {"size": 10}

    def test_a_flood_of_reports_delays_nothing(self):
        code = (
            "import os, sys\n"
            "pipe = int(os.environ['_AUTO_BACKUP_REPORTS'].partition(':')[0])\n"
            "for _ in range(3000): os.write(pipe, b'{\"what\": 1}' * 999)\n"
            'os.write(pipe, b\'\\n{"what": "x", "done": 3}\\n\')'
        )
        told = []
        end = ChildRun([sys.executable, "-c", code], timeout=60, on_report=told.append).run()

        assert end.status == 0, end.err
        assert told == [Report("x", 3, None)]
