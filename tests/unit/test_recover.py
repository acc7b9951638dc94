"""``recover.py``, the reader that shares no code with the package, does what the format says."""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import importlib.util
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from backup import errors
from backup.model import ArchiveType, Entry, EntryType, Extent, SnapshotKind
from backup.snapshot.compression import check_level
from backup.snapshot.content import digest_of
from backup.snapshot.end import Counts, EndRecord, Referred
from backup.snapshot.frame import Section
from backup.snapshot.header import encode_keys_file, make_core
from backup.snapshot.index_builder import IndexBuilder
from backup.snapshot.recipients import FernetKey, make_slots
from backup.snapshot.signing import HostKey
from backup.snapshot.writer import SnapshotWriter, make_piece
from tests.needs import needs

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "backup" / "recover.py"
VECTORS = ROOT / "tests" / "vectors"
HOST_KEY = HostKey.generate()
SECRET = os.urandom(32)


def load():
    spec = importlib.util.spec_from_file_location("recover", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recover = load()
CLASSES = {f"{name}Error" for name in recover.NAMES.split()}


class Built:
    """A snapshot, made with the package's writer, and what its parts are."""

    def __init__(self, contents, archive=ArchiveType.TAR_GZ, *, entries=(), refers=(), signed=True):
        self.core = make_core(
            snapshot_id=os.urandom(16),
            chain=bytes(16),
            sequence=1,
            time=1_700_000_000,
            archive=archive,
            previous=None,
            cap=4096,
        )
        self.data_key, out = os.urandom(32), io.BytesIO()
        self.slots = make_slots([FernetKey(SECRET)], self.data_key, self.core)
        host_key = HOST_KEY if signed else None
        writer = SnapshotWriter(out.write, self.core, self.slots, self.data_key, host_key=host_key)
        self.frames, self.extents = [len(out.getvalue())], []
        for body in contents:
            piece = make_piece(archive, check_level(archive, None), body)
            number = writer.next_number
            writer.add(writer.keys.seal(Section.ARCHIVE, number, piece, len(body)))
            self.extents.append(Extent(self.core.id, number, 0, len(body)))
            self.frames.append(len(out.getvalue()))
        writer.end_archive()
        entries = [*entries] or [
            file_entry(b"d/f%d" % number, body, extent)
            for number, (body, extent) in enumerate(zip(contents, self.extents, strict=True))
        ]
        index = IndexBuilder(writer)
        index.take(sorted(entries, key=lambda entry: entry.path.replace(b"/", b"\0")))
        writer.finish(
            EndRecord(
                job="j",
                host="h",
                kind=SnapshotKind.INCREMENTAL if refers else SnapshotKind.FULL,
                sources=(b"d",),
                counts=Counts(entries=len(entries)),
                pages=index.write(),
                referred=tuple(
                    Referred(
                        id=other.core.id,
                        core_digest=hashlib.sha256(other.core.line).digest(),
                        data_key=other.data_key,
                    )
                    for other in refers
                ),
            )
        )
        self.data = out.getvalue()


def file_entry(path, body, *extents, **fields):
    known = {"type": EntryType.FILE, "mode": 0o640, "mtime_ns": 1_600_000_000_123_456_789}
    known |= {"size": len(body), "digest": digest_of(body), "extents": extents}
    return Entry(path=path, **known | fields)


@pytest.fixture(scope="module")
def bodies():
    return [os.urandom(700), b"some text\n" * 30, os.urandom(300)]


@pytest.fixture(scope="module")
def built(bodies):
    return Built(bodies)


@pytest.fixture
def place(tmp_path):
    """Return a function that writes a snapshot and returns its path."""
    (tmp_path / "key").write_bytes(base64.urlsafe_b64encode(SECRET) + b"\n")

    def write(data, name="x.enc"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def run(*arguments, python=sys.executable, **options):
    command = [python, "-I", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, check=False, **options)


def with_key(command, path, *arguments, **options):
    return run(command, path, *arguments, "--key", path.parent / "key", **options)


def outcome(path, keys=(("fernet", SECRET),), signers=()):
    """Return the name of the class with which a snapshot is refused, or ``success``."""
    recover.faults.clear()
    ring = argparse.Namespace(keys=list(keys), signers=set(signers), folders=(str(path.parent),))
    try:
        snapshot = recover.Snapshot(str(path), ring)
        recover.check(snapshot)
    except recover.RecoverError as error:
        return type(error).__name__
    return type(recover.faults[0]).__name__ if recover.faults else "success"


def named(result, name, status):
    assert result.returncode == status, result.stderr
    assert f"recover: error: {name}: ".encode() in result.stderr
    assert b"Traceback" not in result.stderr


class TestTheFileItself:
    def test_it_needs_only_python_and_cryptography(self):
        code = (
            f"import sys; sys.path[:0] = []; exec(open({str(SCRIPT)!r}).read().split('if __n')[0])"
        )
        code += "; print(sorted({name.partition('.')[0] for name in sys.modules}))"
        result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)

        assert b"'backup'" not in result.stdout
        assert b"msgspec" not in result.stdout

    def test_its_classes_have_names_of_the_package(self):
        assert {name for name in CLASSES if not hasattr(errors, name)} == set()
        for name in recover.NAMES.split():
            expected = getattr(errors, f"{name}Error").exit_code
            assert recover.ERRORS[name].status == expected

    def test_its_syntax_is_that_of_python_3_9(self):
        ast.parse(SCRIPT.read_text(), feature_version=(3, 9))

    def test_its_style(self):
        rules = ["--isolated", "--line-length", "100", "--target-version", "py39"]
        ruff = shutil.which("ruff", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        needs(ruff, "ruff is not installed")
        for call in (["check", "--select", "E,F,I,B,UP"], ["format", "--check"]):
            assert subprocess.run([ruff, *call, *rules, SCRIPT], check=False).returncode == 0


def read_vector(name):
    """Return fields and bytes of a vector, without the package."""
    head, _, data = (VECTORS / f"{name}.vector").read_bytes().partition(b"\n\n")
    fields = {}
    for line in head.decode().split("\n"):
        field, _, value = line.partition(": ")
        fields.setdefault(field, []).append(value)
    return fields, data


class TestVectors:
    @pytest.mark.parametrize("name", sorted(path.stem for path in VECTORS.glob("*.vector")))
    def test_a_vector_has_the_outcome_that_it_says(self, name, place, tmp_path):
        fields, data = read_vector(name)
        path = place(data)
        for other in [one for line in fields.get("also", []) for one in line.split(", ")]:
            place(read_vector(other)[1], f"{other}.enc")
        for line in fields.get("keys-file", []):
            place(base64.b64decode(line), "x.enc.keys")
        keys = [("passphrase", phrase.encode()) for phrase in fields.get("passphrase", [])]
        for text in fields.get("key", []) + fields.get("identity", []):
            (tmp_path / "given").write_text(text)
            keys.append(recover.read_key(tmp_path / "given"))
        ring = argparse.Namespace(
            keys=keys, signers=set(fields.get("trusted", [])), folders=(str(tmp_path),)
        )
        recover.catalogue.cache_clear()
        recover.faults.clear()

        result, released = "success", hashlib.sha256()
        try:
            snapshot = recover.Snapshot(str(path), ring)
            entries = list(snapshot.entries())
            for entry in entries if not recover.faults else ():
                if entry["t"] in ("file", "stream"):
                    blocks = snapshot.content(entry)
                    released.update(b"".join(recover.with_holes(entry, blocks)))
            if not recover.faults:
                recover.check(snapshot)
        except recover.RecoverError as error:
            result = type(error).__name__
        else:
            result = type(recover.faults[0]).__name__ if recover.faults else result

        assert result == fields["expect"][0]
        assert [released.hexdigest()] == fields.get("content", []) + fields.get("released", [])


class TestDamage:
    def test_every_cut_is_told_as_a_cut(self, built, place):
        path = place(built.data)
        edges = {at + near for at in built.frames for near in (-1, 0, 1, 3, 4, 5)}
        edges |= {len(built.data) - near for near in range(1, 30)}
        lengths = sorted(
            edges | set(range(built.frames[0] + 5)) | set(range(0, len(built.data), 41))
        )

        found = set()
        for length in lengths:
            path.write_bytes(built.data[:length])
            found.add(outcome(path))

        assert found == {"TruncatedError"}

    def test_every_flipped_byte_is_refused_with_a_class_of_its_own(self, built, place):
        path, found = place(built.data), {}
        for at in range(0, len(built.data), 7):
            data = bytearray(built.data)
            data[at] ^= 1 << at % 8
            path.write_bytes(data)
            found.setdefault(outcome(path), []).append(at)

        assert "success" not in found
        assert set(found) <= CLASSES
        assert len(found["FrameError"]) > 0.8 * len(built.data) / 7

    def test_frames_moved_repeated_left_out_or_of_another_snapshot(self, built, bodies, place):
        data, at = built.data, built.frames
        other = Built(bodies)
        first, second = data[at[0] : at[1]], data[at[1] : at[2]]
        foot = struct.pack(">Q", struct.unpack(">Q", data[-24:-16])[0] - len(second)) + data[-16:]
        cases = {
            "swapped": data[: at[0]] + second + first + data[at[2] :],
            "dropped": data[: at[1]] + data[at[2] :],
            "dropped, footer mended": data[: at[1]] + data[at[2] : -24] + foot,
            "repeated": data[: at[1]] + first + data[at[2] :],
            "inserted": data[: at[1]] + first + data[at[1] :],
            "foreign": data[: at[1]]
            + other.data[other.frames[1] : other.frames[2]]
            + data[at[2] :],
            "appended": data + b"x",
            "a second footer": data + data[-24:],
            "twice": data + data,
        }
        expected = dict.fromkeys(cases, "FrameOutOfPlaceError")
        expected["foreign"] = "FrameError"  # no reader can tell: both have one time
        expected |= dict.fromkeys(["appended", "a second footer", "twice"], "TrailingBytesError")

        assert {name: outcome(place(case)) for name, case in cases.items()} == expected

    def test_no_bytes_at_all_make_anything_else_raise(self, place):
        for data in (
            b"",
            b"\n" * 90_000,
            b"auto-backup snapshot 1\n{}\n[]\n" + bytes(40),
            bytes(999),
        ):
            assert outcome(place(data)) in CLASSES


class TestKeysAndSignatures:
    def test_a_wrong_key(self, built, place, tmp_path):
        path = place(built.data)
        (tmp_path / "wrong").write_bytes(Fernet.generate_key())

        named(run("list", path, "--key", tmp_path / "wrong"), "WrongKeyError", 12)

    def test_no_key(self, built, place):
        named(run("list", place(built.data)), "KeyMissingError", 12)

    @pytest.mark.parametrize("text", ["", "short", "auto-backup-identity-1-AAAA", "\xe9" * 44])
    def test_a_file_that_is_no_key(self, built, place, tmp_path, text):
        (tmp_path / "no-key").write_text(text)

        named(run("list", place(built.data), "--key", tmp_path / "no-key"), "KeyMissingError", 12)
        named(run("list", place(built.data), "--key", tmp_path / "none"), "KeyMissingError", 12)

    def test_a_snapshot_without_a_signature(self, bodies, place):
        path = place(Built(bodies, signed=False).data)

        named(with_key("list", path), "UnsignedError", 13)

    def test_trusted_signers(self, built, place):
        path, signer = place(built.data), with_key("list", place(built.data)).stderr
        signer = signer.partition(b"signed by ")[2][:64].decode()

        assert with_key("list", path, "--signer", "00" * 32, "--signer", signer).returncode == 0
        named(with_key("list", path, "--signer", "00" * 32), "UnknownSignerError", 13)
        assert with_key("list", path, "--signer", "no hex").returncode == 2

    def test_a_passphrase_from_a_file(self, place, tmp_path):
        fields, data = read_vector("passphrase_slot")
        (tmp_path / "phrase").write_text(fields["passphrase"][0] + "\n")
        environment = os.environ | {"AUTO_BACKUP_PASSPHRASE_FILE": str(tmp_path / "phrase")}

        assert run("check", place(data), "--passphrase", env=environment).returncode == 0

    def test_a_damaged_header_is_survived_with_the_keys_file(self, built, place):
        data = bytearray(built.data)
        data[60] ^= 1
        path = place(data)
        named(with_key("list", path), "HeaderError", 13)
        place(encode_keys_file(built.core, built.slots, built.data_key, 0), "x.enc.keys")

        assert with_key("list", path).returncode == 0
        named(with_key("check", path), "HeaderError", 13)
        place((path.parent / "x.enc.keys").read_bytes(), "moved")
        (path.parent / "x.enc.keys").unlink()
        assert with_key("list", path, "--keys", path.parent / "moved").returncode == 0


class TestCommands:
    @pytest.mark.parametrize("archive", list(ArchiveType))
    def test_all_kinds_of_archives(self, archive, bodies, place, tmp_path):
        path = place(Built(bodies, archive).data)

        result = with_key("extract", path, tmp_path / "out")

        assert result.returncode == 0, result.stderr
        assert [(tmp_path / f"out/d/f{n}").read_bytes() for n in range(3)] == bodies
        assert with_key("check", path).returncode == 0

    def test_list(self, built, place):
        result = with_key("list", place(built.data))

        assert result.returncode == 0
        assert result.stdout.splitlines()[0] == (
            b"file   0640 0:0          700 2020-09-13 12:26:40 d/f0"
        )

    def test_cat(self, built, bodies, place):
        path = place(built.data)

        assert with_key("cat", path, "d/f1").stdout == bodies[1]
        assert with_key("cat", path, "/d/f1").stdout == bodies[1]
        named(with_key("cat", path, "d/none"), "RestoreError", 16)

    def test_tar_is_the_archive(self, place, tmp_path):
        body, out = b"in a tar", io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            member = tarfile.TarInfo("d/f")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
        snapshot = Built([out.getvalue()[:1024]], ArchiveType.TAR_XZ)

        result = with_key("tar", place(snapshot.data))

        assert result.returncode == 0
        with tarfile.open(fileobj=io.BytesIO(result.stdout), mode="r:xz") as tar:
            assert tar.extractfile("d/f").read() == body

    def test_tar_of_a_part_is_refused_unless_asked_for(self, built, bodies, place):
        place(built.data, "first.enc")
        path = place(Built([b"more"], refers=[built]).data)

        named(with_key("tar", path), "RestoreError", 16)
        assert with_key("tar", path, "--only-added").returncode == 0

    @pytest.mark.parametrize("call", [[], ["list"], ["extract", "x"], ["cat", "x"], ["no", "x"]])
    def test_wrong_calls(self, call):
        assert run(*call).returncode == 2

    def test_a_file_that_is_not_there(self, tmp_path):
        result = run("list", tmp_path / "none.enc")

        named(result, "RestoreError", 16)

    def test_what_is_referred_to_is_searched_below_the_folder_and_elsewhere(
        self, built, bodies, place, tmp_path
    ):
        entries = [
            file_entry(b"old", bodies[0], built.extents[0]),
            file_entry(b"older", bodies[1], built.extents[1]),
        ]
        path = place(Built([b"new"], entries=entries, refers=[built]).data)
        named(with_key("check", path), "MissingSnapshotError", 13)
        (tmp_path / "deep" / "er").mkdir(parents=True)
        place(built.data, "deep/er/first.enc")

        assert with_key("cat", path, "old").stdout == bodies[0]
        (tmp_path / "deep").rename(tmp_path / "elsewhere")
        away = tmp_path / "store" / "x.enc"
        away.parent.mkdir()
        path.rename(away)
        key = ["--key", tmp_path / "key"]
        named(run("cat", away, "old", *key), "MissingSnapshotError", 13)
        assert run("cat", away, "old", *key, "--also", tmp_path / "elsewhere").stdout == bodies[0]


class TestExtraction:
    def test_a_tree_with_one_of_everything(self, bodies, place, tmp_path):
        moment = 1_500_000_000_987_654_321
        snapshot = Built([bodies[0]])
        extent = snapshot.extents[0]
        entries = [
            Entry(path=b"", type=EntryType.DIRECTORY, mode=0o711, mtime_ns=moment),
            Entry(path=b"a", type=EntryType.DIRECTORY, mode=0o500, mtime_ns=moment + 1),
            Entry(path=b"a/link", type=EntryType.SYMLINK, target=b"../b\xff", mtime_ns=-moment),
            Entry(path=b"a/pipe", type=EntryType.FIFO, mode=0o620, mtime_ns=moment + 2),
            file_entry(b"b\xff", bodies[0], extent, mode=0o400, mtime_ns=-1),
            file_entry(b"empty", b""),
            file_entry(b"one", bodies[0], extent, inode=7, links=2),
            file_entry(b"two", bodies[0], extent, inode=7, links=2),
            file_entry(b"unread", b"", digest=b"", size=5, error="gone while it was read"),
        ]
        place(snapshot.data, "first.enc")
        path, out = place(Built([b"x"], entries=entries, refers=[snapshot]).data), tmp_path / "out"

        result = with_key("extract", path, out)

        assert result.returncode == 0, result.stderr
        assert b"gone while it was read" in result.stderr
        top, folder, pipe = os.lstat(out), os.lstat(out / "a"), os.lstat(out / "a" / "pipe")
        assert (stat.S_IMODE(top.st_mode), top.st_mtime_ns) == (0o711, moment)
        assert (stat.S_IMODE(folder.st_mode), folder.st_mtime_ns) == (0o500, moment + 1)
        assert stat.S_ISFIFO(pipe.st_mode)
        assert (stat.S_IMODE(pipe.st_mode), pipe.st_mtime_ns) == (0o620, moment + 2)
        assert (out / "a" / "link").readlink() == Path(os.fsdecode(b"../b\xff"))
        assert os.lstat(out / "a" / "link").st_mtime_ns == -moment
        file = out / os.fsdecode(b"b\xff")
        assert file.read_bytes() == bodies[0]
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_mtime_ns) == (0o400, -1)
        assert (out / "one").samefile(out / "two")
        assert (out / "empty").read_bytes() == b""
        assert len(list(out.iterdir())) == 6

    def test_only_some_paths(self, built, bodies, place, tmp_path):
        path = place(built.data)

        result = with_key("extract", path, tmp_path / "out", "/d/f1", "d/f2/")

        assert result.returncode == 0
        assert sorted(one.name for one in (tmp_path / "out" / "d").iterdir()) == ["f1", "f2"]
        named(with_key("extract", path, tmp_path / "o", "d/f"), "RestoreError", 16)

    def test_the_target_must_be_empty(self, built, place, tmp_path):
        path = place(built.data)
        (tmp_path / "out").mkdir()

        named(with_key("extract", path, tmp_path), "RestoreError", 16)
        named(with_key("extract", path, tmp_path / "key"), "RestoreError", 16)
        assert with_key("extract", path, tmp_path / "out").returncode == 0

    def test_damaged_content_is_reported_and_the_rest_is_got_back(
        self, built, bodies, place, tmp_path
    ):
        data = bytearray(built.data)
        data[built.frames[1] + 100] ^= 1

        result = with_key("extract", place(data), tmp_path / "out")

        named(result, "FrameError", 13)
        assert sorted(one.name for one in (tmp_path / "out" / "d").iterdir()) == ["f0", "f2"]
        assert [one.name for one in (tmp_path / "out").iterdir()] == ["d"]

    def test_content_without_its_digest_is_not_kept(self, built, bodies, place, tmp_path):
        place(built.data, "first.enc")
        entries = [
            file_entry(b"bad", bodies[0], built.extents[0], digest=bytes(32)),
            file_entry(b"good", bodies[0], built.extents[0]),
        ]
        path = place(Built([b"x"], entries=entries, refers=[built]).data)

        named(with_key("extract", path, tmp_path / "out"), "DigestError", 13)
        assert [one.name for one in (tmp_path / "out").iterdir()] == ["good"]
        result = with_key("cat", path, "bad")
        named(result, "DigestError", 13)
        assert result.stdout == b""

    def test_nothing_is_written_through_a_symbolic_link(self, built, bodies, place, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        place(built.data, "first.enc")
        target = os.fsencode(outside)
        entries = [
            Entry(path=b"a", type=EntryType.SYMLINK, target=target),
            file_entry(b"a/file", bodies[0], built.extents[0]),
            Entry(path=b"a/link", type=EntryType.SYMLINK, target=b"x"),
            Entry(path=b"b", type=EntryType.SYMLINK, target=target),
            Entry(path=b"b/link", type=EntryType.SYMLINK, target=b"x"),
            Entry(path=b"c", type=EntryType.SYMLINK, target=target),
            Entry(path=b"c/folder", type=EntryType.DIRECTORY, mode=0o777),
        ]
        path = place(Built([b"x"], entries=entries, refers=[built]).data)

        result = with_key("extract", path, tmp_path / "out")

        assert result.returncode == 16
        assert list(outside.iterdir()) == []
        assert (tmp_path / "out" / "a" / "file").read_bytes() == bodies[0]


def other_pythons():
    """Return other interpreters here that have the package cryptography, with their versions."""
    named = os.environ.get("AUTO_BACKUP_TEST_PYTHONS", "").split(":")
    found = [
        *named,
        *(shutil.which(f"python3.{minor}") for minor in range(9, 16)),
        "/usr/bin/python3",
    ]
    code, versions = "import sys, cryptography; print(*sys.version_info[:2])", {}
    for python in filter(None, found):
        if shutil.which(python):
            result = subprocess.run([python, "-I", "-c", code], capture_output=True, check=False)
            if result.returncode == 0:
                versions[python] = tuple(map(int, result.stdout.split()))
    return versions


class TestOtherPythons:
    def test_python_3_9(self, built, bodies, place, tmp_path):
        python = next((one for one, has in other_pythons().items() if has == (3, 9)), None)
        if python is None:  # no package of Debian 12 has it
            pytest.skip("no Python 3.9 with cryptography is in PATH or AUTO_BACKUP_TEST_PYTHONS")
        path = place(built.data)

        assert with_key("check", path, python=python).returncode == 0
        assert with_key("extract", path, tmp_path / "out", python=python).returncode == 0
        assert (tmp_path / "out" / "d" / "f1").read_bytes() == bodies[1]

    def test_every_python_here(self, built, place):
        pythons = other_pythons()
        needs("/usr/bin/python3" in pythons, "the system's Python has no package cryptography")
        path = place(built.data)

        for python in pythons:
            assert with_key("check", path, python=python).returncode == 0, python

    def test_zstd_without_backports(self, bodies, place):
        others = [python for python in other_pythons() if Path(python).parent.name != "shims"]
        needs(others and shutil.which("zstd"), "there is no other Python, or no zstd command")
        path = place(Built(bodies, ArchiveType.TAR_ZST).data)

        assert with_key("check", path, python=others[-1]).returncode == 0
