"""The daemon's socket: who may ask, what is told, and that nobody is delayed by who listens."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.control import (
    Answer,
    Begun,
    Ended,
    Finished,
    Moved,
    Refused,
    Request,
    Server,
    Wrote,
    ask,
    connect,
)
from backup.control.addresses import Peer, may_answer, may_ask, short_path
from backup.control.messages import LONGEST, NotAMessageError, reply_of, request_of, to_line
from backup.errors import ConfigError, DaemonError, LockedError
from tests.ordinary_user import python_for_all

STATUS = Request("status")
_ASKING = """
import sys
from pathlib import Path
from backup.control import Request, ask
from backup.errors import BackupError
try:
    print(ask(Path(sys.argv[1]), Request("status"), {0}))
except BackupError as error:
    print("refused:", error.message)
"""


@contextmanager
def serving(path, handle, **options):
    server = Server(path, handle, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def saying(*replies):
    def handle(_, conversation):
        for one in replies:
            conversation.tell(one)
        conversation.finish()

    return handle


def saying_nothing(*_):
    return


def answering(**fields):
    return saying(Answer(fields))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


class TestAsking:
    def test_what_is_asked_gets_to_the_daemon(self, path):
        asked = []

        def handle(request, conversation):
            asked.append(request)
            conversation.finish()

        request = Request("run", ("docs", "photos"), ("--json",))
        with serving(path, handle), connect(path, request) as call:
            assert list(call) == []
        assert asked == [request]

    def test_all_that_is_told_comes_in_its_order(self, path):
        told = [
            Begun("docs"),
            Moved("docs", "docs", 5, 10),
            Wrote("docs", 1, b"snapshot \xff\x00\n"),
            Ended("docs", "done", 0),
            Refused("it runs already", 11, "wait", "photos"),
        ]
        with serving(path, saying(*told)), connect(path, STATUS) as call:
            assert list(call) == told

    def test_an_answer_in_one_piece_is_returned(self, path):
        with serving(path, answering(pid=5)):
            assert ask(path, STATUS) == Answer({"pid": 5})

    def test_the_same_daemon_answers_many_at_once(self, path):
        found = []

        def ask_and_note():
            found.append(ask(path, STATUS))

        with serving(path, answering(pid=5)):
            threads = [threading.Thread(target=ask_and_note) for _ in range(20)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
        assert found == [Answer({"pid": 5})] * 20

    def test_nobody_listens_where_there_is_no_socket(self, path, tmp_path):
        assert ask(path, STATUS) is None
        assert ask(tmp_path / "no directory" / "control.sock", STATUS) is None

    def test_nobody_listens_at_a_socket_that_a_killed_daemon_left(self, path):
        with closing(socket.socket(socket.AF_UNIX)) as left, short_path(path) as address:
            left.bind(address)
        assert path.is_socket()
        assert ask(path, STATUS) is None

    def test_a_daemon_listens_where_a_killed_one_has_left_its_socket(self, path):
        with closing(socket.socket(socket.AF_UNIX)) as left, short_path(path) as address:
            left.bind(address)
        with serving(path, answering(pid=5)):
            assert ask(path, STATUS) == Answer({"pid": 5})

    def test_a_path_may_be_longer_than_addresses_are(self, tmp_path):
        deep = tmp_path / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        with serving(deep / "control.sock", answering(pid=5)):
            assert ask(deep / "control.sock", STATUS) == Answer({"pid": 5})

    def test_a_daemon_that_has_stopped_leaves_no_socket(self, path):
        with serving(path, answering()):
            assert path.is_socket()
        assert not path.exists()
        assert ask(path, STATUS) is None


class TestRefusals:
    def test_an_error_of_ours_is_raised_at_the_other_end(self, path):
        def handle(_, __):
            raise LockedError("docs runs already", hint="wait")

        with serving(path, handle), pytest.raises(LockedError, match="docs runs already") as caught:
            ask(path, STATUS)
        assert caught.value.hint == "wait"

    def test_all_problems_of_a_configuration_are_told(self, path):
        def handle(_, __):
            raise ConfigError.of_problems("config.yaml", ("config.yaml:1: a", "config.yaml:2: b"))

        with serving(path, handle), pytest.raises(ConfigError) as caught:
            ask(path, STATUS)
        assert caught.value.problems == ("config.yaml:1: a", "config.yaml:2: b")

    @pytest.mark.parametrize("sent", [b"\n", b"{}\n", b'{"do":"format"}\n', b"\xff\n", b"[" * 5000])
    def test_what_is_no_question_is_refused(self, path, sent):
        with serving(path, answering()), raw(path) as ours:
            ours.sendall(sent)
            ours.shutdown(socket.SHUT_WR)
            assert b'"type":"refused"' in ours.makefile("rb").read()

    def test_options_that_change_more_than_how_a_run_tells_are_no_question(self):
        with pytest.raises(NotAMessageError):
            request_of(b'{"do":"run","names":["docs"],"options":["--store=/tmp/x"]}\n')

    def test_a_daemon_that_hangs_is_not_waited_for(self, path, monkeypatch):
        monkeypatch.setattr("backup.control.client._ANSWERING", 0.2)
        with (
            serving(path, saying_nothing),
            pytest.raises(DaemonError, match="does not answer"),
        ):
            ask(path, STATUS)

    def test_a_daemon_that_ends_meanwhile_is_told(self, path):
        with listening(path) as listener:
            thread = threading.Thread(target=hang_up, args=(listener,))
            thread.start()
            with pytest.raises(DaemonError, match="has ended"):
                ask(path, STATUS)
            thread.join()

    def test_an_answer_that_is_none_is_told(self, path):
        def answer(listener):
            theirs, _ = listener.accept()
            with theirs:
                theirs.recv(1000)
                theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with listening(path) as listener:
            thread = threading.Thread(target=answer, args=(listener,))
            thread.start()
            with pytest.raises(DaemonError, match="cannot be understood"):
                ask(path, STATUS)
            thread.join()


def hang_up(listener):
    theirs, _ = listener.accept()
    theirs.close()


@contextmanager
def listening(path):
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        with short_path(path) as address:
            listener.bind(address)
        listener.listen()
        yield listener


@contextmanager
def raw(path):
    with closing(socket.socket(socket.AF_UNIX)) as ours:
        ours.settimeout(10)
        with short_path(path) as address:
            ours.connect(address)
        yield ours


class TestNobodyIsDelayed:
    def test_one_who_asks_nothing_does_not_keep_others_from_it(self, path):
        with serving(path, answering(pid=5)), raw(path), raw(path):
            assert ask(path, STATUS) == Answer({"pid": 5})

    def test_telling_one_who_does_not_listen_takes_no_time(self, path):
        block, kept = b"x" * 1000, []

        def handle(_, conversation):
            kept.append(conversation)

        with serving(path, handle), raw(path) as ours:
            ours.sendall(to_line(STATUS))
            conversation = soon(lambda: kept and kept[0])
            began = time.monotonic()
            for number in range(20_000):
                conversation.tell(Wrote("docs", 1, block))
                conversation.tell(Moved("docs", "docs", number))
            assert time.monotonic() - began < 5
            assert len(kept) == 1

    def test_what_a_slow_one_cannot_take_is_dropped_but_not_what_became_of_runs(self, path):
        ends = [Ended("docs", "failed", 1), Refused("it runs already", 11, job="photos")]

        def handle(_, conversation):
            for number in range(100_000):
                conversation.tell(Moved("docs", "docs", number))
                conversation.tell(Wrote("docs", 2, b"x"))
            for end in ends:
                conversation.tell(end)
            conversation.finish()

        with serving(path, handle), connect(path, STATUS) as call:
            told = list(call)
        assert told[-2:] == ends

    def test_who_asks_byte_by_byte_is_not_waited_for(self, path, monkeypatch):
        monkeypatch.setattr("backup.control.server._ASKING", 0.5)
        with serving(path, answering(pid=5)), raw(path) as ours:
            began = time.monotonic()
            with suppress(OSError):
                while time.monotonic() - began < 5:
                    ours.sendall(b"x")
                    time.sleep(0.05)
            assert time.monotonic() - began < 3

    def test_where_too_many_ask_the_next_one_is_told_so(self, path):
        with serving(path, answering(pid=5)), ExitStack() as crowd:
            for _ in range(32):
                crowd.enter_context(raw(path))
            with pytest.raises(LockedError, match="too many ask the daemon at once"):
                soon(lambda: ask(path, STATUS) is None)

    def test_the_daemon_notices_that_somebody_has_left(self, path):
        kept, left = [], threading.Event()

        def handle(_, conversation):
            conversation.on_close = left.set
            kept.append(conversation)

        with serving(path, handle):
            with connect(path, STATUS):
                soon(lambda: kept)
            assert left.wait(10)
        assert not kept[0].is_open

    def test_many_conversations_leave_no_descriptor_and_no_thread(self, path):
        with serving(path, answering(pid=5)):
            ask(path, STATUS)
            soon(lambda: threads() == [])
            before = descriptors()
            for _ in range(200):
                ask(path, STATUS)
            soon(lambda: threads() == [])
            assert descriptors() <= before

    def test_a_server_that_has_stopped_leaves_no_descriptor(self, path):
        before = descriptors()
        for _ in range(5):
            with serving(path, answering()):
                ask(path, STATUS)
        soon(lambda: threads() == [])
        assert descriptors() <= before


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def threads():
    return [one for one in threading.enumerate() if "conversation" in one.name]


def soon(holds):
    deadline = time.monotonic() + 10
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


class TestWhoMayAsk:
    def test_the_socket_is_for_its_owner_alone(self, path):
        with serving(path, answering()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_socket_is_for_its_group_where_there_is_one(self, path):
        with serving(path, answering(), group=os.getgid()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert path.stat().st_gid == os.getgid()

    @pytest.mark.parametrize(
        ("peer", "group", "may"),
        [
            (Peer(0, frozenset()), None, True),
            (Peer(500, frozenset({500})), None, True),
            (Peer(501, frozenset({501})), None, False),
            (Peer(501, frozenset({501, 77})), 77, True),
            (Peer(501, frozenset({501})), 77, False),
        ],
    )
    def test_root_the_daemons_user_and_members_of_its_group_may_ask(self, peer, group, may):
        assert may_ask(peer, 500, group) == may

    def test_only_root_and_users_that_are_named_are_believed(self):
        assert may_answer(Peer(0, frozenset()), {500})
        assert may_answer(Peer(500, frozenset()), {500})
        assert not may_answer(Peer(501, frozenset()), {500})

    def test_another_user_is_refused_by_the_daemon_too(self, open_dir):
        told, _ = ask_as_other(open_dir, ["--reuid", "65534", "--clear-groups"], mode=0o666)
        assert told == "refused: you may not ask this daemon for anything\n"

    def test_another_user_cannot_even_connect(self, open_dir):
        told, _ = ask_as_other(open_dir, ["--reuid", "65534", "--clear-groups"], mode=0o600)
        assert "you may not ask the daemon at" in told

    def test_a_member_of_the_group_is_answered(self, open_dir):
        member = ["--reuid", "65534", "--regid", "65534", "--groups", "4321"]
        told, _ = ask_as_other(open_dir, member, group=4321)
        assert told == "Answer(fields={'pid': 5})\n"

    def test_members_of_the_group_cannot_keep_root_from_it(self, tmp_path):
        python_for_all()
        path = tmp_path / "control.sock"
        program = (
            "import os, socket, sys, time; os.setgroups([4321]); os.setuid(65534)\n"
            "kept = [socket.socket(socket.AF_UNIX) for _ in range(40)]\n"
            "for one in kept: one.connect('control.sock')\n"
            "print('asks', flush=True); time.sleep(60)"
        )
        tmp_path.chmod(0o711)
        with serving(path, answering(pid=5), group=4321):
            command = [sys.executable, "-c", program]
            with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
                assert process.stdout.readline() == b"asks\n"
                assert ask(path, STATUS) == Answer({"pid": 5})
                process.kill()

    def test_what_another_user_has_put_there_is_not_believed(self, tmp_path):
        python_for_all()
        path = tmp_path / "control.sock"
        with listening(path):
            program = (
                "import os, socket, sys, time; os.setuid(65534);"
                "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen();"
                "print('listens', flush=True); time.sleep(60)"
            )
            path.unlink()
            tmp_path.chmod(0o777)
            command = [sys.executable, "-c", program, "control.sock"]
            with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
                assert process.stdout.readline() == b"listens\n"
                with pytest.raises(LockedError, match="belongs to another user"):
                    ask(path, STATUS)
                process.kill()


def ask_as_other(open_dir, who, *, mode=None, group=None):
    python, environment = python_for_all()
    path = open_dir / "control.sock"
    with serving(path, answering(pid=5), group=group):
        if mode is not None:
            path.chmod(mode)
        done = subprocess.run(
            ["setpriv", *who, python, "-c", _ASKING, path],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stderr == ""
    return done.stdout, path


class TestMessages:
    @given(st.binary(max_size=300))
    def test_whatever_comes_is_a_message_or_refused(self, line):
        for read in (request_of, reply_of):
            try:
                read(line)
            except NotAMessageError:
                continue

    def test_a_line_that_is_too_long_is_no_message(self):
        with pytest.raises(NotAMessageError):
            reply_of(b'{"type":"answer","fields":{"a":"' + b"x" * LONGEST + b'"}}\n')

    @given(st.binary(max_size=300), st.sampled_from([1, 2]))
    def test_what_a_run_writes_is_told_byte_by_byte(self, block, stream):
        assert reply_of(to_line(Wrote("docs", stream, block))) == Wrote("docs", stream, block)

    def test_the_end_is_a_message_of_its_own(self):
        assert reply_of(to_line(Finished())) == Finished()
