"""What docs/FORMAT.md says is true: its program, its numbers, its fields."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from backup import errors
from backup.errors import HeaderError, LimitError, MalformedError
from backup.model import ArchiveType, Chunk, Entry, EntryType, Extent, SnapshotKind
from backup.snapshot import derive, end, entry_line, frame, header, hpke, index, recipients
from backup.snapshot.chunk_list import encode_chunks
from backup.snapshot.compression import decompress
from backup.snapshot.end import END_CAP, FOOTER_BYTES, check_end_size, encode_footer
from backup.snapshot.frame import FrameKeys, Section, padded_length
from backup.snapshot.reader import open_snapshot
from backup.snapshot.recipients import Argon2Cost, FernetKey
from backup.snapshot.source import BytesSource
from backup.snapshot.token import OVERHEAD, token_length
from backup.snapshot.writer import END_OF_ARCHIVE
from tests.vectors.forge import KEY, Forge
from tests.vectors.reading import read_vector
from tests.vectors.worked_example import worked_example

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "FORMAT.md").read_text()
CODES = {name: int(code) for code, name in re.findall(r"(\d) (archive|index|chunks|end)\b", TEXT)}


def section(number):
    """Return the text of one section of the document."""
    return re.split(r"^## ", TEXT, flags=re.MULTILINE)[number]


def fields(text):
    """Return the names in the first column of all tables of ``text``."""
    cells = re.findall(r"^\| (`[^|]*?) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def wire_fields(*structs):
    return {one.encode_name for struct in structs for one in msgspec.structs.fields(struct)}


def unwrapped(text):
    """Return ``text`` in one line, without what marks it up."""
    return " ".join(text.replace("`", "").split())


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    code = re.search(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)[1]
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(code)
    return path


class TestTheProgram:
    @pytest.mark.parametrize("archive", list(ArchiveType))
    def test_opens_the_first_frame_of_a_snapshot(self, program, archive, tmp_path):
        vector = read_vector(f"{archive.replace('.', '_')}_archive")
        (tmp_path / "snapshot.enc").write_bytes(vector.data)
        (tmp_path / "key").write_bytes(base64.urlsafe_b64encode(KEY))

        done = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", program, "snapshot.enc", "key"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
            text=True,
        )

        reader = open_snapshot(BytesSource(vector.data), vector.identities)
        piece = bytes(reader.compressed_piece(Section.ARCHIVE, 0))
        assert done.stdout == f"1 {reader.core.id.hex()} 0 {piece[:6]!r}\n"
        assert done.stderr == ""

    def test_opens_a_snapshot_with_slots_of_other_types_before_the_key(self, program, tmp_path):
        forge = Forge("several types")
        forge.slots.insert(0, forge.passphrase_slot())
        forge.sample()
        (tmp_path / "snapshot.enc").write_bytes(forge.data())
        (tmp_path / "key").write_bytes(base64.urlsafe_b64encode(KEY) + b"\n")

        done = subprocess.run(
            [sys.executable, program, tmp_path / "snapshot.enc", tmp_path / "key"],
            capture_output=True,
            check=True,
            text=True,
        )

        assert done.stdout.startswith(f"1 {forge.ids[0]} 0 ")


class TestTheNumbers:
    def test_a_row_of_the_table_is_49_bytes(self):
        assert "(49 bytes)" in section(8)
        assert end._ROW.size == 49

    def test_a_row_of_a_chunk_list_is_46_bytes(self):
        chunk = Chunk(bytes(32), Extent(bytes(16), 1, 2, 3))

        one, two = (len(encode_chunks([chunk] * count)) for count in (1, 2))

        assert "A row is 46 bytes" in section(7)
        assert two - one == 46

    def test_the_footer_is_24_bytes(self):
        assert "(24 bytes, the last of the file)" in section(1)
        assert len(encode_footer(1)) == FOOTER_BYTES == 24

    def test_a_token_is_as_much_longer_than_its_message_as_cbc_and_fernet_make_it(self):
        assert "cap + 73 bytes, rounded up as CBC padding does" in unwrapped(section(3))
        assert OVERHEAD + 16 == 73
        assert [token_length(cap) - cap for cap in (4096, 8_388_608)] == [73, 73]

    def test_the_caps(self):
        text = unwrapped(section(2))

        assert f"at most {header.CORE_CAP:,} bytes" in text
        assert f"at most {header.SLOTS_CAP:,} bytes" in text
        assert f"list of 1 to {header.MOST_SLOTS} slots" in text
        smallest, largest = header.SMALLEST_FRAME_CAP, header.LARGEST_FRAME_CAP
        assert f"{smallest:,} to {largest:,}; writers use {header.FRAME_CAP:,}" in text
        assert "at most 512 MiB" in section(8)
        check_end_size(512 * 2**20)
        with pytest.raises(LimitError):
            check_end_size(512 * 2**20 + 1)
        assert END_CAP == 512 * 2**20

    def test_the_caps_of_passphrase_slots(self):
        most = recipients.MOST_ARGON2

        assert most == Argon2Cost(memory=1_048_576, time=10, lanes=8)
        assert "memory above 1,048,576 KiB, time above 10, lanes above 8" in unwrapped(section(2))
        assert "more than 4 passphrase slots" in unwrapped(section(2))
        assert recipients.MOST_PASSPHRASE_SLOTS == 4

    def test_a_public_key_is_1216_bytes_and_a_private_one_96(self):
        identity = hpke.HpkeIdentity.generate()

        assert len(identity.recipient().public) == 1184 + 32
        assert len(identity.secret) == 64 + 32
        assert identity.recipient().text().startswith("auto-backup-recipient-1-")
        assert identity.text().startswith("auto-backup-identity-1-")

    def test_messages_are_padded_by_the_larger_of_4096_and_the_step_of_padme(self):
        assert "multiple of the larger of 4,096 bytes and Padmé's step" in unwrapped(section(4))
        for length in (1, 4096, 4097, 131_072, 1_000_000, 8_000_000):
            assert padded_length(length, 2**26) % 4096 == 0

    def test_the_end_of_the_archive_is_1024_zeros(self):
        assert "exactly one end-of-archive, 1,024 zero bytes" in section(5)
        assert bytes(1024) == END_OF_ARCHIVE

    def test_the_sections(self):
        assert {name: Section[name.upper()].value for name in CODES if name != "chunks"} == {
            "archive": 1,
            "index": 2,
            "end": 4,
        }
        assert CODES["chunks"] == Section.CHUNKS == 3

    def test_an_end_frame_may_hold_as_much_as_the_cap(self):
        forge = Forge("large end")
        forge.end_archive()
        forge.end_fields["program"] = "x" * 4000
        forge.seal_end(step=4096)

        reader = open_snapshot(BytesSource(forge.data()), [FernetKey(KEY)])

        assert "at most `cap` bytes uncompressed" in section(4)
        assert reader.record.program == "x" * 4000

    @pytest.mark.parametrize("archive", list(ArchiveType))
    def test_a_piece_that_does_not_compress_fits_a_frame(self, archive):
        """Section 4: "4,096 bytes less than the cap (tar.bz2: a 64th of the cap less)"."""
        core = header.make_core(
            snapshot_id=bytes(16),
            chain=bytes(16),
            sequence=1,
            time=0,
            archive=archive,
            previous=None,
        )
        less = core.cap // 64 if archive is ArchiveType.TAR_BZ2 else 4096

        assert frame.piece_capacity(archive, core.cap) == core.cap - less


class TestTheLabels:
    def test_every_label_stands_in_the_document(self):
        labels = [derive.FRAMES, derive.HEADER_MAC, derive.SLOT, derive.KEY_ID, derive.SIGN]

        assert [one for one in labels if f'"{one.decode()}"' not in TEXT] == []
        assert len(set(labels)) == len(labels)

    def test_the_first_lines_stand_in_the_document(self):
        assert '"auto-backup snapshot 1\\n"' in TEXT
        assert '"auto-backup keys 1\\n"' in TEXT
        assert '"auto-backup chunks 1\\n"' in TEXT
        assert '"auto-backup end\\n"' in TEXT


class TestTheFields:
    def test_of_the_core_line(self):
        table = section(2).split("**Slots line**")[0]

        assert fields(table) == wire_fields(header._CoreLine)

    def test_of_a_slot(self):
        table = section(2).split("**Slots line**")[1]

        assert fields(table) == wire_fields(header.Slot)

    def test_of_references_and_entries(self):
        references, entries = section(6).split("An **entry**")

        assert fields(references) == wire_fields(index.WireReference)
        assert fields(entries) == wire_fields(entry_line.EntryLine)

    def test_of_the_end(self):
        assert fields(section(8)) == wire_fields(end._WireEnd)
        named = next(line for line in section(8).splitlines() if line.startswith("| `snapshots`"))
        assert set(re.findall(r"`(\w+)`", named)) == {"snapshots", "id", "core", "key"}
        counted = next(line for line in section(8).splitlines() if line.startswith("| `counts`"))
        assert set(re.findall(r"`(\w+)`", counted)) == {"counts"} | wire_fields(end.Counts)

    def test_the_kinds_and_types(self):
        row = next(line for line in section(6).splitlines() if line.startswith("| `t` |"))

        assert set(re.findall(r"`(\w+)`", row)) == {"t", *EntryType}
        assert all(f"`{kind}`" in section(8) for kind in SnapshotKind)
        assert all(f'`"{archive}"`' in section(2) for archive in ArchiveType)

    def test_defaults_are_left_out(self):
        line = entry_line.encode_entry(Entry(path=b"a", type=EntryType.FIFO), lambda _: 0)

        assert json.loads(line) == {"t": "fifo", "p": "a"}


class TestWhatAReaderMustRefuse:
    def test_each_with_an_error_of_its_own(self):
        """Section 10: "Each with an error of its own"."""
        named = [
            (errors.WrongKeyError, "a wrong key"),
            (errors.HeaderError, "a damaged header"),
            (errors.FrameError, "a damaged frame"),
            (errors.FrameOutOfPlaceError, "a frame out of its place"),
            (errors.ForeignFrameError, "a frame of another snapshot"),
            (errors.TruncatedError, "a file that is cut off"),
            (errors.TrailingBytesError, "bytes after the footer"),
            (errors.UnknownVersionError, "an unknown version"),
            (errors.UnknownSuiteError, "an unknown suite or archive type"),
            (errors.UnsignedError, "a missing signature"),
            (errors.SignatureError, "a wrong one"),
            (errors.UnknownSignerError, "an unknown signer"),
            (errors.DigestError, "a digest that does not fit"),
            (errors.MissingSnapshotError, "a missing snapshot that is referred to"),
            (errors.LimitError, "lengths and counts above the caps"),
            (errors.MalformedError, "authentic bytes that do not keep to this document"),
        ]

        text = unwrapped(section(10))

        assert [what for _, what in named if what not in text] == []
        assert len({kind for kind, _ in named}) == len(named)

    @pytest.mark.parametrize("archive", [one for one in ArchiveType if one is not ArchiveType.TAR])
    def test_a_piece_that_holds_more_than_its_row_says_is_not_decompressed_further(self, archive):
        bomb = Forge("bomb", archive=str(archive)).compress(1, bytes(2**24))

        with pytest.raises(LimitError):
            decompress(archive, bomb, plain_length=1000)

    def test_a_frame_that_is_sealed_for_no_place_is_refused(self):
        forge = Forge("no place")
        keys = FrameKeys(header.parse_core(forge.core.line), forge.data_key)

        with pytest.raises(MalformedError):
            keys.open(Section.ARCHIVE, 0, forge.seal(b"short"))

    def test_a_core_line_longer_than_its_cap_is_refused(self):
        with pytest.raises(HeaderError):
            header.parse_core(b" " * (header.CORE_CAP + 1))


def test_the_worked_example_is_what_the_vector_holds():
    text = (ROOT / "docs" / "FORMAT.md").read_text()

    assert worked_example() in text
