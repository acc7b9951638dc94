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
import datetime
import getpass
import hashlib
import hmac
import importlib
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zlib
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from contextlib import contextmanager, suppress
from functools import lru_cache, partial

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER = (b"auto-backup snapshot 1\n", 4096, 65536)  # first line, longest of the lines after it
KEYS = (b"auto-backup keys 1\n", 4096, 65536, 20)
CHUNKS, FOOTER = b"auto-backup chunks 1\n", b"auto-backup end\n"
IDENTITY = b"auto-backup-identity-1-"
LABEL, ARCHIVES = b"auto-backup/1/", ("tar.xz", "tar.zst", "tar.gz", "tar.bz2", "tar")
ARCHIVE, INDEX, CHUNK_LIST, END = 1, 2, 3, 4
ORDER = {ARCHIVE: 1, CHUNK_LIST: 2, INDEX: 3, END: 4}  # of the sections in a file
DEFAULTS = dict.fromkeys("mode uid gid size mtime ctime ino fs".split(), 0)
DEFAULTS.update(dict.fromkeys("t sha256 error user group".split(), ""))
DEFAULTS.update(links=1, racy=False, xattrs=[], ext=[], chunks=[])
COUNTS = dict.fromkeys("entries files bytes errors".split(), 0)
FILESYSTEM = {"type": "", "id": ""}
RULES = dict.fromkeys(("exclude", "if_present"), [])
RULES.update(larger_than=0, caches=False, one_file_system=False)
RECORD = dict.fromkeys("job host kind".split(), "")  # what must be there
RECORD.update(frames=0, sources=[], counts={}, pages=[])
MORE = dict.fromkeys("snapshots filesystems tags".split(), [])
MORE.update(rules={}, incomplete=False, program="")
TEXTS = ("exclude", "if_present", "tags")
EPOCH = datetime.datetime(1970, 1, 1)
DEVICES = {"fifo": 0o010600, "char": 0o020600, "block": 0o060600}  # by what mknod calls them
TYPES = {"file", "dir", "link", "stream", *DEVICES}


class RecoverError(Exception):
    status = 13  # of the process


NAMES = """NotASnapshot UnknownVersion UnknownSuite Header Footer Frame FrameOutOfPlace ForeignFrame
Truncated TrailingBytes Malformed Limit Digest MissingSnapshot Unsigned Signature UnknownSigner
WrongKey KeyMissing Restore"""
ERRORS = {name: type(name + "Error", (RecoverError,), {}) for name in NAMES.split()}
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
            failed = getattr(error, "errno", None) and kind != "KeyMissing"  # the system, not bytes
            kind = "Restore" if failed else kind
            error = ERRORS[kind](f"{what}: {error!r}")
        if not go_on:
            raise error from None
        faults.append(error)
        note(f"error: {type(error).__name__}: {error}")


def note(message):
    print(f"recover: {message}", file=sys.stderr)


def parse(line):
    """Return what a line of JSON says, which must be JSON and UTF-8 in all of it."""
    value = json.loads(line.decode(), parse_constant=partial(need, False, "Malformed"))
    if b"\\u" in line:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def check_types(item, defaults):
    """Refuse what is not of its default's type; texts alone stand in lists that have no objects."""
    for name, default in defaults.items():
        value = item.get(name, default)
        good = type(value) is type(default) and (type(value) is not int or 0 <= value < 1 << 63)
        good = good and (name not in TEXTS or all(type(one) is str for one in value))
        need(good, "Malformed", f"a wrong value of {name!r}")


def is_hex(text, size):
    return re.fullmatch(r"[0-9a-f]*", text) is not None and len(text) == 2 * size


bytes_of = partial(b64decode, validate=True)


def sha256(data):
    return hashlib.sha256(data).digest()


def zstd(piece, limit):
    """Return the content of a zstd frame, and the decoder, which knows whether bytes follow it.

    A second stream in a piece is noticed with Python's own zstd and with backports.zstd alone.
    """
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        with suppress(ImportError):
            decoder = importlib.import_module(name).ZstdDecompressor()
            if name != "zstandard":
                return decoder.decompress(piece, limit), decoder
            return decoder.decompress(piece, limit, allow_extra_data=False), None
    need(shutil.which("zstd"), "Restore", "needs backports.zstd, zstandard or the zstd command")
    with tempfile.TemporaryFile() as given:
        given.write(piece)
        given.seek(0)
        pipes = {"stdin": given, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(["zstd", "-dcq"], **pipes) as child:
            data = child.stdout.read(limit)
            child.stdout.close()
    return data, argparse.Namespace(eof=child.returncode == 0, unused_data=b"")


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
    need(len(data) <= limit, "Limit", "a piece holds more than was recorded")
    need(len(data) == limit or not exact, "Malformed", "a piece holds less than was recorded")
    return data


@guard("KeyMissing", "a key file holds no key")
def read_key(name):
    """Return the type of slot that a key file opens, and the secret in it."""
    with open(name, "rb") as file:
        lines = file.read(65536).splitlines(keepends=True)
    line = b"".join(one for one in lines if not one.startswith(b"#")).strip()
    kind, size = ("hpke", 96) if line.startswith(IDENTITY) else ("fernet", 32)
    data = urlsafe_b64decode(line[len(IDENTITY) :] if kind == "hpke" else line)
    check = sha256(IDENTITY + data[:size])[:4] if kind == "hpke" else b""
    need(len(data[:size]) == size and data[size:] == check, "KeyMissing", f"{name} holds no key")
    return kind, data[:size]


def derive(secret, core, label):
    return HKDF(SHA256(), 32, sha256(core), LABEL + label).derive(secret)


def key_id(kind, material):
    return sha256(LABEL + b"key-id" + kind.encode() + material).hex()[:16]


def check_slot(slot):
    """Refuse a slot of a known type that is not as it must be."""
    need(type(slot["type"]) is str, "Header", "the type of a slot is no text")
    if slot["type"] not in ("fernet", "passphrase", "hpke"):
        return
    types = {"id": str, "wrapped": str, "salt": str, "memory": int, "time": int, "lanes": int}
    good = all(type(slot[name]) is kind for name, kind in types.items() if name in slot)
    good = good and is_hex(slot["id"], 8) and len(slot["wrapped"]) <= 8192
    need(good, "Header", "a slot is not as it must be")


def open_slot(slot, kind, secret, core):
    """Return the data key, or None when the slot is for another recipient."""
    wrapped = slot["wrapped"]
    if kind == "hpke":
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric import mlkem

        pair = [mlkem.MLKEM768PrivateKey.from_seed_bytes(secret[:64])]
        pair.append(x25519.X25519PrivateKey.from_private_bytes(secret[64:]))
        public = b"".join(one.public_key().public_bytes_raw() for one in pair)
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        private, info = hpke.MLKEM768X25519PrivateKey(*pair), LABEL + b"slot" + sha256(core)
        ours = slot["id"] == key_id(kind, public)
        return suite.decrypt(bytes_of(wrapped), private, info) if ours else None
    if kind == "fernet" and slot["id"] != key_id(kind, secret):
        return None
    if kind == "passphrase":
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        salt, memory, passes = bytes_of(slot["salt"]), slot["memory"], slot["time"]
        small = memory <= 1 << 20 and passes <= 10 and slot["lanes"] <= 8
        need(small, "Limit", "a passphrase slot asks for too much memory or time")
        need(len(salt) == 16, "Header", "a salt has a wrong length")
        costs = {"memory_cost": memory, "iterations": passes, "lanes": slot["lanes"]}
        secret = unicodedata.normalize("NFC", secret.decode()).encode()
        secret = Argon2id(salt=salt, length=32, **costs).derive(secret)
    with suppress(InvalidToken if kind == "passphrase" else ()):
        kek = urlsafe_b64encode(derive(secret, core, b"slot"))
        return Fernet(kek).decrypt(wrapped.encode("ascii"))
    return None


@guard("Header", "the header is damaged")
def read_header(data, layout, keys, data_key=None):
    """Return core, data key and length of a header, or of a keys file, whose mac holds."""
    preamble, *limits = layout
    need(not preamble.startswith(data), "Truncated", "the file ends within its first line")
    need(data.startswith(preamble[:-2]), "NotASnapshot", "the file is not a snapshot")
    need(data.startswith(preamble), "UnknownVersion", "this reader knows format version 1 only")
    at, lines = len(preamble), []
    for limit in limits:
        stop = data.find(b"\n", at, at + limit + 1)
        need(stop >= 0 or len(data) > at + limit, "Truncated", "the file ends in its header")
        need(stop >= 0, "Header", "a line of the header is too long")
        lines.append(data[at:stop])
        at = stop + 1
    need(len(data) >= at + 32, "Truncated", "the file ends in its header")
    exact = len(data) == at + 32 and re.fullmatch(b"0|[1-9][0-9]*", lines[-1])
    need(
        layout is HEADER or exact, "Header", "the keys file has a wrong generation, or a wrong end"
    )
    line, core, damaged = lines[0], parse(lines[0]), False
    need(core["suite"] == "fernet-1", "UnknownSuite", f"the suite is {core['suite']!r}")
    need(core["archive"] in ARCHIVES, "UnknownSuite", f"the archive type is {core['archive']!r}")
    slots = parse(lines[1])
    need(type(slots) is list and 1 <= len(slots) <= 32, "Header", "no slots, or too many")
    for slot in slots:
        check_slot(slot)
    need(data_key or keys, "KeyMissing", "no key was given")
    for kind, secret in keys:
        fitting = [slot for slot in slots if slot["type"] == kind]
        for slot in fitting[: 4 if kind == "passphrase" else 32]:
            try:
                data_key = data_key or open_slot(slot, kind, secret, line)
            except (ImportError, UnsupportedAlgorithm) as error:
                message = f"this key needs a newer package cryptography: {error}"
                raise ERRORS["KeyMissing"](message) from None
            except (InvalidToken, InvalidTag, ValueError):
                damaged = True  # another key may have a slot that opens
            if data_key and len(data_key) != 32:
                data_key, damaged = None, True
    need(data_key or not damaged, "Header", "the slot of this key does not open")
    need(data_key, "WrongKey", "the snapshot is sealed for other keys than those given")
    mac = hmac.digest(derive(data_key, line, b"header-mac"), data[:at], "sha256")
    need(mac == data[at : at + 32], "Header", "the header is damaged or was changed")
    good = is_hex(core["id"], 16) and is_hex(core["chain"], 16) and 0 < core["seq"] < 1 << 63
    good = good and (core["previous"] is None or is_hex(core["previous"], 32))
    good = good and all(type(core[name]) is int for name in ("cap", "seq", "time"))
    good = good and 4096 <= core["cap"] <= 1 << 26 and 0 <= core["time"] < 1 << 63
    need(good, "Header", "the core line has a wrong value")
    return {**core, "line": line}, data_key, at + 32


@lru_cache(maxsize=3)
def content_of(snapshot, number, section):
    """Return what the piece of a frame holds; the last ones stay in memory."""
    piece, length = snapshot.piece(number, section)
    if snapshot.archive != "tar" or section != ARCHIVE:
        return unpack(snapshot.compression, piece, length)
    need(len(piece) <= length, "Limit", f"frame {number} is longer than was recorded")
    need(len(piece) == length, "Malformed", f"frame {number} is shorter than was recorded")
    return piece


@lru_cache(maxsize=1)
def catalogue(folders):
    """Return the snapshots in the folders, by the digests of their core lines."""
    found = {}
    walks = (walk for folder in folders for walk in os.walk(folder))
    for path in (os.path.join(top, name) for top, _, names in walks for name in sorted(names)):
        name = path[:-5] if path.endswith(".keys") else path
        if name.endswith(".enc"):
            with suppress(OSError, IndexError), open(path, "rb") as file:
                digest = sha256(file.read(8192).split(b"\n")[1]).hex()
                found.setdefault(digest, {})[name] = None
    return found


def path_of(item, field="p"):
    """Return a path, or a link's target, as bytes."""
    text, encoded = item.get(field), item.get(field + "b")
    need((text is None) != (encoded is None), "Malformed", f"needs one of {field} and {field}b")
    if encoded is None:
        return text.encode()
    data = bytes_of(encoded)
    need(b64encode(data).decode() == encoded, "Malformed", f"{field}b is base64 of another form")
    with suppress(UnicodeDecodeError):
        data.decode()
        raise ERRORS["Malformed"](f"{field}b is UTF-8")
    return data


def check_path(path, empty=False):
    names = path.split(b"/") if path or not empty else []
    good = all(0 < len(name) < 256 and name not in (b".", b"..") for name in names)
    need(good and b"\0" not in path, "Malformed", f"a path that is not allowed: {show(path)}")


def show(path):
    """Return a path fit for a terminal."""
    text = os.fsdecode(path)
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def check_places(ids, places):
    """Refuse references that are not numbers of a known snapshot and of what is in it."""
    for place in places:
        good = all(type(number) is int and number >= 0 for number in place)
        need(good and place[0] < len(ids), "Malformed", f"a reference to {place}")


def check_references(ids, references):
    """Refuse what does not refer to a page or a segment."""
    check_places(ids, [(*one["at"], one["entries"]) for one in references])
    good = all(one["entries"] and len(one["at"]) == 2 for one in references)
    good = good and all(is_hex(one["sha256"], 32) for one in references)
    need(good, "Malformed", "a reference in the index has a wrong value")


def read_entry(item, ids):
    """Return an entry with its defaults, its path as bytes, and the ids its ordinals mean."""
    entry = {**DEFAULTS, **item, "ids": ids, "path": path_of(item)}
    path, kind, where = entry["path"], entry["t"], show(entry["path"])
    good = all(type(entry[name]) is type(value) for name, value in DEFAULTS.items())
    good = good and all(type(item.get(name)) in (str, type(None)) for name in ("to", "tob"))
    need(good and kind in TYPES, "Malformed", f"{where}: a field has a wrong type")
    check_path(path, empty=kind == "dir")
    bits = {"mode": 12, "uid": 32, "gid": 32, "size": 63, "ino": 64, "fs": 16, "links": 63}
    good = all(0 <= entry[name] < 1 << most for name, most in bits.items()) and entry["links"]
    good = good and all(-1 << 63 <= entry[name] < 1 << 63 for name in ("mtime", "ctime"))
    ext, chunks, digest, error = (entry[name] for name in ("ext", "chunks", "sha256", "error"))
    runs, end = item.get("data"), -1  # the end of the run before
    entry["stored"] = entry["size"] if runs is None else sum(length for _, length in runs)
    if kind in ("file", "stream"):
        good = good and not (ext and chunks) and (error or digest)
        good = good and (error or chunks or sum(row[3] for row in ext) == entry["stored"])
    else:
        good = good and not (ext or chunks or digest)
    need(good and is_hex(digest, len(digest) and 32), "Malformed", f"{where}: a wrong value")
    good = runs is None or type(runs) is list and kind == "file"
    for at, length in runs or ():
        good = good and type(at) is type(length) is int and end < at and 0 < length
        end = at + length
    need(good and end <= entry["size"], "Malformed", f"{where}: a wrong map of its data")
    check_places(ids, [*ext, *((*place, rows) for *place, _, rows in chunks)])
    need(all(len(row) == 4 for row in [*ext, *chunks]), "Malformed", f"{where}: a wrong extent")
    need(all(is_hex(row[2], 32) for row in chunks), "Malformed", f"{where}: a wrong digest")
    entry["xattrs"] = [(bytes_of(key), bytes_of(value)) for key, value in entry["xattrs"]]
    entry["target"] = path_of(item, "to") if kind == "link" else b""
    need(b"\0" not in entry["target"], "Malformed", f"{where}: a target with a NUL")
    major, minor = entry["dev"] = (0, 0) if item.get("dev") is None else item["dev"]
    good = all(type(number) is int and 0 <= number < 1 << 32 for number in (major, minor))
    need(good, "Malformed", f"{where}: no device")
    return entry


def place(entry, blocks):
    """Yield what is stored of a file in parts, each with its offset; last, where it ends."""
    runs = iter([[0, sys.maxsize]] if entry.get("data") is None else entry["data"])
    at = left = 0
    for block in blocks:
        while block:
            while not left:
                at, left = next(runs, (0, -1))
                need(left > 0, "Digest", f"{show(entry['path'])}: more bytes than runs of data")
            part, block = block[:left], block[left:]
            yield at, part
            at, left = at + len(part), left - len(part)
    yield (at if entry.get("data") is None else entry["size"]), b""


def with_holes(entry, blocks):
    """Yield the whole content of a file; its holes are zeros."""
    end = 0
    for at, part in place(entry, blocks):
        for left in range(at - end, 0, -(1 << 20)):
            yield bytes(min(left, 1 << 20))
        yield part
        end = at + len(part)


class Snapshot:
    @guard("Malformed", "the snapshot")
    def __init__(self, path, ring, data_key=None, keys_file=None):
        self.path, self.ring, self.start, self.signer, self.others = path, ring, None, None, {}
        self.size = os.path.getsize(path)
        head, footer = self.read(0, 1 << 17), self.read(max(self.size - 24, 0), 24)
        try:
            core, key, self.start = read_header(head, HEADER, ring.keys, data_key)
        except RecoverError as damage:
            if footer[8:] == FOOTER and isinstance(damage, ERRORS["NotASnapshot"]):
                damage = ERRORS["Header"]("the first line is damaged")
            try:
                with open(keys_file or path + ".keys", "rb") as file:
                    core, key, _ = read_header(file.read(1 << 17), KEYS, ring.keys, data_key)
            except (OSError, RecoverError):
                raise damage from None
            with suppress(RecoverError):  # holds when only the recipients have changed
                self.start = read_header(head, HEADER, [], key)[2]
            note(f"{path}: opened with its keys file; {damage}")
        self.id, self.cap, self.archive = core["id"], core["cap"], core["archive"]
        self.compression = "tar.gz" if self.archive == "tar" else self.archive
        self.time, self.digest = struct.pack(">Q", core["time"]), sha256(core["line"]).hex()
        self.longest = 57 + (self.cap // 16 + 1) * 16
        self.fernet = Fernet(urlsafe_b64encode(derive(key, core["line"], b"frames")))
        self.signed = LABEL + b"sign" + sha256(HEADER[0] + core["line"] + b"\n")
        try:
            need(footer[8:] == FOOTER, "Footer", "the footer is damaged")
            self.read_end(int.from_bytes(footer[:8], "big"), self.size - 24)
        except RecoverError:
            if self.start and self.signer is None:
                self.explain(footer)  # raises what tells more
            raise

    def read(self, at, size):
        with open(self.path, "rb") as file:
            file.seek(at)
            return file.read(size)

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
        need(25 <= len(message) <= self.cap, "Malformed", f"{where} has a wrong length inside")
        section, owner, number, size = struct.unpack_from(">B16sII", message)
        need(owner.hex() == self.id, "ForeignFrame", f"{where} is of snapshot {owner.hex()}")
        good = token[1:9] == self.time and len(message) >= 25 + size and section in ORDER
        good = good and not message[25 + size :].strip(b"\0")
        need(good, "Malformed", f"{where} has a wrong time, section, length or padding")
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
            end += unpack(self.compression, piece, self.cap, exact=False)
            need(len(end) <= 512 << 20, "Limit", "the end is longer than 512 MiB")
        need(numbers and at == stop, "Footer", "the footer does not point to the end")
        line, _, rest = end.partition(b"\n")
        self.end = parse(line)
        self.count = self.end["frames"]
        self.rows, block = rest[: 49 * self.count], rest[49 * self.count :]
        need(len(self.rows) == 49 * self.count, "Malformed", "rows are missing")
        need(numbers[0] == self.count, "FrameOutOfPlace", "frames are missing before the end")
        self.signer, signed = block[:32].hex(), self.signed + sha256(end[:-96])
        need(block, "Unsigned", "the snapshot is not signed")
        try:
            need(len(block) == 96, "Signature", "the signature has a wrong length")
            ed25519.Ed25519PublicKey.from_public_bytes(block[:32]).verify(block[32:], signed)
        except (InvalidSignature, ValueError):
            raise ERRORS["Signature"]("the signature is wrong") from None
        trusted = not self.ring.signers or self.signer in self.ring.signers
        need(trusted, "UnknownSigner", f"signed by {self.signer}, who is not among the trusted")
        self.check_record()
        first = at = before = None
        for section, offset, length, plain, tag in struct.iter_unpack(">BQII32s", self.rows):
            if not section:  # compaction took the frame away
                need(not any((offset, length, plain, *tag)), "Malformed", "a wrong removed row")
                continue
            first, at, before = (offset, offset, 0) if first is None else (first, at, before)
            good = section in (ARCHIVE, INDEX, CHUNK_LIST) and ORDER[section] >= before
            good = good and length <= self.longest and plain <= self.cap
            need(good, "Malformed", "the frame table has a wrong row")
            need(offset == at, "FrameOutOfPlace", f"no frame begins at {at}, but at {offset}")
            at, before = at + 4 + length, ORDER[section]
        filled = first in (None, self.start or first) and at in (None, start)
        need(filled, "FrameOutOfPlace", "the frames do not fill the file from header to end")

    def check_record(self):
        """Check what the end says, and keep the snapshots that are referred to."""
        record = self.end
        need(record.keys() >= RECORD.keys(), "Malformed", "a field of the end is missing")
        check_types(record, {**RECORD, **MORE})
        check_types(record["counts"], COUNTS)
        check_types(record.get("rules", {}), RULES)
        for one in record.get("filesystems", []):
            check_types(one, FILESYSTEM)
        self.refers = {one["id"]: one for one in record.get("snapshots", [])}
        self.ids = [self.id, *self.refers]
        good = record["kind"] in ("full", "incremental", "differential")
        good = good and len(self.ids) == len(set(self.ids)) == len(record.get("snapshots", [])) + 1
        for one in self.refers.values():
            good = good and is_hex(one["id"], 16) and is_hex(one["core"], 32)
            good = good and ("key" not in one or len(bytes_of(one["key"])) == 32)
        need(good, "Malformed", "the end has a wrong kind, or wrong snapshots")
        for one in record["sources"]:
            check_types(one, {"exclude": []})
            check_path(path_of(one), empty=True)
        check_references(self.ids, record["pages"])

    def explain(self, footer):
        """Walk the frames from the header on, to find out what is wrong with their order."""
        note("the end is not intact; walking through all frames to find out why")
        at, last, end = self.start, -1, None
        while self.read(at + 8, 16) != FOOTER:
            need(self.size - at >= 24, "Truncated", "the file is cut off")
            need(self.size - at > 24 or not end, "Footer", "the footer is damaged")
            inside = at + 4 + int.from_bytes(self.read(at, 4), "big") <= self.size
            need(inside or footer[8:] == FOOTER, "Truncated", "the file is cut off")
            section, number, _, _, after = self.open_frame(at)
            need(number > last, "FrameOutOfPlace", f"frame {number} stands after frame {last}")
            end = at if section == END and not end else end
            at, last = after, number
        need(at + 24 == self.size, "TrailingBytes", f"bytes follow the footer at {at}")
        need(end, "FrameOutOfPlace", "the end is missing")
        self.read_end(end, at)
        need(footer[:8] == struct.pack(">Q", end), "Footer", "the footer points to a wrong place")

    def row(self, number):
        return struct.unpack_from(">BQII32s", self.rows, 49 * number)

    def piece(self, number, section):
        """Return the piece of a frame as it is stored, and the length of what it holds."""
        where = f"{self.path}: frame {number}"
        need(number < self.count, "Malformed", f"{where}: there are {self.count} frames only")
        kind, offset, length, plain, tag = self.row(number)
        need(kind == section, "Malformed", f"{where} was taken away, or is of another section")
        moved = int.from_bytes(self.read(offset, 4), "big") != length
        if moved and self.start and not faults:
            self.explain(FOOTER.rjust(24))
        *found, piece, found_tag, after = self.open_frame(offset, tag)
        need(found == [section, number], "FrameOutOfPlace", f"{where}: here stands {found[1]}")
        need(found_tag == tag, "ForeignFrame", f"{where} is of another writing")
        return piece, plain

    def other(self, snapshot_id):
        """Return the snapshot with this id, which must be one that this one says it refers to."""
        if snapshot_id == self.id:
            return self
        if snapshot_id not in self.others:
            need(snapshot_id in self.refers, "Malformed", f"the end does not name {snapshot_id}")
            says = self.refers[snapshot_id]
            found = ERRORS["MissingSnapshot"](f"snapshot {snapshot_id} is not here; try --also DIR")
            for path in catalogue(self.ring.folders).get(says["core"], ()):
                try:
                    found = Snapshot(path, self.ring, b64decode(says.get("key", "")))
                    need(found.id == snapshot_id, "MissingSnapshot", f"{path} has another id")
                    break
                except RecoverError as error:
                    found = error
            self.others[snapshot_id] = found
        if isinstance(self.others[snapshot_id], RecoverError):
            raise self.others[snapshot_id]
        return self.others[snapshot_id]

    def fetch(self, ids, ordinal, number, section, digest=None):
        """Return what the frame of a reference holds."""
        need(ordinal < len(ids), "Malformed", f"a reference to snapshot {ordinal} of {len(ids)}")
        data = content_of(self.other(ids[ordinal]), number, section)
        good = digest is None or sha256(data).hex() == digest
        need(good, "Digest", f"frame {number} of {ids[ordinal]} does not have its digest")
        return data

    def lines(self, ids, reference, kind):
        """Return the objects in a page or a segment; report it when it is damaged."""
        with guard("Malformed", f"an index {kind}", go_on=True):
            data = self.fetch(ids, *reference["at"], INDEX, reference["sha256"])
            head, *items = [parse(line) for line in data.split(b"\n")[:-1]]
            if kind == "page":
                check_references(head["snapshots"], items)
            count = len(items) if kind == "segment" else sum(item["entries"] for item in items)
            good = head["kind"] == kind and count == reference["entries"] and data[-1:] == b"\n"
            good = good and path_of(items[0]) == path_of(reference)
            good = good and all(is_hex(name, 16) for name in head["snapshots"])
            need(good, "Malformed", f"an index {kind} is not what is said of it")
            return [(head["snapshots"], item) for item in items]
        return []

    def entries(self):
        """Yield the entries in their order; what is wrong is reported, and gone past."""
        count, last = 0, None
        for page in self.end["pages"]:
            for ids, segment in self.lines(self.ids, page, "page"):
                for names, item in self.lines(ids, segment, "segment"):
                    with guard("Malformed", "an entry of the index", go_on=True):
                        entry, count = read_entry(item, names), count + 1
                        key = entry["path"].replace(b"/", b"\0")
                        good = last is None or last < key
                        need(good, "Malformed", f"{show(entry['path'])} is out of order")
                        last = key
                        yield entry
        with guard("Malformed", "the end", go_on=True):
            good = faults or count == self.end["counts"].get("entries", 0)
            need(good, "Malformed", "the end counts other entries than there are")

    def extents(self, entry):
        """Yield digest (of chunks), ids and place of what a content is made of."""
        for extent in entry["ext"]:
            yield (None, entry["ids"], *extent)
        for ordinal, number, digest, count in entry["chunks"]:
            data = self.fetch(entry["ids"], ordinal, number, CHUNK_LIST, digest)
            start = len(CHUNKS) + 2
            rows = start + 16 * int.from_bytes(data[start - 2 : start], "big")
            good = data.startswith(CHUNKS) and len(data) == rows + 46 * count
            need(good, "Malformed", f"chunk list {number} is not what is said of it")
            ids = [data[at : at + 16].hex() for at in range(start, rows, 16)]
            for digest, *place in struct.iter_unpack(">32sHIII", data[rows:]):
                yield (digest, ids, *place)

    def content(self, entry):
        """Yield what is stored of a file; at the end, fail when it is not what was recorded."""
        size, whole, where = 0, hashlib.sha256(), show(entry["path"])
        for digest, ids, ordinal, number, offset, length in self.extents(entry):
            block = self.fetch(ids, ordinal, number, ARCHIVE)[offset : offset + length]
            good = min(offset, length) >= 0 and len(block) == length
            need(good, "Malformed", f"{where}: an extent is outside of its frame")
            need(digest in (None, sha256(block)), "Digest", f"{where}: a chunk has another digest")
            size += length
            whole.update(digest or block)
            yield block
        good = entry["error"] or size == entry["stored"]
        good = good and entry["sha256"] in (whole.hexdigest(), "" if entry["error"] else None)
        need(good, "Digest", f"{where}: the content does not have its digest")


def set_metadata(name, entry):
    if os.geteuid() == 0:
        os.chown(name, entry["uid"], entry["gid"], follow_symlinks=False)
    for key, value in entry["xattrs"]:
        try:
            os.setxattr(name, key, value, follow_symlinks=False)
        except OSError as error:
            note(f"{show(entry['path'])}: attribute {show(key)} is left out: {error}")
    if entry["t"] != "link":
        os.chmod(name, entry["mode"] & (0o7777 if os.geteuid() == 0 else 0o1777))
    os.utime(name, ns=(entry["mtime"], entry["mtime"]), follow_symlinks=False)


def extract(snapshot, target, wanted):
    """Write the entries at and below the wanted paths (all, when none) into an empty folder."""
    os.makedirs(target, exist_ok=True)
    need(not os.listdir(target), "Restore", f"{target} is not empty")
    first, links, folders, missing = {}, [], [], {*wanted}
    top = os.fsencode(os.path.abspath(target))
    temporary = os.path.join(top, b".recover-" + os.urandom(8).hex().encode())
    for entry in snapshot.entries():
        path, kind, name = entry["path"], entry["t"], os.path.join(top, entry["path"])
        inside = [one for one in wanted if (path + b"/").startswith(one + b"/") or not one]
        above = [one for one in wanted if (one + b"/").startswith(path + b"/") or not path]
        missing.difference_update(inside)
        if wanted and not inside and not (above and kind == "dir"):
            continue
        with guard("Restore", show(path), go_on=True):
            os.makedirs(name if kind == "dir" else os.path.dirname(name), exist_ok=True)
            if entry["error"]:
                note(f"{show(path)}: when it was backed up: {entry['error']}")
            group = (entry["fs"], entry["ino"], entry["sha256"]) if entry["links"] > 1 else name
            if kind in ("dir", "link"):  # these come last
                (folders if kind == "dir" else links).append((name, entry))
            elif kind == "file" and group in first:
                os.link(first[group], name)
            else:
                if kind in DEVICES:
                    os.mknod(temporary, DEVICES[kind], os.makedev(*entry["dev"]))
                else:
                    with open(temporary, "xb") as file:
                        for at, part in place(entry, snapshot.content(entry)):
                            file.seek(at)
                            file.write(part)
                        file.truncate()
                set_metadata(temporary, entry)
                os.rename(temporary, name)
                first[group] = name
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    for name, entry in links + folders[::-1]:
        with guard("Restore", show(entry["path"]), go_on=True):
            if entry["t"] == "link":
                os.symlink(entry["target"], name)
            set_metadata(name, entry)
    for one in missing:
        with guard("Restore", "", go_on=True):
            need(False, "Restore", f"{show(one)} is not in the snapshot")


def check(snapshot):
    """Read every frame and every content; what is wrong is reported."""
    last, count = None, 0
    for number in range(snapshot.count):
        section = snapshot.row(number)[0]
        with guard("Malformed", f"frame {number}", go_on=True):
            data = content_of(snapshot, number, section) if section else b""
            last = data if section == ARCHIVE else last
    for entry in snapshot.entries():
        count += 1
        with guard("Malformed", show(entry["path"]), go_on=True):
            for _ in snapshot.content(entry) if entry["t"] in ("file", "stream") else ():
                pass
    with guard("Malformed", "the end of the archive", go_on=True):
        need(faults or last == bytes(1024), "Malformed", "the archive does not end as it must")
    note(f"{snapshot.count} frames and {count} entries read, {len(faults)} errors")


def run(given):
    keys = [read_key(name) for name in given.key]
    phrase_file = os.environ.get("AUTO_BACKUP_PASSPHRASE_FILE")
    if phrase_file:
        with open(phrase_file, "rb") as file:
            keys.append(("passphrase", file.read().rstrip(b"\r\n")))
    elif given.passphrase:
        keys.append(("passphrase", getpass.getpass("Passphrase: ").encode()))
    folders = (os.path.dirname(os.path.abspath(given.snapshot)), *given.also)
    signers = {signer.hex() for signer in given.signer}
    ring = argparse.Namespace(keys=keys, signers=signers, folders=folders)
    snapshot, output = Snapshot(given.snapshot, ring, None, given.keys), sys.stdout.buffer
    trust = "trusted" if signers else "not compared with a --signer"
    note(f"{snapshot.end['kind']} snapshot {snapshot.id}, signed by {snapshot.signer} ({trust})")
    if snapshot.end.get("incomplete"):
        note("this snapshot is a part that a later one completes")
    wanted = [os.fsencode(path).strip(b"/") for path in given.paths]
    if given.command == "extract":
        extract(snapshot, given.paths[0], wanted[1:])
    elif given.command == "check":
        with guard("Header", given.snapshot, go_on=True):
            need(snapshot.start, "Header", "damaged; its keys file stands in for it")
        check(snapshot)
    elif given.command == "tar":
        sections = [snapshot.row(number)[0] for number in range(snapshot.count)]
        whole = snapshot.end["kind"] == "full" and 0 not in sections
        need(whole or given.only_added, "Restore", "not a full snapshot: extract, or --only-added")
        for number in [number for number, one in enumerate(sections) if one == ARCHIVE]:
            output.write(snapshot.piece(number, ARCHIVE)[0])
    elif given.command == "cat":
        entry = next((one for one in snapshot.entries() if one["path"] == wanted[0]), None)
        need(entry, "Restore", f"{given.paths[0]} is not in the snapshot")
        need(entry["t"] in ("file", "stream"), "Restore", f"{given.paths[0]}: a {entry['t']}")
        for _ in snapshot.content(entry):
            pass  # the digest first, then the bytes
        output.writelines(with_holes(entry, snapshot.content(entry)))
    else:
        for entry in snapshot.entries():
            date = datetime.timedelta(microseconds=entry["mtime"] // 1000) + EPOCH
            line = f"{entry['t']:6} {entry['mode']:04o} {entry['uid']}:{entry['gid']}"
            print(f"{line} {entry['size']:12} {date:%F %T} {show(entry['path'])}")


def main(arguments=None):
    """Do what the command line says, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["list", "extract", "cat", "tar", "check"])
    parser.add_argument("snapshot", metavar="SNAPSHOT.enc")
    parser.add_argument("paths", nargs="*", metavar="PATH")
    parser.add_argument("--key", action="append", default=[], help="file with a key; repeatable")
    parser.add_argument("--passphrase", action="store_true", help="ask for the passphrase")
    signer = {"type": bytes.fromhex, "metavar": "HEX", "help": "public key of a trusted host"}
    parser.add_argument("--signer", action="append", default=[], **signer)
    parser.add_argument("--keys", help="keys file (default: SNAPSHOT.enc.keys)")
    parser.add_argument("--also", action="append", default=[], help="folder with more snapshots")
    parser.add_argument("--only-added", action="store_true", help="tar of what is not a whole")
    given = parser.parse_intermixed_args(arguments)
    paths = {"extract": range(1, sys.maxsize), "cat": [1]}.get(given.command, [0])
    if len(given.paths) not in paths:
        parser.error(f"wrong number of arguments for {given.command}")
    faults.clear()
    with guard("Malformed", given.snapshot, go_on=True):
        run(given)
    return min((fault.status for fault in faults), default=0)


if __name__ == "__main__":
    os.umask(0o077)  # nobody else reads along while files appear
    sys.exit(main())
