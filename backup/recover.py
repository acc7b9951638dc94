#!/usr/bin/env python3
"""Read auto-backup snapshots without auto-backup, by the specification in FORMAT.md alone.

  python3 recover.py list    SNAPSHOT.enc --key KEYFILE
  python3 recover.py extract SNAPSHOT.enc TARGET_DIR [PATH ...] --key KEYFILE
  python3 recover.py cat     SNAPSHOT.enc PATH --key KEYFILE > FILE
  python3 recover.py tar     SNAPSHOT.enc --key KEYFILE > x.tar.xz
  python3 recover.py check   SNAPSHOT.enc --key KEYFILE

Needs Python 3.9 and "cryptography" 38 (44 for passphrases, 47 for identities). Exit status: 2 wrong
call, 12 no key or a wrong one, 13 the snapshot is not as it was written, 16 refused or not done.
"""

import argparse
import bz2
import getpass
import hashlib
import hmac
import importlib
import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from contextlib import contextmanager, suppress
from functools import lru_cache, partial

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER, KEYS = (b"auto-backup snapshot 1\n", 4096, 65536), (b"auto-backup keys 1\n", 4096, 65536, 20)
CHUNKS, FOOTER, IDENTITY = b"auto-backup chunks 1\n", b"auto-backup end\n", b"auto-backup-identity-1-"
LABEL, ARCHIVES = b"auto-backup/1/", ("tar.xz", "tar.zst", "tar.gz", "tar.bz2", "tar")
ARCHIVE, INDEX, CHUNK_LIST, END = 1, 2, 3, 4
ORDER = {ARCHIVE: 1, CHUNK_LIST: 2, INDEX: 3, END: 4}  # of the sections in a file
DEFAULTS = dict.fromkeys("mode uid gid size mtime ctime ino fs".split(), 0)
DEFAULTS.update(links=1, t="", sha256="", error="", dev=[], xattrs=[], ext=[], chunks=[])
DEVICES = {"fifo": 0o010600, "char": 0o020600, "block": 0o060600}  # by what mknod calls them
TYPES = {"file", "dir", "link", "stream", *DEVICES}


class RecoverError(Exception):
    status = 13  # of the process


ERRORS = """NotASnapshot UnknownVersion UnknownSuite Header Footer Frame FrameOutOfPlace ForeignFrame
Truncated TrailingBytes Malformed Limit Digest MissingSnapshot Unsigned Signature UnknownSigner
WrongKey KeyMissing Restore""".split()
ERRORS = {name: type(name + "Error", (RecoverError,), {}) for name in ERRORS}
ERRORS["WrongKey"].status = ERRORS["KeyMissing"].status = 12
ERRORS["Restore"].status = 16
faults = []  # what was reported and gone past


def need(condition, kind, message):
    if not condition:
        raise ERRORS[kind](message)


@contextmanager
def guard(kind, what, go_on=False):
    """Make a refusal of whatever Python raises; report it only, where the work can go on."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, RecoverError):
            kind = "Restore" if getattr(error, "errno", None) else kind
            error = ERRORS[kind](f"{what}: {error!r}")
        if not go_on:
            raise error from None
        faults.append(error)
        note(f"error: {type(error).__name__}: {error}")


def note(message):
    print(f"recover: {message}", file=sys.stderr)


def sha256(data):
    return hashlib.sha256(data).digest()


def zstd(piece, limit):
    """Return the content of one zstd frame, and whether something follows, with what is there."""
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        with suppress(ImportError):
            decoder = importlib.import_module(name).ZstdDecompressor()
            if name != "zstandard":
                return decoder.decompress(piece, limit), decoder
            return decoder.decompress(piece, limit, allow_extra_data=False), None
    need(shutil.which("zstd"), "Restore", "needs backports.zstd, zstandard or the zstd command")
    call = f"{{ zstd -dcq || cat /dev/zero; }} | head -c {limit}"  # too long when zstd fails
    return subprocess.run(call, shell=True, input=piece, stdout=subprocess.PIPE).stdout, None


@guard("Malformed", "a piece does not decompress")
def unpack(archive, piece, limit, exact=True):
    """Return what one compressed stream holds: ``limit`` bytes, or at most as many."""
    if archive == "tar.zst":
        data, decoder = zstd(piece, limit + 1)
    else:
        makers = {"tar.xz": partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, 192 << 20)}
        makers.update({"tar.bz2": bz2.BZ2Decompressor, "tar.gz": partial(zlib.decompressobj, 31)})
        decoder = makers[archive]()
        data = decoder.decompress(piece, limit + 1)
    whole = len(data) > limit or not decoder or decoder.eof and not decoder.unused_data
    need(whole, "Malformed", "a piece is not one complete stream")
    need(len(data) <= limit, "Malformed", "a piece holds more than it may")
    need(len(data) == limit or not exact, "Malformed", "a piece holds less than was recorded")
    return data


@guard("KeyMissing", "a key file holds no key")
def read_key(name):
    """Return the type of slot that a key file opens, and the secret in it."""
    with open(name, "rb") as file:
        line = file.read(4096).strip()
    kind, size = ("hpke", 96) if line.startswith(IDENTITY) else ("fernet", 32)
    data = urlsafe_b64decode(line[len(IDENTITY) :] if kind == "hpke" else line)
    check = sha256(IDENTITY + data[:size])[:4] if kind == "hpke" else b""
    need(len(data[:size]) == size and data[size:] == check, "KeyMissing", f"{name} holds no key")
    return kind, data[:size]


def derive(secret, core, label):
    return HKDF(SHA256(), 32, sha256(core), LABEL + label).derive(secret)


def open_slot(slot, kind, secret, core):
    """Return the data key, or None, and the bytes that name the slot's recipient."""
    wrapped, material = slot["wrapped"], secret
    if kind == "hpke":
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric import mlkem

        pair = [mlkem.MLKEM768PrivateKey.from_seed_bytes(secret[:64])]
        pair.append(x25519.X25519PrivateKey.from_private_bytes(secret[64:]))
        material = b"".join(half.public_key().public_bytes_raw() for half in pair)
        suite = hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM
        open_it, sealed = hpke.Suite(*suite).decrypt, b64decode(wrapped, validate=True)
        with suppress(InvalidTag, ValueError):
            private, info = hpke.MLKEM768X25519PrivateKey(*pair), LABEL + b"slot" + sha256(core)
            return open_it(sealed, private, info), material
        return None, material
    if kind == "passphrase":
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        memory, passes, lanes = slot["memory"], slot["time"], slot["lanes"]
        good = 0 < memory <= 1 << 20 and 0 < passes <= 10 and 0 < lanes <= 8
        need(good, "Limit", "a passphrase slot asks for too much")
        costs = dict(memory_cost=memory, iterations=passes, lanes=lanes)
        material = b64decode(slot["salt"], validate=True)
        secret = Argon2id(salt=material, length=32, **costs).derive(secret)
    with suppress(InvalidToken):
        kek = Fernet(urlsafe_b64encode(derive(secret, core, b"slot")))
        return kek.decrypt(wrapped.encode()), material
    return None, material


@guard("Header", "the header is damaged")
def read_header(data, layout, keys, data_key=None):
    """Return core line, data key and length of a header, or of a keys file, whose mac holds."""
    preamble, *limits = layout
    need(not preamble.startswith(data), "Truncated", "the file ends within its first line")
    need(data.startswith(preamble[:-2]), "NotASnapshot", "the file is not a snapshot")
    need(data.startswith(preamble), "UnknownVersion", "this reader knows format version 1 only")
    at, lines = len(preamble), []
    for limit in limits:
        stop = data.find(b"\n", at, at + limit + 1)
        need(stop >= 0 or len(data) > at + limit, "Truncated", "the file ends in its header")
        need(stop >= 0, "Limit", "a line of the header is too long")
        lines.append(data[at:stop])
        at = stop + 1
    need(len(data) >= at + 32, "Truncated", "the file ends in its header")
    core, damaged = lines[0], False
    suite = json.loads(core.decode())["suite"]
    need(suite == "fernet-1", "UnknownSuite", f"suite {suite!r} is unknown to this reader")
    slots = json.loads(lines[1].decode())
    sizes = [len(slot.get("wrapped", "")) for slot in slots]
    need(1 <= len(sizes) <= 32 and max(sizes) <= 8192, "Limit", "too many or too long slots")
    need(data_key or keys, "KeyMissing", "no key was given")
    for kind, secret in keys:
        fitting = [slot for slot in slots if slot["type"] == kind]
        for slot in fitting[: 0 if data_key else 4 if kind == "passphrase" else 32]:
            try:
                data_key, material = open_slot(slot, kind, secret, core)
            except (ImportError, UnsupportedAlgorithm) as error:
                message = f"this key needs a newer cryptography: {error}"
                raise ERRORS["KeyMissing"](message) from None
            name = sha256(LABEL + b"key-id" + kind.encode() + material).hex()[:16]
            damaged = damaged or kind != "passphrase" and name == slot["id"]
            if data_key:
                break
    need(data_key or not damaged, "Header", "the header is damaged: a slot does not open")
    need(data_key, "WrongKey", "the snapshot is sealed for other keys than those given")
    need(len(data_key) == 32, "Malformed", "a slot holds something else than a data key")
    mac = hmac.digest(derive(data_key, core, b"header-mac"), data[:at], "sha256")
    need(mac == data[at : at + 32], "Header", "the header is damaged or was changed")
    return core, data_key, at + 32


class Snapshot:
    @guard("Malformed", "the snapshot")
    def __init__(self, path, ring, data_key=None, keys_file=None):
        self.path, self.ring, self.start, self.others = path, ring, None, {}
        self.file, self.size = open(path, "rb"), os.path.getsize(path)
        head = self.read(0, 1 << 17)
        try:
            line, key, self.start = read_header(head, HEADER, ring.keys, data_key)
        except RecoverError as damage:
            try:
                with open(keys_file or path + ".keys", "rb") as file:
                    line, key, _ = read_header(file.read(1 << 17), KEYS, ring.keys, data_key)
            except (OSError, RecoverError):
                raise damage from None
            with suppress(RecoverError):  # holds when only the recipients have changed
                self.start = read_header(head, HEADER, [], key)[2]
            note(f"{path}: opened with its keys file; {damage}")
        core = json.loads(line.decode())
        self.id, self.cap, self.archive = core["id"], core["cap"], core["archive"]
        need(self.archive in ARCHIVES, "UnknownSuite", f"archive type {self.archive!r} is unknown")
        need(4096 <= self.cap <= 1 << 26, "Limit", f"the frame cap is {self.cap}")
        for text, size in ((self.id, 32), (core["chain"], 32), (core["previous"] or "0" * 64, 64)):
            need(bytes.fromhex(text).hex() == text and len(text) == size, "Malformed", text)
        need(0 < core["seq"] < 1 << 63, "Malformed", "a wrong seq")
        self.time, self.digest = struct.pack(">Q", core["time"]), sha256(line).hex()
        self.longest = 57 + (self.cap // 16 + 1) * 16
        self.fernet = Fernet(urlsafe_b64encode(derive(key, line, b"frames")))
        self.signed = LABEL + b"sign" + sha256(HEADER[0] + line + b"\n")
        footer = self.read(max(self.size - 24, 0), 24)
        try:
            need(footer[8:] == FOOTER, "Footer", "the footer is damaged")
            self.read_end(int.from_bytes(footer[:8], "big"), self.size - 24)
        except RecoverError as error:
            if self.start and type(error).__name__[:5] not in ("Unsig", "Signa", "Unkno"):
                self.explain(footer)  # raises what tells more
            raise

    def read(self, at, size):
        self.file.seek(at)
        return self.file.read(size)

    def open_frame(self, at, tag=b""):
        """Return section, number, piece and tag of the frame at ``at``, and where it ends."""
        where, length = f"the frame at {at}", int.from_bytes(self.read(at, 4), "big")
        need(89 <= length <= self.longest, "Frame", f"{where} has a wrong length")
        token = self.read(at + 4, length)
        try:
            message = self.fernet.decrypt(urlsafe_b64encode(token))
        except InvalidToken:
            own = token[1:9] == self.time or token[-32:] == tag
            kind = ERRORS["Frame" if own else "ForeignFrame"]
            raise kind(f"{where} is damaged, was changed, or is another snapshot's") from None
        section, owner, number, size = struct.unpack_from(">B16sII", message)
        need(owner.hex() == self.id, "ForeignFrame", f"{where} is of snapshot {owner.hex()}")
        need(len(message) <= self.cap, "Limit", f"{where} is longer than the cap")
        good = token[1:9] == self.time and len(message) >= 25 + size
        good = good and not message[25 + size :].strip(b"\0")
        need(good, "Malformed", f"{where} has a wrong time, length or padding")
        return section, number, message[25 : 25 + size], token[-32:], at + 4 + length

    @guard("Malformed", "the end")
    def read_end(self, start, stop):
        """Take in the end, which lies between two offsets; check signature and frame table."""
        at, end, numbers = start, b"", []
        while at < stop:
            section, number, piece, _, at = self.open_frame(at)
            numbers.append(number)
            good = section == END and number == numbers[0] + len(numbers) - 1
            need(good, "FrameOutOfPlace", f"frame {number} stands in the end")
            end += unpack(self.archive.replace("tar", "tar.gz"), piece, self.cap, exact=False)
            need(len(end) <= 512 << 20, "Limit", "the end is longer than 512 MiB")
        need(numbers and at == stop, "Footer", "the footer does not point to the end")
        line, _, rest = end.partition(b"\n")
        self.end = json.loads(line.decode())
        self.count, self.refers = self.end["frames"], self.end.get("snapshots", [])
        self.rows, block = rest[: 49 * self.count], rest[49 * self.count :]
        good = len(self.rows) == 49 * self.count and len(block) in (0, 96)
        need(good, "Malformed", "the end has a wrong length")
        need(block, "Unsigned", "the snapshot is not signed")
        self.signer, signed = block[:32].hex(), self.signed + sha256(end[:-96])
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(block[:32]).verify(block[32:], signed)
        except (InvalidSignature, ValueError):
            raise ERRORS["Signature"]("the signature is wrong") from None
        trusted = not self.ring.signers or self.signer in self.ring.signers
        need(trusted, "UnknownSigner", f"signed by {self.signer}, who is not among the trusted")
        need(numbers[0] == self.count, "FrameOutOfPlace", "frames are missing before the end")
        first = at = before = None
        for section, offset, length, plain, tag in struct.iter_unpack(">BQII32s", self.rows):
            if not section:  # compaction took the frame away
                need(not any((offset, length, plain, *tag)), "Malformed", "a removed row has values")
                continue
            first, at, before = (offset, offset, 0) if first is None else (first, at, before)
            good = offset == at and section in (ARCHIVE, INDEX, CHUNK_LIST)
            need(good and ORDER[section] >= before, "Malformed", "the frame table has a gap")
            need(length <= self.longest and plain <= 1 << 26, "Limit", "a frame is too long")
            at, before = at + 4 + length, ORDER[section]
        filled = first in (None, self.start or first) and at in (None, start)
        need(filled, "FrameOutOfPlace", "the frames do not fill the file from header to end")

    def explain(self, footer):
        """Walk the frames from the header on, to find out what is wrong with their order."""
        note("the end is not intact; walking through all frames to find out why")
        at, last, place, end, gap = self.start, -1, 0, None, None
        while self.read(at + 8, 16) != FOOTER:
            need(self.size - at >= 24, "Truncated", "the file is cut off")
            need(self.size - at > 24 or not end, "Footer", "the footer is damaged")
            inside = at + 4 + int.from_bytes(self.read(at, 4), "big") <= self.size
            need(inside or footer[8:] == FOOTER, "Truncated", "the file is cut off")
            section, number, _, _, after = self.open_frame(at)
            good = number > last and ORDER.get(section, 0) >= place
            need(good, "FrameOutOfPlace", f"frame {number} stands after frame {last}")
            gap = gap or number > last + 1 and f"frame {number} stands after frame {last}"
            end = at if section == END and not end else end
            at, last, place = after, number, ORDER[section]
        need(at + 24 == self.size, "TrailingBytes", f"bytes follow the footer at {at}")
        need(end, "FrameOutOfPlace", "the end is missing")
        try:
            self.read_end(end, at)
        except RecoverError:
            need(not gap, "FrameOutOfPlace", gap)
            raise
        need(footer[:8] == struct.pack(">Q", end), "Footer", "the footer points to a wrong place")

    def row(self, number):
        return struct.unpack_from(">BQII32s", self.rows, 49 * number)

    def piece(self, number, section):
        """Return the piece of a frame as it is stored, and the length of what it holds."""
        where = f"{self.path}: frame {number}"
        need(number < self.count, "Malformed", f"{where}: there are {self.count} frames only")
        kind, offset, length, plain, tag = self.row(number)
        need(kind == section, "Malformed", f"{where} was taken away, or is of another section")
        *found, piece, found_tag, after = self.open_frame(offset, tag)
        need(found == [section, number], "FrameOutOfPlace", f"{where}: here stands {found[1]}")
        good = found_tag == tag and after == offset + 4 + length
        need(good, "Frame", f"{where} is not the one in the frame table")
        return piece, plain

    def other(self, snapshot_id):
        """Return the snapshot with this id, which must be one that this one says it refers to."""
        if snapshot_id == self.id:
            return self
        if snapshot_id not in self.others:
            says = [one for one in self.refers if one["id"] == snapshot_id]
            need(says, "Malformed", f"snapshot {snapshot_id} is used, but not listed in the end")
            found = ERRORS["MissingSnapshot"](f"snapshot {snapshot_id} is not here; try --also DIR")
            for path in catalogue(self.ring.folders).get(snapshot_id, []):
                try:
                    key = b64decode(says[0]["key"]) if "key" in says[0] else None
                    found = Snapshot(path, self.ring, key)
                    good = (found.id, found.digest) == (snapshot_id, says[0]["core"])
                    need(good, "MissingSnapshot", f"{path} is not the snapshot that is meant")
                    break
                except RecoverError as error:
                    found = error
            self.others[snapshot_id] = found
        if isinstance(self.others[snapshot_id], RecoverError):
            raise self.others[snapshot_id]
        return self.others[snapshot_id]

    def fetch(self, ids, ordinal, number, section, digest=None):
        """Return what the frame of a reference holds."""
        good = type(ordinal) is type(number) is int and 0 <= ordinal < len(ids) and number >= 0
        need(good, "Malformed", f"a reference to [{ordinal}, {number}]")
        data = content_of(self.other(ids[ordinal]), number, section)
        good = digest is None or hashlib.sha256(data).hexdigest() == digest
        need(good, "Digest", f"frame {number} of {ids[ordinal]} does not have its digest")
        return data

    def lines(self, ids, reference, kind):
        """Return the objects in a page or a segment; report it when it is damaged."""
        with guard("Malformed", f"an index {kind}", go_on=True):
            data = self.fetch(ids, *reference["at"], INDEX, reference["sha256"])
            head, *items = [json.loads(line) for line in data.decode().split("\n")[:-1]]
            count = len(items) if kind == "segment" else sum(item["entries"] for item in items)
            good = data.endswith(b"\n") and head["kind"] == kind and path_of(items[0])
            good = good == path_of(reference) and count == reference["entries"]
            need(good, "Malformed", f"a {kind} does not fit its reference")
            return [(head["snapshots"], item) for item in items]
        return []

    def entries(self):
        """Yield the entries in their order; what is wrong is reported, and gone past."""
        pages, last = [([self.id] + [one["id"] for one in self.refers], self.end["pages"])], None
        
