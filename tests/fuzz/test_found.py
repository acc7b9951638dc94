"""What fuzzing has found, made small. Wrong snapshots that it found are among the vectors."""

from __future__ import annotations

import base64

import pytest

from backup.errors import FrameError, InvalidArgumentError, MalformedError
from backup.manager import BackupManager
from backup.snapshot.header import parse_core
from backup.snapshot.hpke import HpkeRecipient
from backup.snapshot.index import decode_page, decode_segment
from backup.snapshot.names import parse_name
from backup.snapshot.reader import open_snapshot
from backup.snapshot.recipients import FernetKey
from backup.snapshot.source import BytesSource
from tests.fuzz.bounds import bounded
from tests.vectors.forge import HPKE, KEY, Forge

CORE = parse_core(Forge("found").core.line)


@pytest.mark.parametrize(
    "public",
    [
        b"\xff" * 1184 + HPKE.recipient().public[1184:],
        HPKE.recipient().public[:1184] + bytes(32),
        HPKE.recipient().public[:900],
    ],
    ids=["coefficients out of range", "a point of low order", "too short"],
)
def test_a_public_key_that_is_none_is_an_error_of_the_package(public):
    with pytest.raises(InvalidArgumentError, match="not a public key that can be sealed for"):
        HpkeRecipient(public).wrap(bytes(32), CORE)


@pytest.mark.parametrize("decode", [decode_segment, decode_page])
def test_a_field_that_nobody_knows_is_utf8_too(decode):
    kind = b"segment" if decode is decode_segment else b"page"
    head = b'{"kind":"%b","snapshots":[],"new\xff":1}\n' % kind

    with pytest.raises(MalformedError):
        decode(head)


class CountedSource(BytesSource):
    """A source that knows the longest run of bytes that was asked for at once."""

    longest = 0

    def read_at(self, offset, length):
        self.longest = max(self.longest, length)
        return super().read_at(offset, length)


def test_a_footer_that_points_far_in_front_of_the_end_takes_no_memory():
    forge = Forge("found")
    forge.sample()
    whole = forge.data()
    frames = len(forge.header())
    filler = bytes(20_000_000)
    source = CountedSource(whole[:frames] + filler + whole[frames:-24] + forge.footer(frames))

    with bounded(), pytest.raises(FrameError):
        open_snapshot(source, [FernetKey(KEY)])

    assert source.longest < 1_000_000


def test_a_name_of_a_year_before_1000_stays_the_same():
    name = "web1/etc/etc-01271203T000000Z-62d5-full.tar.gz.enc"

    assert str(parse_name(name)) == name


def test_a_snapshot_of_a_time_beyond_all_years_stops_no_rotation_and_stays(source, store):
    forge = Forge("found", time=2**62)
    forge.end_fields["sources"] = [{"p": str(source.resolve()).lstrip("/")}]
    name = f"web1/docs/docs-20261101T000000Z-{forge.core.id.hex()[:4]}-full.tar.gz.enc"
    (store / "web1" / "docs").mkdir(parents=True)
    (store / name).write_bytes(forge.sample().data())
    (source / "a").write_text("a")
    secret = base64.urlsafe_b64encode(KEY)
    manager = BackupManager(source, store, secret, keep=1, host="web1", job="docs")

    manager.create_snapshot()

    assert (store / name).exists()
